// resize_avx2.cpp: see resize.h. Built with -mavx2; no C++ library header here: an inline function compiled in this
// file could be the copy that the linker keeps for all.
//
// 8 bit times 23 bit does not fit a 16 bit multiply, so a weight is split, k = hi * 2^15 + lo, and both halves go
// through vpmaddwd, which takes two taps at a time at half the cost of a 32 bit multiply.
#include "image/resize.h"

#include <immintrin.h>
#include <string.h>

// finish8 joins the two sums, rounds and limits to 0..255: 8 values as bytes in the low halves of both 128 bit lanes.
static inline __m256i finish8(__m256i lo, __m256i hi) {
    __m256i s = _mm256_add_epi32(_mm256_add_epi32(_mm256_slli_epi32(hi, TIA2_RESIZE_SPLIT), lo),
                                 _mm256_set1_epi32(1 << (TIA2_RESIZE_BITS - 1)));
    s = _mm256_srai_epi32(s, TIA2_RESIZE_BITS);
    s = _mm256_packs_epi32(s, s);
    return _mm256_packus_epi16(s, s);
}

// load16 reads 16 bytes, or `left` of them and zeros.
static inline __m128i load16(const uint8_t *p, size_t left) {
    if (left >= 16) return _mm_loadu_si128((const __m128i *)p);
    uint8_t buf[16] = {0};
    memcpy(buf, p, left);
    return _mm_loadu_si128((const __m128i *)buf);
}

struct four_rows { // a row is a 128 bit lane
    __m256i v01, v23;
};

template <bool whole> static inline four_rows load(const uint8_t *x, size_t pitch, size_t left) {
    const size_t n = whole ? 16 : left;
    return {_mm256_inserti128_si256(_mm256_castsi128_si256(load16(x, n)), load16(x + pitch, n), 1),
            _mm256_inserti128_si256(_mm256_castsi128_si256(load16(x + 2 * pitch, n)), load16(x + 3 * pitch, n), 1)};
}

struct sums {
    __m256i lo01, lo23, hi01, hi23; // a channel is 32 bits of its row's lane
};

// pairs says which bytes of a row become which 16 bit words: of pixels t and t + 1, the two samples of a channel side by
// side; -1 is zero.
struct pairs {
    alignas(32) int8_t bytes[32];
};

static constexpr pairs make_pairs(int channels, int t) {
    pairs p = {};
    for (int i = 0; i < 32; i++) {
        const int c = i % 16 / 4;
        p.bytes[i] = (int8_t)(c < channels && i % 2 == 0 ? (t + i % 4 / 2) * channels + c : -1);
    }
    return p;
}

// words makes 16 bit words of pixels 0 and 1, or 2 and 3; of grey 0 to 7, or 8 to 15.
template <int C, bool second> static inline __m256i words(__m256i v) {
    static constexpr pairs order = make_pairs(C, second ? 2 : 0);
    if (C > 1) return _mm256_shuffle_epi8(v, _mm256_load_si256((const __m256i *)order.bytes));
    return second ? _mm256_unpackhi_epi8(v, _mm256_setzero_si256()) : _mm256_unpacklo_epi8(v, _mm256_setzero_si256());
}

template <int C> static inline __m256i weights(const int16_t *k) { // for words
    if (C == 1) return _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)k));
    int32_t w;
    memcpy(&w, k, 4);
    return _mm256_set1_epi32(w);
}

static inline __m256i mac(__m256i sum, __m256i a, __m256i ka, __m256i b, __m256i kb) {
    return _mm256_add_epi32(sum, _mm256_add_epi32(_mm256_madd_epi16(a, ka), _mm256_madd_epi16(b, kb)));
}

template <int C> static inline sums add(sums s, four_rows r, const struct tia2_resize_axis &axis, size_t k) {
    constexpr size_t per = C == 1 ? 8 : 2; // taps of a register of words
    const int16_t   *lo = axis.lo + k, *hi = axis.hi + k;
    const __m256i    l0 = weights<C>(lo), l1 = weights<C>(lo + per), h0 = weights<C>(hi), h1 = weights<C>(hi + per);
    const __m256i    a01 = words<C, false>(r.v01), b01 = words<C, true>(r.v01);
    const __m256i    a23 = words<C, false>(r.v23), b23 = words<C, true>(r.v23);
    return {mac(s.lo01, a01, l0, b01, l1), mac(s.lo23, a23, l0, b23, l1), mac(s.hi01, a01, h0, b01, h1),
            mac(s.hi23, a23, h0, b23, h1)};
}

template <int C> static inline __m256i rounded(__m256i lo, __m256i hi) {
    __m256i v = _mm256_add_epi32(_mm256_slli_epi32(hi, TIA2_RESIZE_SPLIT), lo);
    if (C == 1) { // the four sums of a row are one
        v = _mm256_add_epi32(v, _mm256_shuffle_epi32(v, 0x4E));
        v = _mm256_add_epi32(v, _mm256_shuffle_epi32(v, 0xB1));
    }
    return _mm256_srai_epi32(_mm256_add_epi32(v, _mm256_set1_epi32(1 << (TIA2_RESIZE_BITS - 1))), TIA2_RESIZE_BITS);
}

template <int C> static inline __m128i finish(sums s) {
    __m256i p = _mm256_packs_epi32(rounded<C>(s.lo01, s.hi01), rounded<C>(s.lo23, s.hi23)); // lanes: rows 0 2 | 1 3
    p = _mm256_packus_epi16(p, p);
    return _mm_unpacklo_epi32(_mm256_castsi256_si128(p), _mm256_extracti128_si256(p, 1));
}

#include "image/resize_h_simd.inc"

void tia2_resize_h_u8_avx2(uint8_t *y, size_t y_pitch, const uint8_t *x, size_t x_pitch, int32_t rows,
                           const struct tia2_resize_axis *axis, int channels) {
    resize_h(y, y_pitch, x, x_pitch, rows, axis, channels);
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
    const __m256i s = _mm256_unpacklo_epi32(finish8(a0, b0), finish8(a1, b1)); // lanes: c0-3 c8-11 . . | c4-7 c12-15 . .
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
