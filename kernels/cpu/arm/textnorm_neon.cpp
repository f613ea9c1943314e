// No C++ library header here (see x86/textnorm_avx2.cpp).
#include <arm_neon.h>
#include <assert.h>

#include "../textnorm.h"

typedef float64x2_t     vd;
static constexpr size_t kW = 2;
static constexpr int    kMR = 4, kNR = 4; // 21 of 32 registers

static inline vd v_set1(double x) { return vdupq_n_f64(x); }
static inline vd v_zero() { return vdupq_n_f64(0); }
static inline vd v_add(vd a, vd b) { return vaddq_f64(a, b); }
static inline vd v_sub(vd a, vd b) { return vsubq_f64(a, b); }
static inline vd v_mul(vd a, vd b) { return vmulq_f64(a, b); }
static inline vd v_div(vd a, vd b) { return vdivq_f64(a, b); }
static inline vd v_min(vd a, vd b) { return vminq_f64(a, b); }
static inline vd v_max(vd a, vd b) { return vmaxq_f64(a, b); }
static inline vd v_fma(vd a, vd b, vd c) { return vfmaq_f64(c, a, b); }
static inline vd v_round(vd a) { return vrndnq_f64(a); }
static inline vd v_pow2(vd n) { // the exponent field is n + 1023
    return vreinterpretq_f64_s64(vshlq_n_s64(vaddq_s64(vcvtq_s64_f64(n), vdupq_n_s64(1023)), 52));
}
static inline vd v_cvt(const float *p) { return vcvt_f64_f32(vld1_f32(p)); }
static inline vd v_cvt_n(const float *p, size_t) { return vsetq_lane_f64((double)*p, v_zero(), 0); } // n is 1
static inline vd v_load(const double *p) { return vld1q_f64(p); }
static inline vd v_load_n(const double *p, size_t, double fill) { return vsetq_lane_f64(*p, v_set1(fill), 0); }
static inline double v_sum(vd a) { return vaddvq_f64(a); }
static inline double v_least(vd a) { return vminvq_f64(a); }
static inline double v_greatest(vd a) { return vmaxvq_f64(a); }

#include "../textnorm_simd.inc"

void tia2_textnorm_f32_neon(const tia2_textnorm_set *s) {
    textnorm_simd(s);
}
