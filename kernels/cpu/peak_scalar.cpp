#include <assert.h>

#include "peak.h"

double tia2_peak_f32_scalar(size_t rounds) {
    constexpr int kChains = 8; // independent sums, to hide the latency of the adder
    float         a[kChains];
#pragma GCC unroll 8 // as below; a loop left as it is would keep the sums in memory
    for (int c = 0; c < kChains; c++) a[c] = (float)c;
    float x = 0.999f, y = 1e-3f;
    for (size_t r = 0; r < rounds; r++) {
#pragma GCC unroll 8
        for (int c = 0; c < kChains; c++) a[c] = a[c] * x + y;
    }
#pragma GCC unroll 8
    for (int c = 0; c < kChains; c++) __asm__ volatile("" : "+r"(a[c])); // used, as far as the compiler knows
    return 2.0 * kChains * (double)rounds;
}

uint64_t tia2_peak_read_scalar(const void *src, size_t bytes) {
    assert(bytes % 256 == 0);
    const uint64_t *p = (const uint64_t *)src;
    uint64_t        s0 = 0, s1 = 0, s2 = 0, s3 = 0;
    for (size_t i = 0; i < bytes / 8; i += 4) {
        s0 ^= p[i];
        s1 ^= p[i + 1];
        s2 ^= p[i + 2];
        s3 ^= p[i + 3];
    }
    return s0 ^ s1 ^ s2 ^ s3;
}
