// The roofs that benches are judged against, measured in the same run.
#include <algorithm>
#include <cstdio>

#include "check.h"

double check_bandwidth() {
    static double best = 0;
    if (best > 0) return best;
    constexpr size_t  kBytes = (size_t)256 << 20; // larger than a last-level cache
    std::vector<char> memory(kBytes + 64, 1);
    const char       *begin = memory.data() + (64 - ((uintptr_t)memory.data() & 63)) % 64;
    volatile uint64_t sink = 0;
    for (int rep = 0; rep < 5; rep++) {
        const double t0 = check_now();
        sink = sink ^ tia2_cpu().peak_read(begin, kBytes);
        best = std::max(best, kBytes / (check_now() - t0));
    }
    return best;
}

double check_flops() {
    static double       known[TIA2_CPU_FLAGS_END]; // by level
    double             &best = known[tia2_cpu_flags()];
    const tia2_cpu_ops &ops = tia2_cpu();
    if (best > 0) return best;
    for (int rep = 0; rep < 50; rep++) { // many short ones: whatever else the machine does only takes away
        const double t0 = check_now();
        const double work = ops.peak_f32(100000);
        best = std::max(best, work / (check_now() - t0));
    }
    return best;
}

void check_bench_line(const char *name, const char *shape, double seconds, double flops, double bytes, double peak) {
    const double roof_seconds = std::max(flops / peak, bytes / check_bandwidth());
    const double share = roof_seconds / seconds;
    printf("  bench %-28s %-24s %10.2f us %8.2f GFLOP/s %7.2f GB/s %5.1f%% of roof\n", name, shape, 1e6 * seconds,
           1e-9 * flops / seconds, 1e-9 * bytes / seconds, 100 * share);
    // A tenth of grace: the roof itself is a measurement, and the clock moves between the two.
    if (share > 1.1) FAIL("%s %s claims %.0f%% of its roof: the work is counted wrongly", name, shape, 100 * share);
}
