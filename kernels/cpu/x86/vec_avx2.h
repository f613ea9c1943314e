// vec_avx2.h: the f32 vectors that the *_simd.inc forms are written with, for AVX2 and FMA: simd_math.inc
// lists them. No library header.
#pragma once
#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

typedef __m256          vf;
static constexpr size_t kW = 8;

alignas(32) static const int32_t kFirst[16] = {-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0};

static inline __m256i first_n(size_t n) { return _mm256_loadu_si256((const __m256i *)(kFirst + 8 - n)); }
static inline vf v_set1(float x) { return _mm256_set1_ps(x); }
static inline vf v_zero() { return _mm256_setzero_ps(); }
static inline vf v_load(const float *p) { return _mm256_loadu_ps(p); }
static inline vf v_load_n(const float *p, size_t n) { return _mm256_maskload_ps(p, first_n(n)); }
static inline void v_store(float *p, vf a) { _mm256_storeu_ps(p, a); }
static inline void v_store_n(float *p, vf a, size_t n) { _mm256_maskstore_ps(p, first_n(n), a); }
static inline vf v_add(vf a, vf b) { return _mm256_add_ps(a, b); }
static inline vf v_sub(vf a, vf b) { return _mm256_sub_ps(a, b); }
static inline vf v_mul(vf a, vf b) { return _mm256_mul_ps(a, b); }
static inline vf v_div(vf a, vf b) { return _mm256_div_ps(a, b); }
static inline vf v_min(vf a, vf b) { return _mm256_min_ps(a, b); }
static inline vf v_max(vf a, vf b) { return _mm256_max_ps(a, b); }
static inline vf v_abs(vf a) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a); }
static inline vf v_fma(vf a, vf b, vf c) { return _mm256_fmadd_ps(a, b, c); }
static inline vf v_round(vf a) { return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
static inline vf v_clamp(vf a, float c) { return _mm256_max_ps(_mm256_set1_ps(-c), _mm256_min_ps(_mm256_set1_ps(c), a)); }
static inline vf v_pow2(vf n) { // the exponent field is n + 127
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23));
}
static inline float v_sum(vf a) {
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}
static inline vf v_scale(vf a, vf n) { return v_mul(a, v_pow2(n)); }

static inline vf v_load_bf16(const uint16_t *p) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p)), 16));
}
static inline vf v_load_bf16_n(const uint16_t *p, size_t n) {
    uint16_t t[8] = {};
    for (size_t i = 0; i < n; i++) t[i] = p[i];
    return v_load_bf16(t);
}
static inline __m128i to_bf16(vf a) { // AVX2 has no instruction for it
    const __m256i u = _mm256_castps_si256(a), odd = _mm256_and_si256(_mm256_srli_epi32(u, 16), _mm256_set1_epi32(1));
    const __m256i even = _mm256_add_epi32(u, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
    const __m256  quiet = _mm256_castsi256_ps(_mm256_or_si256(u, _mm256_set1_epi32(0x400000)));
    const __m256  r = _mm256_blendv_ps(_mm256_castsi256_ps(even), quiet, _mm256_cmp_ps(a, a, _CMP_UNORD_Q));
    const __m256i high = _mm256_srli_epi32(_mm256_castps_si256(r), 16);
    return _mm_packus_epi32(_mm256_castsi256_si128(high), _mm256_extracti128_si256(high, 1));
}
static inline void v_store_bf16(uint16_t *p, vf a) { _mm_storeu_si128((__m128i *)p, to_bf16(a)); }
static inline void v_store_bf16_n(uint16_t *p, vf a, size_t n) {
    uint16_t t[8];
    v_store_bf16(t, a);
    for (size_t i = 0; i < n; i++) p[i] = t[i];
}

// As integers: of patterns without a sign, those of NaN are the greatest.
static inline vf v_max_nan(vf a, vf b) {
    return _mm256_castsi256_ps(_mm256_max_epi32(_mm256_castps_si256(a), _mm256_castps_si256(b)));
}
static inline float v_greatest_nan(vf a) {
    const __m256i u = _mm256_castps_si256(a);
    __m128i       s = _mm_max_epi32(_mm256_castsi256_si128(u), _mm256_extracti128_si256(u, 1));
    s = _mm_max_epi32(s, _mm_unpackhi_epi64(s, s));
    return _mm_cvtss_f32(_mm_castsi128_ps(_mm_max_epi32(s, _mm_srli_epi64(s, 32))));
}
static inline void v_store_q8(uint8_t *p, vf a) {
    const __m256i i = _mm256_cvtps_epi32(a);
    const __m128i w = _mm_packs_epi32(_mm256_castsi256_si128(i), _mm256_extracti128_si256(i, 1));
    _mm_storel_epi64((__m128i *)p, _mm_xor_si128(_mm_packs_epi16(w, w), _mm_set1_epi8(-128)));
}
static inline void v_store_q8_n(uint8_t *p, vf a, size_t n) {
    uint8_t t[8];
    v_store_q8(t, a);
    for (size_t i = 0; i < n; i++) p[i] = t[i];
}
static inline void v_store_q8x4(uint8_t *p, const vf *a) {
    const __m256i w0 = _mm256_packs_epi32(_mm256_cvtps_epi32(a[0]), _mm256_cvtps_epi32(a[1]));
    const __m256i w1 = _mm256_packs_epi32(_mm256_cvtps_epi32(a[2]), _mm256_cvtps_epi32(a[3]));
    const __m256i b = _mm256_permutevar8x32_epi32(_mm256_packs_epi16(w0, w1), _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
    _mm256_storeu_si256((__m256i *)p, _mm256_xor_si256(b, _mm256_set1_epi8(-128)));
}
