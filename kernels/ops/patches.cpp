#include "patches.h"

#include <cstring>

namespace tia2 {

void patches_from_u8(float *dst, const uint8_t *pixels, int64_t B, int64_t S, int64_t P, const std::array<float, 3> &mean,
                     const std::array<float, 3> &std) {
    // All 256 values of a channel, normalised in the order of torchvision's ToTensor and Normalize.
    float value[3][256];
    for (int c = 0; c < 3; c++)
        for (int v = 0; v < 256; v++) value[c][v] = ((float)v / 255.0f - mean[(size_t)c]) / std[(size_t)c];

    for (int64_t b = 0; b < B; b++)
        for (int64_t top = 0; top < S; top += P)
            for (int64_t left = 0; left < S; left += P)
                for (int c = 0; c < 3; c++)
                    for (int64_t y = top; y < top + P; y++) {
                        const uint8_t *src = pixels + ((b * S + y) * S + left) * 3 + c; // pixels[b, y, left, c]
                        for (int64_t x = 0; x < P; x++) *dst++ = value[c][src[3 * x]];
                    }
}

void patches_from_f32(float *dst, const float *pixels, int64_t B, int64_t S, int64_t P) {
    for (int64_t b = 0; b < B; b++)
        for (int64_t top = 0; top < S; top += P)
            for (int64_t left = 0; left < S; left += P)
                for (int64_t c = 0; c < 3; c++)
                    for (int64_t y = top; y < top + P; y++, dst += P)
                        memcpy(dst, pixels + ((b * 3 + c) * S + y) * S + left, (size_t)P * sizeof(float)); // pixels[b, c, y, left]
}

} // namespace tia2
