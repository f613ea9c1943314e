// rows.h: what happens to rows of activations between products: norms, conversions, activations, pixels to patches.
//
// A row of W values lies in memory as tia2_format says (dense.h):
//   f32   W floats
//   bf16  W bf16, rounded to nearest even; NaN stays NaN
//   q8    W bytes round(x / scale) + 128, bytes 128 up to a multiple of 4, then the f32 scale = max|x| / 127. Rounded to
//         nearest even, so the values of greatest size are 1 or 255. A row with max|x| < kQ8Least has scale 0 and bytes
//         128; a row with NaN or infinity has scale NaN, so that whatever is computed from it is NaN, and bytes 128.
// Strides are in bytes and may be larger than a row; what lies between rows is not touched.
//
//   layer_norm     y = (x - mean) / sqrt(var + eps) * weight + bias, x f32 rows; y rows of any format
//   quantize_f32   q8 rows of f32 rows; quantize_bf16: of bf16 rows
//   to_bf16        bf16 rows of f32 rows
//   activate       f32 [n] in place
//   l2_normalize   f32 rows in place: y = x / sqrt(sum x^2). A row of zeros stays zero, one with NaN or infinity becomes NaN
//   patches        rows begin..end-1 of an image's patches, f32 or bf16
//
// Accuracy: layer_norm: |y - y64| <= (3 + W/256) * FLT_EPSILON * (|weight| * (|x| + mean|x|) / sqrt(var + eps) + |bias|) in
//             f32 (tested to W = 1280), for |x| up to 1e38. The variance is that of the corrected two-pass algorithm; where
//             its f32 sum overflows it is computed in f64. On rows far from zero the error is half of torch's f32 form, as
//             only the mean's own rounding is left. bf16 and q8 rows are those of the f32 result.
//           quantize: level-independent; |scale * (byte - 128) - x| <= scale * (1/2 + 2^-15).
//           to_bf16: exact rounding, level-independent.
//           activate: 2e-7 * max(1, |x|) for finite x; the limits 0 and x are exact for |x| > 100. NaN stays NaN.
//           l2_normalize: sums and products in f64, one rounding: 2^-24 * |y|. Level-independent.
//           patches: bit for bit the table's values.
// Order:    sums over a row run in an order that depends on W alone: a row has the same bits in any batch. Levels differ.
// Cost:     memory bound, or by the second-level cache: a row is read once and stays in the first level while it is worked
//           on two or three times. activate: about 18 operations an element.
// Source:   Ba et al. 2016 (layer norm); Chan, Golub, LeVeque 1983, eq. 1.7 (the variance).
// Pure functions, thread-safe, no allocation. Any alignment of f32 and bf16 rows to their elements, any of q8 rows. Inputs
// and outputs do not overlap, except where a function works in place. Preconditions are asserted.
#pragma once
#include <stddef.h>
#include <stdint.h>

#include "dense.h"

constexpr float kQ8Least = 0x1p-110f; // below, 127 / max|x| would come near infinity and the scale to denormals

constexpr size_t tia2_q8_stride(size_t W) { return tia2_q8_scale_at(W) + 4; }

// Bytes of a row.
constexpr size_t tia2_row_bytes(tia2_format f, size_t W) {
    return f == tia2_format::f32 ? 4 * W : f == tia2_format::bf16 ? 2 * W : tia2_q8_stride(W);
}

struct tia2_layer_norm_call {
    const float *x;
    size_t       x_stride;
    size_t       n_rows, W;     // W >= 1
    const float *weight, *bias; // f32 [W]
    float        eps;           // > 0
    void        *y;
    size_t       y_stride;
    tia2_format  format; // of y
};

// Patch n of an image, row by row over the grid of (S/P)^2, is [3, P, P]: channel by channel, as a flattened convolution
// kernel has it. y[n - begin, c, v, u] = table[c][pixels[P * (n / (S/P)) + v, P * (n % (S/P)) + u, c]].
struct tia2_patches_call {
    const uint8_t *pixels;     // u8 [S, S, 3]
    size_t         S, P;       // S a multiple of P >= 1
    size_t         begin, end; // patches, of (S/P)^2
    const float (*table)[256]; // f32 [3, 256]: what each value of a channel becomes
    void       *y;
    size_t      y_stride;
    tia2_format format; // of y: f32 or bf16
};

typedef void (*tia2_layer_norm_fn)(const tia2_layer_norm_call *c);
typedef void (*tia2_quantize_f32_fn)(void *y, size_t y_stride, const float *x, size_t x_stride, size_t n_rows, size_t W);
typedef void (*tia2_quantize_bf16_fn)(void *y, size_t y_stride, const uint16_t *x, size_t x_stride, size_t n_rows, size_t W);
typedef void (*tia2_to_bf16_fn)(uint16_t *y, size_t y_stride, const float *x, size_t x_stride, size_t n_rows, size_t W);
typedef void (*tia2_activate_fn)(float *x, size_t n, tia2::activation act);

#define TIA2_ROWS_DECLARE(isa)                                                                                                 \
    void tia2_layer_norm_##isa(const tia2_layer_norm_call *c);                                                                 \
    void tia2_quantize_f32_##isa(void *y, size_t y_stride, const float *x, size_t x_stride, size_t n_rows, size_t W);          \
    void tia2_quantize_bf16_##isa(void *y, size_t y_stride, const uint16_t *x, size_t x_stride, size_t n_rows, size_t W);      \
    void tia2_to_bf16_##isa(uint16_t *y, size_t y_stride, const float *x, size_t x_stride, size_t n_rows, size_t W);           \
    void tia2_activate_##isa(float *x, size_t n, tia2::activation act);

TIA2_ROWS_DECLARE(scalar)
TIA2_ROWS_DECLARE(avx2)
TIA2_ROWS_DECLARE(avx512)
TIA2_ROWS_DECLARE(neon)
#undef TIA2_ROWS_DECLARE

// One form for all levels: l2_normalize takes a microsecond an image, and a table is what the pixels need.
void tia2_l2_normalize(float *x, size_t x_stride, size_t n_rows, size_t W);
void tia2_patches(const tia2_patches_call *c);
