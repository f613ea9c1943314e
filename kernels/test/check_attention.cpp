// attention.h against f64 at every level: odd sizes, last tokens only, causal or not, rows in order or scattered, guards;
// and bits that do not depend on what is computed beside them.
#include <algorithm>
#include <cfloat>
#include <cmath>

#include "check.h"

static double number(float x) { return x; }
static double number(uint16_t x) {
    const uint32_t bits = (uint32_t)x << 16;
    float          f;
    memcpy(&f, &bits, sizeof f);
    return f;
}
static void put(float *p, float x) { *p = x; }
static void put(uint16_t *p, float x) { // the upper half: bf16 rounded down is as good a random number
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    *p = (uint16_t)(bits >> 16);
}
template <class E> static E element(float x) {
    E e;
    put(&e, x);
    return e;
}

// Where keys and queries lie: in the rows of one qkv product, these as they are, those in order or scattered; or the
// queries in rows of their own, of which there may be more than keys.
enum class layout { in_order, scattered, apart };

// Rows of a qkv product for T keys and n queries. What no query may read is NaN: other rows, between rows, q beyond the n.
// The end of the last row, or the begin of the first, is the end of the memory.
template <class E> struct sequence {
    size_t               T, n, d, stride, q_stride, first; // row of query 0
    std::vector<int32_t> rows;                             // of the keys; empty: in order from row 0 on
    check_fence<E>       qkv, queries;

    static size_t n_rows(size_t T, bool scattered) { return scattered ? T + T / 3 + 2 : T; }

    sequence(size_t T_, size_t n_, size_t d_, layout l, float mag)
        : T(T_), n(n_), d(d_), stride(3 * d_ + 5), q_stride(l == layout::apart ? d_ + 3 : stride), first(l == layout::apart ? 0 : T_ - n_),
          qkv((n_rows(T_, l == layout::scattered) - 1) * stride + 3 * d_, check_rand_int(0, 1) == 0),
          queries(l == layout::apart ? (n_ - 1) * q_stride + d_ : 0, check_rand_int(0, 1) == 0) {
        std::fill(qkv.p(), qkv.p() + qkv.n, element<E>(NAN));
        std::fill(queries.p(), queries.p() + queries.n, element<E>(NAN));
        if (l == layout::scattered) {
            first = (size_t)check_rand_int(0, (int)(n_rows(T, true) - n));
            for (size_t i = 0; i < n_rows(T, true); i++) rows.push_back((int32_t)i);
            for (size_t i = 0; i < T; i++) std::swap(rows[i], rows[(size_t)check_rand_int((int)i, (int)rows.size() - 1)]);
            rows.resize(T);
        }
        for (size_t i = 0; i < n * d; i++) put(q(i / d) + i % d, mag * check_rand_float());
        for (size_t j = 0; j < T; j++)
            for (size_t i = d; i < 3 * d; i++) put(row(j) + i, mag * check_rand_float());
    }
    E *row(size_t j) { return qkv.p() + (rows.empty() ? j : (size_t)rows[j]) * stride; }
    E *q(size_t i) { return (queries.n ? queries.p() : qkv.p()) + (first + i) * q_stride; }
    E *k(size_t j) { return row(j) + d; }
    E *v(size_t j) { return row(j) + 2 * d; }

    tia2_attention_head<E> head(E *out, size_t out_stride, bool causal, float *scratch) {
        const int32_t *order = rows.empty() ? nullptr : rows.data();
        return {q(0), qkv.p() + d, qkv.p() + 2 * d, q_stride, stride, order, out, out_stride, T, n, d, causal, scratch};
    }
};

// The error that attention.h allows: `size` is the greatest sum of |q k| / sqrt(d), `largest` the greatest |v|.
template <class E> static double allowed(const char *isa, double d, double size, double largest, double out) {
    const double sums = (d / 8 + 4) * FLT_EPSILON * largest * (1 + size);
    if (std::is_same<E, float>::value) return sums;
    return sums + fabs(out) / 256 + (strcmp(isa, "avx512bf16") == 0 ? largest / 512 : 0);
}

template <class E, class F>
static void check_one(const char *isa, F fn, size_t T, size_t n, size_t d, bool causal, layout l, float mag) {
    check_case("T=%zu n=%zu d=%zu causal=%d layout=%d mag=%g", T, n, d, causal, (int)l, mag);
    const size_t       out_stride = d + 3;
    const E            blank = element<E>(-7.f);
    sequence<E>        x(T, n, d, l, mag);
    check_buf<E>       out(n * out_stride, 5, blank);
    check_fence<float> scratch(tia2_attention_scratch(T, d), check_rand_int(0, 1) == 0);
    const auto         h = x.head(out.p(), out_stride, causal, scratch.p());
    fn(&h);
    std::vector<double> w(T);
    for (size_t t = 0; t < n; t++) {
        const size_t keys = causal ? T - n + t + 1 : T;
        double       top = -INFINITY, sum = 0, size = 0, largest = 0;
        for (size_t j = 0; j < keys; j++) {
            double s = 0, abs = 0;
            for (size_t i = 0; i < d; i++) {
                s += number(x.q(t)[i]) * number(x.k(j)[i]);
                abs += fabs(number(x.q(t)[i]) * number(x.k(j)[i]));
                largest = fmax(largest, fabs(number(x.v(j)[i])));
            }
            w[j] = s / sqrt((double)d);
            top  = fmax(top, w[j]);
            size = fmax(size, abs / sqrt((double)d));
        }
        for (size_t j = 0; j < keys; j++) sum += w[j] = exp(w[j] - top);
        for (size_t i = 0; i < d; i++) {
            double want = 0;
            for (size_t j = 0; j < keys; j++) want += w[j] / sum * number(x.v(j)[i]);
            const double got = number(out.p()[t * out_stride + i]), tol = allowed<E>(isa, (double)d, size, largest, want);
            if (!(fabs(got - want) <= tol)) return FAIL("%s: row %zu, %zu: got %.9g want %.9g", isa, t, i, got, want);
        }
        for (size_t i = d; i < out_stride; i++)
            if (memcmp(&out.p()[t * out_stride + i], &blank, sizeof(E)) != 0) return FAIL("%s: wrote between rows", isa);
    }
    if (!out.intact()) FAIL("%s: wrote out of bounds", isa);
}

