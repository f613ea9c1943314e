// Built with the AVX-512 flags. No C++ library header here (see textnorm_avx2.cpp).
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized" // GCC bug 105593: its own header's _mm512_undefined_*
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif
#include <assert.h>
#include <immintrin.h>

#include "../textnorm.h"

typedef __m512d         vd;
static constexpr size_t kW = 8;
static constexpr int    kMR = 6, kNR = 4; // 29 of 32 registers

static inline vd v_set1(double x) { return _mm512_set1_pd(x); }
static inline vd v_zero() { return _mm512_setzero_pd(); }
static inline vd v_add(vd a, vd b) { return _mm512_add_pd(a, b); }
static inline vd v_sub(vd a, vd b) { return _mm512_sub_pd(a, b); }
static inline vd v_mul(vd a, vd b) { return _mm512_mul_pd(a, b); }
static inline vd v_div(vd a, vd b) { return _mm512_div_pd(a, b); }
static inline vd v_min(vd a, vd b) { return _mm512_min_pd(a, b); }
static inline vd v_max(vd a, vd b) { return _mm512_max_pd(a, b); }
static inline vd v_fma(vd a, vd b, vd c) { return _mm512_fmadd_pd(a, b, c); }
static inline vd v_round(vd a) { return _mm512_roundscale_pd(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
static inline vd v_pow2(vd n) { return _mm512_scalef_pd(_mm512_set1_pd(1.0), n); }
static inline __mmask8 first(size_t n) { return (__mmask8)((1u << n) - 1); }
static inline vd v_cvt(const float *p) { return _mm512_cvtps_pd(_mm256_loadu_ps(p)); }
static inline vd v_cvt_n(const float *p, size_t n) { return _mm512_cvtps_pd(_mm256_maskz_loadu_ps(first(n), p)); }
static inline vd v_load(const double *p) { return _mm512_loadu_pd(p); }
static inline vd v_load_n(const double *p, size_t n, double fill) {
    return _mm512_mask_loadu_pd(_mm512_set1_pd(fill), first(n), p);
}
static inline double v_sum(vd a) { return _mm512_reduce_add_pd(a); }
static inline double v_least(vd a) { return _mm512_reduce_min_pd(a); }
static inline double v_greatest(vd a) { return _mm512_reduce_max_pd(a); }

#include "../textnorm_simd.inc"

void tia2_textnorm_f32_avx512(const tia2_textnorm_set *s) {
    textnorm_simd(s);
}
