// Built with the AVX-512 flags and VNNI. No C++ library header here (see textnorm_avx2.cpp).
#include <assert.h>
#include <string.h>

#include "../dense.h"
#include "vec_avx512.h"

#include "../simd_math.inc"

static constexpr tia2_format kFormat = tia2_format::q8;
static constexpr int         kMR = 6, kNR = 4; // 24 sums, 4 of w, 1 of x: 29 of 32 registers
typedef __m512i              va;
typedef __m512i              vx;

static inline va a_zero() { return _mm512_setzero_si512(); }
static inline va a_load(const float *p) { return _mm512_loadu_si512(p); }
static inline void a_store(float *p, va a) { _mm512_storeu_si512(p, a); }
static inline vf a_float(va a) { return _mm512_cvtepi32_ps(a); }
static inline vx x_set1(const void *p) {
    int32_t four;
    memcpy(&four, p, sizeof four);
    return _mm512_set1_epi32(four);
}
static inline vx w_load(const void *p) { return _mm512_loadu_si512(p); }
// Not the intrinsic: GCC 12 copies its sum from register to register before and after, which halves the speed.
static inline va a_dot(vx x, vx w, va sum) {
    __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(x), "v"(w));
    return sum;
}

#include "../dense_simd.inc"

void tia2_dense_q8_avx512vnni(const tia2_dense_call *c) { dense_simd(c); }
