// No C++ library header here (see x86/textnorm_avx2.cpp).
#include <assert.h>

#include "../attention.h"
#include "../attention_work.h"
#include "vec_neon.h"

#include "../simd_math.inc"

static constexpr int    kKeys = 8, kVectors = 3;    // 24 sums, 3 vectors of queries, 1 key: 28 of 32 registers
static constexpr int    kQueries = 6, kColumns = 4; // 24 sums, 4 vectors of columns, 1 weight: 29
static constexpr size_t kFew = 0;

static inline void v_transpose4(vf *x, const char *const *row, size_t at) {
    vf r[4];
    for (int i = 0; i < 4; i++) r[i] = vreinterpretq_f32_u8(vld1q_u8((const uint8_t *)row[i] + at));
    const float64x2_t a = vreinterpretq_f64_f32(vzip1q_f32(r[0], r[1])), b = vreinterpretq_f64_f32(vzip1q_f32(r[2], r[3]));
    const float64x2_t c = vreinterpretq_f64_f32(vzip2q_f32(r[0], r[1])), d = vreinterpretq_f64_f32(vzip2q_f32(r[2], r[3]));
    x[0] = vreinterpretq_f32_f64(vzip1q_f64(a, b));
    x[1] = vreinterpretq_f32_f64(vzip2q_f64(a, b));
    x[2] = vreinterpretq_f32_f64(vzip1q_f64(c, d));
    x[3] = vreinterpretq_f32_f64(vzip2q_f64(c, d));
}

#include "../attention_simd.inc"

void tia2_attention_f32_neon(const tia2_attention_head<float> *h) { every_block(h, prepare(h), 0); }
void tia2_attention_bf16_neon(const tia2_attention_head<uint16_t> *h) { every_block(h, prepare(h), 0); }
