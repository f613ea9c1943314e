// Built with -mavx2 -mfma. No C++ library header here (see textnorm_avx2.cpp).
#include <assert.h>
#include <string.h>

#include "../dense.h"
#include "vec_avx2.h"

#include "../simd_math.inc"

static constexpr tia2_format kFormat = tia2_format::f32;
static constexpr int         kMR = 6, kNR = 2; // 12 sums, 2 of w, 1 of x: 15 of 16 registers
typedef vf                   va;
typedef vf                   vx;

static inline va a_zero() { return v_zero(); }
static inline va a_load(const float *p) { return v_load(p); }
static inline void a_store(float *p, va a) { v_store(p, a); }
static inline vf a_float(va a) { return a; }
static inline vx x_set1(const void *p) { return _mm256_broadcast_ss((const float *)p); }
static inline vx w_load(const void *p) { return v_load((const float *)p); }
static inline va a_dot(vx x, vx w, va sum) { return v_fma(x, w, sum); }

#include "../dense_simd.inc"

void tia2_dense_f32_avx2(const tia2_dense_call *c) { dense_simd(c); }
