// vec_neon.h: the f32 vectors that the *_simd.inc forms are written with, for NEON: simd_math.inc lists
// them. No library header.
#pragma once
#include <arm_neon.h>
#include <stddef.h>
#include <stdint.h>

typedef float32x4_t     vf;
static constexpr size_t kW = 4;

static inline vf v_set1(float x) { return vdupq_n_f32(x); }
static inline vf v_zero() { return vdupq_n_f32(0); }
static inline vf v_load(const float *p) { return vld1q_f32(p); }
static inline vf v_load_n(const float *p, size_t n) {
    float t[4] = {};
    for (size_t i = 0; i < n; i++) t[i] = p[i];
    return vld1q_f32(t);
}
static inline void v_store(float *p, vf a) { vst1q_f32(p, a); }
static inline void v_store_n(float *p, vf a, size_t n) {
    float t[4];
    vst1q_f32(t, a);
    for (size_t i = 0; i < n; i++) p[i] = t[i];
}
static inline vf v_add(vf a, vf b) { return vaddq_f32(a, b); }
static inline vf v_sub(vf a, vf b) { return vsubq_f32(a, b); }
static inline vf v_mul(vf a, vf b) { return vmulq_f32(a, b); }
static inline vf v_div(vf a, vf b) { return vdivq_f32(a, b); }
static inline vf v_min(vf a, vf b) { return vminq_f32(a, b); }
static inline vf v_max(vf a, vf b) { return vmaxq_f32(a, b); }
static inline vf v_abs(vf a) { return vabsq_f32(a); }
static inline vf v_fma(vf a, vf b, vf c) { return vfmaq_f32(c, a, b); }
static inline vf v_round(vf a) { return vrndnq_f32(a); }
static inline vf v_clamp(vf a, float c) { return vmaxq_f32(vdupq_n_f32(-c), vminq_f32(vdupq_n_f32(c), a)); }
static inline vf v_pow2(vf n) { // the exponent field is n + 127
    return vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(vcvtq_s32_f32(n), vdupq_n_s32(127)), 23));
}
static inline float v_sum(vf a) { return vaddvq_f32(a); }
static inline vf v_scale(vf a, vf n) { return vmulq_f32(a, v_pow2(n)); }

static inline vf v_load_bf16(const uint16_t *p) { return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p), 16)); }
static inline vf v_load_bf16_n(const uint16_t *p, size_t n) {
    uint16_t t[4] = {};
    for (size_t i = 0; i < n; i++) t[i] = p[i];
    return v_load_bf16(t);
}
static inline uint16x4_t to_bf16(vf a) { // an instruction for it comes with ARMv8.6 only
    const uint32x4_t u = vreinterpretq_u32_f32(a), odd = vandq_u32(vshrq_n_u32(u, 16), vdupq_n_u32(1));
    const uint32x4_t even = vaddq_u32(u, vaddq_u32(odd, vdupq_n_u32(0x7fff)));
    return vshrn_n_u32(vbslq_u32(vceqq_f32(a, a), even, vorrq_u32(u, vdupq_n_u32(0x400000))), 16);
}
static inline void v_store_bf16(uint16_t *p, vf a) { vst1_u16(p, to_bf16(a)); }
static inline void v_store_bf16_n(uint16_t *p, vf a, size_t n) {
    uint16_t t[4];
    v_store_bf16(t, a);
    for (size_t i = 0; i < n; i++) p[i] = t[i];
}

static inline vf v_max_nan(vf a, vf b) { return vmaxq_f32(a, b); }
static inline float v_greatest_nan(vf a) { return vmaxvq_f32(a); }
static inline void v_store_q8x4(uint8_t *p, const vf *a) {
    const int16x8_t w0 = vcombine_s16(vmovn_s32(vcvtnq_s32_f32(a[0])), vmovn_s32(vcvtnq_s32_f32(a[1])));
    const int16x8_t w1 = vcombine_s16(vmovn_s32(vcvtnq_s32_f32(a[2])), vmovn_s32(vcvtnq_s32_f32(a[3])));
    vst1q_u8(p, veorq_u8(vreinterpretq_u8_s8(vcombine_s8(vmovn_s16(w0), vmovn_s16(w1))), vdupq_n_u8(128)));
}
static inline void v_store_q8_n(uint8_t *p, vf a, size_t n) {
    uint8_t  t[16];
    const vf all[4] = {a, a, a, a};
    v_store_q8x4(t, all);
    for (size_t i = 0; i < n; i++) p[i] = t[i];
}
static inline void v_store_q8(uint8_t *p, vf a) { v_store_q8_n(p, a, 4); }
