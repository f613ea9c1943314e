// resize_avx2.cpp: see resize.h. Built with -mavx2; no C++ library header here: an inline function compiled in this
// file could be the copy that the linker keeps for all.
//
// 8 bit times 23 bit does not fit a 16 bit multiply, so a weight is split, k = hi * 2^15 + lo, and both halves go
// through vpmaddwd, which takes two taps at a time at half the cost of a 32 bit multiply.
#include "image/resize.h"

#include <immintrin.h>
#include <string.h>

// finish joins the two sums, rounds and limits to 0..255: 8 values as bytes in the low halves of both 128 bit lanes.
static inline __m256i finish(__m256i lo, __m256i hi) {
    __m256i s = _mm256_add_epi32(_mm256_add_epi32(_mm256_slli_epi32(hi, TIA2_RESIZE_SPLIT), lo),
                                 _mm256_set1_epi32(1 << (TIA2_RESIZE_BITS - 1)));
    s = _mm256_srai_epi32(s, TIA2_RESIZE_BITS);
    s = _mm256_packs_epi32(s, s);
    return _mm256_packus_epi16(s, s);
}

static inline int32_t finish4(__m256i lo, __m256i hi) { // the same for 4 values, each the sum of its two lanes
    const __m128i l = _mm_add_epi32(_mm256_castsi256_si128(lo), _mm256_extracti128_si256(lo, 1));
    const __m128i h = _mm_add_epi32(_mm256_castsi256_si128(hi), _mm256_extracti128_si256(hi, 1));
    __m128i       s = _mm_add_epi32(_mm_add_epi32(_mm_slli_epi32(h, TIA2_RESIZE_SPLIT), l),
                                    _mm_set1_epi32(1 << (TIA2_RESIZE_BITS - 1)));
    s = _mm_srai_epi32(s, TIA2_RESIZE_BITS);
    s = _mm_packs_epi32(s, s);
    return _mm_cvtsi128_si32(_mm_packus_epi16(s, s));
}

// load16 reads up to 16 bytes and none at or behind `end`; what is missing is zero.
static inline __m128i load16(const uint8_t *p, const uint8_t *end) {
    if (end - p >= 16) return _mm_loadu_si128((const __m128i *)p);
    uint8_t buf[16] = {0};
    if (end > p) memcpy(buf, p, (size_t)(end - p));
    return _mm_loadu_si128((const __m128i *)buf);
}

// pairs says which bytes of 4 pixels become which 16 bit words: lane 0 holds pixels 0 and 1, lane 1 pixels 2 and 3, the
// two samples of a channel side by side.
struct pairs {
    alignas(32) int8_t bytes[32];
};

static constexpr pairs make_pairs(int channels) {
    pairs p = {};
    for (int lane = 0; lane < 2; lane++)
        for (int c = 0; c < 4; c++)
            for (int t = 0; t < 2; t++) {
                const int word = lane * 16 + c * 4 + t * 2;
                p.bytes[word] = (int8_t)(c < channels ? (2 * lane + t) * channels + c : -1);
                p.bytes[word + 1] = -1;
            }
    return p;
}

static constexpr pairs kPairs[] = {make_pairs(2), make_pairs(3), make_pairs(4)};

static inline __m256i weights4(const int16_t *k) { // lane 0: k0 k1 four times, lane 1: k2 k3
    int64_t w;
    memcpy(&w, k, 8);
    return _mm256_permutevar8x32_epi32(_mm256_castsi128_si256(_mm_cvtsi64_si128(w)),
                                       _mm256_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1));
}

static void resize_h_grey(uint8_t *y, const uint8_t *x, const struct tia2_resize_axis *axis) {
    const uint8_t *end = x + axis->in;
    for (int32_t i = 0; i < axis->n; i++) {
        const int16_t *lo = axis->lo + (size_t)i * axis->stride, *hi = axis->hi + (size_t)i * axis->stride;
        const uint8_t *p = x + axis->first[i];
        __m256i        a = _mm256_setzero_si256(), b = a;
        for (int32_t t = 0; t < axis->count[i]; t += 16) {
            const __m256i v = _mm256_cvtepu8_epi16(load16(p + t, end));
            a = _mm256_add_epi32(a, _mm256_madd_epi16(v, _mm256_loadu_si256((const __m256i *)(lo + t))));
            b = _mm256_add_epi32(b, _mm256_madd_epi16(v, _mm256_loadu_si256((const __m256i *)(hi + t))));
        }
        a = _mm256_hadd_epi32(a, b); // lanes: a01 a23 b01 b23
        a = _mm256_hadd_epi32(a, a); // lanes: a b a b
        y[i] = (uint8_t)finish4(a, _mm256_srli_si256(a, 4));
    }
}

