// decode.cpp: finds the format by the first bytes, as PIL does; the file's name says nothing.
#include "picture.h"

#include <cstring>

namespace tia2 {

int mode_bytes(pixel_mode m) {
    switch (m) {
    case pixel_mode::la:
    case pixel_mode::i16: return 2;
    case pixel_mode::rgb: return 3;
    case pixel_mode::rgba:
    case pixel_mode::cmyk: return 4;
    default: return 1;
    }
}

const char *mode_name(pixel_mode m) {
    static const char *const names[] = {"1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"};
    return names[int(m)];
}

void check_size(const char *format, uint64_t width, uint64_t height, const picture_limits &limits) {
    if (width == 0 || height == 0)
        fail(TIA2_EIMAGE, "%s picture is empty: %llu x %llu pixels", format, (unsigned long long)width,
             (unsigned long long)height);
    if (width > INT32_MAX || height > INT32_MAX || width * height > limits.pixels_max) // both below 2^32: no overflow
        fail(TIA2_EIMAGE, "%s picture of %llu x %llu pixels is over the limit of %llu pixels", format,
             (unsigned long long)width, (unsigned long long)height, (unsigned long long)limits.pixels_max);
}

namespace {

struct format_entry {
    bool (*accepts)(file_bytes f);
    picture_info (*probe)(file_bytes, const picture_limits &);
    picture (*decode)(file_bytes, const picture_limits &);
};

bool starts(file_bytes f, const char *magic, size_t n, size_t at = 0) {
    return f.size >= at + n && memcmp(f.data + at, magic, n) == 0;
}

const format_entry kFormats[] = {
    {[](file_bytes f) { return starts(f, "\xff\xd8\xff", 3); }, probe_jpeg, decode_jpeg},
    {[](file_bytes f) { return starts(f, "\x89PNG\r\n\x1a\n", 8); }, probe_png, decode_png},
    {[](file_bytes f) {
         return starts(f, "RIFF", 4) && starts(f, "WEBP", 4, 8) &&
                (starts(f, "VP8 ", 4, 12) || starts(f, "VP8X", 4, 12) || starts(f, "VP8L", 4, 12));
     },
     probe_webp, decode_webp},
    {[](file_bytes f) { return starts(f, "GIF87a", 6) || starts(f, "GIF89a", 6); }, probe_gif, decode_gif},
    {[](file_bytes f) { return starts(f, "BM", 2); }, probe_bmp, decode_bmp},
};

const format_entry &find_format(file_bytes f, const picture_limits &limits) {
    if (f.size == 0) fail(TIA2_EIMAGE, "picture file is empty");
    if (f.size > limits.bytes_max)
        fail(TIA2_EIMAGE, "picture file of %zu bytes is over the limit of %llu bytes", f.size,
             (unsigned long long)limits.bytes_max);
    for (const format_entry &e : kFormats)
        if (e.accepts(f)) return e;
    char head[3 * 8 + 1] = "";
    for (size_t i = 0; i < f.size && i < 8; i++) snprintf(head + 3 * i, 4, " %02x", f.data[i]);
    fail(TIA2_EIMAGE, "not a JPEG, PNG, WebP, GIF or BMP picture: the file begins with%s", head);
}

} // namespace

picture_info probe_picture(file_bytes file, const picture_limits &limits) {
    return find_format(file, limits).probe(file, limits);
}

picture decode_picture(file_bytes file, const picture_limits &limits) {
    return find_format(file, limits).decode(file, limits);
}

} // namespace tia2
