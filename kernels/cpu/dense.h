// dense.h: act(x W^T + b) + residual, with the weights packed once: the product that encoders spend their time in.
//
//   x        [M, K] rows of one operand format, x_stride bytes apart:
//              f32   K floats
//              bf16  K bf16, and one more value, finite, where K is odd
//              q8    K bytes and the row's scale, as rows.h writes them: value = scale * (byte - 128)
//   weights  W [N, K] packed by tia2_dense_pack for the same format: panels of kDensePanel columns (rows of W), in each
//            the values of 4 bytes of K (1 f32, 2 bf16, 4 s8) of one column side by side, all columns, then the next 4
//            bytes. Columns past N and values past K are 0. Aligned to 64 bytes.
//   y        [M, N] f32 or bf16 rows, y_stride bytes apart
//
// Sums are f32 (q8: exact in i32, then times the row's and the column's scale), bias, activation and residual f32.
//
// Accuracy: f32 and bf16: |y - y64| <= (K + 4) * FLT_EPSILON * sum_k |x w| before the activation (tested with sqrt(K)
//           for K); VDPBF16PS flushes denormals. q8: exact but for the rounding of the three f32 operations after the sum.
// Order:    a column's sum runs over k in ascending order (bf16, q8: groups of 4 bytes), in blocks that depend on K
//           alone: a row has the same bits whatever M, the panels of the call and the number of threads.
// Cost:     2*M*N*K flops. A panel's block of K stays in the second-level cache while rows stream past.
// Source:   the loop order is that of Goto and van de Geijn 2008 without the packing of x.
// Pure functions, thread-safe, no allocation. x, bias, residual and y of any alignment. Preconditions are asserted.
#pragma once
#include <stddef.h>
#include <stdint.h>

namespace tia2 {
enum class activation { none, gelu, quick_gelu }; // exact (erf) GELU; x * sigmoid(1.702 x)
}

enum class tia2_format { f32, bf16, q8 };

constexpr size_t tia2_q8_scale_at(size_t W) { return (W + 3) / 4 * 4; } // byte of a q8 row of W values at which its scale lies

struct tia2_dense_call {
    const void      *x;
    size_t           x_stride;
    size_t           M, K, N;    // K and N >= 1
    const void      *weights;
    const float     *scale;      // q8: f32 [panels * kDensePanel], of each column
    const int32_t   *start;      // q8: i32 [panels * kDensePanel], -128 * the sum of each column
    size_t           panel_begin, panel_end; // panels to compute
    const float     *bias;       // f32 [N] or NULL
    tia2::activation act;
    const float     *residual;   // f32 [M, N], residual_stride bytes apart, or NULL; may be y
    size_t           residual_stride;
    void            *y;
    size_t           y_stride;
    bool             y_bf16;     // else f32
};

constexpr size_t kDensePanel = 64;

constexpr size_t tia2_dense_panels(size_t N) { return (N + kDensePanel - 1) / kDensePanel; }

// Groups of 4 bytes in a row of K values.
constexpr size_t tia2_dense_groups(tia2_format f, size_t K) {
    return f == tia2_format::f32 ? K : f == tia2_format::bf16 ? (K + 1) / 2 : (K + 3) / 4;
}

// Bytes of the packed weights.
constexpr size_t tia2_dense_packed(tia2_format f, size_t K, size_t N) {
    return tia2_dense_panels(N) * kDensePanel * tia2_dense_groups(f, K) * 4;
}

// Packs one panel of W, f32 [N, K] row-major. scale and start: of this panel, written for q8 only (may be NULL otherwise).
// w: only the rows of the panel, up to kDensePanel of them (n); dst: only the panel's bytes.
void tia2_dense_pack_panel(tia2_format f, const float *w, size_t n, size_t K, void *dst, float *scale, int32_t *start);

typedef void (*tia2_dense_fn)(const tia2_dense_call *c);

void tia2_dense_f32_scalar(const tia2_dense_call *c);
void tia2_dense_bf16_scalar(const tia2_dense_call *c);
void tia2_dense_q8_scalar(const tia2_dense_call *c);
void tia2_dense_f32_avx2(const tia2_dense_call *c);
void tia2_dense_f32_avx512(const tia2_dense_call *c);
void tia2_dense_bf16_avx512bf16(const tia2_dense_call *c);
void tia2_dense_q8_avx512vnni(const tia2_dense_call *c);
void tia2_dense_f32_neon(const tia2_dense_call *c);
