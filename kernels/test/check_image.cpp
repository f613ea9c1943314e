// Pictures through the C ABI: lossless formats written by other libraries come back bit for bit, limits and wrong
// arguments are refused, and damaged files of every format end in a status, never in a crash (run it under asan).
#include <cmath>
#include <string>

#include <jpeglib.h> // needs <cstdio>, which check.h includes
#include <png.h>
#include <webp/encode.h>

#include "../include/tia2.h"
#include "check.h"

namespace {

using bytes = std::vector<uint8_t>;

// scene is a smooth picture with some edges, u8 [h, w, channels].
bytes scene(int w, int h, int channels) {
    bytes        p(size_t(w) * size_t(h) * size_t(channels));
    const double fx = 2 + 9 * check_rand_double(), fy = 2 + 9 * check_rand_double();
    size_t       at = 0;
    for (int y = 0; y < h; y++)
        for (int x = 0; x < w; x++)
            for (int c = 0; c < channels; c++) {
                const double v = 128 + 90 * std::sin(fx * x / w + fy * y / h + c) + (x * 3 > w && y * 2 > h ? 40 : 0) +
                                 6 * check_rand_double();
                p[at++] = uint8_t(std::min(255.0, std::max(0.0, v)));
            }
    return p;
}

bytes make_jpeg(const bytes &rgb, int w, int h, bool progressive) {
    jpeg_compress_struct c = {};
    jpeg_error_mgr       err;
    unsigned char       *out = nullptr;
    unsigned long        n = 0;
    c.err = jpeg_std_error(&err);
    jpeg_create_compress(&c);
    jpeg_mem_dest(&c, &out, &n);
    c.image_width = JDIMENSION(w);
    c.image_height = JDIMENSION(h);
    c.input_components = 3;
    c.in_color_space = JCS_RGB;
    jpeg_set_defaults(&c);
    jpeg_set_quality(&c, 90, TRUE);
    if (progressive) jpeg_simple_progression(&c);
    jpeg_start_compress(&c, TRUE);
    while (c.next_scanline < c.image_height) {
        JSAMPROW row = const_cast<uint8_t *>(rgb.data()) + size_t(c.next_scanline) * size_t(w) * 3;
        jpeg_write_scanlines(&c, &row, 1);
    }
    jpeg_finish_compress(&c);
    jpeg_destroy_compress(&c);
    bytes file(out, out + n);
    free(out);
    return file;
}

bytes make_png(const bytes &pixels, int w, int h, uint32_t format) {
    png_image img = {};
    img.version = PNG_IMAGE_VERSION;
    img.width = uint32_t(w);
    img.height = uint32_t(h);
    img.format = format;
    png_alloc_size_t n = 0;
    png_image_write_to_memory(&img, nullptr, &n, 0, pixels.data(), 0, nullptr);
    bytes file(n);
    png_image_write_to_memory(&img, file.data(), &n, 0, pixels.data(), 0, nullptr);
    file.resize(n);
    return file;
}

bytes make_webp(const bytes &rgb, int w, int h, bool lossless) {
    uint8_t     *out = nullptr;
    const size_t n = lossless ? WebPEncodeLosslessRGB(rgb.data(), w, h, 3 * w, &out)
                              : WebPEncodeRGB(rgb.data(), w, h, 3 * w, 80, &out);
    bytes        file(out, out + n);
    WebPFree(out);
    return file;
}

void put16(bytes *b, unsigned v) {
    b->push_back(uint8_t(v));
    b->push_back(uint8_t(v >> 8));
}

bytes make_bmp(const bytes &rgb, int w, int h) { // 24 bits, rows bottom up
    bytes b = {'B', 'M', 0, 0, 0, 0, 0, 0, 0, 0, 54, 0, 0, 0, 40, 0, 0, 0};
    for (int v : {w, 0, h, 0, 1, 24}) put16(&b, unsigned(v));
    b.resize(54);
    for (int y = h - 1; y >= 0; y--) {
        for (int x = 0; x < w; x++)
            for (int c = 2; c >= 0; c--) b.push_back(rgb[(size_t(y) * size_t(w) + size_t(x)) * 3 + size_t(c)]);
        b.resize((b.size() - 54 + 3) / 4 * 4 + 54);
    }
    return b;
}

// make_gif writes the index x & 3 with 9 bit codes and a clear code often enough to keep them so.
bytes make_gif(const bytes &palette, int w, int h) {
    bytes b = {'G', 'I', 'F', '8', '9', 'a'};
    put16(&b, unsigned(w));
    put16(&b, unsigned(h));
    for (int v : {0x80 | 7, 0, 0}) b.push_back(uint8_t(v));
    b.insert(b.end(), palette.begin(), palette.begin() + 768);
    b.push_back(',');
    for (int v : {0, 0, w, h}) put16(&b, unsigned(v));
    b.push_back(0);
    b.push_back(8);
    bytes    data;
    uint32_t acc = 0;
    int      n_bits = 0;
    auto     code = [&](uint32_t c) {
        for (acc |= c << n_bits, n_bits += 9; n_bits >= 8; acc >>= 8, n_bits -= 8) data.push_back(uint8_t(acc));
    };
    for (int i = 0; i < w * h; i++) {
        if (i % 200 == 0) code(256);
        code(uint32_t(i % w & 3));
    }
    code(257);
    if (n_bits) data.push_back(uint8_t(acc));
    for (size_t at = 0; at < data.size(); at += 255) {
        const size_t n = std::min<size_t>(255, data.size() - at);
        b.push_back(uint8_t(n));
        b.insert(b.end(), data.begin() + ptrdiff_t(at), data.begin() + ptrdiff_t(at + n));
    }
    b.push_back(0);
    b.push_back(';');
    return b;
}

struct decoded {
    tia2_status     status;
    tia2_error      err = {};
    tia2_image_info info = {};
    bytes           rgb;
};

decoded decode(const bytes &file, const tia2_image_limits *limits = nullptr) {
    decoded d;
    d.status = tia2_image_probe(file.data(), file.size(), limits, &d.info, &d.err);
    if (d.status != TIA2_OK) return d;
    d.rgb.resize(size_t(d.info.width) * size_t(d.info.height) * 3);
    d.status = tia2_image_decode_rgb(file.data(), file.size(), limits, d.rgb.data(), d.rgb.size(), &d.err);
    return d;
}

void want_pixels(const char *what, const bytes &file, const char *format, const char *mode, int w, int h,
                 const bytes &rgb) {
    const decoded d = decode(file);
    if (d.status != TIA2_OK) return FAIL("%s: %s", what, d.err.msg);
    if (strcmp(d.info.format, format) != 0 || strcmp(d.info.mode, mode) != 0 || d.info.width != w || d.info.height != h)
        return FAIL("%s: probed as %s %s %dx%d, want %s %s %dx%d", what, d.info.format, d.info.mode, d.info.width,
                    d.info.height, format, mode, w, h);
    if (!rgb.empty() && d.rgb != rgb) FAIL("%s: pixels differ", what);
}

tia2_image_spec spec_of(tia2_pipeline pipeline, int size) {
    tia2_image_spec s = {};
    s.pipeline = pipeline;
    s.size = size;
    for (int c = 0; c < 3; c++) s.mean[c] = 0.5f, s.std[c] = 0.25f;
    return s;
}

// survive runs everything over one file, whatever it holds: a status and one line of reason is all that may come out.
void survive(const bytes &file) {
    tia2_image_limits small = {1 << 20, 0}; // a header may claim any size: keep the loop fast
    const decoded     d = decode(file, &small);
    if (d.status != TIA2_OK && (d.status != TIA2_EIMAGE || !d.err.msg[0] || strchr(d.err.msg, '\n')))
        FAIL("decode: status %d, message '%s'", int(d.status), d.err.msg);
    for (int p = TIA2_PIPELINE_OPENAI; p <= TIA2_PIPELINE_OPEN_CLIP_SQUASH; p++) {
        tia2_image_spec s = spec_of(tia2_pipeline(p), 9);
        s.limits = small;
        float             dst[3 * 9 * 9];
        tia2_error        err = {};
        const tia2_status rc =
            tia2_image_preprocess(file.data(), file.size(), &s, TIA2_PIXELS_F32, dst, 3 * 9 * 9, &err);
        if (rc != TIA2_OK && rc != TIA2_EIMAGE) FAIL("preprocess: status %d, message '%s'", int(rc), err.msg);
        if (d.status != TIA2_OK && rc == TIA2_OK) FAIL("preprocess accepts what decode refuses: %s", d.err.msg);
    }
}

bytes damaged(const bytes &file) {
    bytes b = file;
    for (int i = check_rand_int(1, 4); i > 0 && !b.empty(); i--) {
        const size_t at =
            size_t(check_rand_int(0, int(check_rand() & 1 ? b.size() : std::min<size_t>(b.size(), 64)) - 1));
        switch (check_rand_int(0, 4)) {
        case 0: b.resize(at); break;
        case 1: b[at] ^= uint8_t(1u << check_rand_int(0, 7)); break;
        case 2: b.insert(b.begin() + ptrdiff_t(at), uint8_t(check_rand())); break;
        default: b[at] = uint8_t(check_rand()); break;
        }
    }
    return b;
}

void want_refused(const char *what, tia2_status want, tia2_status got, const tia2_error &err, const char *part) {
    if (got != want) return FAIL("%s: status %d, want %d (%s)", what, int(got), int(want), err.msg);
    if (!strstr(err.msg, part)) FAIL("%s: message '%s' does not say '%s'", what, err.msg, part);
}

void check_limits() {
    const bytes       file = make_png(scene(20, 10, 3), 20, 10, PNG_FORMAT_RGB);
    tia2_image_limits fits = {200, file.size()}, pixels = {199, 0}, size = {0, file.size() - 1};
    tia2_image_info   info;
    tia2_error        err = {};
    if (tia2_image_probe(file.data(), file.size(), &fits, &info, &err) != TIA2_OK) FAIL("at the limit: %s", err.msg);
    want_refused("pixels", TIA2_EIMAGE, tia2_image_probe(file.data(), file.size(), &pixels, &info, &err), err,
                 "limit of 199 pixels");
    want_refused("bytes", TIA2_EIMAGE, tia2_image_probe(file.data(), file.size(), &size, &info, &err), err,
                 "over the limit");
    want_refused("no bytes", TIA2_EIMAGE, tia2_image_probe(nullptr, 0, nullptr, &info, &err), err, "empty");
    want_refused("null", TIA2_EINVAL, tia2_image_probe(nullptr, 5, nullptr, &info, &err), err, "null");

    float           dst[300];
    tia2_image_spec s = spec_of(TIA2_PIPELINE_OPENAI, 10);
    const auto      run = [&](int32_t type, size_t n) {
        return tia2_image_preprocess(file.data(), file.size(), &s, type, dst, n, &err);
    };
    want_refused("length", TIA2_EINVAL, run(TIA2_PIXELS_F32, 299), err, "3 * 10 * 10");
    s.std[1] = 0;
    want_refused("std", TIA2_EINVAL, run(TIA2_PIXELS_F32, 300), err, "std");
    s = spec_of(TIA2_PIPELINE_HPSV2, 10);
    want_refused("hpsv2 u8", TIA2_EINVAL, run(TIA2_PIXELS_U8, 300), err, "hpsv2");
    s.size = 20; // the longer side already: the reference does not pad
    std::vector<float> wide(1200);
    want_refused("hpsv2 unpadded", TIA2_EIMAGE,
                 tia2_image_preprocess(file.data(), file.size(), &s, TIA2_PIXELS_F32, wide.data(), 1200, &err), err,
                 "not square");
    s.size = 0;
    want_refused("size", TIA2_EINVAL, run(TIA2_PIXELS_F32, 300), err, "expected 1 to 4096");
}

void bench() {
    const int   w = 768;
    const bytes rgb = scene(w, w, 3);
    const struct {
        const char *name;
        bytes       file;
    } files[] = {{"jpeg", make_jpeg(rgb, w, w, false)},
                 {"jpeg progressive", make_jpeg(rgb, w, w, true)},
                 {"png", make_png(rgb, w, w, PNG_FORMAT_RGB)},
                 {"webp", make_webp(rgb, w, w, false)}};
    bytes              dst(size_t(w) * w * 3), small(224 * 224 * 3);
    std::vector<float> norm(small.size());
    for (const auto &f : files) {
        tia2_image_spec s = spec_of(TIA2_PIPELINE_OPENAI, 224);
        const double    d = check_time(
            [&] { tia2_image_decode_rgb(f.file.data(), f.file.size(), nullptr, dst.data(), dst.size(), nullptr); }, 3);
        const double u = check_time(
            [&] {
                tia2_image_preprocess(f.file.data(), f.file.size(), &s, TIA2_PIXELS_U8, small.data(), small.size(),
                                      nullptr);
            },
            3);
        const double n = check_time(
            [&] {
                tia2_image_preprocess(f.file.data(), f.file.size(), &s, TIA2_PIXELS_F32, norm.data(), norm.size(),
                                      nullptr);
            },
            3);
        s = spec_of(TIA2_PIPELINE_HPSV2, 224);
        const double h = check_time(
            [&] {
                tia2_image_preprocess(f.file.data(), f.file.size(), &s, TIA2_PIXELS_F32, norm.data(), norm.size(),
                                      nullptr);
            },
            3);
        printf("  %-16s 768x768 %7zu bytes: decode %.2f ms, openai 224 u8 %.2f ms, f32 %.2f ms, hpsv2 224 %.2f ms\n",
               f.name, f.file.size(), 1e3 * d, 1e3 * u, 1e3 * n, 1e3 * h);
    }
}

} // namespace

