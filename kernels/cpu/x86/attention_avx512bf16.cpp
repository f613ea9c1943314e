// Built with the AVX-512 flags and BF16. No C++ library header here (see textnorm_avx2.cpp).
#include <assert.h>
#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

#include "../attention.h"
#include "../attention_work.h"
#include "attention_transpose.h"

// Units are pairs of bf16. Weights are rounded to bf16, by VDPBF16PS summed as they are multiplied.
#define TIA2_ATTENTION_PAIRS
static constexpr size_t kPer = 2;

static inline void copy_row(float *row, const uint16_t *x, size_t d) { // d is odd, or it would not be copied
    __builtin_memcpy(row, x, d * sizeof *x);
    __builtin_memset((uint16_t *)(void *)row + d, 0, sizeof *x);
}

// 2^f, f in [0, 1), within 7.5e-5 of its value: a fiftieth of what rounding it to bf16 may change.
#define TIA2_POWER(f) \
    v_fma(v_fma(v_fma(v_set1(0.07802452f), f, v_set1(0.22606716f)), f, v_set1(0.69583356f)), f, v_set1(0.9999252f))

// Words of two halves in turn: a0 b0 a1 b1 ...
alignas(64) static const uint16_t kZip512[32] = {0, 16, 1, 17, 2,  18, 3,  19, 4,  20, 5,  21, 6,  22, 7,  23,
                                                 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
alignas(32) static const uint16_t kZip256[16] = {0, 8, 1, 9, 2, 10, 3, 11, 4, 12, 5, 13, 6, 14, 7, 15};

namespace zmm {
#include "vec_avx512.h"

#include "../simd_math.inc"

static constexpr int    kKeys = 8, kVectors = 3;    // 24 sums, 3 vectors of queries: 27 of 32 registers
static constexpr int    kQueries = 6, kColumns = 4; // 24 sums, 4 vectors of columns: 28
static constexpr size_t kFew = 8;

static inline __mmask16 first(size_t n) { return (__mmask16)((1u << n) - 1); }
static inline vf zip(__m512i words) {
    return _mm512_castsi512_ps(_mm512_permutexvar_epi16(_mm512_load_si512(kZip512), words));
}
static inline vf v_mac(vf a, vf b, vf c) { return _mm512_dpbf16_ps(c, (__m512bh)a, (__m512bh)b); }
static inline vf v_one() { return _mm512_castsi512_ps(_mm512_set1_epi32(0x3f803f80)); }
static inline vf v_unit(const vf *w) { return zip((__m512i)_mm512_cvtne2ps_pbh(w[1], w[0])); }
static inline vf v_weight(vf x) {
    const vf f = _mm512_reduce_ps(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
    return _mm512_scalef_ps(TIA2_POWER(f), x); // by 2^floor(x)
}
static inline vf v_columns(const uint16_t *const *key, size_t column, size_t n) {
    const __m256i a = _mm256_maskz_loadu_epi16(first(n), key[0] + column);
    const __m256i b = key[1] ? _mm256_maskz_loadu_epi16(first(n), key[1] + column) : _mm256_setzero_si256();
    return zip(_mm512_inserti64x4(_mm512_castsi256_si512(a), b, 1));
}
static inline void put(uint16_t *p, vf a, size_t n) {
    _mm256_mask_storeu_epi16(p, first(n), (__m256i)_mm512_cvtneps_pbh(a));
}

#include "../attention_simd.inc"
} // namespace zmm

namespace ymm { // for up to half a zmm of queries, with the same bits
#include "vec_avx2.h"

#include "../simd_math.inc"

static constexpr int    kKeys = 8, kVectors = 1;
static constexpr int    kQueries = 6, kColumns = 4;
static constexpr size_t kFew = 0;

static inline __mmask8 first(size_t n) { return (__mmask8)((1u << n) - 1); }
static inline vf zip(__m256i words) {
    return _mm256_castsi256_ps(_mm256_permutexvar_epi16(_mm256_load_si256((const __m256i *)kZip256), words));
}
static inline vf v_mac(vf a, vf b, vf c) { return _mm256_dpbf16_ps(c, (__m256bh)a, (__m256bh)b); }
static inline vf v_one() { return _mm256_castsi256_ps(_mm256_set1_epi32(0x3f803f80)); }
static inline vf v_unit(const vf *w) { return zip((__m256i)_mm256_cvtne2ps_pbh(w[1], w[0])); }
static inline vf v_weight(vf x) {
    const vf f = _mm256_reduce_ps(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
    return _mm256_scalef_ps(TIA2_POWER(f), x);
}
static inline vf v_columns(const uint16_t *const *key, size_t column, size_t n) {
    const __m128i a = _mm_maskz_loadu_epi16(first(n), key[0] + column);
    const __m128i b = key[1] ? _mm_maskz_loadu_epi16(first(n), key[1] + column) : _mm_setzero_si128();
    return zip(_mm256_inserti128_si256(_mm256_castsi128_si256(a), b, 1));
}
static inline void put(uint16_t *p, vf a, size_t n) {
    _mm_mask_storeu_epi16(p, first(n), (__m128i)_mm256_cvtneps_pbh(a));
}

#include "../attention_simd.inc"
} // namespace ymm

void tia2_attention_bf16_avx512bf16(const tia2_attention_head<uint16_t> *h) {
    const attention_work w = h->n > zmm::kFew ? zmm::prepare(h) : ymm::prepare(h);
    ymm::every_block(h, w, zmm::every_block(h, w, 0));
}
