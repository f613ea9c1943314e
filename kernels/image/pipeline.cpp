// pipeline.cpp: the reference pipelines that end in bytes. Sources: openai/CLIP clip/clip.py _transform, open_clip
// transform.py, transformers CLIPImageProcessor (slow), BLIP demo.ipynb and LAVIS BlipImageEvalProcessor.
#include "pipeline.h"

#include <algorithm>
#include <cmath>

namespace tia2 {
namespace {

struct size2 {
    int32_t width, height;
};

// shortest_to scales the shorter side to `size`; the longer one is truncated, as torchvision and transformers do it.
size2 shortest_to(const picture &src, int32_t size) {
    const int32_t shorter = std::min(src.width, src.height), longer = std::max(src.width, src.height);
    const double  scaled = double(int64_t(size) * longer) / shorter;
    if (scaled * size > INT32_MAX / 4) // the reference would hold all of the resized picture
        fail(TIA2_EIMAGE, "a picture of %d x %d pixels is too narrow to be resized to a shorter side of %d", src.width,
             src.height, size);
    const int32_t other = int32_t(scaled);
    return src.width <= src.height ? size2{size, other} : size2{other, size};
}

int32_t half_even(int32_t n) { return int32_t(std::nearbyint(n / 2.0)); }

} // namespace

picture pipeline_u8(picture &&src, tia2_pipeline pipeline, int32_t size) {
    const bool rgb_first = pipeline == TIA2_PIPELINE_HF_CLIP || pipeline == TIA2_PIPELINE_BLIP_SQUASH;
    if (rgb_first) src = to_rgb(std::move(src));
    if (pipeline == TIA2_PIPELINE_BLIP_SQUASH || pipeline == TIA2_PIPELINE_OPEN_CLIP_SQUASH)
        return to_rgb(resize(std::move(src), size, size, {0, 0, size, size}));

    const size2 to = shortest_to(src, size);
    box         crop = {0, 0, size, size};
    if (pipeline == TIA2_PIPELINE_HF_CLIP) {
        crop.x = (to.width - size) / 2;
        crop.y = (to.height - size) / 2;
    } else {
        crop.x = half_even(to.width - size);
        crop.y = half_even(to.height - size);
    }
    return to_rgb(resize(std::move(src), to.width, to.height, crop));
}

} // namespace tia2
