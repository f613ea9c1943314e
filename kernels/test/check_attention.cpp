// attention.h against f64 at every level: odd sizes, causal or not, padded rows, guards, rows that do not depend on others.
#include <cfloat>
#include <cmath>

#include "check.h"

static void check_one(const char *isa, tia2_attention_f32_fn fn, size_t T, size_t d, bool causal, float mag) {
    check_case("T=%zu d=%zu causal=%d mag=%g", T, d, causal, mag);
    const size_t stride = 3 * d + 5, out_stride = d + 3;
    check_buf<float> qkv(T * stride, 3, NAN), out(T * out_stride, 5, -7.f), scratch(tia2_attention_scratch(T, d), 1, -7.f);
    for (size_t i = 0; i < qkv.n; i++) qkv.p()[i] = mag * check_rand_float();
    for (size_t i = 0; i < out.n; i++) out.p()[i] = -7.f;
    const float *q = qkv.p(), *k = q + d, *v = k + d;
    const tia2_attention_head h = {q, k, v, stride, out.p(), out_stride, T, d, causal, scratch.p()};
    fn(&h);
    std::vector<double> w(T);
    for (size_t t = 0; t < T; t++) {
        const size_t n = causal ? t + 1 : T;
        double       top = -INFINITY, sum = 0, size = 0;
        for (size_t j = 0; j < n; j++) {
            double s = 0, abs = 0;
            for (size_t i = 0; i < d; i++) {
                s += (double)q[t * stride + i] * k[j * stride + i];
                abs += fabs((double)q[t * stride + i] * k[j * stride + i]);
            }
            w[j] = s / sqrt((double)d);
            top  = fmax(top, w[j]);
            size = fmax(size, abs / sqrt((double)d));
        }
        for (size_t j = 0; j < n; j++) sum += w[j] = exp(w[j] - top);
        const double tol = (double)(d + 16) * FLT_EPSILON * mag * (1 + size);
        for (size_t i = 0; i < d; i++) {
            double want = 0;
            for (size_t j = 0; j < n; j++) want += w[j] / sum * v[j * stride + i];
            const float got = out.p()[t * out_stride + i];
            if (!(fabs(got - want) <= tol)) return FAIL("%s: row %zu, %zu: got %.9g want %.9g", isa, t, i, got, want);
        }
        for (size_t i = d; i < out_stride; i++)
            if (out.p()[t * out_stride + i] != -7.f) return FAIL("%s: wrote between rows", isa);
    }
    if (!qkv.intact() || !out.intact() || !scratch.intact()) FAIL("%s: wrote out of bounds", isa);
}

// A causal row has the same bits in a shorter sequence.
static void check_prefix(const char *isa, tia2_attention_f32_fn fn) {
    const size_t       T = 29, d = 40, stride = 3 * d;
    std::vector<float> qkv(T * stride), all(T * d), part(T * d), scratch(tia2_attention_scratch(T, d));
    for (float &x : qkv) x = check_rand_float();
    tia2_attention_head h = {qkv.data(), &qkv[d], &qkv[2 * d], stride, all.data(), d, T, d, true, scratch.data()};
    fn(&h);
    for (h.T = 1, h.out = part.data(); h.T < T; h.T++) {
        fn(&h);
        if (memcmp(part.data(), all.data(), h.T * d * sizeof(float)) != 0) return FAIL("%s: T=%zu changes earlier rows", isa, h.T);
    }
}

static void bench(const char *isa, tia2_attention_f32_fn fn, size_t T, size_t d) {
    std::vector<float>        qkv(T * 3 * d, 0.5f), out(T * d), scratch(tia2_attention_scratch(T, d));
    const tia2_attention_head h = {qkv.data(), &qkv[d], &qkv[2 * d], 3 * d, out.data(), d, T, d, false, scratch.data()};
    const double              s = check_time([&] { fn(&h); }), flops = 4.0 * (double)(T * T * d);
    printf("  bench attention_f32_%-8s T=%-4zu d=%-3zu %9.2f us %7.2f GFLOP/s %5.1f%% of the f32 peak\n", isa, T, d, 1e6 * s,
           1e-9 * flops / s, 100 * flops / s / check_flops());
}

TIA2_CHECK(attention) {
    check_levels("attention_f32", [](const tia2_cpu_ops &o) { return o.attention_f32; },
                 [](const char *isa, tia2_attention_f32_fn fn) {
                     for (size_t T : {1, 2, 3, 4, 5, 7, 15, 16, 17, 33, 50, 77, 129})
                         for (size_t d : {1, 3, 8, 16, 17, 31, 64, 80, 88})
                             for (bool causal : {false, true})
                                 for (float mag : {1e-3f, 1.f, 6.f}) check_one(isa, fn, T, d, causal, mag);
                     check_prefix(isa, fn);
                     if (check_bench_wanted()) {
                         bench(isa, fn, 50, 64);
                         bench(isa, fn, 257, 64);
                         bench(isa, fn, 257, 80);
                     }
                 });
}
