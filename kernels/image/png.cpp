// png.cpp: PNG pixels: zlib, row filters, Adam7, samples of every depth.
//
// The rows are read here and not by libpng, because what PIL accepts is decided row by row in its own decoder
// (src/libImaging/ZipDecode.c): data that ends with a complete row leaves the rest black, anything after the last row
// is not looked at, and a wrong checksum of the pixel data is no error. libpng refuses or repairs other files.
#include "png_chunks.h"

#include <cstring>

#include <zlib.h>

namespace tia2 {
namespace {

struct adam7_pass {
    uint32_t x, y, dx, dy;
};
const adam7_pass kAdam7[7] = {{0, 0, 8, 8}, {4, 0, 8, 8}, {0, 4, 4, 8}, {2, 0, 4, 4},
                              {0, 2, 2, 4}, {1, 0, 2, 2}, {0, 1, 1, 2}};

int samples_of(int color) { return color == 2 ? 3 : color == 4 ? 2 : color == 6 ? 4 : 1; }

// unfilter undoes one row's filter. row and up: n bytes without the filter byte; bpp: bytes from a sample to the same
// sample of the pixel on its left.
template <int bpp> void paeth(uint8_t *row, const uint8_t *up, size_t n) {
    for (size_t i = 0; i < n && i < bpp; i++) row[i] = uint8_t(row[i] + up[i]);
    for (size_t i = bpp; i < n; i++) {
        const int a = row[i - bpp], b = up[i], c = up[i - bpp];
        const int p = b - c, q = a - c;
        const int pa = p < 0 ? -p : p, pb = q < 0 ? -q : q, pc = p + q < 0 ? -(p + q) : p + q;
        row[i] = uint8_t(row[i] + (pa <= pb && pa <= pc ? a : pb <= pc ? b : c));
    }
}

template <int bpp> void unfilter(int type, uint8_t *row, const uint8_t *up, size_t n) {
    switch (type) {
    case 1:
        for (size_t i = bpp; i < n; i++) row[i] = uint8_t(row[i] + row[i - bpp]);
        break;
    case 2:
        for (size_t i = 0; i < n; i++) row[i] = uint8_t(row[i] + up[i]);
        break;
    case 3:
        for (size_t i = 0; i < n && i < bpp; i++) row[i] = uint8_t(row[i] + up[i] / 2);
        for (size_t i = bpp; i < n; i++) row[i] = uint8_t(row[i] + (row[i - bpp] + up[i]) / 2);
        break;
    case 4: paeth<bpp>(row, up, n); break;
    default: break;
    }
}

void unfilter_row(int bpp, int type, uint8_t *row, const uint8_t *up, size_t n) {
    switch (bpp) {
    case 1: return unfilter<1>(type, row, up, n);
    case 2: return unfilter<2>(type, row, up, n);
    case 3: return unfilter<3>(type, row, up, n);
    case 4: return unfilter<4>(type, row, up, n);
    case 6: return unfilter<6>(type, row, up, n);
    default: return unfilter<8>(type, row, up, n);
    }
}

// unpack turns n pixels of packed samples into the picture's own bytes, dx pixels apart.
struct unpacker {
    int depth, color, bytes; // bytes: of one pixel of the picture

    void operator()(uint8_t *dst, const uint8_t *src, size_t n, size_t dx) const {
        const size_t step = size_t(bytes) * dx;
        if (depth < 8) {
            const unsigned top = (1u << depth) - 1, scale = color == 3 ? 1 : 255 / top;
            for (size_t i = 0; i < n; i++, dst += step) {
                const size_t at = i * size_t(depth);
                *dst = uint8_t(((src[at / 8] >> (8 - depth - int(at % 8))) & top) * scale);
            }
        } else if (depth == 8) {
            if (dx == 1) {
                memcpy(dst, src, n * size_t(bytes));
            } else {
                for (size_t i = 0; i < n; i++, dst += step, src += bytes) memcpy(dst, src, size_t(bytes));
            }
        } else {
            deep(dst, src, n, step);
        }
    }

