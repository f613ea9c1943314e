// attention_transpose.h: the transposed blocks of attention_simd.inc, for AVX2 and AVX-512. No library header.
#pragma once
#include <immintrin.h>
#include <stddef.h>

// x[i]: the i-th of the four units at row[m] + at, of the rows m in order. Register r is filled with the rows r, r + 4, ...,
// one per 128 bits, so that transposing 4 x 4 within these puts all rows in order.
static inline void v_transpose4(__m256 *x, const char *const *row, size_t at) {
    __m256 r[4];
    for (int i = 0; i < 4; i++)
        r[i] = _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps((const float *)(const void *)(row[i] + at))),
                                    _mm_loadu_ps((const float *)(const void *)(row[i + 4] + at)), 1);
    const __m256d a = _mm256_castps_pd(_mm256_unpacklo_ps(r[0], r[1])), b = _mm256_castps_pd(_mm256_unpacklo_ps(r[2], r[3]));
    const __m256d c = _mm256_castps_pd(_mm256_unpackhi_ps(r[0], r[1])), d = _mm256_castps_pd(_mm256_unpackhi_ps(r[2], r[3]));
    x[0] = _mm256_castpd_ps(_mm256_unpacklo_pd(a, b));
    x[1] = _mm256_castpd_ps(_mm256_unpackhi_pd(a, b));
    x[2] = _mm256_castpd_ps(_mm256_unpacklo_pd(c, d));
    x[3] = _mm256_castpd_ps(_mm256_unpackhi_pd(c, d));
}

#ifdef __AVX512F__
static inline void v_transpose4(__m512 *x, const char *const *row, size_t at) {
    __m512 r[4];
    for (int i = 0; i < 4; i++) {
        __m128 part[4];
        for (int k = 0; k < 4; k++) part[k] = _mm_loadu_ps((const float *)(const void *)(row[i + 4 * k] + at));
        r[i] = _mm512_insertf32x4(_mm512_castps128_ps512(part[0]), part[1], 1);
        r[i] = _mm512_insertf32x4(_mm512_insertf32x4(r[i], part[2], 2), part[3], 3);
    }
    const __m512d a = _mm512_castps_pd(_mm512_unpacklo_ps(r[0], r[1])), b = _mm512_castps_pd(_mm512_unpacklo_ps(r[2], r[3]));
    const __m512d c = _mm512_castps_pd(_mm512_unpackhi_ps(r[0], r[1])), d = _mm512_castps_pd(_mm512_unpackhi_ps(r[2], r[3]));
    x[0] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, b));
    x[1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, b));
    x[2] = _mm512_castpd_ps(_mm512_unpacklo_pd(c, d));
    x[3] = _mm512_castpd_ps(_mm512_unpackhi_pd(c, d));
}
#endif
