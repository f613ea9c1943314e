// pipeline.h: what a model sees of a picture.
#pragma once
#include "picture.h"

namespace tia2 {

// box is a part of a resized picture.
struct box {
    int32_t x, y, width, height;
};

// resize returns the part `crop` of src resized to width x height, as PIL's Image.resize(.., BICUBIC) followed by a
// crop; outputs outside the crop are not computed. Modes 1 and P are resized by nearest neighbour, LA and RGBA with
// premultiplied alpha, I;16 in doubles. A picture of that size already is only cropped.
picture resize(picture &&src, int32_t width, int32_t height, const box &crop);

// pipeline_u8 makes the RGB picture [size, size, 3] of a pipeline that ends in bytes (all but hpsv2).
picture pipeline_u8(picture &&src, tia2_pipeline pipeline, int32_t size);

} // namespace tia2
