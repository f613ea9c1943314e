// rows.h at every level: f64 oracles, odd sizes, misaligned rows with gaps, guards, fences, extreme values; q8 and bf16 rows
// bit for bit those of the reference.
#include <cfloat>
#include <cmath>

#include "check.h"

namespace {

using tia2::activation;

enum kind { kRandom, kOffset, kOutlier, kHuge, kTiny, kDenormal, kConstant, kZero, kNaN, kInf, kKinds };
const char *const kKindNames[kKinds] = {"random",   "offset",   "outlier", "huge", "tiny",
                                        "denormal", "constant", "zero",    "NaN",  "infinity"};

void fill(float *x, size_t n, kind k) {
    const float mag = k == kHuge ? 1e30f : k == kTiny ? 1e-30f : k == kDenormal ? 1e-39f : 3.f;
    for (size_t i = 0; i < n; i++) {
        x[i] = mag * check_rand_float();
        if (k == kOffset) x[i] += 40;
        if (k == kConstant) x[i] = 0.7f;
        if (k == kZero) x[i] = i % 2 ? -0.0f : 0.0f;
    }
    const size_t at = (size_t)check_rand_int(0, (int)n - 1);
    if (k == kOutlier) x[at] = -1000;
    if (k == kNaN) x[at] = at % 2 ? NAN : -NAN;
    if (k == kInf) x[at] = at % 2 ? INFINITY : -INFINITY;
}

// n_rows rows of W elements of type T, `gap` elements between them.
template <class T> struct rows_buf {
    size_t       n_rows, W, pitch;
    check_buf<T> b;
    T            guard;

    rows_buf(size_t n, size_t W_, size_t gap, size_t mis, T guard_)
        : n_rows(n), W(W_), pitch(W_ + gap), b((n - 1) * pitch + W_, mis, guard_), guard(guard_) {}
    T       *row(size_t r) { return b.p() + r * pitch; }
    size_t   stride() const { return pitch * sizeof(T); }
    bool     intact() const {
        for (size_t r = 0; r + 1 < n_rows; r++)
            for (size_t i = W; i < pitch; i++)
                if (memcmp(b.p() + r * pitch + i, &guard, sizeof(T)) != 0) return false;
        return b.intact();
    }
};

constexpr size_t kRows = 3;

std::vector<size_t> widths() {
    std::vector<size_t> w;
    for (size_t n = 1; n <= 70; n++) w.push_back(n);
    for (size_t n : {127, 130, 191, 512, 768, 1024, 1280}) w.push_back(n);
    return w;
}

// Rows in the second-level cache may well pass what a read from memory gives.
void bench_line(const char *op, const char *isa, const char *shape, double seconds, double bytes) {
    char name[64];
    snprintf(name, sizeof name, "%s_%s", op, isa);
    printf("  bench %-28s %-24s %10.2f us %7.2f GB/s %6.1f%% of a read from memory\n", name, shape, 1e6 * seconds,
           1e-9 * bytes / seconds, 100 * bytes / seconds / check_bandwidth());
}

tia2_cpu_ops reference() {
    tia2_cpu_ops o;
    tia2_cpu_ops_init(&o, 0);
    return o;
}

// ---- layer_norm ----------------------------------------------------------------------------------------------------

// One row of f32 results.
void judge_norm(const char *isa, const float *y, const float *x, const float *w, const float *b, size_t W, float eps,
                size_t row) {
    double mean = 0, size = 0, var = 0;
    for (size_t i = 0; i < W; i++) {
        mean += x[i] / (double)W;
        size += std::fabs(x[i]) / (double)W;
    }
    for (size_t i = 0; i < W; i++) var += (x[i] - mean) * (x[i] - mean);
    const double sd = std::sqrt(var / (double)W + eps);
    for (size_t i = 0; i < W; i++) {
        const double want = (x[i] - mean) / sd * w[i] + b[i];
        const double parts = std::fabs(w[i]) * (std::fabs(x[i]) + size) / sd + std::fabs(b[i]);
        const double tol = (3 + (double)W / 256) * FLT_EPSILON * parts;
        if (std::isfinite(want) ? !(std::fabs(y[i] - want) <= tol) : !std::isnan(y[i]))
            return FAIL("%s: row %zu, %zu: got %.9g want %.9g, tolerance %.3g", isa, row, i, y[i], want, tol);
    }
}

void norm_one(const char *isa, tia2_layer_norm_fn fn, size_t W, size_t mis, kind k) {
    check_case("W=%zu mis=%zu %s", W, mis, kKindNames[k]);
    const tia2_cpu_ops &ops = tia2_cpu();
    rows_buf<float>     x(kRows, W, mis, mis, NAN), y(kRows, W, mis + 1, mis + 2, -7.f);
    check_buf<float>    w(W, mis + 1, NAN), b(W, mis + 3, NAN);
    for (size_t r = 0; r < kRows; r++) fill(x.row(r), W, r == 1 ? k : kRandom); // neighbours of an odd row are ordinary
    fill(w.p(), W, kRandom);
    fill(b.p(), W, kRandom);
    tia2_layer_norm_call c = {x.row(0), x.stride(), kRows, W, w.p(), b.p(), 1e-5f, y.row(0), y.stride(), tia2_format::f32};
    fn(&c);
    for (size_t r = 0; r < kRows; r++) judge_norm(isa, y.row(r), x.row(r), w.p(), b.p(), W, c.eps, r);

    // A row alone has the same bits.
    std::vector<float>   alone(W);
    tia2_layer_norm_call one = c;
    one.x = x.row(2), one.y = alone.data(), one.n_rows = 1, one.y_stride = 4 * W;
    fn(&one);
    if (memcmp(alone.data(), y.row(2), 4 * W) != 0) FAIL("%s: the row depends on the others", isa);

    // Rows of the other formats are those of the f32 rows.
    rows_buf<uint16_t> half(kRows, W, mis, mis, 7), half_want(kRows, W, mis, 0, 7);
    c.y = half.row(0), c.y_stride = half.stride(), c.format = tia2_format::bf16;
    fn(&c);
    ops.to_bf16(half_want.row(0), half_want.stride(), y.row(0), y.stride(), kRows, W);
    rows_buf<uint8_t> bytes(kRows, tia2_q8_stride(W), mis, mis, 7), bytes_want(kRows, tia2_q8_stride(W), mis, 0, 7);
    c.y = bytes.row(0), c.y_stride = bytes.stride(), c.format = tia2_format::q8;
    fn(&c);
    ops.quantize_f32(bytes_want.row(0), bytes_want.stride(), y.row(0), y.stride(), kRows, W);
    for (size_t r = 0; r < kRows; r++) {
        if (memcmp(half.row(r), half_want.row(r), 2 * W) != 0) FAIL("%s: the bf16 row is not that of the f32 row", isa);
        if (memcmp(bytes.row(r), bytes_want.row(r), tia2_q8_stride(W)) != 0)
            FAIL("%s: the q8 row is not that of the f32 row", isa);
    }
    if (!x.intact() || !w.intact() || !b.intact() || !y.intact() || !half.intact() || !bytes.intact())
        FAIL("%s: wrote out of bounds", isa);
}

// Far from zero the rounding of the mean to f32 is all that may be left: without the correction the error is twice that.
void norm_offset(const char *isa, tia2_layer_norm_fn fn) {
    const size_t       W = 1280, n = 200;
    std::vector<float> x(n * W), y(n * W), w(W, 1.f), b(W, 0.f);
    check_case("rows about 1000");
    for (float &v : x) v = 1000 + check_rand_float();
    const tia2_layer_norm_call c = {x.data(), 4 * W, n, W, w.data(), b.data(), 1e-5f, y.data(), 4 * W, tia2_format::f32};
    fn(&c);
    double error = 0;
    for (size_t r = 0; r < n; r++) {
        double mean = 0, var = 0;
        for (size_t i = 0; i < W; i++) mean += x[r * W + i] / (double)W;
        for (size_t i = 0; i < W; i++) var += (x[r * W + i] - mean) * (x[r * W + i] - mean);
        const double sd = std::sqrt(var / W + c.eps);
        for (size_t i = 0; i < W; i++) error += std::pow((y[r * W + i] - (x[r * W + i] - mean) / sd) * sd, 2) / (n * W);
    }
    const double ulp = 0x1p-14; // of 1000
    if (!(std::sqrt(error) <= 1.2 * ulp / std::sqrt(12.0)))
        FAIL("%s: error %.3g, %.2f of a rounding", isa, std::sqrt(error), std::sqrt(12 * error) / ulp);
}

// Reads and writes that end at pages which cannot be touched.
void norm_fenced(tia2_layer_norm_fn fn, size_t W, bool front) {
    check_case("W=%zu fence at the %s", W, front ? "front" : "end");
    check_fence<float>   x(W, front), w(W, front), b(W, front), y(W, front);
    check_fence<uint8_t> half(2 * W, front), bytes(tia2_q8_stride(W), front);
    for (check_fence<float> *f : {&x, &w, &b}) fill(f->p(), W, kRandom);
    tia2_layer_norm_call c = {x.p(), 4 * W, 1, W, w.p(), b.p(), 1e-5f, y.p(), 4 * W, tia2_format::f32};
    fn(&c);
    c.y = half.p(), c.format = tia2_format::bf16;
    fn(&c);
    c.y = bytes.p(), c.y_stride = tia2_q8_stride(W), c.format = tia2_format::q8;
    fn(&c);
}

void bench_norm(const char *isa, tia2_layer_norm_fn fn) {
    const tia2_format formats[] = {tia2_format::f32, tia2_format::bf16, tia2_format::q8};
    const char *const names[] = {"f32", "bf16", "q8"};
    for (size_t n_rows : {(size_t)64, (size_t)16384}) { // in the second-level cache, and from memory
        const size_t         W = 1024;
        std::vector<float>   x(n_rows * W), w(W, 1.f), b(W, 0.5f);
        std::vector<uint8_t> y(n_rows * W * 4);
        for (float &v : x) v = check_rand_float();
        for (int f = 0; f < 3; f++) {
            const size_t               out = tia2_row_bytes(formats[f], W);
            const tia2_layer_norm_call c = {x.data(), 4 * W, n_rows, W, w.data(), b.data(), 1e-5f, y.data(), out, formats[f]};
            const double               s = check_time([&] { fn(&c); }, 3);
            char                       shape[64];
            snprintf(shape, sizeof shape, "%zu x %zu to %s", n_rows, W, names[f]);
            bench_line("layer_norm", isa, shape, s, (double)(n_rows * (4 * W + out)));
        }
    }
}

// ---- q8 and bf16 rows ----------------------------------------------------------------------------------------------

// What rows.h promises of one q8 row, whose source values are x.
void judge_q8(const char *isa, const uint8_t *y, const float *x, size_t W) {
    float most = 0, scale;
    bool  finite = true;
    for (size_t i = 0; i < W; i++) {
        finite = finite && std::isfinite(x[i]);
        most = std::fmax(most, std::fabs(x[i]));
    }
    memcpy(&scale, y + tia2_q8_scale_at(W), sizeof scale);
    const float want = !finite ? NAN : most < kQ8Least ? 0 : most / 127;
    if (finite ? scale != want : !std::isnan(scale)) return FAIL("%s: scale %.9g, expected %.9g", isa, scale, want);
    for (size_t i = 0; i < tia2_q8_scale_at(W); i++) {
        const int q = (int)y[i] - 128;
        if (i >= W || !(scale > 0)) {
            if (q != 0) return FAIL("%s: byte %zu is %d, expected 128", isa, i, y[i]);
        } else if (!(std::fabs((double)scale * q - x[i]) <= scale * (0.5 + 0x1p-15)) ||
                   (std::fabs(x[i]) == most && abs(q) != 127)) {
            return FAIL("%s: byte %zu of %.9g is %d, scale %.9g", isa, i, x[i], y[i], scale);
        }
    }
}

void quantize_one(const char *isa, const tia2_cpu_ops &ops, size_t W, size_t mis, kind k) {
    check_case("W=%zu mis=%zu %s", W, mis, kKindNames[k]);
    static const tia2_cpu_ops ref = reference();
    const size_t              out = tia2_q8_stride(W);
    rows_buf<float>           x(kRows, W, mis, mis, NAN), back(kRows, W, 0, 0, NAN);
    rows_buf<uint16_t>        half(kRows, W, mis, mis, 0x7fc0), half_want(kRows, W, mis, 0, 0x7fc0);
    for (size_t r = 0; r < kRows; r++) fill(x.row(r), W, r == 1 ? k : kRandom);

    ops.to_bf16(half.row(0), half.stride(), x.row(0), x.stride(), kRows, W);
    ref.to_bf16(half_want.row(0), half_want.stride(), x.row(0), x.stride(), kRows, W);
    for (size_t r = 0; r < kRows; r++)
        if (memcmp(half.row(r), half_want.row(r), 2 * W) != 0) FAIL("%s: bf16 row differs from the reference's", isa);
    for (size_t r = 0; r < kRows; r++)
        for (size_t i = 0; i < W; i++) {
            const uint32_t bits = (uint32_t)half.row(r)[i] << 16;
            memcpy(&back.row(r)[i], &bits, sizeof bits);
        }

    for (bool bf16 : {false, true}) {
        rows_buf<uint8_t> y(kRows, out, mis, mis, 7), want(kRows, out, mis, 0, 7);
        if (bf16) {
            ops.quantize_bf16(y.row(0), y.stride(), half.row(0), half.stride(), kRows, W);
            ref.quantize_bf16(want.row(0), want.stride(), half.row(0), half.stride(), kRows, W);
        } else {
            ops.quantize_f32(y.row(0), y.stride(), x.row(0), x.stride(), kRows, W);
            ref.quantize_f32(want.row(0), want.stride(), x.row(0), x.stride(), kRows, W);
        }
        for (size_t r = 0; r < kRows; r++) {
            judge_q8(isa, y.row(r), bf16 ? back.row(r) : x.row(r), W);
            if (memcmp(y.row(r), want.row(r), out) != 0)
                FAIL("%s: %s row %zu differs from the reference's", isa, bf16 ? "bf16" : "f32", r);
        }
        if (!y.intact()) FAIL("%s: wrote out of bounds", isa);
    }
    if (!x.intact() || !half.intact()) FAIL("%s: wrote out of bounds", isa);
}

// Ties of the rounding and the edges of what counts as a row of zeros.
void quantize_edges(const char *isa, const tia2_cpu_ops &ops) {
    const size_t W = 37;
    for (float most : {0x1p-126f, std::nextafter(kQ8Least, 0.f), kQ8Least, 127.f, 254.f, FLT_MAX}) {
        check_case("max|x| = %g", most);
        float   x[W];
        uint8_t y[tia2_q8_stride(W)], want[tia2_q8_stride(W)];
        for (size_t i = 0; i < W; i++) x[i] = most / 254 * ((float)i * 13 - 227); // odd multiples of half a step
        x[11] = -most;
        ops.quantize_f32(y, sizeof y, x, sizeof x, 1, W);
        reference().quantize_f32(want, sizeof want, x, sizeof x, 1, W);
        judge_q8(isa, y, x, W);
        if (memcmp(y, want, sizeof y) != 0) FAIL("%s: differs from the reference", isa);
        if (most == 254.f)
            for (size_t i = 0; i < W; i++)
                if (i != 11 && y[i] != (int)std::nearbyint(x[i] / 2) + 128)
                    FAIL("%s: %g became %d: not to nearest even", isa, x[i], y[i]);
    }
}

void quantize_fenced(const tia2_cpu_ops &ops, size_t W, bool front) {
    check_case("W=%zu fence at the %s", W, front ? "front" : "end");
    check_fence<float>    x(W, front);
    check_fence<uint16_t> half(W, front);
    check_fence<uint8_t>  y(tia2_q8_stride(W), front);
    fill(x.p(), W, kRandom);
    ops.to_bf16(half.p(), 2 * W, x.p(), 4 * W, 1, W);
    ops.quantize_bf16(y.p(), tia2_q8_stride(W), half.p(), 2 * W, 1, W);
    ops.quantize_f32(y.p(), tia2_q8_stride(W), x.p(), 4 * W, 1, W);
}

// The nearest bf16 by comparing distances, the even one of two as near.
uint16_t nearest_bf16(float v) {
    uint32_t bits;
    memcpy(&bits, &v, sizeof bits);
    const uint32_t below = bits >> 16, above = below + 1; // in size
    const auto     size = [](uint32_t b) {
        const uint32_t exponent = b >> 7 & 0xff, mantissa = (b & 0x7f) + (exponent ? 128 : 0);
        return std::ldexp((double)mantissa, (int)(exponent ? exponent : 1) - 134); // the pattern of infinity is 2^128
    };
    const double to_below = std::fabs((double)v) - size(below), to_above = size(above) - std::fabs((double)v);
    return (uint16_t)(to_below < to_above || (to_below == to_above && below % 2 == 0) ? below : above);
}

// Patterns over the whole range, and those that are ties.
void bf16_sweep(const char *isa, tia2_to_bf16_fn fn) {
    constexpr size_t      n = 4096;
    std::vector<float>    x(n);
    std::vector<uint16_t> y(n);
    uint32_t              next = (uint32_t)check_rand();
    for (int block = 0; block < 512; block++) {
        for (size_t i = 0; i < n; i++, next += 2039) {
            const uint32_t low[4] = {next, 0x8000, 0x7fff, 0x8001};
            const uint32_t bits = (next & 0xffff0000u) | (low[next >> 16 & 3] & 0xffff);
            memcpy(&x[i], &bits, sizeof bits);
        }
        fn(y.data(), 2 * n, x.data(), 4 * n, 1, n);
        for (size_t i = 0; i < n; i++) {
            const bool nan = std::isnan(x[i]), got_nan = (y[i] & 0x7f80) == 0x7f80 && (y[i] & 0x7f);
            if (nan ? !got_nan : std::isinf(x[i]) ? y[i] != (x[i] > 0 ? 0x7f80 : 0xff80) : y[i] != nearest_bf16(x[i]))
                return FAIL("%s: %.9g became %04x", isa, x[i], y[i]);
        }
    }
}

void bench_rows(const char *isa, const tia2_cpu_ops &ops) {
    for (size_t n_rows : {(size_t)64, (size_t)16384}) {
        const size_t          W = 1024;
        std::vector<float>    x(n_rows * W);
        std::vector<uint16_t> half(n_rows * W);
        std::vector<uint8_t>  y(n_rows * tia2_q8_stride(W));
        for (float &v : x) v = check_rand_float();
        char shape[64];
        snprintf(shape, sizeof shape, "%zu x %zu", n_rows, W);
        const size_t out = tia2_q8_stride(W);
        const auto to_bf16 = [&] { ops.to_bf16(half.data(), 2 * W, x.data(), 4 * W, n_rows, W); };
        bench_line("to_bf16", isa, shape, check_time(to_bf16, 3), (double)(n_rows * 6 * W));
        const auto from_f32 = [&] { ops.quantize_f32(y.data(), out, x.data(), 4 * W, n_rows, W); };
        const auto from_bf16 = [&] { ops.quantize_bf16(y.data(), out, half.data(), 2 * W, n_rows, W); };
        bench_line("quantize_f32", isa, shape, check_time(from_f32, 3), (double)(n_rows * (4 * W + out)));
        bench_line("quantize_bf16", isa, shape, check_time(from_bf16, 3), (double)(n_rows * (2 * W + out)));
    }
}

// ---- activate ------------------------------------------------------------------------------------------------------

double exact(double x, activation act) {
    if (act == activation::none) return x;
    return act == activation::gelu ? x / 2 * std::erfc(-x / std::sqrt(2.0)) : x / (1 + std::exp(-1.702 * x));
}

void judge_activation(const char *isa, float y, float x, activation act) {
    if (std::isnan(x) || x == -INFINITY) { // torch's forms have NaN at -infinity too: -infinity * 0
        if (act != activation::none && !std::isnan(y)) FAIL("%s: of %g got %g", isa, x, y);
        return;
    }
    const double want = exact(x, act);
    const double size = std::fabs(x);
    const float  limit = act == activation::none || x > 0 ? x : 0;
    if (size > 100 ? y != limit : !(std::fabs(y - want) <= 2e-7 * std::fmax(1, size)))
        FAIL("%s: of %.9g got %.9g want %.9g", isa, x, y, want);
}

// Two million bit patterns evenly over all, so that every exponent is met, and a million values where the functions bend.
void activate_sweep(const char *isa, tia2_activate_fn fn, activation act) {
    constexpr size_t   n = 4096;
    std::vector<float> x(n), y(n);
    uint32_t           next = (uint32_t)check_rand();
    check_case("sweep, act=%d", (int)act);
    for (int block = 0; block < 768; block++) {
        for (size_t i = 0; i < n; i++, next += 2039)
            if (block < 512)
                memcpy(&x[i], &next, sizeof next);
            else
                x[i] = (float)(block - 640) / 16 + check_rand_float() / 16;
        y = x;
        fn(y.data(), n, act);
        for (size_t i = 0; i < n; i++) judge_activation(isa, y[i], x[i], act);
    }
}

void activate_one(const char *isa, tia2_activate_fn fn, size_t n, size_t mis, activation act) {
    check_case("n=%zu mis=%zu act=%d", n, mis, (int)act);
    check_buf<float>   x(n, mis, -7.f);
    check_fence<float> end(n, false), front(n, true);
    for (size_t i = 0; i < n; i++) end.p()[i] = front.p()[i] = x.p()[i] = 4 * check_rand_float();
    std::vector<float> was(x.p(), x.p() + n);
    for (float *p : {x.p(), end.p(), front.p()}) {
        fn(p, n, act);
        for (size_t i = 0; i < n; i++) judge_activation(isa, p[i], was[i], act);
    }
    if (!x.intact()) FAIL("%s: wrote out of bounds", isa);
}

void bench_activate(const char *isa, tia2_activate_fn fn, activation act, const char *name, double flops) {
    const size_t       n = 4096; // in the first-level cache
    std::vector<float> x(n), was(n);
    for (float &v : was) v = 3 * check_rand_float();
    const double s = check_time([&] {
        x = was;
        fn(x.data(), n, act);
    });
    char what[64];
    snprintf(what, sizeof what, "%s_%s", name, isa);
    check_bench_line(what, "4096", s, flops * n, 0, check_flops());
}

// ---- l2_normalize --------------------------------------------------------------------------------------------------

void normalize_one(size_t W, size_t mis, kind k) {
    check_case("W=%zu mis=%zu %s", W, mis, kKindNames[k]);
    rows_buf<float> x(kRows, W, mis, mis, -7.f);
    for (size_t r = 0; r < kRows; r++) fill(x.row(r), W, r == 1 ? k : kRandom);
    const std::vector<float> was(x.row(0), x.row(0) + x.b.n);
    tia2_l2_normalize(x.row(0), x.stride(), kRows, W);
    for (size_t r = 0; r < kRows; r++) {
        const float *row = was.data() + r * x.pitch;
        long double  ss = 0;
        for (size_t i = 0; i < W; i++) ss += (long double)row[i] * row[i];
        for (size_t i = 0; i < W; i++) {
            const long double want = ss == 0 ? 0 : row[i] / std::sqrt(ss);
            const float       got = x.row(r)[i];
            if (std::isfinite(ss) ? !(std::fabs(got - want) <= 0x1.01p-24L * std::fabs(want) + 1e-45L) : !std::isnan(got))
                return FAIL("row %zu, %zu: got %.9g want %.9Lg", r, i, got, want);
        }
    }
    if (!x.intact()) FAIL("wrote out of bounds");
}

// ---- patches -------------------------------------------------------------------------------------------------------

struct picture {
    size_t                   S, P, row; // row: values of a patch
    check_buf<uint8_t>       pixels;
    check_buf<float>         table;

