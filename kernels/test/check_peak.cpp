// The peak loops do the work that they say, and the measurement reports a machine that could exist.

#include "../include/tia2.h"
#include "check.h"

// A loop that the compiler had thinned out would be many times faster than this; one that does less than it counts too.
static const double kFlopsMax = 1e12; // of one thread; 2 x 512-bit f32 FMA at 6 GHz is 0.4e12

static void check_loop(const char *what, tia2_peak_flops_fn fn, double flops_max) {
    if (!fn) return;
    check_case("%s", what);
    const double one = fn(1);
    if (!(one >= 2)) FAIL("%s: one round is %g operations", what, one);
    if (fn(1000) != 1000 * one) FAIL("%s: 1000 rounds are %g operations, one is %g", what, fn(1000), one);
    const double t0 = check_now(), work = fn(200000), t = check_now() - t0;
    if (!(work / t < flops_max && work / t > 1e7)) FAIL("%s: %g operations/s", what, work / t);
    if (check_bench_wanted()) printf("  bench %-28s %8.1f G/s on one thread\n", what, 1e-9 * work / t);
}

static void check_read(const char *isa, tia2_peak_read_fn fn) {
    check_case("read %s", isa);
    alignas(64) uint64_t words[96];
    for (size_t bytes = 256; bytes <= sizeof words; bytes += 256) {
        for (uint64_t &w : words) w = check_rand();
        uint64_t want = 0;
        for (size_t i = 0; i < bytes / 8; i++) want ^= words[i];
        if (fn(words, bytes) != want) FAIL("read_%s of %zu bytes misses some", isa, bytes);
    }
}

TIA2_CHECK(peak) {
    check_levels("peak", [](const char *isa) {
        const tia2_cpu_ops &ops = tia2_cpu();
        check_loop("peak_f32", ops.peak_f32, kFlopsMax);
        check_loop("peak_bf16", ops.peak_bf16, 4 * kFlopsMax);
        check_loop("peak_int8", ops.peak_int8, 8 * kFlopsMax);
        check_read(isa, ops.peak_read);
    });
    check_part("peak_measure", [] {
        tia2_error err = {};
        tia2_peak  p = {};
        if (tia2_peak_measure(2, &p, &err) != TIA2_OK) return FAIL("%s", err.msg);
        if (!(p.f32_gflops > 0.01 && p.bandwidth_gbs > 0.01 && p.bandwidth_gbs < 5000))
            FAIL("f32 %g GFLOP/s, bandwidth %g GB/s", p.f32_gflops, p.bandwidth_gbs);
        if ((p.int8_gops > 0) != (tia2_cpu().peak_int8 != nullptr)) FAIL("int8 %g Gop/s", p.int8_gops);
        if (tia2_peak_measure(0, &p, &err) != TIA2_EINVAL || !err.msg[0]) FAIL("0 threads were accepted");
        if (tia2_peak_measure(1, nullptr, nullptr) != TIA2_EINVAL) FAIL("out = NULL was accepted");
        if (check_bench_wanted())
            printf("  bench peak_measure, 2 threads: f32 %.0f bf16 %.0f int8 %.0f G/s, read %.1f GB/s\n", p.f32_gflops,
                   p.bf16_gflops, p.int8_gops, p.bandwidth_gbs);
    });
}