TIA2_CHECK(image) {
    check_part("image_lossless", [] {
        for (int i = 0; i < 20; i++) {
            const int   w = check_rand_int(1, 70), h = check_rand_int(1, 50);
            const bytes rgb = scene(w, h, 3), grey = scene(w, h, 1), rgba = scene(w, h, 4);
            bytes       of_grey, of_rgba, of_gif;
            for (uint8_t v : grey) of_grey.insert(of_grey.end(), 3, v);
            for (size_t j = 0; j < rgba.size(); j++)
                if (j % 4 != 3) of_rgba.push_back(rgba[j]);
            bytes palette = scene(16, 16, 3);
            palette[0] = 1; // no grey ramp
            for (int j = 0; j < w * h; j++)
                of_gif.insert(of_gif.end(), palette.begin() + j % w % 4 * 3, palette.begin() + j % w % 4 * 3 + 3);
            check_case("%dx%d", w, h);
            want_pixels("png rgb", make_png(rgb, w, h, PNG_FORMAT_RGB), "PNG", "RGB", w, h, rgb);
            want_pixels("png rgba", make_png(rgba, w, h, PNG_FORMAT_RGBA), "PNG", "RGBA", w, h, of_rgba);
            want_pixels("png grey", make_png(grey, w, h, PNG_FORMAT_GRAY), "PNG", "L", w, h, of_grey);
            want_pixels("webp", make_webp(rgb, w, h, true), "WEBP", "RGB", w, h, rgb);
            want_pixels("bmp", make_bmp(rgb, w, h), "BMP", "RGB", w, h, rgb);
            want_pixels("gif", make_gif(palette, w, h), "GIF", "P", w, h, of_gif);
            want_pixels("jpeg", make_jpeg(rgb, w, h, i % 2 == 1), "JPEG", "RGB", w, h, {});
        }
    });
    check_part("image_limits", check_limits);
    check_part("image_damaged", [] {
        const int   w = 37, h = 29;
        const bytes rgb = scene(w, h, 3), rgba = scene(w, h, 4), palette = scene(16, 16, 3);
        const bytes files[] = {
            make_jpeg(rgb, w, h, false), make_jpeg(rgb, w, h, true),  make_png(rgba, w, h, PNG_FORMAT_RGBA),
            make_webp(rgb, w, h, true),  make_webp(rgb, w, h, false), make_gif(palette, w, h),
            make_bmp(rgb, w, h)};
        for (const bytes &f : files)
            for (int i = 0; i < 250; i++) {
                check_case("file %zu, damage %d", size_t(&f - files), i);
                survive(damaged(f));
            }
    });
    if (check_bench_wanted()) check_part("image_bench", bench);
}