// Each query of a sequence computed at once has the same bits with other numbers of queries, with fewer keys after it, and
// from rows elsewhere.
template <class E, class F> static void check_bits(const char *isa, F fn, size_t T, size_t d, bool causal) {
    std::vector<float> scratch(tia2_attention_scratch(T, d));
    std::vector<E>     all(T * d), part(T * d);
    sequence<E>        x(T, T, d, layout::in_order, 2);
    std::fill(x.v(0), x.v(0) + d, element<E>(0.f)); // a result of 0, to which the least weight of a later key would show
    const auto         whole = x.head(all.data(), d, causal, scratch.data());
    fn(&whole);
    for (int trial = 0; trial < 60; trial++) {
        const size_t keys = causal ? (size_t)check_rand_int(1, (int)T) : T;
        const size_t n = (size_t)check_rand_int(1, (int)std::min(keys, trial % 4 == 0 ? keys : (size_t)20));
        const size_t from = causal ? keys - n : (size_t)check_rand_int(0, (int)(T - n)); // the first of the n queries
        check_case("T=%zu d=%zu causal=%d: keys=%zu from=%zu n=%zu", T, d, causal, keys, from, n);
        sequence<E> y(keys, n, d, layout(trial % 3), 1);
        for (size_t i = 0; i < n; i++) memcpy(y.q(i), x.q(from + i), d * sizeof(E));
        for (size_t j = 0; j < keys; j++) memcpy(y.k(j), x.k(j), 2 * d * sizeof(E));
        const auto h = y.head(part.data(), d, causal, scratch.data());
        fn(&h);
        if (memcmp(part.data(), &all[from * d], n * d * sizeof(E)) != 0) return FAIL("%s: other bits", isa);
    }
}

template <class E, class F>
static void bench(const char *op, const char *isa, F fn, size_t T, size_t n, size_t d, bool causal, layout l) {
    sequence<E>        x(T, n, d, l, 1);
    std::vector<E>     out(n * d);
    std::vector<float> scratch(tia2_attention_scratch(T, d));
    const auto         h = x.head(out.data(), d, causal, scratch.data());
    const double       s = check_time([&] { fn(&h); }), flops = 4.0 * (double)(n * T * d);
    printf("  bench %s_%-10s T=%-4zu n=%-3zu d=%-3zu%s %9.2f us %7.2f GFLOP/s %5.1f%% of the f32 peak\n", op, isa, T, n, d,
           l == layout::scattered ? " rows" : "     ", 1e6 * s, 1e-9 * flops / s, 100 * flops / s / check_flops());
}

template <class E, class F> static void check_all(const char *op, const char *isa, F fn) {
    for (size_t T : {1, 2, 3, 4, 5, 7, 15, 16, 17, 33, 50, 77, 150})
        for (size_t d : {1, 3, 8, 17, 31, 64, 80})
            for (bool causal : {false, true})
                for (float mag : {1e-3f, 1.f, 6.f}) {
                    check_one<E>(isa, fn, T, T, d, causal, layout::in_order, mag);
                    check_one<E>(isa, fn, T, (size_t)check_rand_int(1, (int)T), d, causal, layout::scattered, mag);
                    check_one<E>(isa, fn, T, (size_t)check_rand_int(1, std::min(8, (int)T)), d, causal, causal ? layout::scattered : layout::in_order, mag);
                    if (!causal) check_one<E>(isa, fn, T, (size_t)check_rand_int(1, 60), d, false, layout::apart, mag);
                }
    check_one<E>(isa, fn, 257, 257, 64, false, layout::in_order, 1);
    for (size_t d : {33, 40, 64}) // in words of bf16 odd, in vectors odd, even
        for (bool causal : {false, true}) check_bits<E>(isa, fn, 150, d, causal);
    if (!check_bench_wanted()) return;
    bench<E>(op, isa, fn, 50, 50, 64, false, layout::in_order);
    bench<E>(op, isa, fn, 257, 257, 64, false, layout::in_order);
    bench<E>(op, isa, fn, 257, 257, 80, false, layout::in_order);
    bench<E>(op, isa, fn, 577, 577, 64, false, layout::in_order); // BLIP at 384 pixels
    bench<E>(op, isa, fn, 257, 1, 64, false, layout::in_order); // the last layer, for the class token
    bench<E>(op, isa, fn, 20, 20, 64, true, layout::in_order);
    bench<E>(op, isa, fn, 16, 3, 64, true, layout::scattered); // a branch of a tree of texts
    bench<E>(op, isa, fn, 197, 15, 64, false, layout::apart); // a text reads an image
}

TIA2_CHECK(attention) {
    check_levels("attention_f32", [](const tia2_cpu_ops &o) { return o.attention_f32; },
                 [](const char *isa, tia2_attention_f32_fn fn) { check_all<float>("attention_f32", isa, fn); });
    check_levels("attention_bf16", [](const tia2_cpu_ops &o) { return o.attention_bf16; },
                 [](const char *isa, tia2_attention_bf16_fn fn) { check_all<uint16_t>("attention_bf16", isa, fn); });
}
