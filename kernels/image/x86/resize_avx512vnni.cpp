// resize_avx512vnni.cpp: see resize.h and resize_avx2.cpp. Built with -mavx512f -mavx512bw -mavx512dq -mavx512vl
// -mavx512vnni; no C++ library header here. Only the horizontal pass: vpdpbusd takes four taps of a channel, bytes as they
// are, times the signed digits of their weights to base 256, which are three.
#include "image/resize.h"

#include <immintrin.h>
#include <string.h>

// load reads 16 bytes of each row, or `left` and zeros: a row is a 128 bit lane.
template <bool whole> static inline __m512i load(const uint8_t *x, size_t pitch, size_t left) {
    if (whole) {
        __m512i v = _mm512_castsi128_si512(_mm_loadu_si128((const __m128i *)x));
        v = _mm512_inserti32x4(v, _mm_loadu_si128((const __m128i *)(x + pitch)), 1);
        v = _mm512_inserti32x4(v, _mm_loadu_si128((const __m128i *)(x + 2 * pitch)), 2);
        return _mm512_inserti32x4(v, _mm_loadu_si128((const __m128i *)(x + 3 * pitch)), 3);
    }
    const __mmask16 m = (__mmask16)(left >= 16 ? 0xFFFF : (1u << left) - 1);
    __m512i         v = _mm512_castsi128_si512(_mm_maskz_loadu_epi8(m, x));
    v = _mm512_inserti32x4(v, _mm_maskz_loadu_epi8(m, x + pitch), 1);
    v = _mm512_inserti32x4(v, _mm_maskz_loadu_epi8(m, x + 2 * pitch), 2);
    return _mm512_inserti32x4(v, _mm_maskz_loadu_epi8(m, x + 3 * pitch), 3);
}

struct sums {
    __m512i d0, d1, d2; // a channel is 32 bits of its row's lane
};

// quads says which bytes of a row go where: of four pixels, the four samples of a channel side by side; -1 is zero.
struct quads {
    alignas(64) int8_t bytes[64];
};

static constexpr quads make_quads(int channels) {
    quads q = {};
    for (int i = 0; i < 64; i++) {
        const int c = i % 16 / 4;
        q.bytes[i] = (int8_t)(c < channels ? i % 4 * channels + c : -1);
    }
    return q;
}

template <int C> static inline __m512i digits(const int8_t *d) { // of 16 taps of grey, of four of colour
    if (C == 1) return _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)d));
    int32_t w;
    memcpy(&w, d, 4);
    return _mm512_set1_epi32(w);
}

template <int C> static inline sums add(sums s, __m512i v, const struct tia2_resize_axis &axis, size_t k) {
    static constexpr quads order = make_quads(C);
    if (C > 1) v = _mm512_shuffle_epi8(v, _mm512_load_si512(order.bytes));
    s.d0 = _mm512_dpbusd_epi32(s.d0, v, digits<C>(axis.d0 + k));
    s.d1 = _mm512_dpbusd_epi32(s.d1, v, digits<C>(axis.d1 + k));
    s.d2 = _mm512_dpbusd_epi32(s.d2, v, digits<C>(axis.d2 + k));
    return s;
}

template <int C> static inline __m128i finish(const sums &s) {
    __m512i v = _mm512_add_epi32(_mm512_slli_epi32(s.d2, 8), s.d1);
    v = _mm512_add_epi32(_mm512_slli_epi32(v, 8), s.d0);
    if (C == 1) { // the four sums of a row are one
        v = _mm512_add_epi32(v, _mm512_shuffle_epi32(v, _MM_PERM_BADC));
        v = _mm512_add_epi32(v, _mm512_shuffle_epi32(v, _MM_PERM_CDAB));
    }
    v = _mm512_srai_epi32(_mm512_add_epi32(v, _mm512_set1_epi32(1 << (TIA2_RESIZE_BITS - 1))), TIA2_RESIZE_BITS);
    return _mm512_cvtusepi32_epi8(_mm512_max_epi32(v, _mm512_setzero_si512()));
}

#include "image/resize_h_simd.inc"

void tia2_resize_h_u8_avx512vnni(uint8_t *y, size_t y_pitch, const uint8_t *x, size_t x_pitch, int32_t rows,
                                 const struct tia2_resize_axis *axis, int channels) {
    resize_h(y, y_pitch, x, x_pitch, rows, axis, channels);
}
