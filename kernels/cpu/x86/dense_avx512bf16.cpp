// Built with the AVX-512 flags and BF16. No C++ library header here (see textnorm_avx2.cpp).
#include <assert.h>
#include <string.h>

#include "../dense.h"
#include "vec_avx512.h"

#include "../simd_math.inc"

static constexpr tia2_format kFormat = tia2_format::bf16;
static constexpr int         kMR = 6, kNR = 4; // 24 sums, 4 of w, 1 of x: 29 of 32 registers
typedef vf                   va;
typedef __m512i              vx;

static inline va a_zero() { return v_zero(); }
static inline va a_load(const float *p) { return v_load(p); }
static inline void a_store(float *p, va a) { v_store(p, a); }
static inline vf a_float(va a) { return a; }
static inline vx x_set1(const void *p) {
    int32_t two;
    memcpy(&two, p, sizeof two);
    return _mm512_set1_epi32(two);
}
static inline vx w_load(const void *p) { return _mm512_loadu_si512(p); }
static inline va a_dot(vx x, vx w, va sum) { return _mm512_dpbf16_ps(sum, (__m512bh)x, (__m512bh)w); }

#include "../dense_simd.inc"

void tia2_dense_bf16_avx512bf16(const tia2_dense_call *c) { dense_simd(c); }
