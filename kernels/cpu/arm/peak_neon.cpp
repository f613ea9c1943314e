// No C++ library header here (see x86/peak_avx2.cpp).
#include <arm_neon.h>

#include "../peak.h"

double tia2_peak_f32_neon(size_t rounds) {
    constexpr int kChains = 24; // up to 4 units with a latency of 4 cycles need 16
    float32x4_t   a[kChains];
#pragma GCC unroll 24 // as below; a loop left as it is would keep the sums in memory
    for (int c = 0; c < kChains; c++) a[c] = vdupq_n_f32((float)c);
    const float32x4_t x = vdupq_n_f32(0.999f);
    for (size_t r = 0; r < rounds; r++) {
#pragma GCC unroll 24
        for (int c = 0; c < kChains; c++) {
            a[c] = vfmaq_f32(a[c], a[c], x);
            __asm__ volatile("" : "+w"(a[c]));
        }
    }
    return 2.0 * 4 * kChains * (double)rounds;
}