void tia2_resize_h_u8_avx2(uint8_t *y, const uint8_t *x, const struct tia2_resize_axis *axis, int channels) {
    if (channels == 1) {
        resize_h_grey(y, x, axis);
        return;
    }
    const uint8_t *end = x + (size_t)axis->in * (size_t)channels;
    const __m256i  order = _mm256_load_si256((const __m256i *)kPairs[channels - 2].bytes);
    for (int32_t i = 0; i < axis->n; i++) {
        const int16_t *lo = axis->lo + (size_t)i * axis->stride, *hi = axis->hi + (size_t)i * axis->stride;
        const uint8_t *p = x + (size_t)axis->first[i] * (size_t)channels;
        __m256i        a = _mm256_setzero_si256(), b = a;
        for (int32_t t = 0; t < axis->count[i]; t += 4, p += 4 * channels) {
            const __m256i v = _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(load16(p, end)), order);
            a = _mm256_add_epi32(a, _mm256_madd_epi16(v, weights4(lo + t)));
            b = _mm256_add_epi32(b, _mm256_madd_epi16(v, weights4(hi + t)));
        }
        const int32_t v = finish4(a, b);
        uint8_t      *to = y + (size_t)i * (size_t)channels;
        if (i + 1 < axis->n)
            memcpy(to, &v, 4); // the next output overwrites what is too much
        else
            memcpy(to, &v, (size_t)channels);
    }
}

// columns16 makes 16 bytes of an output row.
static inline void columns16(uint8_t *y, const uint8_t *x, size_t pitch, int32_t count, const int16_t *lo,
                             const int16_t *hi) {
    __m256i a0 = _mm256_setzero_si256(), a1 = a0, b0 = a0, b1 = a0;
    for (int32_t t = 0; t < count; t += 2, x += 2 * pitch) {
        const __m128i r0 = _mm_loadu_si128((const __m128i *)x);
        const __m128i r1 =
            t + 1 < count ? _mm_loadu_si128((const __m128i *)(x + pitch)) : r0; // its weight is then zero
        const __m256i v0 = _mm256_cvtepu8_epi16(_mm_unpacklo_epi8(r0, r1)),
                      v1 = _mm256_cvtepu8_epi16(_mm_unpackhi_epi8(r0, r1));
        int32_t kl, kh;
        memcpy(&kl, lo + t, 4);
        memcpy(&kh, hi + t, 4);
        const __m256i wl = _mm256_set1_epi32(kl), wh = _mm256_set1_epi32(kh);
        a0 = _mm256_add_epi32(a0, _mm256_madd_epi16(v0, wl));
        b0 = _mm256_add_epi32(b0, _mm256_madd_epi16(v0, wh));
        a1 = _mm256_add_epi32(a1, _mm256_madd_epi16(v1, wl));
        b1 = _mm256_add_epi32(b1, _mm256_madd_epi16(v1, wh));
    }
    const __m256i s = _mm256_unpacklo_epi32(finish(a0, b0), finish(a1, b1)); // lanes: c0-3 c8-11 . . | c4-7 c12-15 . .
    const __m128i l = _mm256_castsi256_si128(s), h = _mm256_extracti128_si256(s, 1);
    _mm_storeu_si128((__m128i *)y, _mm_unpacklo_epi32(l, h)); // c0-3 c4-7 c8-11 c12-15
}

void tia2_resize_v_u8_avx2(uint8_t *y, const uint8_t *x, size_t pitch, size_t n, const struct tia2_resize_axis *axis,
                           int32_t i) {
    const int16_t *lo = axis->lo + (size_t)i * axis->stride, *hi = axis->hi + (size_t)i * axis->stride;
    if (n < 16) {
        tia2_resize_v_u8_scalar(y, x, pitch, n, axis, i);
        return;
    }
    size_t j = 0;
    for (; j + 16 <= n; j += 16) columns16(y + j, x + j, pitch, axis->count[i], lo, hi);
    if (j < n) columns16(y + n - 16, x + n - 16, pitch, axis->count[i], lo, hi); // overlaps the last block, same values
}
