// patches.h: pictures cut into the rows that a patch embedding multiplies.
#pragma once
#include "ops.h"

#include <cstdint>

namespace tia2 {

// All 256 values of each channel, normalised in the order of torchvision's ToTensor and Normalize: (v / 255 - mean) / std.
void write_pixel_table(float table[3][256], const patch_grid &grid);

// Row n*B of dst holds patch n (row by row over the grid) of an image: f32 [3, P, P], channel by channel, which is the
// order of a flattened convolution kernel. S must be a multiple of P. dst f32 [B * (S/P)^2, 3*P*P].

// pixels u8 [B, S, S, 3], normalised on the way.
void patches_from_u8(float *dst, const uint8_t *pixels, int64_t B, const patch_grid &grid);

// pixels f32 [B, 3, S, S], already normalised.
void patches_from_f32(float *dst, const float *pixels, int64_t B, const patch_grid &grid);

} // namespace tia2
