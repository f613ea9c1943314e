// The bicubic resize: the scalar form against doubles, every level against the scalar form, all channel counts, odd
// sizes, misaligned, guards, inputs at the edge of a page; the pass order; nearest neighbour; alpha.
#include <algorithm>
#include <cmath>

#include "../image/pipeline.h"
#include "../image/resize_axis.h"
#include "check.h"

namespace {

using tia2::picture;
using tia2::pixel_mode;
using tia2::resize_axis;

// fill writes one of several patterns: noise; black and white, which drives sums out of 0..255; a flat 255.
void fill(uint8_t *p, size_t n, int pattern) {
    for (size_t i = 0; i < n; i++)
        p[i] = pattern == 0 ? uint8_t(check_rand()) : pattern == 1 ? uint8_t(check_rand() & 1 ? 255 : 0) : 255;
}

void check_h(const char *isa, const tia2_resize_ops &ops, int in, int out, int from, int n, int channels, int rows,
             size_t mis, int pattern) {
    check_case("in=%d out=%d from=%d n=%d channels=%d rows=%d mis=%zu pattern=%d", in, out, from, n, channels, rows, mis,
               pattern);
    resize_axis          axis(in, out, from, n);
    const size_t         left = size_t(axis.narrow()) * size_t(channels), ny = size_t(n) * size_t(channels);
    const size_t         x_pitch = size_t(in) * size_t(channels), y_pitch = ny + mis; // bytes between rows of y are guards
    const size_t         used = size_t(axis.inputs()) * size_t(channels), last = size_t(rows - 1);
    check_fence<uint8_t> x(left + last * x_pitch + used, mis == 0); // up to the last pixel in use
    check_buf<uint8_t>   y(last * y_pitch + ny, (mis + 3) % 8, 0x5A);
    fill(x.p(), x.n, pattern);
    memset(y.p(), 0x5A, y.n);
    std::vector<uint8_t> want(y.n, 0x5A);
    tia2_resize_h_u8_scalar(want.data(), y_pitch, x.p() + left, x_pitch, rows, &axis.view(), channels);
    ops.h_u8(y.p(), y_pitch, x.p() + left, x_pitch, rows, &axis.view(), channels);
    for (size_t i = 0; i < y.n; i++)
        if (y.p()[i] != want[i])
            return FAIL("resize_h_u8_%s row=%zu i=%zu got %d want %d", isa, i / y_pitch, i % y_pitch, y.p()[i], want[i]);
    if (!y.intact()) FAIL("resize_h_u8_%s wrote out of bounds", isa);
}

void check_v(const char *isa, const tia2_resize_ops &ops, int in, int out, size_t n, size_t mis, int pattern) {
    check_case("in=%d out=%d n=%zu mis=%zu pattern=%d", in, out, n, mis, pattern);
    const resize_axis    axis(in, out, 0, out);
    const size_t         pitch = n + mis;
    check_fence<uint8_t> x(size_t(in - 1) * pitch + n, mis == 0);
    check_buf<uint8_t>   y(n, (mis + 3) % 8, 0x5A);
    fill(x.p(), x.n, pattern);
    std::vector<uint8_t> want(n);
    for (int i = 0; i < out; i++) {
        const uint8_t *row = x.p() + size_t(axis.first(i)) * pitch;
        tia2_resize_v_u8_scalar(want.data(), row, pitch, n, &axis.view(), i);
        ops.v_u8(y.p(), row, pitch, n, &axis.view(), i);
        for (size_t j = 0; j < n; j++)
            if (y.p()[j] != want[j])
                return FAIL("resize_v_u8_%s i=%d j=%zu got %d want %d", isa, i, j, y.p()[j], want[j]);
    }
    if (!y.intact()) FAIL("resize_v_u8_%s wrote out of bounds", isa);
}

// The weights of one output in doubles, from the definition.
std::vector<double> weights(int in, int out, int i) {
    const double        scale = std::max(1.0, double(in) / out), center = (i + 0.5) * in / out;
    std::vector<double> w(size_t(in), 0.0);
    double              sum = 0;
    for (int t = 0; t < in; t++) {
        const double d = std::fabs((t + 0.5 - center) / scale);
        if (d < 1) w[size_t(t)] = 1.5 * d * d * d - 2.5 * d * d + 1;
        if (d >= 1 && d < 2) w[size_t(t)] = -0.5 * d * d * d + 2.5 * d * d - 4 * d + 2;
        sum += w[size_t(t)];
    }
    for (double &v : w) v /= sum;
    return w;
}

// The tolerance: half a step of the result, and half a step of 2^-22 for each weight times at most 255.
void check_scalar(int in, int out) {
    check_case("in=%d out=%d", in, out);
    const resize_axis    axis(in, out, 0, out);
    std::vector<uint8_t> x(static_cast<size_t>(in)), y(static_cast<size_t>(out));
    fill(x.data(), x.size(), check_rand_int(0, 2));
    tia2_resize_h_u8_scalar(y.data(), y.size(), x.data(), x.size(), 1, &axis.view(), 1);
    for (int i = 0; i < out; i++) {
        const std::vector<double> w = weights(in, out, i);
        double                    want = 0;
        for (int t = 0; t < in; t++) want += w[size_t(t)] * x[size_t(t)];
        want = std::min(255.0, std::max(0.0, want));
        const double tolerance = 0.5 + 0.5 / (1 << 22) * 255 * axis.count(i) + 1e-9;
        if (!(std::fabs(y[size_t(i)] - want) <= tolerance))
            return FAIL("resize_u8_scalar i=%d got %d want %.6f", i, y[size_t(i)], want);
    }
}

picture noise(pixel_mode mode, int w, int h) {
    picture p(mode, w, h);
    fill(p.pixels.data(), p.row_bytes() * size_t(h), 0);
    if (mode == pixel_mode::rgba || mode == pixel_mode::la) // clear, opaque and between
        for (size_t i = size_t(mode_bytes(mode)) - 1; i < p.row_bytes() * size_t(h); i += size_t(mode_bytes(mode)))
            if (i % 3) p.pixels.data()[i] = i % 3 == 1 ? 0 : 255;
    return p;
}

picture copy_of(const picture &p) {
    picture c(p.mode, p.width, p.height);
    memcpy(c.pixels.data(), p.pixels.data(), p.row_bytes() * size_t(p.height));
    return c;
}

// A part of a resized picture has the pixels of the whole one.
void check_crop(pixel_mode mode, int in_w, int in_h, int w, int h) {
    check_case("mode=%s %dx%d to %dx%d", mode_name(mode), in_w, in_h, w, h);
    const picture   src = noise(mode, in_w, in_h);
    const picture   whole = resize(copy_of(src), w, h, {0, 0, w, h});
    const int       x = check_rand_int(0, w - 1), y = check_rand_int(0, h - 1);
    const tia2::box part = {x, y, check_rand_int(1, w - x), check_rand_int(1, h - y)};
    const picture   got = resize(copy_of(src), w, h, part);
    for (int r = 0; r < part.height; r++)
        if (memcmp(got.row(r), whole.row(y + r) + size_t(x) * size_t(mode_bytes(mode)), got.row_bytes()) != 0)
            return FAIL("resize: row %d of the part %d,%d %dx%d differs from the whole", r, x, y, part.width,
                        part.height);
}

void bench(const char *isa, const tia2_resize_ops &ops) {
    const int            in = 768, out = 224;
    const resize_axis    axis(in, out, 0, out);
    std::vector<uint8_t> x(size_t(in) * in * 3), mid(size_t(in) * out * 3), y(size_t(out) * out * 3);
    fill(x.data(), x.size(), 0);
    double taps = 0;
    for (int i = 0; i < out; i++) taps += axis.count(i);
    const double h = check_time([&] { ops.h_u8(mid.data(), out * 3, x.data(), in * 3, in, &axis.view(), 3); });
    const double v = check_time([&] {
        for (int i = 0; i < out; i++)
            ops.v_u8(&y[size_t(i) * out * 3], &mid[size_t(axis.first(i)) * out * 3], out * 3, out * 3, &axis.view(), i);
    });
    char         name[64];
    snprintf(name, sizeof name, "resize_h_u8_%s", isa);
    check_bench_line(name, "768x768x3 to 224", h, 2 * taps * in * 3, 0, 2 * check_flops());
    snprintf(name, sizeof name, "resize_v_u8_%s", isa);
    check_bench_line(name, "768x224x3 to 224", v, 2 * taps * out * 3, 0, 2 * check_flops());
    printf("  resize 768x768x3 to 224x224 %s: %.3f ms, %.0f MB/s of input\n", isa, 1e3 * (h + v),
           1e-6 * double(x.size()) / (h + v));
}

} // namespace

