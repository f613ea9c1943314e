// image.cpp: the C ABI of pictures.
#include "pipeline.h"
#include "resize_exact.h"

#include <cmath>
#include <cstring>

namespace {

using namespace tia2;

constexpr int32_t kSizeMax = 4096;

picture_limits limits_of(const tia2_image_limits *given) {
    picture_limits l;
    if (given && given->pixels_max) l.pixels_max = given->pixels_max;
    if (given && given->bytes_max) l.bytes_max = given->bytes_max;
    return l;
}

file_bytes file_of(const uint8_t *data, size_t n) {
    if (!data && n) fail(TIA2_EINVAL, "picture data is null");
    return {data, n};
}

template <size_t n> void copy_name(char (&dst)[n], const char *src) { snprintf(dst, n, "%s", src); }

void check_spec(const tia2_image_spec &s, int32_t type) {
    if (s.pipeline < TIA2_PIPELINE_OPENAI || s.pipeline > TIA2_PIPELINE_OPEN_CLIP_SQUASH)
        fail(TIA2_EINVAL, "pipeline %d is not known", s.pipeline);
    if (s.size < 1 || s.size > kSizeMax) fail(TIA2_EINVAL, "picture size is %d, expected 1 to %d", s.size, kSizeMax);
    if (type != TIA2_PIXELS_U8 && type != TIA2_PIXELS_F32) fail(TIA2_EINVAL, "pixel type %d is not known", type);
    if (type == TIA2_PIXELS_U8) {
        if (s.pipeline == TIA2_PIPELINE_HPSV2) fail(TIA2_EINVAL, "pipeline hpsv2 makes f32 pixels only");
        return;
    }
    for (int c = 0; c < 3; c++)
        if (!std::isfinite(s.mean[c]) || !std::isfinite(s.std[c]) || s.std[c] == 0)
            fail(TIA2_EINVAL, "mean %g and std %g of channel %d: expected finite numbers, std not 0", double(s.mean[c]),
                 double(s.std[c]), c);
}

void preprocess(file_bytes file, const tia2_image_spec &s, int32_t type, void *dst) {
    picture src = decode_picture(file, limits_of(&s.limits));
    if (s.pipeline == TIA2_PIPELINE_HPSV2) {
        letterbox(to_rgb(std::move(src)), s.size, s.mean, s.std, static_cast<float *>(dst));
        return;
    }
    const picture out = pipeline_u8(std::move(src), tia2_pipeline(s.pipeline), s.size);
    if (type == TIA2_PIXELS_U8)
        memcpy(dst, out.pixels.data(), out.row_bytes() * size_t(out.height));
    else
        normalise(out.pixels.data(), s.size, s.mean, s.std, s.pipeline == TIA2_PIPELINE_HF_CLIP,
                  static_cast<float *>(dst));
}

} // namespace

extern "C" tia2_status tia2_image_probe(const uint8_t *data, size_t data_bytes, const tia2_image_limits *limits,
                                        tia2_image_info *out, tia2_error *err) noexcept {
    return tia2_guard(err, [&] {
        if (!out) fail(TIA2_EINVAL, "image_probe: out is null");
        const picture_info info = probe_picture(file_of(data, data_bytes), limits_of(limits));
        memset(out, 0, sizeof *out);
        out->width = info.width;
        out->height = info.height;
        copy_name(out->format, info.format);
        copy_name(out->mode, mode_name(info.mode));
    });
}

extern "C" tia2_status tia2_image_decode_rgb(const uint8_t *data, size_t data_bytes, const tia2_image_limits *limits,
                                             uint8_t *dst, size_t dst_len, tia2_error *err) noexcept {
    return tia2_guard(err, [&] {
        const file_bytes     file = file_of(data, data_bytes);
        const picture_limits lim = limits_of(limits);
        const picture_info   info = probe_picture(file, lim);
        const size_t         want = size_t(info.width) * size_t(info.height) * 3;
        if (!dst || dst_len != want)
            fail(TIA2_EINVAL, "image_decode_rgb: dst has %zu bytes, expected %d x %d x 3 = %zu", dst_len, info.width,
                 info.height, want);
        const picture src = decode_picture(file, lim);
        if (src.width != info.width || src.height != info.height)
            fail(TIA2_EIMAGE, "%s picture changes its size while it is decoded", info.format);
        to_rgb(src, dst);
    });
}

extern "C" tia2_status tia2_image_preprocess(const uint8_t *data, size_t data_bytes, const tia2_image_spec *spec,
                                             int32_t type, void *dst, size_t dst_len, tia2_error *err) noexcept {
    return tia2_guard(err, [&] {
        if (!spec || !dst) fail(TIA2_EINVAL, "image_preprocess: spec or dst is null");
        check_spec(*spec, type);
        const size_t want = size_t(spec->size) * size_t(spec->size) * 3;
        if (dst_len != want)
            fail(TIA2_EINVAL, "image_preprocess: dst has %zu elements, expected 3 * %d * %d", dst_len, spec->size,
                 spec->size);
        preprocess(file_of(data, data_bytes), *spec, type, dst);
    });
}
