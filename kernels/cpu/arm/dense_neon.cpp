// No C++ library header here (see x86/textnorm_avx2.cpp).
#include <assert.h>

#include "../dense.h"
#include "vec_neon.h"

#include "../simd_math.inc"

static constexpr int kMR = 6, kNR = 4; // 24 sums, 4 of w, 1 of x: 29 of 32 registers

#include "../dense_f32_simd.inc"

void tia2_dense_f32_neon(const tia2_dense_call *c) { dense_simd(c); }
