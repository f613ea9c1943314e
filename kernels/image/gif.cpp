// gif.cpp: the first frame of a GIF, own LZW decoder.
//
// The rules are PIL's (src/PIL/GifImagePlugin.py, src/libImaging/GifDecode.c): a palette that is the grey ramp gives
// mode L, any other mode P; the frame is placed on a canvas of the transparent index (else 0) that grows to hold it;
// decoding stops with the last row, and a stream that ends before it is an error.
#include "reader.h"

#include <cstring>

namespace tia2 {
namespace {

constexpr int kCodeBitsMax = 12, kTableSize = 1 << kCodeBitsMax;

struct gif_palette {
    const uint8_t *colors = nullptr; // nullptr: no palette, or the grey ramp
    size_t         bytes = 0;
    bool           present = false;
};

struct gif_header {
    uint32_t    width = 0, height = 0;      // of the canvas
    uint32_t    x = 0, y = 0, w = 0, h = 0; // of the frame
    bool        interlaced = false;
    int         transparent = -1;
    int         code_bits = 0;
    gif_palette palette;     // in use
    bool        odd = false; // see below

    pixel_mode mode() const { return palette.colors && !odd ? pixel_mode::p : pixel_mode::l; }
};

gif_palette read_palette(reader *in, int flags) {
    gif_palette p;
    if (!(flags & 128)) return p;
    p.present = true;
    p.bytes = size_t(3) << ((flags & 7) + 1);
    const uint8_t *s = in->take(p.bytes, "a palette");
    for (size_t i = 0; i < p.bytes; i++)
        if (s[i] != i / 3) p.colors = s;
    return p;
}

// skip_blocks passes over data blocks up to and including the empty one, or to the end of the file.
void skip_blocks(reader *in) {
    while (in->left()) {
        const size_t n = in->byte("a block");
        if (n == 0 || in->left() == 0) return;
        in->skip(n);
    }
}

void read_extension(reader *in, gif_header *g) {
    const int label = in->byte("an extension");
    if (label == 249 && in->left()) { // graphic control: flags, delay (2), transparent index
        const size_t n = in->byte("a block"), at = in->pos;
        if (n == 0 || in->left() == 0) return;
        const uint8_t *block = in->file.data + at;
        in->skip(n);
        const size_t got = in->pos - at;
        if (got < 3 || ((block[0] & 1) && got < 4))
            fail(TIA2_EIMAGE, "GIF graphic control extension at byte %zu is too short", at);
        if (block[0] & 1) g->transparent = block[3];
    }
    skip_blocks(in);
}

gif_header read_header(reader *in, const picture_limits &limits) {
    gif_header     g;
    const uint8_t *screen = in->take(13, "the screen");
    g.width = le16(screen + 6);
    g.height = le16(screen + 8);
    const gif_palette global = read_palette(in, screen[10]);
    for (;;) {
        if (in->left() == 0) fail(TIA2_EIMAGE, "GIF file is truncated: no picture in its %zu bytes", in->file.size);
        const int what = in->byte("a block");
        if (what == ';') fail(TIA2_EIMAGE, "GIF file holds no picture");
        if (what == '!') read_extension(in, &g);
        if (what == ',') break; // anything else is passed over
    }
    const uint8_t *frame = in->take(9, "the frame");
    g.x = le16(frame), g.y = le16(frame + 2), g.w = le16(frame + 4), g.h = le16(frame + 6);
    g.width = std::max(g.width, g.x + g.w);
    g.height = std::max(g.height, g.y + g.h);
    g.interlaced = (frame[8] & 64) != 0;
    const gif_palette local = read_palette(in, frame[8]);
    // A frame's own grey ramp over global colours: PIL says L, keeps the global palette for convert("RGB"), and fails
    // to resize it.
    g.odd = local.present && !local.colors && global.colors;
    g.palette = local.present && !g.odd ? local : global;
    g.code_bits = in->byte("the code size");
    check_size("GIF", g.width, g.height, limits);
    return g;
}

// row_order walks the rows of a frame in file order.
struct row_order {
    uint32_t height, y = 0, step;
    int      pass; // 0: rows in order; 1..4: the interlaced passes

    row_order(uint32_t h, bool interlaced) : height(h), step(interlaced ? 8 : 1), pass(interlaced ? 1 : 0) {}
    // next moves to the next row; false behind the last.
    bool next() {
        static const uint32_t start[] = {0, 0, 4, 2, 1}, steps[] = {1, 8, 8, 4, 2};
        y += step;
        while (y >= height) {
            if (pass == 0 || pass == 4) return false;
            pass++;
            y = start[pass];
            step = steps[pass];
        }
        return true;
    }
};

// lzw_reader reads codes from the data blocks. A block counts only when all of it is there, as in PIL.
struct lzw_reader {
    reader  *in;
    uint32_t bits = 0;
    int      n_bits = 0;
    size_t   block_left = 0;