    // deep keeps the high byte of 16 bit samples; grey keeps all 16 bits, grey with alpha becomes RGBA.
    void deep(uint8_t *dst, const uint8_t *src, size_t n, size_t step) const {
        for (size_t i = 0; i < n; i++, dst += step) {
            if (color == 0) {
                const uint16_t v = uint16_t(be16(src));
                memcpy(dst, &v, 2);
                src += 2;
            } else if (color == 4) {
                dst[0] = dst[1] = dst[2] = src[0];
                dst[3] = src[2];
                src += 4;
            } else {
                for (int c = 0; c < bytes; c++) dst[c] = src[2 * c];
                src += 2 * bytes;
            }
        }
    }
};

// png_rows decodes the pixel data of one file into a picture.
class png_rows {
  public:
    png_rows(png_chunks *chunks, picture *out)
        : in_(chunks),
          out_(out),
          bits_(samples_of(chunks->color) * chunks->depth),
          unpack_{chunks->depth, chunks->color, mode_bytes(out->mode)},
          cur_(row_length(uint32_t(chunks->box.width)) + 1),
          up_(row_length(uint32_t(chunks->box.width)) + 1) {
        if (inflateInit(&z_) != Z_OK) throw std::bad_alloc();
    }
    ~png_rows() { inflateEnd(&z_); }
    png_rows(const png_rows &) = delete;
    png_rows &operator=(const png_rows &) = delete;

    void run() {
        const uint32_t w = uint32_t(in_->box.width), h = uint32_t(in_->box.height);
        if (!in_->interlaced) {
            pass({uint32_t(in_->box.x), uint32_t(in_->box.y), 1, 1}, w, h, 1);
            return;
        }
        for (const adam7_pass &p : kAdam7) { // PIL puts an interlaced frame at the canvas' corner, wherever it belongs
            const uint32_t columns = w > p.x ? (w - p.x + p.dx - 1) / p.dx : 0,
                           rows = h > p.y ? (h - p.y + p.dy - 1) / p.dy : 0;
            if (columns && rows && !pass(p, columns, rows, p.dy)) return;
        }
    }

  private:
    png_chunks  *in_;
    picture     *out_;
    int          bits_; // of one pixel in the file
    unpacker     unpack_;
    z_stream     z_ = {};
    pixel_buffer cur_, up_; // this row and the one above, each behind its filter byte

    size_t row_length(uint32_t columns) const { return (size_t(columns) * size_t(bits_) + 7) / 8; }

    // pass reads `rows` rows; false if the data ended after one of them.
    bool pass(const adam7_pass &p, uint32_t columns, uint32_t rows, uint32_t dy) {
        const size_t n = row_length(columns);
        memset(up_.data(), 0, n + 1);
        for (uint32_t y = 0; y < rows; y++) {
            const bool more = inflate_row(n + 1);
            uint8_t   *row = cur_.data();
            if (row[0] > 4) fail(TIA2_EIMAGE, "PNG row %u has filter type %d, known are 0 to 4", y, row[0]);
            unfilter_row(std::max(1, bits_ / 8), row[0], row + 1, up_.data() + 1, n);
            uint8_t *dst = out_->row(int32_t(p.y + y * dy)) + size_t(p.x) * size_t(unpack_.bytes);
            unpack_(dst, row + 1, columns, p.dx);
            std::swap(cur_, up_);
            if (!more) return false;
        }
        return true;
    }

    // inflate_row fills cur_ with n bytes; false if the compressed stream ended just behind them.
    bool inflate_row(size_t n) {
        z_.next_out = cur_.data();
        z_.avail_out = uInt(n);
        for (;;) {
            while (z_.avail_in == 0) {
                const file_bytes piece = in_->next_pixels();
                z_.next_in = const_cast<uint8_t *>(piece.data);
                z_.avail_in = uInt(piece.size); // a chunk is shorter than 4 GiB
            }
            const int rc = inflate(&z_, Z_NO_FLUSH);
            if (rc < 0) fail(TIA2_EIMAGE, "PNG pixel data is damaged: %s", z_.msg ? z_.msg : "it does not inflate");
            if (z_.avail_out == 0) return rc != Z_STREAM_END;
            if (rc != Z_OK)
                z_.avail_in = 0; // the stream has ended or wants a dictionary: look for more data, as PIL does
        }
    }
};

} // namespace

picture_info probe_png(file_bytes file, const picture_limits &limits) {
    png_chunks in(file, limits);
    in.open();
    return {"PNG", in.mode, int32_t(in.width), int32_t(in.height)};
}

picture decode_png(file_bytes file, const picture_limits &limits) {
    png_chunks in(file, limits);
    in.open();
    picture out(in.mode, int32_t(in.width), int32_t(in.height), true);
    if (in.palette) memcpy(out.palette, in.palette, in.palette_bytes / 3 * 3);
    png_rows(&in, &out).run();
    in.close();
    return out;
}

} // namespace tia2
