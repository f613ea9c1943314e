// Built with -mavx2 -mfma. No C++ library header here: an inline function compiled in this file could be the copy
// that the linker keeps for all.
#include <assert.h>
#include <immintrin.h>

#include "../peak.h"

double tia2_peak_f32_avx2(size_t rounds) {
    constexpr int kChains = 12; // 2 FMA units with a latency of 4 to 5 cycles need 8 to 10; 16 registers allow 12
    __m256        a[kChains];
#pragma GCC unroll 12 // as below; a loop left as it is would keep the sums in memory
    for (int c = 0; c < kChains; c++) a[c] = _mm256_set1_ps((float)c);
    const __m256 x = _mm256_set1_ps(0.999f), y = _mm256_set1_ps(1e-3f);
    for (size_t r = 0; r < rounds; r++) {
#pragma GCC unroll 12
        for (int c = 0; c < kChains; c++) {
            a[c] = _mm256_fmadd_ps(a[c], x, y);
            __asm__ volatile("" : "+x"(a[c])); // kept in a register, and not merged with the next round
        }
    }
    return 2.0 * 8 * kChains * (double)rounds;
}

uint64_t tia2_peak_read_avx2(const void *src, size_t bytes) {
    assert(bytes % 256 == 0);
    const char *p = (const char *)src, *end = p + bytes;
    __m256i     s0 = _mm256_setzero_si256(), s1 = s0, s2 = s0, s3 = s0;
    for (; p < end; p += 128) {
        s0 = _mm256_xor_si256(s0, _mm256_load_si256((const __m256i *)p));
        s1 = _mm256_xor_si256(s1, _mm256_load_si256((const __m256i *)(p + 32)));
        s2 = _mm256_xor_si256(s2, _mm256_load_si256((const __m256i *)(p + 64)));
        s3 = _mm256_xor_si256(s3, _mm256_load_si256((const __m256i *)(p + 96)));
    }
    const __m256i s = _mm256_xor_si256(_mm256_xor_si256(s0, s1), _mm256_xor_si256(s2, s3));
    return (uint64_t)(_mm256_extract_epi64(s, 0) ^ _mm256_extract_epi64(s, 1) ^ _mm256_extract_epi64(s, 2) ^
                      _mm256_extract_epi64(s, 3));
}
