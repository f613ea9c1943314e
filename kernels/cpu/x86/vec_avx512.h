// vec_avx512.h: the f32 vectors that the *_simd.inc forms are written with, for AVX-512: simd_math.inc lists
// them. No library header.
#pragma once
#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

typedef __m512          vf;
static constexpr size_t kW = 16;

static inline vf v_set1(float x) { return _mm512_set1_ps(x); }
static inline vf v_zero() { return _mm512_setzero_ps(); }
static inline vf v_load(const float *p) { return _mm512_loadu_ps(p); }
static inline vf v_load_n(const float *p, size_t n) { return _mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), p); }
static inline void v_store(float *p, vf a) { _mm512_storeu_ps(p, a); }
static inline void v_store_n(float *p, vf a, size_t n) { _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1), a); }
static inline vf v_add(vf a, vf b) { return _mm512_add_ps(a, b); }
static inline vf v_sub(vf a, vf b) { return _mm512_sub_ps(a, b); }
static inline vf v_mul(vf a, vf b) { return _mm512_mul_ps(a, b); }
static inline vf v_div(vf a, vf b) { return _mm512_div_ps(a, b); }
static inline vf v_min(vf a, vf b) { return _mm512_min_ps(a, b); }
static inline vf v_max(vf a, vf b) { return _mm512_max_ps(a, b); }
static inline vf v_abs(vf a) { return _mm512_abs_ps(a); }
static inline vf v_fma(vf a, vf b, vf c) { return _mm512_fmadd_ps(a, b, c); }
static inline vf v_round(vf a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
// 2: the lesser of |a| and |c|, with the sign of a.
static inline vf v_clamp(vf a, float c) { return _mm512_range_ps(a, _mm512_set1_ps(c), 2); }
static inline float v_sum(vf a) { return _mm512_reduce_add_ps(a); }
static inline vf v_scale(vf a, vf n) { return _mm512_scalef_ps(a, n); }

static inline vf v_load_bf16(const uint16_t *p) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p)), 16));
}
static inline vf v_load_bf16_n(const uint16_t *p, size_t n) {
    const __m256i u = _mm256_maskz_loadu_epi16((__mmask16)((1u << n) - 1), p);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(u), 16));
}
static inline __m256i to_bf16(vf a) {
#ifdef __AVX512BF16__
    return (__m256i)_mm512_cvtneps_pbh(a); // denormals become 0
#else
    const __m512i u = _mm512_castps_si512(a), odd = _mm512_and_si512(_mm512_srli_epi32(u, 16), _mm512_set1_epi32(1));
    const __m512i even = _mm512_add_epi32(u, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
    const __m512i r = _mm512_mask_or_epi32(even, _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q), u, _mm512_set1_epi32(0x400000));
    return _mm512_cvtepi32_epi16(_mm512_srli_epi32(r, 16));
#endif
}
static inline void v_store_bf16(uint16_t *p, vf a) { _mm256_storeu_si256((__m256i *)p, to_bf16(a)); }
static inline void v_store_bf16_n(uint16_t *p, vf a, size_t n) {
    _mm256_mask_storeu_epi16(p, (__mmask16)((1u << n) - 1), to_bf16(a));
}

// As integers: of patterns without a sign, those of NaN are the greatest.
static inline vf v_max_nan(vf a, vf b) {
    return _mm512_castsi512_ps(_mm512_max_epi32(_mm512_castps_si512(a), _mm512_castps_si512(b)));
}
static inline float v_greatest_nan(vf a) {
    return _mm_cvtss_f32(_mm_castsi128_ps(_mm_cvtsi32_si128(_mm512_reduce_max_epi32(_mm512_castps_si512(a)))));
}
static inline __m128i to_q8(vf a) { return _mm_xor_si128(_mm512_cvtepi32_epi8(_mm512_cvtps_epi32(a)), _mm_set1_epi8(-128)); }
static inline void v_store_q8(uint8_t *p, vf a) { _mm_storeu_si128((__m128i *)p, to_q8(a)); }
static inline void v_store_q8_n(uint8_t *p, vf a, size_t n) { _mm_mask_storeu_epi8(p, (__mmask16)((1u << n) - 1), to_q8(a)); }
static inline void v_store_q8x4(uint8_t *p, const vf *a) {
    const __m512i w0 = _mm512_packs_epi32(_mm512_cvtps_epi32(a[0]), _mm512_cvtps_epi32(a[1]));
    const __m512i w1 = _mm512_packs_epi32(_mm512_cvtps_epi32(a[2]), _mm512_cvtps_epi32(a[3]));
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    const __m512i b = _mm512_permutexvar_epi32(order, _mm512_packs_epi16(w0, w1));
    _mm512_storeu_si512(p, _mm512_xor_si512(b, _mm512_set1_epi8(-128)));
}
