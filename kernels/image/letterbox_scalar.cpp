// letterbox_scalar.cpp: HPSv2's letterbox and the normalisation of all pipelines; see resize_exact.h.
#include "resize_exact.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace tia2 {
namespace {

constexpr size_t kChannels = 3;

// columns resizes vertically: out [n, width * 3], in 0..1.
std::vector<float> columns(const picture &rgb, int32_t n) {
    const size_t       row = rgb.row_bytes();
    std::vector<float> out(size_t(n) * row);
    const resize_axis  axis(rgb.height, n, 0, n, true);
    std::vector<float> value(256);
    for (size_t v = 0; v < 256; v++) value[v] = float(v) / 255.0f;
    for (int32_t i = 0; i < n; i++) {
        float *dst = out.data() + size_t(i) * row;
        for (int32_t t = 0; t < axis.count(i); t++) {
            const float    w = float(axis.exact(i)[t]);
            const uint8_t *src = rgb.row(axis.first(i) + t);
            for (size_t j = 0; j < row; j++) dst[j] += w * value[src[j]];
        }
    }
    return out;
}

struct placed { // the resized picture within the square
    int32_t width, height, left, top;
};

// rows resizes horizontally, from in [height, in_width * 3] into the square.
void rows(const std::vector<float> &in, int32_t in_width, const placed &p, int32_t size, const float mean[3],
          const float std[3], float *dst) {
    const resize_axis axis(in_width, p.width, 0, p.width, true);
    const size_t      plane = size_t(size) * size_t(size);
    for (int32_t y = 0; y < p.height; y++) {
        const float *src = in.data() + size_t(y) * size_t(in_width) * kChannels;
        float       *out = dst + size_t(p.top + y) * size_t(size) + size_t(p.left);
        for (int32_t i = 0; i < p.width; i++) {
            const double *w = axis.exact(i);
            const float  *from = src + size_t(axis.first(i)) * kChannels;
            float         sum[kChannels] = {};
            for (int32_t t = 0; t < axis.count(i); t++)
                for (size_t c = 0; c < kChannels; c++) sum[c] += float(w[t]) * from[size_t(t) * kChannels + c];
            for (size_t c = 0; c < kChannels; c++) out[c * plane + size_t(i)] = (sum[c] - mean[c]) / std[c];
        }
    }
}

} // namespace

void letterbox(const picture &rgb, int32_t size, const float mean[3], const float std[3], float *dst) {
    const int32_t longest = std::max(rgb.width, rgb.height);
    if (longest == size) {
        if (rgb.width != rgb.height)
            fail(TIA2_EIMAGE,
                 "hpsv2 does not pad a picture whose longer side has %d pixels already, and %d x %d is not square",
                 size, rgb.width, rgb.height);
        normalise(rgb.pixels.data(), size, mean, std, false, dst);
        return;
    }
    const double scale = size / double(longest);
    placed       p;
    p.width = int32_t(std::nearbyint(rgb.width * scale)); // half to even, as Python's round
    p.height = int32_t(std::nearbyint(rgb.height * scale));
    if (p.width < 1 || p.height < 1)
        fail(TIA2_EIMAGE, "hpsv2 resizes %d x %d pixels to %d x %d: both must be greater than 0", rgb.width, rgb.height,
             p.width, p.height);
    p.left = (size - p.width) / 2;
    p.top = (size - p.height) / 2;

    const size_t plane = size_t(size) * size_t(size);
    for (size_t c = 0; c < kChannels; c++) std::fill_n(dst + c * plane, plane, (0.0f - mean[c]) / std[c]);
    rows(columns(rgb, p.height), rgb.width, p, size, mean, std, dst);
}

void normalise(const uint8_t *src, int32_t size, const float mean[3], const float std[3], bool hf, float *dst) {
    float table[kChannels][256];
    for (size_t c = 0; c < kChannels; c++)
        for (int v = 0; v < 256; v++) {
            const float x = hf ? float(v * (1 / 255.0)) : float(v) / 255.0f;
            table[c][v] = (x - mean[c]) / std[c];
        }
    const size_t n = size_t(size) * size_t(size);
    for (size_t c = 0; c < kChannels; c++)
        for (size_t i = 0; i < n; i++) dst[c * n + i] = table[c][src[kChannels * i + c]];
}

} // namespace tia2
