// Built with the AVX-512 flags and -mavx512vnni. No C++ library header here (see peak_avx2.cpp).
#include <immintrin.h>

#include "../peak.h"

double tia2_peak_int8_avx512vnni(size_t rounds) {
    constexpr int kChains = 16;
    __m512i       a[kChains];
#pragma GCC unroll 16 // as below; a loop left as it is would keep the sums in memory
    for (int c = 0; c < kChains; c++) a[c] = _mm512_setzero_si512();
    const __m512i x = _mm512_set1_epi8(3), y = _mm512_set1_epi8(5);
    for (size_t r = 0; r < rounds; r++) {
#pragma GCC unroll 16
        for (int c = 0; c < kChains; c++) {
            a[c] = _mm512_dpbusd_epi32(a[c], x, y); // wraps around, which costs nothing
            __asm__ volatile("" : "+v"(a[c]));
        }
    }
    return 2.0 * 64 * kChains * (double)rounds;
}
