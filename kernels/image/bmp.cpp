// bmp.cpp: Windows and OS/2 bitmaps: 1, 4, 8, 16, 24 and 32 bits, bit fields, RLE4 and RLE8, both row orders.
//
// The rules are PIL's (src/PIL/BmpImagePlugin.py): 32 bit pixels have alpha only where bit fields say so, a palette
// that is black and white or the grey ramp gives mode 1 or L, and run-length data must fill the picture.
#include "reader.h"

#include <cstring>
#include <vector>

namespace tia2 {
namespace {

// layout says where the bytes of a pixel lie in the file.
enum class layout { bits1, bits4, bytes1, bgr15, bgr16, bgr, bgrx, xbgr, bgxr, abgr, rgba, bgra, bgar };

int layout_bits(layout l) {
    switch (l) {
    case layout::bits1: return 1;
    case layout::bits4: return 4;
    case layout::bytes1: return 8;
    case layout::bgr15:
    case layout::bgr16: return 16;
    case layout::bgr: return 24;
    default: return 32;
    }
}

struct bmp_header {
    uint32_t   width = 0, height = 0, bits = 0, compression = 0, colors = 0;
    uint32_t   mask[4] = {}; // red, green, blue, alpha
    bool       top_down = false;
    uint32_t   palette_step = 4;
    size_t     pixels_at = 0;
    pixel_mode mode = pixel_mode::rgb;
    layout     pixel = layout::bgr;
    uint8_t    palette[256 * 3] = {};

