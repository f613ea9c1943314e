// picture.h: decoded pictures, and one decoder per file format.
//
// A picture keeps the mode that PIL gives the file, because the reference pipelines resize in that mode: palette
// pictures by nearest neighbour, alpha premultiplied, 16 bit grey as 16 bit. Which files are refused follows PIL too
// (Pillow 13, src/PIL/*ImagePlugin.py and src/libImaging/*Decode.c), so a set of pictures has the same bad ones here
// and there. Every function throws tia2::failure (TIA2_EIMAGE) and names the format, the place and what was expected.
#pragma once
#include "runtime/error.h"

#include <cstdlib>
#include <memory>

namespace tia2 {

enum class pixel_mode : uint8_t { bit, l, la, p, rgb, rgba, cmyk, i16 };

int         mode_bytes(pixel_mode m); // bytes of one pixel: 1, 2, 3 or 4
const char *mode_name(pixel_mode m);  // PIL's: "1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"

// pixel_buffer is malloc'ed memory: pictures are large, and a vector would write them twice.
class pixel_buffer {
  public:
    pixel_buffer() = default;
    explicit pixel_buffer(size_t n, bool zero = false)
        : p_(static_cast<uint8_t *>(zero ? calloc(n ? n : 1, 1) : malloc(n ? n : 1)), &free) {
        if (!p_) throw std::bad_alloc();
    }
    uint8_t       *data() { return p_.get(); }
    const uint8_t *data() const { return p_.get(); }

  private:
    std::unique_ptr<uint8_t, void (*)(void *)> p_{nullptr, &free};
};

// picture is [height, width, mode_bytes] without padding between rows. `bit` holds 0 or 255, `i16` native uint16.
struct picture {
    pixel_mode   mode = pixel_mode::rgb;
    int32_t      width = 0, height = 0;
    pixel_buffer pixels;
    uint8_t      palette[256 * 3] = {}; // mode p: r, g, b of each index
    bool         rgb_only = false;      // PIL can convert this picture but not resize it; see gif.cpp

    picture() = default;
    picture(pixel_mode m, int32_t w, int32_t h, bool zero = false)
        : mode(m), width(w), height(h), pixels(size_t(w) * size_t(h) * size_t(mode_bytes(m)), zero) {}
    size_t         row_bytes() const { return size_t(width) * size_t(mode_bytes(mode)); }
    uint8_t       *row(int32_t y) { return pixels.data() + size_t(y) * row_bytes(); }
    const uint8_t *row(int32_t y) const { return pixels.data() + size_t(y) * row_bytes(); }
};

// file_bytes borrows the encoded file.
struct file_bytes {
    const uint8_t *data;
    size_t         size;
};

struct picture_info {
    const char *format; // "JPEG", "PNG", "WEBP", "GIF", "BMP"
    pixel_mode  mode;
    int32_t     width, height;
};

struct picture_limits {
    uint64_t pixels_max = 178956970; // PIL's: twice its MAX_IMAGE_PIXELS
    uint64_t bytes_max = uint64_t(256) << 20;
};

// check_size refuses an empty picture and one of more than limits.pixels_max pixels. Called before any allocation.
void check_size(const char *format, uint64_t width, uint64_t height, const picture_limits &limits);

// probe_picture reads the header; decode_picture decodes the first frame. The format is found by content.
picture_info probe_picture(file_bytes file, const picture_limits &limits);
picture      decode_picture(file_bytes file, const picture_limits &limits);

// to_rgb converts as PIL's convert("RGB") does: alpha, transparency, gamma and ICC are ignored, 16 bit grey is clipped
// at 255, CMYK is the plain subtractive formula. dst: u8 [height, width, 3].
void    to_rgb(const picture &src, uint8_t *dst);
picture to_rgb(picture &&src); // an RGB picture is passed through

picture_info probe_jpeg(file_bytes file, const picture_limits &limits);
picture      decode_jpeg(file_bytes file, const picture_limits &limits);
picture_info probe_png(file_bytes file, const picture_limits &limits);
picture      decode_png(file_bytes file, const picture_limits &limits);
picture_info probe_webp(file_bytes file, const picture_limits &limits);
picture      decode_webp(file_bytes file, const picture_limits &limits);
picture_info probe_gif(file_bytes file, const picture_limits &limits);
picture      decode_gif(file_bytes file, const picture_limits &limits);
picture_info probe_bmp(file_bytes file, const picture_limits &limits);
picture      decode_bmp(file_bytes file, const picture_limits &limits);

} // namespace tia2