    picture(size_t grid, size_t P_, size_t mis)
        : S(grid * P_), P(P_), row(3 * P_ * P_), pixels(S * S * 3, mis, 7), table(768, mis, NAN) {
        const float mean[3] = {0.48145466f, 0.4578275f, 0.40821073f}, sd[3] = {0.26862954f, 0.26130258f, 0.27577711f};
        for (size_t i = 0; i < pixels.n; i++) pixels.p()[i] = (uint8_t)check_rand();
        for (size_t i = 0; i < 768; i++) table.p()[i] = ((float)(i % 256) / 255.0f - mean[i / 256]) / sd[i / 256];
    }
    const float (*values() const)[256] { return (const float (*)[256])table.p(); }
    float at(size_t n, size_t i) const { // value i of patch n
        const size_t grid = S / P, c = i / (P * P), v = i / P % P, u = i % P;
        return values()[c][pixels.p()[((n / grid * P + v) * S + n % grid * P + u) * 3 + c]];
    }
};

void patches_one(size_t grid, size_t P, size_t mis) {
    const picture   img(grid, P, mis);
    const size_t    all = grid * grid, begin = all / 3, end = all - all / 4;
    rows_buf<float> y(end - begin, img.row, mis, mis, -7.f);
    rows_buf<uint16_t> half(end - begin, img.row, mis, mis, 7);
    check_case("grid=%zu P=%zu rows %zu to %zu", grid, P, begin, end);
    tia2_patches_call c = {img.pixels.p(), img.S, P, begin, end, img.values(), y.row(0), y.stride(), tia2_format::f32};
    tia2_patches(&c);
    c.y = half.row(0), c.y_stride = half.stride(), c.format = tia2_format::bf16;
    tia2_patches(&c);
    for (size_t n = begin; n < end; n++)
        for (size_t i = 0; i < img.row; i++) {
            const float want = img.at(n, i), got = y.row(n - begin)[i];
            if (got != want) return FAIL("patch %zu, %zu: got %.9g want %.9g", n, i, got, want);
            if (half.row(n - begin)[i] != nearest_bf16(want))
                return FAIL("patch %zu, %zu: bf16 of %.9g is wrong", n, i, want);
        }
    c.begin = c.end = all; // none
    tia2_patches(&c);
    if (!img.pixels.intact() || !img.table.intact() || !y.intact() || !half.intact()) FAIL("wrote out of bounds");
}

void bench_patches() {
    const size_t         images = 64;
    const picture        img(7, 32, 0);
    std::vector<uint8_t> pixels(images * img.pixels.n), y(images * 49 * img.row * 4);
    for (uint8_t &v : pixels) v = (uint8_t)check_rand();
    for (tia2_format f : {tia2_format::f32, tia2_format::bf16}) {
        const size_t out = tia2_row_bytes(f, img.row);
        const double s = check_time([&] {
            for (size_t b = 0; b < images; b++) {
                const uint8_t          *p = &pixels[b * img.pixels.n];
                const tia2_patches_call c = {p, img.S, img.P, 0, 49, img.values(), &y[b * 49 * out], out, f};
                tia2_patches(&c);
            }
        }, 3);
        bench_line("patches", "scalar", f == tia2_format::f32 ? "64 of 224/32 to f32" : "64 of 224/32 to bf16", s,
                   (double)(images * (img.pixels.n + 49 * out)));
    }
}

} // namespace

