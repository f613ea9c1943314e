// TextNorm: an oracle in long double, every level, odd sizes, ties, guards, misaligned; and the C function around it.
#include <algorithm>
#include <cmath>
#include <string>

#include "../include/tia2.h"
#include "check.h"

namespace {

enum kind { kRandom, kUnit, kNearTies, kTies, kEqual, kHuge, kKinds };
const char *const kKindNames[kKinds] = {"random", "unit", "near-ties", "ties", "equal", "huge"};

struct problem {
    size_t           n_rows, P, D, n_images;
    bool             whole_set;
    double           reward_scale, scale;
    check_buf<float> images, texts;
    std::vector<int32_t> rows;

    // Twice as many images as rows: those between belong to other sets, and must not be touched.
    problem(size_t n, size_t P_, size_t D_, size_t mis, kind k, bool whole)
        : n_rows(n), P(P_), D(D_), n_images(2 * n), whole_set(whole), reward_scale(k == kUnit ? 100 : 1), scale(10),
          images(2 * n * D_, mis, NAN), texts(P_ * D_, (mis + 1) % 8, NAN) {
        for (size_t i = 0; i < n; i++) rows.push_back((int32_t)(2 * i + (i & 1)));
        std::reverse(rows.begin(), rows.end());
        fill(k);
    }
    const float *image(size_t i) const { return images.p() + (size_t)rows[i] * D; }
    const float *text(size_t j) const { return texts.p() + j * D; }

