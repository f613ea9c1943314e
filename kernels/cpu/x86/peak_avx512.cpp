// Built with the AVX-512 flags. No C++ library header here (see peak_avx2.cpp).
#include <assert.h>
#include <immintrin.h>

#include "../peak.h"

double tia2_peak_f32_avx512(size_t rounds) {
    constexpr int kChains = 16;
    __m512        a[kChains];
#pragma GCC unroll 16 // as below; a loop left as it is would keep the sums in memory
    for (int c = 0; c < kChains; c++) a[c] = _mm512_set1_ps((float)c);
    const __m512 x = _mm512_set1_ps(0.999f), y = _mm512_set1_ps(1e-3f);
    for (size_t r = 0; r < rounds; r++) {
#pragma GCC unroll 16
        for (int c = 0; c < kChains; c++) {
            a[c] = _mm512_fmadd_ps(a[c], x, y);
            __asm__ volatile("" : "+v"(a[c]));
        }
    }
    return 2.0 * 16 * kChains * (double)rounds;
}

uint64_t tia2_peak_read_avx512(const void *src, size_t bytes) {
    assert(bytes % 256 == 0);
    const char *p = (const char *)src, *end = p + bytes;
    __m512i     s0 = _mm512_setzero_si512(), s1 = s0, s2 = s0, s3 = s0;
    for (; p < end; p += 256) {
        s0 = _mm512_xor_si512(s0, _mm512_load_si512(p));
        s1 = _mm512_xor_si512(s1, _mm512_load_si512(p + 64));
        s2 = _mm512_xor_si512(s2, _mm512_load_si512(p + 128));
        s3 = _mm512_xor_si512(s3, _mm512_load_si512(p + 192));
    }
    uint64_t lanes[8];
    _mm512_storeu_si512(lanes, _mm512_xor_si512(_mm512_xor_si512(s0, s1), _mm512_xor_si512(s2, s3)));
    uint64_t s = 0;
    for (int i = 0; i < 8; i++) s ^= lanes[i];
    return s;
}