TIA2_CHECK(rows) {
    check_levels("layer_norm", [](const tia2_cpu_ops &o) { return o.layer_norm; }, [](const char *isa, tia2_layer_norm_fn fn) {
        for (size_t W : widths())
            for (int k = 0; k < kKinds; k++) norm_one(isa, fn, W, W % 6, (kind)k);
        norm_offset(isa, fn);
        for (size_t W = 1; W <= 70; W++)
            for (bool front : {false, true}) norm_fenced(fn, W, front);
        if (check_bench_wanted()) bench_norm(isa, fn);
    });
    check_levels("quantize", [](const tia2_cpu_ops &o) { return o.quantize_f32; }, [](const char *isa, tia2_quantize_f32_fn) {
        const tia2_cpu_ops &ops = tia2_cpu();
        for (size_t W : widths())
            for (int k = 0; k < kKinds; k++) quantize_one(isa, ops, W, W % 6, (kind)k);
        quantize_edges(isa, ops);
        for (size_t W = 1; W <= 70; W++)
            for (bool front : {false, true}) quantize_fenced(ops, W, front);
        bf16_sweep(isa, ops.to_bf16);
        if (check_bench_wanted()) bench_rows(isa, ops);
    });
    check_levels("activate", [](const tia2_cpu_ops &o) { return o.activate; }, [](const char *isa, tia2_activate_fn fn) {
        for (activation act : {activation::none, activation::gelu, activation::quick_gelu}) {
            for (size_t n = 1; n <= 70; n++) activate_one(isa, fn, n, n % 6, act);
            activate_sweep(isa, fn, act);
        }
        if (check_bench_wanted()) {
            bench_activate(isa, fn, activation::gelu, "gelu", 32);
            bench_activate(isa, fn, activation::quick_gelu, "quick_gelu", 14);
        }
    });
    check_part("l2_normalize", [] {
        for (size_t W : widths())
            for (int k = 0; k < kKinds; k++) normalize_one(W, W % 6, (kind)k);
    });
    check_part("patches", [] {
        for (size_t grid = 1; grid <= 4; grid++)
            for (size_t P : {1, 2, 3, 7, 14, 16, 17, 32}) patches_one(grid, P, (grid + P) % 6);
        if (check_bench_wanted()) bench_patches();
    });
}
