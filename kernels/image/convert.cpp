// convert.cpp: PIL's colour conversions (src/libImaging/Convert.c), integers only.
#include "convert.h"

#include <cstring>

namespace tia2 {
namespace {

// muldiv255 is a * b / 255, rounded, as PIL computes it.
inline uint8_t muldiv255(unsigned a, unsigned b) {
    const unsigned t = a * b + 128;
    return uint8_t(((t >> 8) + t) >> 8);
}

inline void grey(uint8_t *dst, uint8_t v) { dst[0] = dst[1] = dst[2] = v; }

} // namespace

void to_rgb(const picture &src, uint8_t *dst) {
    const size_t   n = size_t(src.width) * size_t(src.height);
    const uint8_t *s = src.pixels.data();
    switch (src.mode) {
    case pixel_mode::bit:
    case pixel_mode::l:
        for (size_t i = 0; i < n; i++) grey(dst + 3 * i, s[i]);
        break;
    case pixel_mode::la:
        for (size_t i = 0; i < n; i++) grey(dst + 3 * i, s[2 * i]);
        break;
    case pixel_mode::p:
        for (size_t i = 0; i < n; i++) memcpy(dst + 3 * i, src.palette + 3 * s[i], 3);
        break;
    case pixel_mode::rgb: memcpy(dst, s, 3 * n); break;
    case pixel_mode::rgba:
        for (size_t i = 0; i < n; i++) memcpy(dst + 3 * i, s + 4 * i, 3);
        break;
    case pixel_mode::cmyk:
        for (size_t i = 0; i < n; i++) {
            const uint8_t k = uint8_t(255 - s[4 * i + 3]); // k - muldiv255(x, k) lies in 0..k
            for (size_t c = 0; c < 3; c++) dst[3 * i + c] = uint8_t(k - muldiv255(s[4 * i + c], k));
        }
        break;
    case pixel_mode::i16:
        for (size_t i = 0; i < n; i++) {
            uint16_t v;
            memcpy(&v, s + 2 * i, 2);
            grey(dst + 3 * i, uint8_t(v > 255 ? 255 : v));
        }
        break;
    }
}

picture to_rgb(picture &&src) {
    if (src.mode == pixel_mode::rgb) return std::move(src);
    picture out(pixel_mode::rgb, src.width, src.height);
    to_rgb(src, out.pixels.data());
    return out;
}

void premultiply(picture *p) {
    const size_t c = size_t(mode_bytes(p->mode)), n = p->row_bytes() * size_t(p->height);
    uint8_t     *s = p->pixels.data();
    for (size_t i = 0; i < n; i += c)
        for (size_t j = 0; j + 1 < c; j++) s[i + j] = muldiv255(s[i + j], s[i + c - 1]);
}

void unpremultiply(picture *p) {
    const size_t c = size_t(mode_bytes(p->mode)), n = p->row_bytes() * size_t(p->height);
    uint8_t     *s = p->pixels.data();
    for (size_t i = 0; i < n; i += c) {
        const unsigned alpha = s[i + c - 1];
        if (alpha == 0 || alpha == 255) continue;
        for (size_t j = 0; j + 1 < c; j++) {
            const unsigned v = 255u * s[i + j] / alpha;
            s[i + j] = uint8_t(v > 255 ? 255 : v);
        }
    }
}

} // namespace tia2
