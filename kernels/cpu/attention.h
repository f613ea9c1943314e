// attention.h: softmax(q k^T / sqrt(d)) v, one head of one sequence.
//
//   q, k, v  f32 [T, d]: rows `stride` floats apart, as they lie in the product of a qkv layer
//   out      f32 [T, d]: rows `out_stride` floats apart; no overlap with the inputs
//   causal   query t sees keys 0..t only
//   scratch  f32 [tia2_attention_scratch(T, d)]
//
// Accuracy: |out - out64| <= (d + 16) * FLT_EPSILON * max|v| * (1 + max over keys of sum_d |q k| / sqrt(d)) (tested). The
//           vector exp is within 2 ulp on [-87, 0] and exp(-87) below.
// Order:    a query's sums run over d and over the keys in ascending order, whatever else is computed beside them: its
//           row has the same bits in any batch and at any T of a causal sequence.
// Cost:     4*T*T*d flops (half of it in vain where causal). K and V of the head are copied once and then stay in cache.
// Source:   Vaswani et al. 2017, eq. 1; openai/CLIP clip/model.py ResidualAttentionBlock.attention.
// Pure functions, thread-safe, no allocation. Any alignment. Preconditions are asserted.
#pragma once
#include <stddef.h>

struct tia2_attention_head {
    const float *q, *k, *v;
    size_t       stride;
    float       *out;
    size_t       out_stride;
    size_t       T, d; // >= 1
    bool         causal;
    float       *scratch;
};

constexpr size_t kAttentionLanes   = 16; // the widest vector
constexpr size_t kAttentionQueries = 4;  // computed together

constexpr size_t tia2_attention_pad(size_t n) { return (n + kAttentionLanes - 1) / kAttentionLanes * kAttentionLanes; }

// K transposed [d, pad(T)], V [T, pad(d)], and per query its weights [pad(T)] and its result [pad(d)].
constexpr size_t tia2_attention_scratch(size_t T, size_t d) {
    return d * tia2_attention_pad(T) + T * tia2_attention_pad(d) + kAttentionQueries * (tia2_attention_pad(T) + tia2_attention_pad(d));
}

typedef void (*tia2_attention_f32_fn)(const tia2_attention_head *h);

void tia2_attention_f32_scalar(const tia2_attention_head *h);
void tia2_attention_f32_avx2(const tia2_attention_head *h);
void tia2_attention_f32_avx512(const tia2_attention_head *h);
