// resize.cpp: the dispatch table of resize.h, and PIL's Image.resize over it.
#include "resize.h"
#include "convert.h"
#include "cpu/flags.h"
#include "pipeline.h"
#include "resize_axis.h"
#include "resize_exact.h"

#include <cstring>

void tia2_resize_ops_init(struct tia2_resize_ops *o) {
    o->h_u8 = tia2_resize_h_u8_scalar;
    o->v_u8 = tia2_resize_v_u8_scalar;
#if defined(__x86_64__)
    const uint32_t flags = tia2_cpu_flags();
    if (!(flags & TIA2_CPU_AVX2)) return;
    o->h_u8 = tia2_resize_h_u8_avx2;
    o->v_u8 = tia2_resize_v_u8_avx2;
    if (!(flags & TIA2_CPU_AVX512)) return;
    o->v_u8 = tia2_resize_v_u8_avx512;
    if (flags & TIA2_CPU_AVX512VNNI) o->h_u8 = tia2_resize_h_u8_avx512vnni;
#endif
}

namespace tia2 {
namespace {

picture crop_of(const picture &src, const box &crop) {
    picture      out(src.mode, crop.width, crop.height);
    const size_t bytes = size_t(mode_bytes(src.mode));
    memcpy(out.palette, src.palette, sizeof out.palette);
    for (int32_t y = 0; y < crop.height; y++)
        memcpy(out.row(y), src.row(crop.y + y) + size_t(crop.x) * bytes, out.row_bytes());
    return out;
}

// nearest is PIL's ImagingScaleAffine for one byte a pixel: positions are summed up, so that they round as PIL's do.
picture nearest(const picture &src, int32_t width, int32_t height, const box &crop) {
    picture out(src.mode, crop.width, crop.height);
    memcpy(out.palette, src.palette, sizeof out.palette);
    const double         dx = double(float(src.width)) / width, dy = double(float(src.height)) / height;
    std::vector<int32_t> column(static_cast<size_t>(crop.width));
    double               at = dx * 0.5;
    for (int32_t x = 0; x < crop.x + crop.width; x++, at += dx)
        if (x >= crop.x) column[size_t(x - crop.x)] = std::min(int32_t(at), src.width - 1);
    at = dy * 0.5;
    for (int32_t y = 0; y < crop.y + crop.height; y++, at += dy) {
        if (y < crop.y) continue;
        const uint8_t *from = src.row(std::min(int32_t(at), src.height - 1));
        uint8_t       *to = out.row(y - crop.y);
        for (int32_t x = 0; x < crop.width; x++) to[x] = from[column[size_t(x)]];
    }
    return out;
}

// u8_passes and u16_passes are the two passes over rows of src that begin `left` pixels from its edge and `top` rows
// from its top; out has the outputs of axis, and all rows or columns that it has room for.
struct u8_passes {
    tia2_resize_ops ops;
    u8_passes() { tia2_resize_ops_init(&ops); }

    void horizontal(picture *out, const picture &src, int32_t left, int32_t top, const resize_axis &axis) const {
        const int channels = mode_bytes(src.mode);
        ops.h_u8(out->row(0), out->row_bytes(), src.row(top) + size_t(left) * size_t(channels), src.row_bytes(), out->height,
                 &axis.view(), channels);
    }
    void vertical(picture *out, const picture &src, int32_t left, int32_t top, const resize_axis &axis) const {
        const size_t at = size_t(left) * size_t(mode_bytes(src.mode));
        for (int32_t y = 0; y < out->height; y++)
            ops.v_u8(out->row(y), src.row(top + axis.first(y)) + at, src.row_bytes(), out->row_bytes(), &axis.view(),
                     y);
    }
    static constexpr bool exact = false;
};

struct u16_passes {
    static const uint16_t *at(const picture &p, int32_t x, int32_t y) {
        return reinterpret_cast<const uint16_t *>(p.row(y)) + x;
    }
    static uint16_t *to(picture *p, int32_t y) { return reinterpret_cast<uint16_t *>(p->row(y)); }

    void horizontal(picture *out, const picture &src, int32_t left, int32_t top, const resize_axis &axis) const {
        for (int32_t y = 0; y < out->height; y++) resize_h_u16(to(out, y), at(src, left, top + y), axis);
    }
    void vertical(picture *out, const picture &src, int32_t left, int32_t top, const resize_axis &axis) const {
        for (int32_t y = 0; y < out->height; y++)
            resize_v_u16(to(out, y), at(src, left, top + axis.first(y)), size_t(src.width), size_t(out->width), axis,
                         y);
    }
    static constexpr bool exact = true;
};

// resample runs the passes. A direction that keeps its size has none. Both round, so their order shows: PIL goes
// vertically first where that shrinks the height much more than the width (Resample.c, ImagingResampleInner; Pillow
// before 13 never did).
template <class Passes> picture resample(const picture &src, int32_t width, int32_t height, const box &crop) {
    const Passes passes;
    picture      out(src.mode, crop.width, crop.height);
    if (height == src.height) {
        resize_axis   across(src.width, width, crop.x, crop.width, Passes::exact);
        const int32_t left = across.narrow();
        passes.horizontal(&out, src, left, crop.y, across);
        return out;
    }
    resize_axis   down(src.height, height, crop.y, crop.height, Passes::exact);
    const int32_t top = down.narrow();
    if (width == src.width) {
        passes.vertical(&out, src, crop.x, top, down);
        return out;
    }
    resize_axis   across(src.width, width, crop.x, crop.width, Passes::exact);
    const int32_t left = across.narrow();
    const int64_t shrink_x = int64_t(src.width) - width, shrink_y = int64_t(src.height) - height;
    if (shrink_y > 0 && shrink_y > 2 * shrink_x) {
        picture low(src.mode, across.inputs(), crop.height);
        passes.vertical(&low, src, left, top, down);
        passes.horizontal(&out, low, 0, 0, across);
    } else {
        picture narrow(src.mode, crop.width, down.inputs());
        passes.horizontal(&narrow, src, left, top, across);
        passes.vertical(&out, narrow, 0, 0, down);
    }
    return out;
}

} // namespace

picture resize(picture &&src, int32_t width, int32_t height, const box &crop) {
    if (width == src.width && height == src.height) return crop_of(src, crop);
    if (src.rgb_only)
        fail(TIA2_EIMAGE, "a GIF frame with a grey palette over a global one of colours cannot be resized by this "
                          "pipeline's reference");
    switch (src.mode) {
    case pixel_mode::bit:
    case pixel_mode::p: return nearest(src, width, height, crop);
    case pixel_mode::i16: return resample<u16_passes>(src, width, height, crop);
    case pixel_mode::la:
    case pixel_mode::rgba: {
        premultiply(&src);
        picture out = resample<u8_passes>(src, width, height, crop);
        unpremultiply(&out);
        return out;
    }
    default: return resample<u8_passes>(src, width, height, crop);
    }
}

} // namespace tia2
