// Built with the AVX-512 flags. No C++ library header here (see textnorm_avx2.cpp).
#include <assert.h>

#include "../attention.h"
#include "../attention_work.h"
#include "attention_transpose.h"
#include "vec_avx512.h"

#include "../simd_math.inc"

static constexpr int    kKeys = 8, kVectors = 3;    // 24 sums, 3 vectors of queries: 27 of 32 registers
static constexpr int    kQueries = 6, kColumns = 4; // 24 sums, 4 vectors of columns: 28
static constexpr size_t kFew = 8;

#include "../attention_simd.inc"

// Half a vector of queries is as fast in the AVX2 form, whose bits are the same.
template <class E>
static inline void attention(const tia2_attention_head<E> *h, void (*few)(const tia2_attention_head<E> *)) {
    const size_t t = h->n > kFew ? every_block(h, prepare(h), 0) : 0;
    if (t == h->n) return;
    tia2_attention_head<E> rest = *h;
    rest.q += t * h->q_stride;
    rest.out += t * h->out_stride;
    rest.n -= t;
    few(&rest);
}

void tia2_attention_f32_avx512(const tia2_attention_head<float> *h) { attention(h, tia2_attention_f32_avx2); }
void tia2_attention_bf16_avx512(const tia2_attention_head<uint16_t> *h) { attention(h, tia2_attention_bf16_avx2); }
