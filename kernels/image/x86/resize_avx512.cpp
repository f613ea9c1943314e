// resize_avx512.cpp: see resize.h and resize_avx2.cpp. Built with -mavx512f -mavx512bw -mavx512dq -mavx512vl; no C++
// library header here. Masked loads and stores take care of every edge. Only the vertical pass: the horizontal one is no
// faster than AVX2's, whose four rows fill two registers as well as one of twice the width.
#include "image/resize.h"

#include <immintrin.h>
#include <string.h>

static inline __m512i join(__m512i lo, __m512i hi) { // 16 sums, rounded, not yet limited
    const __m512i s = _mm512_add_epi32(_mm512_add_epi32(_mm512_slli_epi32(hi, TIA2_RESIZE_SPLIT), lo),
                                       _mm512_set1_epi32(1 << (TIA2_RESIZE_BITS - 1)));
    return _mm512_srai_epi32(s, TIA2_RESIZE_BITS);
}

static inline __mmask32 first_bytes(ptrdiff_t n) { // a mask of the first n bytes, 0 <= n
    return n >= 32 ? ~(__mmask32)0 : ((__mmask32)1 << (n < 0 ? 0 : n)) - 1;
}

void tia2_resize_v_u8_avx512(uint8_t *y, const uint8_t *x, size_t pitch, size_t n, const struct tia2_resize_axis *axis,
                             int32_t i) {
    const int16_t *lo = axis->lo + (size_t)i * axis->stride, *hi = axis->hi + (size_t)i * axis->stride;
    const int32_t  count = axis->count[i];
    for (size_t j = 0; j < n; j += 32) {
        const __mmask32 m = first_bytes((ptrdiff_t)(n - j));
        const uint8_t  *p = x + j;
        __m512i         a0 = _mm512_setzero_si512(), a1 = a0, b0 = a0, b1 = a0;
        for (int32_t t = 0; t < count; t += 2, p += 2 * pitch) {
            const __m256i r0 = _mm256_maskz_loadu_epi8(m, p);
            const __m256i r1 = t + 1 < count ? _mm256_maskz_loadu_epi8(m, p + pitch) : r0; // its weight is then zero
            // Of each 128 bit lane of 16 columns, v0 gets the pairs of the first eight, v1 those of the last eight.
            const __m512i v0 = _mm512_cvtepu8_epi16(_mm256_unpacklo_epi8(r0, r1)),
                          v1 = _mm512_cvtepu8_epi16(_mm256_unpackhi_epi8(r0, r1));
            int32_t kl, kh;
            memcpy(&kl, lo + t, 4);
            memcpy(&kh, hi + t, 4);
            const __m512i wl = _mm512_set1_epi32(kl), wh = _mm512_set1_epi32(kh);
            a0 = _mm512_add_epi32(a0, _mm512_madd_epi16(v0, wl));
            b0 = _mm512_add_epi32(b0, _mm512_madd_epi16(v0, wh));
            a1 = _mm512_add_epi32(a1, _mm512_madd_epi16(v1, wl));
            b1 = _mm512_add_epi32(b1, _mm512_madd_epi16(v1, wh));
        }
        const __m512i zero = _mm512_setzero_si512();
        const __m128i s0 = _mm512_cvtusepi32_epi8(_mm512_max_epi32(join(a0, b0), zero)); // columns 0-7, 16-23
        const __m128i s1 = _mm512_cvtusepi32_epi8(_mm512_max_epi32(join(a1, b1), zero)); // columns 8-15, 24-31
        const __m256i s = _mm256_set_m128i(_mm_unpackhi_epi64(s0, s1), _mm_unpacklo_epi64(s0, s1));
        _mm256_mask_storeu_epi8(y + j, m, s);
    }
}
