// Built with -mavx2 -mfma. No C++ library header here: an inline function compiled in this file could be the copy
// that the linker keeps for all.
#include <assert.h>
#include <immintrin.h>

#include "../textnorm.h"

typedef __m256d          vd;
static constexpr size_t  kW = 4;
static constexpr int     kMR = 3, kNR = 3; // 13 of 16 registers
alignas(32) static const int64_t kMask[8] = {-1, -1, -1, -1, 0, 0, 0, 0};
alignas(16) static const int32_t kMask32[8] = {-1, -1, -1, -1, 0, 0, 0, 0};

static inline vd v_set1(double x) { return _mm256_set1_pd(x); }
static inline vd v_zero() { return _mm256_setzero_pd(); }
static inline vd v_add(vd a, vd b) { return _mm256_add_pd(a, b); }
static inline vd v_sub(vd a, vd b) { return _mm256_sub_pd(a, b); }
static inline vd v_mul(vd a, vd b) { return _mm256_mul_pd(a, b); }
static inline vd v_div(vd a, vd b) { return _mm256_div_pd(a, b); }
static inline vd v_min(vd a, vd b) { return _mm256_min_pd(a, b); }
static inline vd v_max(vd a, vd b) { return _mm256_max_pd(a, b); }
static inline vd v_fma(vd a, vd b, vd c) { return _mm256_fmadd_pd(a, b, c); }
static inline vd v_round(vd a) { return _mm256_round_pd(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
static inline vd v_pow2(vd n) { // the exponent field is n + 1023
    const __m256i e = _mm256_cvtepi32_epi64(_mm256_cvtpd_epi32(n));
    return _mm256_castsi256_pd(_mm256_slli_epi64(_mm256_add_epi64(e, _mm256_set1_epi64x(1023)), 52));
}
static inline vd v_cvt(const float *p) { return _mm256_cvtps_pd(_mm_loadu_ps(p)); }
static inline vd v_cvt_n(const float *p, size_t n) {
    return _mm256_cvtps_pd(_mm_maskload_ps(p, _mm_loadu_si128((const __m128i *)(kMask32 + 4 - n))));
}
static inline vd v_load(const double *p) { return _mm256_loadu_pd(p); }
static inline vd v_load_n(const double *p, size_t n, double fill) {
    const __m256i mask = _mm256_loadu_si256((const __m256i *)(kMask + 4 - n));
    return _mm256_blendv_pd(_mm256_set1_pd(fill), _mm256_maskload_pd(p, mask), _mm256_castsi256_pd(mask));
}
static inline double v_sum(vd a) {
    const __m128d h = _mm_add_pd(_mm256_castpd256_pd128(a), _mm256_extractf128_pd(a, 1));
    return _mm_cvtsd_f64(_mm_add_sd(h, _mm_unpackhi_pd(h, h)));
}
static inline double v_least(vd a) {
    const __m128d h = _mm_min_pd(_mm256_castpd256_pd128(a), _mm256_extractf128_pd(a, 1));
    return _mm_cvtsd_f64(_mm_min_sd(h, _mm_unpackhi_pd(h, h)));
}
static inline double v_greatest(vd a) {
    const __m128d h = _mm_max_pd(_mm256_castpd256_pd128(a), _mm256_extractf128_pd(a, 1));
    return _mm_cvtsd_f64(_mm_max_sd(h, _mm_unpackhi_pd(h, h)));
}

#include "../textnorm_simd.inc"

void tia2_textnorm_f32_avx2(const tia2_textnorm_set *s) {
    textnorm_simd(s);
}
