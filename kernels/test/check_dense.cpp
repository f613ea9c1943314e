// dense.h against f64 at every level: all formats, odd sizes, every epilogue, guards; and the promise that batches rely on:
// a row does not depend on how many there are, nor on which panels are computed together.
#include "dense_problem.h"

namespace {

void check_products(const char *isa, tia2_dense_fn fn, tia2_format f) {
    const size_t shapes[][2] = {{1, 1}, {17, 5}, {64, 48}, {130, 192}, {33, 130}, {1030, 66}, {4101, 20}, {75, 16}};
    for (const auto &s : shapes)
        for (size_t M : {1, 2, 5, 6, 7, 13, 101})
            for (activation act : {activation::none, activation::gelu, activation::quick_gelu})
                for (int flags = 0; flags < 8; flags++) {
                    if (M == 101 && flags % 3) continue; // the rest takes long and adds little
                    problem p(f, M, s[0], s[1], flags & 4);
                    check_case("%s K=%zu N=%zu M=%zu act=%d bias=%d residual=%d bf16 out=%d", format_name(f), s[0], s[1], M, (int)act, flags & 1, flags & 2, flags & 4);
                    p.call.act = act;
                    if (flags & 1) p.call.bias = p.bias.p();
                    if (flags & 2) p.add_residual();
                    fn(&p.call);
                    p.check(isa);
                }
}

// All rows and panels at once, and piece by piece: the same bits.
void check_pieces(const char *isa, tia2_dense_fn fn, tia2_format f) {
    const size_t M = 203, K = 4200, N = 200;
    problem      p(f, M, K, N, false);
    check_case("%s in pieces", format_name(f));
    p.call.bias = p.bias.p();
    p.call.act  = activation::gelu;
    fn(&p.call);
    const std::vector<uint8_t> whole(p.y.p(), p.y.p() + p.y.n);
    memset(p.y.p(), 0x5a, p.y.n);
    for (size_t m = 0, n = 1; m < M; m += n, n = 1 + (n * 7 + 3) % 11) {
        tia2_dense_call part = p.call;
        part.M = std::min(n, M - m);
        part.x = p.rows.p() + m * p.call.x_stride;
        part.y = p.y.p() + m * p.call.y_stride;
        for (size_t panel = 0; panel < tia2_dense_panels(N); panel++) {
            part.panel_begin = panel;
            part.panel_end   = panel + 1;
            fn(&part);
        }
    }
    if (memcmp(whole.data(), p.y.p(), p.y.n) != 0) FAIL("%s: pieces differ from the whole", isa);
}

// A row of which one value is infinite or not a number gives nothing that looks like a number.
void check_not_finite(const char *isa, tia2_dense_fn fn, tia2_format f) {
    problem p(f, 2, 40, 70, false);
    check_case("%s not finite", format_name(f));
    const float bad = NAN;
    if (f == tia2_format::f32) memcpy(p.rows.p() + 4 * 7, &bad, 4);
    if (f == tia2_format::bf16) memcpy(p.rows.p() + 2 * 7, (const char *)&bad + 2, 2);
    if (f == tia2_format::q8) memcpy(p.rows.p() + 40, &bad, 4);
    for (activation act : {activation::none, activation::gelu, activation::quick_gelu}) {
        p.call.act = act;
        fn(&p.call);
        for (size_t n = 0; n < p.N; n++)
            if (!std::isnan(p.result(0, n)) || !std::isfinite(p.result(1, n))) return FAIL("%s: column %zu: %g, %g", isa, n, p.result(0, n), p.result(1, n));
    }
}

void bench(const char *isa, tia2_dense_fn fn, tia2_format f, size_t M, size_t K, size_t N, activation act = activation::none) {
    problem p(f, M, K, N, f != tia2_format::f32);
    p.call.act = act;
    const double seconds = check_time([&] { fn(&p.call); }, 5);
    char         name[64], shape[64];
    snprintf(name, sizeof name, "dense_%s_%s", format_name(f), isa);
    snprintf(shape, sizeof shape, "%zux%zux%zu%s", M, K, N, act == activation::gelu ? " gelu" : "");
    const double more = f == tia2_format::f32 ? 1 : f == tia2_format::bf16 ? 2 : 4; // multiply-adds a lane
    check_bench_line(name, shape, seconds, 2.0 * (double)(M * K * N), 0, more * check_flops());
}

void check_format(const char *op, tia2_format f, tia2_dense_fn tia2_cpu_ops::*slot) {
    check_levels(op, [slot](const tia2_cpu_ops &o) { return o.*slot; },
                 [f](const char *isa, tia2_dense_fn fn) {
                     check_products(isa, fn, f);
                     check_pieces(isa, fn, f);
                     check_not_finite(isa, fn, f);
                     if (check_bench_wanted() && strcmp(isa, "scalar") != 0) {
                         bench(isa, fn, f, 192, 768, 3072);
                         bench(isa, fn, f, 192, 768, 3072, activation::gelu);
                         bench(isa, fn, f, 192, 3072, 768);
                         bench(isa, fn, f, 1, 768, 3072);
                     }
                 });
}

} // namespace

TIA2_CHECK(dense) {
    check_format("dense_f32", tia2_format::f32, &tia2_cpu_ops::dense_f32);
    check_format("dense_bf16", tia2_format::bf16, &tia2_cpu_ops::dense_bf16);
    check_format("dense_q8", tia2_format::q8, &tia2_cpu_ops::dense_q8);
}