    bool rle() const { return compression == 1 || compression == 2; }
};

enum { kRaw = 0, kRle8 = 1, kRle4 = 2, kBitFields = 3 };

void read_sizes(reader *in, bmp_header *b, uint32_t header_bytes) {
    if (header_bytes == 12) {
        const uint8_t *h = in->take(8, "the header");
        b->width = le16(h), b->height = le16(h + 2), b->bits = le16(h + 6);
        b->palette_step = 3;
        return;
    }
    switch (header_bytes) {
    case 40:
    case 52:
    case 56:
    case 64:
    case 108:
    case 124: break;
    default: fail(TIA2_EIMAGE, "BMP header of %u bytes is of no known kind", header_bytes);
    }
    const uint8_t *h = in->take(header_bytes - 4, "the header");
    b->top_down = h[7] == 0xFF; // the height is negative
    b->width = le32(h);
    b->height = b->top_down ? 0u - le32(h + 4) : le32(h + 4);
    b->bits = le16(h + 10);
    b->compression = le32(h + 12);
    b->colors = le32(h + 28);
    if (b->compression != kBitFields) return;
    if (header_bytes >= 52) {
        for (int i = 0; i < (header_bytes >= 56 ? 4 : 3); i++) b->mask[i] = le32(h + 36 + 4 * i);
    } else {
        const uint8_t *m = in->take(12, "the bit masks");
        for (int i = 0; i < 3; i++) b->mask[i] = le32(m + 4 * i);
    }
}

void choose_bit_fields(bmp_header *b) {
    struct known {
        uint32_t bits, mask[4];
        layout   pixel;
    };
    static const known table[] = {
        {32, {0xFF0000, 0xFF00, 0xFF, 0}, layout::bgrx},
        {32, {0xFF000000, 0xFF0000, 0xFF00, 0}, layout::xbgr},
        {32, {0xFF000000, 0xFF00, 0xFF, 0}, layout::bgxr},
        {32, {0xFF000000, 0xFF0000, 0xFF00, 0xFF}, layout::abgr},
        {32, {0xFF, 0xFF00, 0xFF0000, 0xFF000000}, layout::rgba},
        {32, {0xFF0000, 0xFF00, 0xFF, 0xFF000000}, layout::bgra},
        {32, {0xFF000000, 0xFF00, 0xFF, 0xFF0000}, layout::bgar},
        {32, {0, 0, 0, 0}, layout::bgra},
        {24, {0xFF0000, 0xFF00, 0xFF, 0}, layout::bgr},
        {16, {0xF800, 0x7E0, 0x1F, 0}, layout::bgr16},
        {16, {0x7C00, 0x3E0, 0x1F, 0}, layout::bgr15},
    };
    for (const known &k : table) {
        if (k.bits != b->bits || memcmp(k.mask, b->mask, 12) != 0 || (b->bits == 32 && k.mask[3] != b->mask[3]))
            continue;
        b->pixel = k.pixel;
        if (k.pixel >= layout::abgr) b->mode = pixel_mode::rgba;
        return;
    }
    fail(TIA2_EIMAGE, "BMP bit masks %08x %08x %08x %08x of %u bit pixels are not known", b->mask[0], b->mask[1],
         b->mask[2], b->mask[3], b->bits);
}

void choose_layout(bmp_header *b) {
    switch (b->bits) {
    case 1: b->mode = pixel_mode::p, b->pixel = layout::bits1; break;
    case 4: b->mode = pixel_mode::p, b->pixel = layout::bits4; break;
    case 8: b->mode = pixel_mode::p, b->pixel = layout::bytes1; break;
    case 16: b->pixel = layout::bgr15; break;
    case 24: b->pixel = layout::bgr; break;
    case 32: b->pixel = layout::bgrx; break;
    default: fail(TIA2_EIMAGE, "BMP with %u bits a pixel: 1, 4, 8, 16, 24 and 32 can be read", b->bits);
    }
    if (b->compression == kBitFields) choose_bit_fields(b);
    if (b->compression > kBitFields)
        fail(TIA2_EIMAGE, "BMP compression %u is not known: raw, RLE8, RLE4 and bit fields can be read",
             b->compression);
    if (b->rle() && b->mode != pixel_mode::p)
        fail(TIA2_EIMAGE, "BMP run lengths need a palette, not %u bit pixels", b->bits);
}

void read_palette(reader *in, bmp_header *b) {
    if (b->colors == 0 || b->colors > 65536)
        fail(TIA2_EIMAGE, "BMP palette has %u entries, 1 to 65536 are allowed", b->colors);
    const size_t   at = in->pos, step = b->palette_step;
    const uint8_t *s = in->file.data + at;
    in->skip(step * b->colors);
    const size_t got = in->pos - at;

    bool grey = got >= step * b->colors - (step - 3);
    for (size_t i = 0; grey && i < b->colors; i++) {
        const size_t want = b->colors == 2 ? i * 255 : i % 256;
        for (int c = 0; c < 3; c++) grey = grey && s[i * step + size_t(c)] == want;
    }
    if (grey) { // the pixels are then read as if they had that mode's own depth
        b->mode = b->colors <= 2 ? pixel_mode::bit : pixel_mode::l;
        b->pixel = b->colors <= 2 ? layout::bits1 : layout::bytes1;
        return;
    }
    if (got / step > 256) fail(TIA2_EIMAGE, "BMP palette has %zu entries, at most 256 can be used", got / step);
    for (size_t i = 0; i < got / step; i++)
        for (size_t c = 0; c < 3; c++) b->palette[3 * i + c] = s[i * step + 2 - c];
}

bmp_header read_header(reader *in, const picture_limits &limits) {
    bmp_header b;
    b.pixels_at = le32(in->take(14, "the file header") + 10);
    const uint32_t header_bytes = le32(in->take(4, "the header"));
    read_sizes(in, &b, header_bytes);
    check_size("BMP", b.width, b.height, limits);
    choose_layout(&b);
    if (b.colors == 0) b.colors = uint32_t(uint64_t(1) << std::min(b.bits, 31u));
    // Some writers give the end of the header as the place of the pixels and forget the palette.
    if (b.pixels_at == 14 + header_bytes && b.bits <= 8) b.pixels_at += size_t(b.palette_step) * b.colors;
    if (b.mode == pixel_mode::p) read_palette(in, &b);
    if (b.pixels_at == 0) b.pixels_at = in->pos;
    return b;
}

void unpack_row(layout l, pixel_mode mode, uint8_t *dst, const uint8_t *s, size_t n) {
    const auto order4 = [&](int r, int g, int b, int a) {
        for (size_t i = 0; i < n; i++, s += 4) {
            *dst++ = s[r], *dst++ = s[g], *dst++ = s[b];
            if (a >= 0) *dst++ = s[a];
        }
    };
    switch (l) {
    case layout::bits1:
        for (size_t i = 0; i < n; i++)
            dst[i] = uint8_t(((s[i / 8] >> (7 - i % 8)) & 1) * (mode == pixel_mode::bit ? 255 : 1));
        break;
    case layout::bits4:
        for (size_t i = 0; i < n; i++) dst[i] = uint8_t(i % 2 ? s[i / 2] & 15 : s[i / 2] >> 4);
        break;
    case layout::bytes1: memcpy(dst, s, n); break;
    case layout::bgr15:
    case layout::bgr16: {
        const int green = l == layout::bgr15 ? 31 : 63, red_at = l == layout::bgr15 ? 10 : 11;
        for (size_t i = 0; i < n; i++, s += 2) {
            const int v = int(le16(s));
            *dst++ = uint8_t(((v >> red_at) & 31) * 255 / 31);
            *dst++ = uint8_t(((v >> 5) & green) * 255 / green);
            *dst++ = uint8_t((v & 31) * 255 / 31);
        }
        break;
    }
    case layout::bgr:
        for (size_t i = 0; i < n; i++, s += 3) *dst++ = s[2], *dst++ = s[1], *dst++ = s[0];
        break;
    case layout::bgrx: order4(2, 1, 0, -1); break;
    case layout::xbgr: order4(3, 2, 1, -1); break;
    case layout::bgxr: order4(3, 1, 0, -1); break;
    case layout::abgr: order4(3, 2, 1, 0); break;
    case layout::rgba: order4(0, 1, 2, 3); break;
    case layout::bgra: order4(2, 1, 0, 3); break;
    case layout::bgar: order4(3, 1, 0, 2); break;
    }
}

void read_rows(reader *in, const bmp_header &b, picture *out) {
    const size_t row = (size_t(b.width) * size_t(layout_bits(b.pixel)) + 7) / 8;
    const size_t stride = ((size_t(b.width) * b.bits + 31) >> 3) & ~size_t(3);
    if (stride < row)
        fail(TIA2_EIMAGE, "BMP rows of %zu bytes are too short for %u pixels of mode %s", stride, b.width,
             mode_name(b.mode));
    for (uint32_t i = 0; i < b.height; i++) {
        const uint32_t y = b.top_down ? i : b.height - 1 - i;
        unpack_row(b.pixel, b.mode, out->row(int32_t(y)), in->take(row, "a row"), b.width);
        in->skip(stride - row); // the last row may lack its padding
    }
}

// rle_rows decodes run lengths into rows in file order, as PIL's BmpRleDecoder does it.
class rle_rows {
  public:
    rle_rows(reader *in, const bmp_header &b)
        : in_(*in),
          rle4_(b.compression == kRle4),
          width_(b.width),
          total_(size_t(b.width) * b.height),
          data_(total_, true) {}

