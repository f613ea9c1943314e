// attention.h: softmax(q k^T / sqrt(d)) v, one head of one sequence: n queries and T keys, of the same tokens or of others.
//
// E is float, or uint16_t: bf16.
//
//   q        E [n, d]  query i is row i, rows `q_stride` elements apart
//   k, v     E [T, d]  key j is row rows[j] (row j where rows is NULL), rows `stride` elements apart: q, k and v lie in the
//                      product of a qkv layer or of two layers, and no row is read that is not named
//   out      E [n, d]  rows `out_stride` elements apart; no overlap with the inputs
//   n        queries, n >= 1
//   causal   query i sees keys 0..T-n+i only (n <= T), else all T
//   scratch  f32 [tia2_attention_scratch(T, d)]
//
// Accuracy: f32: |out - out64| <= (d/8 + 4) * FLT_EPSILON * max|v| * (1 + max over keys of sum_d |q k| / sqrt(d)). bf16: and
//           |out64|/256 for the rounding of the result; by VDPBF16PS (avx512bf16) and max|v|/512, as weights are rounded
//           too, and denormals are 0. Against f64 of the same elements, tested to T = 257 and d = 80.
// Order:    a query's sums run over d and over its keys in ascending order, whatever n, T, the place of the rows and the
//           queries beside it: it has the same bits in any batch, and a causal one with any keys after it (finite ones: keys
//           that it does not see have the weight 0).
// Cost:     4*n*T*d flops (up to half of it in vain where causal).
// Source:   Vaswani et al. 2017, eq. 1; openai/CLIP clip/model.py ResidualAttentionBlock.attention.
// Pure functions, thread-safe, no allocation. Any alignment. Preconditions are asserted.
#pragma once
#include <stddef.h>
#include <stdint.h>

template <class E> struct tia2_attention_head {
    const E       *q, *k, *v;
    size_t         q_stride, stride;
    const int32_t *rows;
    E             *out;
    size_t         out_stride;
    size_t         T, n, d; // >= 1
    bool           causal;
    float         *scratch;
};

constexpr size_t kAttentionLanes = 48; // most queries that are computed together

// Of the queries computed together: themselves and transposed, their scores and their results; K and V; a line to align.
constexpr size_t tia2_attention_scratch(size_t T, size_t d) {
    const size_t width = (d + 15) / 16 * 16; // whole vectors
    return kAttentionLanes * (2 * d + T + width + 1) + T * (d + width) + 16;
}

typedef void (*tia2_attention_f32_fn)(const tia2_attention_head<float> *h);
typedef void (*tia2_attention_bf16_fn)(const tia2_attention_head<uint16_t> *h);

void tia2_attention_f32_scalar(const tia2_attention_head<float> *h);
void tia2_attention_f32_avx2(const tia2_attention_head<float> *h);
void tia2_attention_f32_avx512(const tia2_attention_head<float> *h);
void tia2_attention_f32_neon(const tia2_attention_head<float> *h);

void tia2_attention_bf16_scalar(const tia2_attention_head<uint16_t> *h);
void tia2_attention_bf16_avx2(const tia2_attention_head<uint16_t> *h);
void tia2_attention_bf16_avx512(const tia2_attention_head<uint16_t> *h);
void tia2_attention_bf16_avx512bf16(const tia2_attention_head<uint16_t> *h);
void tia2_attention_bf16_neon(const tia2_attention_head<uint16_t> *h);