    int code(int size) {
        while (n_bits < size) {
            if (block_left == 0) {
                const size_t n = in->byte("a data block");
                if (n > in->left()) in->take(n, "a data block");
                block_left = n;
                continue;
            }
            bits |= uint32_t(in->byte("data")) << n_bits;
            n_bits += 8;
            block_left--;
        }
        const int c = int(bits & ((1u << size) - 1));
        bits >>= size;
        n_bits -= size;
        return c;
    }
};

// lzw_decoder turns codes into runs of palette indices.
class lzw_decoder {
  public:
    lzw_decoder(reader *in, int bits) : codes_{in}, bits_(bits), clear_(1 << bits) { reset(); }

    // next returns the length of the next run and where it is. A failure where the data is damaged or ends.
    size_t next(const uint8_t **run) {
        for (;;) {
            const int c = codes_.code(size_);
            if (c == clear_) {
                reset();
                continue;
            }
            if (c == clear_ + 1)
                fail(TIA2_EIMAGE, "GIF data ends before the picture is complete, at byte %zu", codes_.in->pos);
            if (fresh_) return first(c, run);
            return expand(c, run);
        }
    }

  private:
    lzw_reader codes_;
    int        bits_, clear_, size_ = 0, next_ = 0;
    bool       fresh_ = true; // no symbol since the last clear code
    int        last_code_ = 0;
    uint8_t    last_ = 0; // first index of the last run
    uint16_t   link_[kTableSize];
    uint8_t    data_[kTableSize];
    uint8_t    run_[kTableSize]; // filled from its end

    void reset() {
        next_ = clear_ + 2;
        size_ = bits_ + 1;
        fresh_ = true;
    }
    [[noreturn]] void damaged() const {
        fail(TIA2_EIMAGE, "GIF data is damaged near byte %zu: code out of range", codes_.in->pos);
    }

    size_t first(int c, const uint8_t **run) {
        if (c > clear_) damaged();
        last_ = uint8_t(c);
        last_code_ = c;
        fresh_ = false;
        *run = &last_;
        return 1;
    }

    size_t expand(const int code, const uint8_t **run) {
        int c = code, at = kTableSize;
        if (c > next_) damaged();
        if (c == next_) { // the run being defined: the last one and its own first index
            run_[--at] = last_;
            c = last_code_;
        }
        while (c >= clear_) {
            if (at <= 0 || c >= kTableSize) damaged();
            run_[--at] = data_[c];
            c = link_[c];
        }
        last_ = uint8_t(c);
        if (next_ < kTableSize) {
            data_[next_] = last_;
            link_[next_] = uint16_t(last_code_);
            if (next_ == (1 << size_) - 1 && size_ < kCodeBitsMax) size_++;
            next_++;
        }
        last_code_ = code;
        // The first index of the run stands outside run_: callers get it in front.
        if (at <= 0) damaged();
        run_[--at] = last_;
        *run = run_ + at;
        return size_t(kTableSize - at);
    }
};

} // namespace

picture_info probe_gif(file_bytes file, const picture_limits &limits) {
    reader           in{file, "GIF"};
    const gif_header g = read_header(&in, limits);
    return {"GIF", g.mode(), int32_t(g.width), int32_t(g.height)};
}

picture decode_gif(file_bytes file, const picture_limits &limits) {
    reader           in{file, "GIF"};
    const gif_header g = read_header(&in, limits);
    if (g.w == 0 || g.h == 0) fail(TIA2_EIMAGE, "GIF frame is empty: %u x %u", g.w, g.h);
    if (g.code_bits > kCodeBitsMax)
        fail(TIA2_EIMAGE, "GIF code size is %d, at most %d is allowed", g.code_bits, kCodeBitsMax);

    picture out(g.palette.colors ? pixel_mode::p : pixel_mode::l, int32_t(g.width), int32_t(g.height));
    out.rgb_only = g.odd;
    if (g.palette.colors) memcpy(out.palette, g.palette.colors, g.palette.bytes);
    memset(out.pixels.data(), std::max(g.transparent, 0), size_t(g.width) * g.height);

    lzw_decoder lzw(&in, g.code_bits);
    row_order   order(g.h, g.interlaced);
    uint32_t    x = 0;
    for (bool more = true; more;) {
        const uint8_t *run;
        size_t         n = lzw.next(&run);
        while (n && more) {
            const size_t part = std::min<size_t>(n, g.w - x);
            memcpy(out.row(int32_t(g.y + order.y)) + g.x + x, run, part);
            run += part;
            n -= part;
            x += uint32_t(part);
            if (x == g.w) {
                x = 0;
                more = order.next();
            }
        }
    }
    return out;
}

} // namespace tia2
