// Built with the AVX-512 flags. No C++ library header here (see textnorm_avx2.cpp).
#include <assert.h>
#include <immintrin.h>

#include "../attention.h"

typedef __m512          vf;
static constexpr size_t kW = 16;
static constexpr int    kNR = 4; // 4 x 4 sums, 4 of b, 1 of a: 21 of 32 registers

static inline vf v_set1(float x) { return _mm512_set1_ps(x); }
static inline vf v_zero() { return _mm512_setzero_ps(); }
static inline vf v_load(const float *p) { return _mm512_loadu_ps(p); }
static inline void v_store(float *p, vf a) { _mm512_storeu_ps(p, a); }
static inline vf v_sub(vf a, vf b) { return _mm512_sub_ps(a, b); }
static inline vf v_mul(vf a, vf b) { return _mm512_mul_ps(a, b); }
static inline vf v_max(vf a, vf b) { return _mm512_max_ps(a, b); }
static inline vf v_fma(vf a, vf b, vf c) { return _mm512_fmadd_ps(a, b, c); }
static inline vf v_round(vf a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
static inline vf v_pow2(vf n) { return _mm512_scalef_ps(_mm512_set1_ps(1.0f), n); }
static inline float v_sum(vf a) { return _mm512_reduce_add_ps(a); }
static inline float v_greatest(vf a) { return _mm512_reduce_max_ps(a); }

#include "../attention_simd.inc"

void tia2_attention_f32_avx512(const tia2_attention_head *h) { attention_simd(h); }
