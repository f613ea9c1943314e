// Built with the AVX-512 flags and -mavx512bf16. No C++ library header here (see peak_avx2.cpp).
#include <immintrin.h>

#include "../peak.h"

double tia2_peak_bf16_avx512bf16(size_t rounds) {
    constexpr int kChains = 16;
    __m512        a[kChains];
#pragma GCC unroll 16 // as below; a loop left as it is would keep the sums in memory
    for (int c = 0; c < kChains; c++) a[c] = _mm512_setzero_ps();
    const __m512bh x = _mm512_cvtne2ps_pbh(_mm512_set1_ps(0.5f), _mm512_set1_ps(0.25f));
    for (size_t r = 0; r < rounds; r++) {
#pragma GCC unroll 16
        for (int c = 0; c < kChains; c++) {
            a[c] = _mm512_dpbf16_ps(a[c], x, x);
            __asm__ volatile("" : "+v"(a[c]));
        }
    }
    return 2.0 * 32 * kChains * (double)rounds;
}
