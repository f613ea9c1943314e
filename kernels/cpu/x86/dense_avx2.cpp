// Built with -mavx2 -mfma. No C++ library header here (see textnorm_avx2.cpp).
#include <assert.h>

#include "../dense.h"
#include "vec_avx2.h"

#include "../simd_math.inc"

static constexpr int kMR = 6, kNR = 2; // 12 sums, 2 of w, 1 of x: 15 of 16 registers

#include "../dense_f32_simd.inc"

void tia2_dense_f32_avx2(const tia2_dense_call *c) { dense_simd(c); }
