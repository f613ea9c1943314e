#include "patches.h"

#include "../cpu/rows.h"

#include <cstring>

namespace tia2 {

void write_pixel_table(float table[3][256], const patch_grid &grid) {
    for (size_t c = 0; c < 3; c++)
        for (int v = 0; v < 256; v++) table[c][v] = ((float)v / 255.0f - grid.mean[c]) / grid.std[c];
}

void patches_from_u8(float *dst, const uint8_t *pixels, int64_t B, const patch_grid &grid) {
    float table[3][256];
    write_pixel_table(table, grid);
    const size_t S = (size_t)grid.image_size, P = (size_t)grid.patch_size, n = (size_t)grid.patches(), W = 3 * P * P;
    for (size_t b = 0; b < (size_t)B; b++) {
        const tia2_patches_call c = {pixels + b * S * S * 3, S, P, 0, n, table, dst + b * n * W, W * sizeof(float), tia2_format::f32};
        tia2_patches(&c);
    }
}

void patches_from_f32(float *dst, const float *pixels, int64_t B, const patch_grid &grid) {
    const int64_t S = grid.image_size, P = grid.patch_size;
    for (int64_t b = 0; b < B; b++)
        for (int64_t top = 0; top < S; top += P)
            for (int64_t left = 0; left < S; left += P)
                for (int64_t c = 0; c < 3; c++)
                    for (int64_t y = top; y < top + P; y++, dst += P)
                        memcpy(dst, pixels + ((b * 3 + c) * S + y) * S + left, (size_t)P * sizeof(float)); // pixels[b, c, y, left]
}

} // namespace tia2
