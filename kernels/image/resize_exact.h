// resize_exact.h: resizes in floating point, for which PIL and PyTorch use no fixed point.
#pragma once
#include "picture.h"
#include "resize_axis.h"

namespace tia2 {

// One pass of a 16 bit grey resize. x, y: u16, without overlap; pitch in elements; axis built with exact weights.
void resize_h_u16(uint16_t *y, const uint16_t *x, const resize_axis &axis);
void resize_v_u16(uint16_t *y, const uint16_t *x, size_t pitch, size_t n, const resize_axis &axis, int32_t i);

// letterbox is HPSv2's preprocessing of an RGB picture: values 0..1, the longer side resized to `size` (antialiased
// bicubic, not clipped), zeros around it, then (v - mean) / std. dst: f32 [3, size, size].
// A picture whose longer side has `size` pixels already is neither resized nor padded by the reference; unless it is
// square that is a failure here, as its model then fails. So is a side that would round to 0 pixels.
// Accuracy: 5e-5 in normalised units of PyTorch 2.15, which computes the weights in single precision. Where the result
// is one pixel wide, PyTorch 2.15 repeats its first row down the column, in f64 too; that slip is not copied. Source:
// HPSv2 hpsv2/src/open_clip/transform.py ResizeMaxSize, torchvision >= 0.17.
void letterbox(const picture &rgb, int32_t size, const float mean[3], const float std[3], float *dst);

// normalise maps u8 [size, size, 3] to f32 [3, size, size]. hf: in Hugging Face's order of operations,
// f32(v * (1/255)), else torchvision's, f32(v) / 255; both then (v - mean) / std in single precision.
void normalise(const uint8_t *src, int32_t size, const float mean[3], const float std[3], bool hf, float *dst);

} // namespace tia2
