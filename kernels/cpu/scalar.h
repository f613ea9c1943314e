// scalar.h: what the references of several kernels have in common: bf16, and the activations in f64. No library header.
#pragma once
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "dense.h"

static inline float from_bf16(uint16_t v) {
    const uint32_t bits = (uint32_t)v << 16; // bf16 is the upper half of an f32
    float          f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

// To nearest even; NaN stays NaN.
static inline uint16_t to_bf16(float v) {
    uint32_t bits;
    memcpy(&bits, &v, sizeof bits);
    if (v != v) return (uint16_t)(bits >> 16 | 0x40); // quiet: cutting the lower half off could leave infinity
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static inline double activate(double v, tia2::activation act) {
    if (act == tia2::activation::gelu) return 0.5 * v * erfc(-v * M_SQRT1_2);
    if (act == tia2::activation::quick_gelu) return v / (1 + exp(-1.702 * v));
    return v;
}