    const uint8_t *run() {
        while (n_ < total_ && in_.left() >= 2) {
            const size_t  count = in_.byte("a run");
            const uint8_t value = in_.byte("a run");
            if (count) {
                repeat(std::min(count, x_ < width_ ? width_ - x_ : 0), value);
            } else if (value == 0) { // end of the row
                n_ = (n_ + width_ - 1) / width_ * width_;
                x_ = 0;
            } else if (value == 1 || !escape(value)) {
                break;
            }
        }
        if (n_ < total_) fail(TIA2_EIMAGE, "BMP run lengths end after %zu of %zu pixels", n_, total_);
        return data_.data();
    }

  private:
    reader      &in_;
    bool         rle4_;
    size_t       width_, total_, n_ = 0, x_ = 0; // n_: pixels so far; x_: column, as far as the runs tell
    pixel_buffer data_;

    void put(uint8_t v) {
        if (n_ < total_) data_.data()[n_] = v;
        n_++;
    }
    void repeat(size_t count, uint8_t value) {
        for (size_t i = 0; i < count; i++) put(!rle4_ ? value : uint8_t(i % 2 ? value & 15 : value >> 4));
        x_ += count;
    }
    // escape handles a jump (2) or literal pixels (3 and more); false where the data ends.
    bool escape(uint8_t value) {
        if (value == 2) {
            if (in_.left() < 2) return false;
            const size_t right = in_.byte("a jump"), up = in_.byte("a jump");
            n_ += std::min(total_ - n_, right + up * width_);
            x_ = n_ % width_;
            return true;
        }
        const size_t count = std::min<size_t>(total_ - n_, value), bytes = rle4_ ? (count + 1) / 2 : count;
        if (in_.left() < bytes) return false;
        const uint8_t *s = in_.take(bytes, "pixels");
        for (size_t i = 0; i < count; i++) put(!rle4_ ? s[i] : uint8_t(i % 2 ? s[i / 2] & 15 : s[i / 2] >> 4));
        if (n_ == total_) return false;
        x_ += value;
        if (in_.pos % 2) in_.skip(1);
        return true;
    }
};

} // namespace

picture_info probe_bmp(file_bytes file, const picture_limits &limits) {
    reader           in{file, "BMP"};
    const bmp_header b = read_header(&in, limits);
    return {"BMP", b.mode, int32_t(b.width), int32_t(b.height)};
}

picture decode_bmp(file_bytes file, const picture_limits &limits) {
    reader           in{file, "BMP"};
    const bmp_header b = read_header(&in, limits);
    picture          out(b.mode, int32_t(b.width), int32_t(b.height));
    memcpy(out.palette, b.palette, sizeof out.palette);
    in.seek(b.pixels_at);
    if (!b.rle()) {
        read_rows(&in, b, &out);
        return out;
    }
    rle_rows       rows(&in, b);
    const uint8_t *data = rows.run();
    for (uint32_t i = 0; i < b.height; i++) {
        uint8_t *row = out.row(int32_t(b.top_down ? i : b.height - 1 - i));
        memcpy(row, data + size_t(i) * b.width, b.width);
        if (b.mode == pixel_mode::bit)
            for (uint32_t x = 0; x < b.width; x++) row[x] = row[x] ? 255 : 0;
    }
    return out;
}

} // namespace tia2
