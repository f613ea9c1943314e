// resize_avx512.cpp: see resize.h and resize_avx2.cpp. Built with -mavx512f -mavx512bw -mavx512dq -mavx512vl; no C++
// library header here. Masked loads and stores take care of every edge.
#include "image/resize.h"

#include <immintrin.h>
#include <string.h>

static inline __m512i join(__m512i lo, __m512i hi) { // 16 sums, rounded, not yet limited
    const __m512i s = _mm512_add_epi32(_mm512_add_epi32(_mm512_slli_epi32(hi, TIA2_RESIZE_SPLIT), lo),
                                       _mm512_set1_epi32(1 << (TIA2_RESIZE_BITS - 1)));
    return _mm512_srai_epi32(s, TIA2_RESIZE_BITS);
}

static inline __m128i add_lanes(__m512i v) {
    const __m256i h = _mm256_add_epi32(_mm512_castsi512_si256(v), _mm512_extracti64x4_epi64(v, 1));
    return _mm_add_epi32(_mm256_castsi256_si128(h), _mm256_extracti128_si256(h, 1));
}

static inline __m128i finish4(__m128i lo, __m128i hi) { // 4 bytes
    __m128i s = _mm_add_epi32(_mm_add_epi32(_mm_slli_epi32(hi, TIA2_RESIZE_SPLIT), lo),
                              _mm_set1_epi32(1 << (TIA2_RESIZE_BITS - 1)));
    s = _mm_srai_epi32(s, TIA2_RESIZE_BITS);
    s = _mm_packs_epi32(s, s);
    return _mm_packus_epi16(s, s);
}

static inline __mmask32 first_bytes(ptrdiff_t n) { // a mask of the first n bytes, 0 <= n
    return n >= 32 ? ~(__mmask32)0 : ((__mmask32)1 << (n < 0 ? 0 : n)) - 1;
}

// shuffles lays 8 pixels out in four lanes, two pixels a lane: first the dwords that hold them, then the bytes within,
// each widened to a 16 bit word, the two samples of a channel side by side.
struct shuffles {
    alignas(64) int32_t dwords[16];
    alignas(64) int8_t bytes[64];
};

static constexpr shuffles make_shuffles(int channels) {
    shuffles s = {};
    for (int lane = 0; lane < 4; lane++) {
        const int at = 2 * lane * channels; // first byte of the lane's pixels
        for (int j = 0; j < 4; j++) s.dwords[4 * lane + j] = at / 4 + (j < 3 ? j : 0);
        for (int c = 0; c < 4; c++)
            for (int t = 0; t < 2; t++) {
                const int word = lane * 16 + c * 4 + t * 2;
                s.bytes[word] = (int8_t)(c < channels ? at % 4 + t * channels + c : -1);
                s.bytes[word + 1] = -1;
            }
    }
    return s;
}

static constexpr shuffles kShuffles[] = {make_shuffles(2), make_shuffles(3), make_shuffles(4)};

static inline __m512i weights8(const int16_t *k) { // lane j: k[2j] k[2j+1], four times
    const __m512i order = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
    return _mm512_permutexvar_epi32(order, _mm512_castsi128_si512(_mm_loadu_si128((const __m128i *)k)));
}

static void resize_h_grey(uint8_t *y, const uint8_t *x, const struct tia2_resize_axis *axis) {
    const uint8_t *end = x + axis->in;
    for (int32_t i = 0; i < axis->n; i++) {
        const int16_t *lo = axis->lo + (size_t)i * axis->stride, *hi = axis->hi + (size_t)i * axis->stride;
        const uint8_t *p = x + axis->first[i];
        __m256i        a = _mm256_setzero_si256(), b = a;
        for (int32_t t = 0; t < axis->count[i]; t += 16) {
            const __m256i v = _mm256_cvtepu8_epi16(_mm_maskz_loadu_epi8((__mmask16)first_bytes(end - (p + t)), p + t));
            a = _mm256_add_epi32(a, _mm256_madd_epi16(v, _mm256_loadu_si256((const __m256i *)(lo + t))));
            b = _mm256_add_epi32(b, _mm256_madd_epi16(v, _mm256_loadu_si256((const __m256i *)(hi + t))));
        }
        a = _mm256_hadd_epi32(a, b);
        a = _mm256_hadd_epi32(a, a); // lanes: a b a b
        const __m128i s = _mm_add_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
        y[i] = (uint8_t)_mm_cvtsi128_si32(finish4(s, _mm_srli_si128(s, 4)));
    }
}

void tia2_resize_h_u8_avx512(uint8_t *y, const uint8_t *x, const struct tia2_resize_axis *axis, int channels) {
    if (channels == 1) {
        resize_h_grey(y, x, axis);
        return;
    }
    const uint8_t *end = x + (size_t)axis->in * (size_t)channels;
    const __m512i  dwords = _mm512_load_si512(kShuffles[channels - 2].dwords),
                  bytes = _mm512_load_si512(kShuffles[channels - 2].bytes);
    const __mmask16 out = (__mmask16)first_bytes(channels);
    for (int32_t i = 0; i < axis->n; i++) {
        const int16_t *lo = axis->lo + (size_t)i * axis->stride, *hi = axis->hi + (size_t)i * axis->stride;
        const uint8_t *p = x + (size_t)axis->first[i] * (size_t)channels;
        __m512i        a = _mm512_setzero_si512(), b = a;
        for (int32_t t = 0; t < axis->count[i]; t += 8, p += 8 * channels) {
            const __m256i raw = _mm256_maskz_loadu_epi8(first_bytes(end - p), p);
            const __m512i v = _mm512_shuffle_epi8(_mm512_permutexvar_epi32(dwords, _mm512_castsi256_si512(raw)), bytes);
            a = _mm512_add_epi32(a, _mm512_madd_epi16(v, weights8(lo + t)));
            b = _mm512_add_epi32(b, _mm512_madd_epi16(v, weights8(hi + t)));
        }
        _mm_mask_storeu_epi8(y + (size_t)i * (size_t)channels, out, finish4(add_lanes(a), add_lanes(b)));
    }
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
