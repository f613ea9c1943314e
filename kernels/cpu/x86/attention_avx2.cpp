// Built with -mavx2 -mfma. No C++ library header here (see textnorm_avx2.cpp).
#include <assert.h>

#include "../attention.h"
#include "../attention_work.h"
#include "attention_transpose.h"
#include "vec_avx2.h"

#include "../simd_math.inc"

static constexpr int    kKeys = 6, kVectors = 2;    // 12 sums, 2 vectors of queries, 1 key: 15 of 16 registers
static constexpr int    kQueries = 6, kColumns = 2; // 12 sums, 2 vectors of columns, 1 weight
static constexpr size_t kFew = 0;

#include "../attention_simd.inc"

void tia2_attention_f32_avx2(const tia2_attention_head<float> *h) { every_block(h, prepare(h), 0); }
void tia2_attention_bf16_avx2(const tia2_attention_head<uint16_t> *h) { every_block(h, prepare(h), 0); }