    void fill(kind k) {
        const float mag = k == kHuge ? 1e18f : 1.f;
        for (size_t i = 0; i < images.n; i++) images.p()[i] = mag * check_rand_float();
        for (size_t i = 0; i < texts.n; i++) texts.p()[i] = check_rand_float();
        for (size_t j = 1; j < P; j++)
            for (size_t d = 0; d < D; d++) {
                float &t = texts.p()[j * D + d];
                const float first = texts.p()[d];
                if (k == kEqual || (k == kTies && j % 2 == 0)) t = first; // the same prompt again
                if (k == kNearTies) t = first + 1e-4f * t;                 // one word of many differs
            }
        if (k == kUnit) {
            unit(images.p(), n_images);
            unit(texts.p(), P);
        }
    }
    void unit(float *x, size_t n) const {
        for (size_t i = 0; i < n; i++) {
            double ss = 0;
            for (size_t d = 0; d < D; d++) ss += (double)x[i * D + d] * x[i * D + d];
            for (size_t d = 0; d < D; d++) x[i * D + d] = (float)(x[i * D + d] / std::sqrt(ss + 1e-30));
        }
    }
};

struct oracle {
    std::vector<double> raw, norm, tolerance, raw_tolerance;
};

oracle solve(const problem &p) {
    std::vector<long double> r(p.n_rows * p.P);
    std::vector<double>      err(p.n_rows, 0.0);
    for (size_t i = 0; i < p.n_rows; i++)
        for (size_t j = 0; j < p.P; j++) {
            long double sum = 0, mass = 0;
            for (size_t d = 0; d < p.D; d++) {
                const long double x = (long double)p.image(i)[d] * p.text(j)[d];
                sum += x;
                mass += std::fabs(x);
            }
            r[i * p.P + j] = p.reward_scale * sum;
            err[i] = std::max(err[i], (double)(p.D * 0x1p-52L * p.reward_scale * mass));
        }
    oracle o;
    const long double all_lo = *std::min_element(r.begin(), r.end()), all_hi = *std::max_element(r.begin(), r.end());
    const double      all_err = *std::max_element(err.begin(), err.end());
    for (size_t i = 0; i < p.n_rows; i++) {
        const auto  row = r.begin() + (long)(i * p.P);
        long double lo = p.whole_set ? all_lo : *std::min_element(row, row + (long)p.P);
        long double hi = p.whole_set ? all_hi : *std::max_element(row, row + (long)p.P);
        long double sum = 0;
        for (size_t j = 0; j < p.P; j++) sum += hi == lo ? 1 : std::exp(p.scale * (row[(long)j] - row[0]) / (hi - lo));
        o.raw.push_back((double)row[0]);
        o.raw_tolerance.push_back(0x1p-24 * std::fabs((double)row[0]) + err[i] + 1e-45);
        o.norm.push_back((double)(1 / sum));
        const double e = p.whole_set ? all_err : err[i];
        const double amplified = hi == lo ? 0 : 4 * p.scale * e / (double)(hi - lo);
        o.tolerance.push_back(0x1p-24 * (double)(1 / sum) + amplified + 1e-45);
    }
    return o;
}

tia2_textnorm_set set_of(const problem &p, double *rewards, float *raw, float *norm) {
    tia2_textnorm_set s = {};
    s.images = p.images.p();
    s.rows = p.rows.data();
    s.n_rows = p.n_rows;
    s.texts = p.texts.p();
    s.P = p.P;
    s.D = p.D;
    s.reward_scale = p.reward_scale;
    s.scale = p.scale;
    s.whole_set = p.whole_set;
    s.rewards = rewards;
    s.raw = raw;
    s.norm = norm;
    return s;
}

void check_one(tia2_textnorm_f32_fn fn, size_t n, size_t P, size_t D, size_t mis, kind k, bool whole_set) {
    check_case("n=%zu P=%zu D=%zu mis=%zu %s %s", n, P, D, mis, kKindNames[k], whole_set ? "set" : "image");
    const problem     p(n, P, D, mis, k, whole_set);
    check_buf<float>  raw(p.n_images, (mis + 2) % 8, -7.f), norm(p.n_images, (mis + 3) % 8, -7.f);
    check_buf<double> rewards(tia2_textnorm_scratch(n, P, whole_set), mis % 4, -7.0);
    tia2_textnorm_set s = set_of(p, rewards.p(), raw.p(), norm.p());
    fn(&s);
    const oracle      want = solve(p);
    std::vector<bool> touched(p.n_images, false);
    for (size_t i = 0; i < n; i++) {
        const size_t row = (size_t)p.rows[i];
        touched[row] = true;
        if (!(std::fabs(raw.p()[row] - want.raw[i]) <= want.raw_tolerance[i]))
            return FAIL("raw[%zu] is %.9g, want %.9g", i, raw.p()[row], want.raw[i]);
        if (!(std::fabs(norm.p()[row] - want.norm[i]) <= want.tolerance[i]))
            return FAIL("norm[%zu] is %.9g, want %.9g +- %.3g", i, norm.p()[row], want.norm[i], want.tolerance[i]);
        if (k == kEqual && norm.p()[row] != (float)(1.0 / (double)P))
            return FAIL("equal rewards give %.9g, want 1/%zu exactly", norm.p()[row], P);
    }
    for (size_t i = 0; i < p.n_images; i++)
        if (!touched[i] && (raw.p()[i] != -7.f || norm.p()[i] != -7.f)) return FAIL("image %zu was not asked for", i);
    if (!p.images.intact() || !p.texts.intact() || !raw.intact() || !norm.intact() || !rewards.intact())
        FAIL("wrote out of bounds");
    s.raw = nullptr; // may be NULL
    const std::vector<float> before(norm.p(), norm.p() + norm.n);
    fn(&s);
    if (memcmp(before.data(), norm.p(), 4 * norm.n) != 0) FAIL("a second run, without raw, gives other bits");
}

// The result of an image has the same bits alone and in any company.
void check_invariance(tia2_textnorm_f32_fn fn) {
    for (size_t D : {1, 7, 33, 512})
        for (size_t P : {2, 5, 8, 33}) {
            check_case("invariance P=%zu D=%zu", P, D);
            problem             p(23, P, D, 1, kUnit, false);
            std::vector<float>  raw(p.n_images), norm(p.n_images), raw1(p.n_images), norm1(p.n_images);
            std::vector<double> rewards(tia2_textnorm_scratch(p.n_rows, P, true));
            tia2_textnorm_set   s = set_of(p, rewards.data(), raw.data(), norm.data());
            fn(&s);
            for (size_t n : {1, 2, 3, 5, 9})
                for (size_t i = 0; i + n <= p.n_rows; i += n) {
                    tia2_textnorm_set part = set_of(p, rewards.data(), raw1.data(), norm1.data());
                    part.rows = p.rows.data() + i;
                    part.n_rows = n;
                    fn(&part);
                }
            if (raw != raw1 || norm != norm1) FAIL("results depend on the other images of the batch");
        }
}

// An image that could not be embedded is a row of NaN. It gets NaN and leaves the others as they are without it.
void check_not_finite(tia2_textnorm_f32_fn fn) {
    for (bool whole_set : {false, true})
        for (float bad : {NAN, INFINITY})
            for (size_t P : {2, 7, 33}) {
                check_case("not finite P=%zu %s", P, whole_set ? "set" : "image");
                problem p(11, P, 19, 0, kUnit, whole_set);
                std::vector<float>  raw(p.n_images), norm(p.n_images), raw1(p.n_images), norm1(p.n_images);
                std::vector<double> rewards(tia2_textnorm_scratch(p.n_rows, P, true));
                p.images.p()[(size_t)p.rows.back() * p.D + 3] = bad;
                tia2_textnorm_set s = set_of(p, rewards.data(), raw.data(), norm.data());
                fn(&s);
                tia2_textnorm_set rest = set_of(p, rewards.data(), raw1.data(), norm1.data());
                rest.n_rows--;
                fn(&rest);
                for (size_t i = 0; i + 1 < p.n_rows; i++) {
                    const size_t row = (size_t)p.rows[i];
                    if (norm[row] != norm1[row])
                        FAIL("norm[%zu] is %g beside a bad image, %g without", i, norm[row], norm1[row]);
                }
                const float last = norm[(size_t)p.rows.back()];
                if (!std::isnan(last)) FAIL("an image that is not finite gives %g", last);
            }
}

// Reads and writes stay within the buffers, to the byte.
void check_fences(tia2_textnorm_f32_fn fn) {
    for (bool front : {false, true})
        for (size_t n : {1, 2, 3, 4, 7})
            for (size_t P : {1, 2, 3, 4, 5, 9, 33})
                for (size_t D : {1, 2, 3, 5, 8, 9, 15, 19}) {
                    check_case("fences n=%zu P=%zu D=%zu", n, P, D);
                    check_fence<float>   images(n * D, front), texts(P * D, front), raw(n, front), norm(n, front);
                    check_fence<int32_t> rows(n, front);
                    check_fence<double>  rewards(tia2_textnorm_scratch(n, P, true), front);
                    for (size_t i = 0; i < n * D; i++) images.p()[i] = check_rand_float();
                    for (size_t i = 0; i < P * D; i++) texts.p()[i] = check_rand_float();
                    for (size_t i = 0; i < n; i++) rows.p()[i] = (int32_t)i;
                    tia2_textnorm_set s = {};
                    s.images = images.p(), s.rows = rows.p(), s.n_rows = n, s.texts = texts.p(), s.P = P, s.D = D;
                    s.reward_scale = 1, s.scale = 10, s.rewards = rewards.p(), s.raw = raw.p(), s.norm = norm.p();
                    fn(&s);
                }
}

void bench(const char *isa, tia2_textnorm_f32_fn fn, size_t n, size_t P, size_t D) {
    problem             p(n, P, D, 0, kUnit, false);
    std::vector<float>  raw(p.n_images), norm(p.n_images);
    std::vector<double> rewards(tia2_textnorm_scratch(n, P, false));
    tia2_textnorm_set   s = set_of(p, rewards.data(), raw.data(), norm.data());
    const double        t = check_time([&] { fn(&s); });
    const std::string   name = std::string("textnorm_f32_") + isa;
    const std::string   shape = std::to_string(n) + "x" + std::to_string(P) + "x" + std::to_string(D);
    check_bench_line(name.c_str(), shape.c_str(), t, 2.0 * n * P * D, 0, check_flops() / 2); // f64 sums
}

void check_kernel(const char *isa, tia2_textnorm_f32_fn fn) {
    for (size_t D = 1; D <= 67; D++)
        for (size_t P : {1, 2, 3, 4, 5, 9})
            for (bool whole_set : {false, true})
                for (int k = 0; k < kKinds; k++) check_one(fn, 1 + (D + P) % 10, P, D, D % 7, (kind)k, whole_set);
    for (size_t P = 2; P <= 61; P++)
        for (bool whole_set : {false, true})
            for (int k = 0; k < kKinds; k++) check_one(fn, P % 5 + 1, P, 33, P % 3, (kind)k, whole_set);
    for (size_t n = 0; n <= 20; n++) check_one(fn, std::max<size_t>(n, 1), 7, 24, 0, kUnit, n % 2 == 0);
    for (size_t D : {512, 768, 1024})
        for (bool whole_set : {false, true})
            for (kind k : {kUnit, kNearTies, kTies}) check_one(fn, 50, 33, D, 1, k, whole_set);
    check_invariance(fn);
    check_not_finite(fn);
    check_fences(fn);
    if (!check_bench_wanted()) return;
    bench(isa, fn, 50, 33, 512);
    bench(isa, fn, 50, 61, 1024);
    bench(isa, fn, 1, 33, 768);
}

// ---- the C function ------------------------------------------------------------------------------------------------

struct call {
    std::vector<float>   images, texts, raw, norm;
    std::vector<int32_t> set_of, set_offsets = {0, 2, 5, 5}; // the last set is empty, and no image's
    int32_t              B, N = 5, D = 4, n_sets = 3;
    float                reward_scale = 100, scale = 10;
    int                  minmax = TIA2_MINMAX_IMAGE;
    tia2_error           err = {};

