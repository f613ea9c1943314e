// png_chunks.cpp: see png_chunks.h. Source of the rules: Pillow 13, src/PIL/PngImagePlugin.py.
#include "png_chunks.h"

#include <cstring>

#include <zlib.h>

namespace tia2 {
namespace {

constexpr uint64_t kTextChunkMax = uint64_t(1) << 20; // inflated bytes of one chunk, as PIL
constexpr uint64_t kTextMax = uint64_t(64) << 20;     // and of all, as PIL; here the ICC profiles count too

constexpr uint32_t tag(const char (&s)[5]) {
    return uint32_t(uint8_t(s[0])) << 24 | uint32_t(uint8_t(s[1])) << 16 | uint32_t(uint8_t(s[2])) << 8 |
           uint32_t(uint8_t(s[3]));
}

struct tag_text { // a chunk's name for messages; names that reach one are letters, digits or '_'
    char s[5];
    explicit tag_text(uint32_t t) : s{char(t >> 24), char(t >> 16), char(t >> 8), char(t), 0} {}
};

bool is_tag(uint32_t t) {
    for (int shift = 0; shift < 32; shift += 8) {
        const unsigned c = (t >> shift) & 255, letter = c | 32;
        if (!((letter >= 'a' && letter <= 'z') || (c >= '0' && c <= '9') || c == '_')) return false;
    }
    return true;
}

bool mode_of(int depth, int color, pixel_mode *mode) {
    const bool deep = depth == 16, byte = depth == 8 || deep,
               packed = depth == 1 || depth == 2 || depth == 4 || depth == 8;
    switch (color) {
    case 0: *mode = depth == 1 ? pixel_mode::bit : deep ? pixel_mode::i16 : pixel_mode::l; return packed || deep;
    case 2: *mode = pixel_mode::rgb; return byte;
    case 3: *mode = pixel_mode::p; return packed;
    case 4: *mode = deep ? pixel_mode::rgba : pixel_mode::la; return byte;
    case 6: *mode = pixel_mode::rgba; return byte;
    default: return false;
    }
}

} // namespace

// read_chunk reads a chunk's head. Where there is none: a failure if one must be there, else false.
bool png_chunks::read_chunk(chunk *c, bool must) {
    if (in.left() < 8) {
        if (must) fail(TIA2_EIMAGE, "PNG file is truncated: byte %zu is where a chunk should begin", in.pos);
        return false;
    }
    const size_t   at = in.pos;
    const uint8_t *head = in.take(8, "a chunk");
    c->length = be32(head);
    c->tag = be32(head + 4);
    if (is_tag(c->tag)) return true;
    if (must) fail(TIA2_EIMAGE, "PNG file is damaged: no chunk name at byte %zu", at + 4);
    return false;
}

void png_chunks::need(const chunk &c, uint32_t n) const {
    if (c.length < n)
        fail(TIA2_EIMAGE, "PNG chunk %s has %u bytes, at least %u are needed", tag_text(c.tag).s, c.length, n);
}

void png_chunks::open() {
    for (;;) {
        chunk        c;
        const size_t at = in.pos;
        read_chunk(&c, true);
        const kind what = handle(c, false);
        if (what == kind::end) fail(TIA2_EIMAGE, "PNG file has no pixel data before IEND");
        if (what == kind::pixels) break;
        const uint32_t crc = uint32_t(crc32_z(0, in.file.data + at + 4, size_t(c.length) + 4));
        if (be32(in.take(4, "a checksum")) != crc)
            fail(TIA2_EIMAGE, "PNG chunk %s at byte %zu is damaged: wrong checksum", tag_text(c.tag).s, at);
    }
    if (!known) fail(TIA2_EIMAGE, "PNG file has no header of a known kind (bit depth %d, color type %d)", depth, color);
    check_size("PNG", width, height, limits);
    if (!has_box) box = {0, 0, width, height};
    if (box.width == 0 || box.height == 0)
        fail(TIA2_EIMAGE, "PNG frame is empty: %llu x %llu", (unsigned long long)box.width,
             (unsigned long long)box.height);
    if (palette_bytes / 3 > 256)
        fail(TIA2_EIMAGE, "PNG palette has %zu entries, at most 256 are allowed", palette_bytes / 3);
}

file_bytes png_chunks::next_pixels() {
    while (data_left_ == 0) { // empty chunks are allowed
        chunk c;
        in.skip(4); // the checksum of pixel data is not looked at
        read_chunk(&c, true);
        if (c.tag == tag("fdAT")) {
            frame_data(c);
        } else if (c.tag == tag("IDAT") || c.tag == tag("DDAT")) {
            data_left_ = c.length;
        } else {
            fail(TIA2_EIMAGE, "PNG pixel data ends before the picture is complete, at chunk %s", tag_text(c.tag).s);
        }
    }
    const size_t n = std::min<size_t>(data_left_, in.left());
    if (n == 0) fail(TIA2_EIMAGE, "PNG file is truncated: its %zu bytes end within the pixel data", in.file.size);
    data_left_ = 0;
    return {in.take(n, "pixel data"), n};
}

void png_chunks::close() {
    const bool animated = frames_ > 1 || (frames_ == 1 && default_image_);
    for (;;) {
        in.skip(4); // a checksum
        chunk c;
        if (!read_chunk(&c, false) || c.tag == tag("IEND")) return;
        if (c.tag == tag("fcTL") && animated) return; // the next frame
        handle(c, true);
    }
}

// handle reads one chunk's data. Pixel data is left unread before the pixels (kind::pixels) and passed over after them.
png_chunks::kind png_chunks::handle(const chunk &c, bool after_pixels) {
    kind what = kind::ordinary;
    if (c.tag == tag("IEND")) return kind::end;
    if (c.tag == tag("IDAT") && known) { // ahead of the header PIL passes over it
        if (!has_box && frames_) default_image_ = true;
        data_left_ = c.length;
        what = kind::pixels;
    } else if (c.tag == tag("fdAT")) {
        what = frame_data(c);
    }
    if (what == kind::pixels) {
        if (after_pixels) {
            in.take(data_left_, "pixel data after the picture");
            data_left_ = 0;
        }
        return what;
    }
    ancillary(c, in.take(c.length, tag_text(c.tag).s));
    return what;
}

void png_chunks::ancillary(const chunk &c, const uint8_t *s) {
    switch (c.tag) {
    case tag("IHDR"): header(c, s); break;
    case tag("PLTE"):
        if (known && mode == pixel_mode::p) palette = s, palette_bytes = c.length;
        break;
    case tag("tRNS"): transparency(c); break;
    case tag("gAMA"): need(c, 4); break;
    case tag("cHRM"): need(c, 32); break;
    case tag("sRGB"): need(c, 1); break;
    case tag("pHYs"): need(c, 9); break;
    case tag("acTL"): animation(c, s); break;
    case tag("fcTL"): frame_control(c, s); break;
    case tag("iCCP"):
    case tag("tEXt"):
    case tag("zTXt"):
    case tag("iTXt"): text(c, s); break;
    default: break;
    }
}

void png_chunks::header(const chunk &c, const uint8_t *s) {
    need(c, 13);
    width = be32(s);
    height = be32(s + 4);
    pixel_mode m;
    if (mode_of(s[8], s[9], &m)) {
        known = true;
        mode = m;
        depth = s[8];
        color = s[9];
    } else if (!known) { // for the message
        depth = s[8];
        color = s[9];
    }
    if (s[12]) interlaced = true;
    if (s[11]) fail(TIA2_EIMAGE, "PNG header has filter method %d, only 0 is known", s[11]);
}

void png_chunks::transparency(const chunk &c) {
    if (!known) return;
    if (mode == pixel_mode::rgb) need(c, 6);
    if (mode == pixel_mode::bit || mode == pixel_mode::l || mode == pixel_mode::i16) need(c, 2);
}

void png_chunks::animation(const chunk &c, const uint8_t *s) {
    need(c, 8);
    const uint32_t n = be32(s);
    if (frames_) {
        frames_ = 0;
    } else if (n != 0 && n <= 0x80000000u) {
        frames_ = n;
    }
}

void png_chunks::frame_control(const chunk &c, const uint8_t *s) {
    need(c, 26);
    const uint32_t n = be32(s);
    if (n != (sequence_started_ ? sequence_ + 1 : 0)) fail(TIA2_EIMAGE, "PNG animation has frame sequence errors");
    sequence_started_ = true;
    sequence_ = n;
    const png_box b = {be32(s + 12), be32(s + 16), be32(s + 4), be32(s + 8)};
    if (b.x + b.width > width || b.y + b.height > height)
        fail(TIA2_EIMAGE, "PNG animation has a frame outside the picture");
    has_box = true;
    box = b;
}

png_chunks::kind png_chunks::frame_data(const chunk &c) {
    need(c, 4);
    const uint32_t n = be32(in.take(4, "a frame number"));
    if (!sequence_started_ || n != sequence_ + 1) fail(TIA2_EIMAGE, "PNG animation has frame sequence errors");
    sequence_ = n;
    data_left_ = c.length - 4;
    return kind::pixels;
}

// text handles the chunks that may hold compressed data.
void png_chunks::text(const chunk &c, const uint8_t *s) {
    const size_t n = c.length;
    const auto  *zero = n ? static_cast<const uint8_t *>(memchr(s, 0, n)) : nullptr;
    size_t       key = zero ? size_t(zero - s) : n, from = zero ? key + 1 : n; // the value is s[from..n)
    bool         damaged = false;
    if (c.tag == tag("tEXt")) {
        if (key) add_text(n - from);
    } else if (c.tag == tag("iTXt")) {
        if (!zero || n - from < 2) return;
        const int flag = s[from], method = s[from + 1];
        from += 2;
        for (int i = 0; i < 2; i++) { // the language and the translated key
            const auto *end = from < n ? static_cast<const uint8_t *>(memchr(s + from, 0, n - from)) : nullptr;
            if (!end) return;
            from = size_t(end - s) + 1;
        }
        if (flag && method) return;
        const size_t size = flag ? inflated(c, s + from, n - from, &damaged) : n - from;
        if (!damaged) add_text(size);
    } else {                                         // iCCP, zTXt: a method byte, then compressed data
        if (c.tag == tag("iCCP") && !zero) from = 0; // as PIL, which then takes the first byte for the method
        if (c.tag == tag("iCCP") && from >= n) fail(TIA2_EIMAGE, "PNG chunk iCCP has no compression method");
        if (from < n && s[from] != 0)
            fail(TIA2_EIMAGE, "PNG chunk %s has compression method %d, only 0 is known", tag_text(c.tag).s, s[from]);
        from = std::min(from + 1, n);
        const size_t size = inflated(c, s + from, n - from, &damaged);
        if (c.tag == tag("zTXt") && key) add_text(damaged ? 0 : size);
    }
}

void png_chunks::add_text(uint64_t n) {
    text_bytes_ += n;
    if (text_bytes_ > kTextMax)
        fail(TIA2_EIMAGE, "PNG file has more than %llu bytes of text", (unsigned long long)kTextMax);
}

// inflated returns how many bytes the data inflates to; damaged data is no error (PIL drops it), too much is one.
size_t png_chunks::inflated(const chunk &c, const uint8_t *s, size_t n, bool *damaged) {
    z_stream z = {};
    if (inflateInit(&z) != Z_OK) throw std::bad_alloc();
    std::unique_ptr<z_stream, int (*)(z_stream *)> end(&z, inflateEnd);

    uint8_t scratch[16384];
    z.next_in = const_cast<uint8_t *>(s); // zlib's older headers lack the const
    z.avail_in = uInt(n);
    int rc = Z_OK;
    while (rc == Z_OK && z.total_out < kTextChunkMax) {
        z.next_out = scratch;
        z.avail_out = sizeof scratch; // divides kTextChunkMax, so the limit is met exactly
        rc = inflate(&z, Z_SYNC_FLUSH);
    }
    *damaged = rc != Z_OK && rc != Z_STREAM_END && rc != Z_BUF_ERROR; // Z_BUF_ERROR: the data ends early
    inflated_bytes_ += z.total_out;
    if ((rc == Z_OK && z.avail_in > 0) || inflated_bytes_ > kTextMax)
        fail(TIA2_EIMAGE, "PNG chunk %s inflates to more than %llu bytes", tag_text(c.tag).s,
             (unsigned long long)kTextChunkMax);
    return z.total_out;
}

} // namespace tia2