TIA2_CHECK(resize) {
    check_part("resize_scalar_f64", [] {
        for (int in = 1; in <= 40; in++)
            for (int out = 1; out <= 40; out++) check_scalar(in, out);
        for (int i = 0; i < 40; i++) check_scalar(check_rand_int(1, 3000), check_rand_int(1, 300));
    });
    check_part("resize_crop", [] {
        for (pixel_mode mode : {pixel_mode::bit, pixel_mode::l, pixel_mode::la, pixel_mode::p, pixel_mode::rgb,
                                pixel_mode::rgba, pixel_mode::cmyk, pixel_mode::i16})
            for (int i = 0; i < 60; i++)
                check_crop(mode, check_rand_int(1, 90), check_rand_int(1, 90), check_rand_int(1, 60),
                           check_rand_int(1, 60));
    });
    std::vector<tia2_resize_ops> seen = {{tia2_resize_h_u8_scalar, tia2_resize_v_u8_scalar}};
    check_levels("resize_u8", [&seen](const char *isa) { // a level without a form of its own is not run again
        tia2_resize_ops ops;
        tia2_resize_ops_init(&ops);
        const bool is_new = seen.back().h_u8 != ops.h_u8 || seen.back().v_u8 != ops.v_u8;
        if (check_bench_wanted() && (seen.size() == 1 || is_new)) bench(isa, ops);
        if (!is_new) return;
        seen.push_back(ops);
        for (int channels = 1; channels <= 4; channels++)
            for (size_t mis : {0, 1, 5})
                for (int in = 1; in <= 40; in++)
                    for (int out : {1, 2, 3, 7, 16, 33})
                        check_h(isa, ops, in, out, 0, out, channels, 1 + in % 5, mis, in % 3);
        for (int i = 0; i < 300; i++) {
            const int out = check_rand_int(1, 200), from = check_rand_int(0, out - 1);
            check_h(isa, ops, check_rand_int(1, 1500), out, from, check_rand_int(1, out - from), check_rand_int(1, 4),
                    check_rand_int(1, 9), size_t(check_rand_int(0, 7)), i % 3);
        }
        for (size_t n = 1; n <= 70; n++) // all tails of a body of 32, and past it
            for (int in : {1, 2, 5, 30}) check_v(isa, ops, in, 7, n, n % 5, int(n) % 3);
        for (int i = 0; i < 60; i++)
            check_v(isa, ops, check_rand_int(1, 600), check_rand_int(1, 40), size_t(check_rand_int(1, 300)),
                    size_t(check_rand_int(0, 7)), i % 3);
    });
}