    explicit call(int32_t B_ = 3) : images((size_t)B_ * 4), texts(20), raw((size_t)B_, -7.f), norm(raw), B(B_) {
        for (int32_t b = 0; b < B; b++) set_of.push_back(b % 3 == 1 ? 0 : 1); // mixed
        for (float &x : images) x = check_rand_float();
        for (float &x : texts) x = check_rand_float();
    }
    tia2_status run() {
        return tia2_textnorm(images.data(), B, texts.data(), N, D, set_of.data(), set_offsets.data(), n_sets,
                             reward_scale, scale, minmax, raw.data(), norm.data(), &err);
    }
    void refused(const char *part_of_message) {
        if (run() != TIA2_EINVAL || !strstr(err.msg, part_of_message))
            FAIL("expected an error about \"%s\", got \"%s\"", part_of_message, err.msg);
        if (norm[0] != -7.f) FAIL("a refused call wrote to norm");
    }
};

template <class F> void refuse(const char *part_of_message, F &&spoil) {
    call c;
    spoil(c);
    c.refused(part_of_message);
}

void check_arguments() {
    refuse("D is 0", [](call &c) { c.D = 0; });
    refuse("below 0", [](call &c) { c.B = -1; });
    refuse("scale is 0", [](call &c) { c.scale = 0; });
    refuse("scale is nan", [](call &c) { c.scale = std::fabs(NAN); });
    refuse("reward_scale is inf", [](call &c) { c.reward_scale = INFINITY; });
    refuse("minmax is 2", [](call &c) { c.minmax = 2; });
    refuse("prompt set 3", [](call &c) { c.set_of[1] = 3; });
    refuse("prompt set -1", [](call &c) { c.set_of[1] = -1; });
    refuse("no texts", [](call &c) { c.set_of[2] = 2; });
    refuse("texts 2 to 1", [](call &c) { c.set_offsets[2] = 1; });
    refuse("texts -1 to 2", [](call &c) { c.set_offsets[0] = -1; });
    refuse("within 0 to 4", [](call &c) { c.N = 4; });
    const auto nothing = [](int32_t B, tia2_error *err) {
        return tia2_textnorm(nullptr, B, nullptr, 0, 4, nullptr, nullptr, 0, 1, 1, TIA2_MINMAX_SET, nullptr, nullptr,
                             err);
    };
    tia2_error err = {};
    if (nothing(0, &err) != TIA2_OK) FAIL("an empty batch: %s", err.msg);
    if (nothing(1, nullptr) != TIA2_EINVAL) FAIL("NULL images were accepted");
}

// Images of several sets mixed in one call get what each set alone gives, in both modes.
void check_grouping() {
    for (int minmax : {TIA2_MINMAX_IMAGE, TIA2_MINMAX_SET}) {
        call c(11);
        c.minmax = minmax;
        if (c.run() != TIA2_OK) return FAIL("%s", c.err.msg);
        for (int32_t set : {0, 1}) {
            call one = c;
            one.B = 0;
            std::vector<int32_t> of;
            for (int32_t b = 0; b < c.B; b++)
                if (c.set_of[(size_t)b] == set) {
                    std::copy_n(&c.images[(size_t)(b * c.D)], c.D, &one.images[(size_t)(one.B++ * c.D)]);
                    of.push_back(b);
                }
            one.set_of.assign(of.size(), 0);
            one.set_offsets = {c.set_offsets[(size_t)set], c.set_offsets[(size_t)set + 1]};
            one.n_sets = 1;
            if (one.run() != TIA2_OK) return FAIL("%s", one.err.msg);
            for (size_t i = 0; i < of.size(); i++)
                if (one.norm[i] != c.norm[(size_t)of[i]] || one.raw[i] != c.raw[(size_t)of[i]])
                    FAIL("set %d image %zu: %.9g alone, %.9g in the batch", set, i, one.norm[i], c.norm[(size_t)of[i]]);
        }
    }
}

} // namespace

TIA2_CHECK(textnorm) {
    check_levels("textnorm_f32", [](const tia2_cpu_ops &o) { return o.textnorm_f32; }, check_kernel);
    check_part("textnorm_arguments", check_arguments);
    check_levels("textnorm_grouping", [](const char *) { check_grouping(); });
}
