// webp.cpp: WebP through libwebp's animation decoder, as PIL uses it: the first frame on the whole canvas, RGBA where
// the file says that it has alpha, RGB elsewhere.
#include "reader.h"

#include <cstring>

#include <webp/decode.h>
#include <webp/demux.h>

namespace tia2 {
namespace {

// libwebpdemux keeps a record of every frame of an animation before the first one is decoded.
constexpr uint32_t kFramesMax = 1 << 16;

void check_frames(file_bytes file) {
    uint32_t frames = 0;
    for (size_t at = 12; file.size - at >= 8;) {
        const uint64_t chunk = le32(file.data + at + 4);
        if (memcmp(file.data + at, "ANMF", 4) == 0 && ++frames > kFramesMax)
            fail(TIA2_EIMAGE, "WebP animation has more than %u frames", kFramesMax);
        const uint64_t step = 8 + chunk + (chunk & 1);
        if (step > file.size - at) break;
        at += size_t(step);
    }
}

} // namespace

picture_info probe_webp(file_bytes file, const picture_limits &limits) {
    WebPBitstreamFeatures f;
    const VP8StatusCode   rc = WebPGetFeatures(file.data, file.size, &f);
    if (rc != VP8_STATUS_OK)
        fail(TIA2_EIMAGE,
             rc == VP8_STATUS_NOT_ENOUGH_DATA ? "WebP file is truncated within its header" : "WebP header is damaged");
    check_size("WebP", uint64_t(f.width), uint64_t(f.height), limits);
    return {"WEBP", f.has_alpha ? pixel_mode::rgba : pixel_mode::rgb, f.width, f.height};
}

picture decode_webp(file_bytes file, const picture_limits &limits) {
    const picture_info info = probe_webp(file, limits);
    check_frames(file);
    const WebPData data = {file.data, file.size};

    std::unique_ptr<WebPAnimDecoder, void (*)(WebPAnimDecoder *)> dec(WebPAnimDecoderNew(&data, nullptr),
                                                                      WebPAnimDecoderDelete);
    if (!dec) fail(TIA2_EIMAGE, "WebP file is truncated or damaged: its %zu bytes hold no complete picture", file.size);
    WebPAnimInfo canvas;
    if (!WebPAnimDecoderGetInfo(dec.get(), &canvas)) fail(TIA2_EIMAGE, "WebP file has no canvas");
    check_size("WebP", canvas.canvas_width, canvas.canvas_height, limits);

    uint8_t *rgba = nullptr;
    int      timestamp = 0;
    if (!WebPAnimDecoderGetNext(dec.get(), &rgba, &timestamp))
        fail(TIA2_EIMAGE, "WebP data is damaged: the first frame cannot be decoded");
    picture      out(info.mode, int32_t(canvas.canvas_width), int32_t(canvas.canvas_height));
    uint8_t     *dst = out.pixels.data();
    const size_t n = size_t(out.width) * size_t(out.height);
    if (out.mode == pixel_mode::rgba) {
        memcpy(dst, rgba, 4 * n);
    } else {
        for (size_t i = 0; i < n; i++) memcpy(dst + 3 * i, rgba + 4 * i, 3);
    }
    return out;
}

} // namespace tia2
