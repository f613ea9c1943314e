// tia2_peak_measure: what this machine can do at most, on a given number of threads.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <system_error>
#include <thread>
#include <vector>

#include "../runtime/error.h"
#include "ops.h"
#include "peak.h"

namespace {

constexpr int    kThreadsMax = 4096;
constexpr double kSliceSeconds = 0.012; // short: on a busy machine some slice then runs undisturbed
constexpr int    kSlices = 16;          // the best one counts: whatever else the machine does only takes away

double now() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

using step_fn = std::function<double(int)>; // one piece of work of thread t; returns how much it was

// Runs `step` over and over on n_threads threads for one slice. Returns work per second of all of them together.
double slice_rate(int n_threads, const step_fn &step) {
    std::atomic<int>         ready{0};
    std::atomic<bool>        go{false}, abandon{false};
    std::vector<double>      rates((size_t)n_threads, 0.0);
    std::vector<std::thread> threads;
    threads.reserve((size_t)n_threads);
    const auto body = [&](int t) {
        step(t); // warm-up: clock, page tables
        ready++;
        while (!go) {
            if (abandon) return;
            std::this_thread::yield();
        }
        const double t0 = now();
        double       work = 0, t1;
        do {
            work += step(t);
            t1 = now();
        } while (t1 - t0 < kSliceSeconds);
        rates[(size_t)t] = work / (t1 - t0);
    };
    try {
        for (int t = 0; t < n_threads; t++) threads.emplace_back(body, t);
    } catch (...) { // no more threads to be had: those that wait must still end
        abandon = true;
        for (std::thread &t : threads) t.join();
        throw;
    }
    while (ready != n_threads) std::this_thread::yield();
    go = true;
    for (std::thread &t : threads) t.join();
    double sum = 0;
    for (double r : rates) sum += r;
    return sum;
}

double best_rate(int n_threads, const step_fn &step) {
    double best = 0;
    for (int i = 0; i < kSlices; i++) best = std::max(best, slice_rate(n_threads, step));
    return best;
}

double flops_rate(int n_threads, tia2_peak_flops_fn fn) {
    if (!fn) return 0;
    constexpr size_t kRounds = 100000; // about a millisecond
    return best_rate(n_threads, [fn](int) { return fn(kRounds); });
}

// Every thread reads its own memory, which it has touched itself, so that on a machine with several memory nodes it is
// near. The sizes are such that no last-level cache holds it: at least 256 MiB together, and 24 MiB for each core.
double read_rate(int n_threads, tia2_peak_read_fn fn) {
    constexpr size_t kMiB = 1u << 20, kPiece = 4 * kMiB;
    const size_t     bytes = std::max(256 * kMiB / (size_t)n_threads, 24 * kMiB) / kPiece * kPiece;
    struct region {
        std::unique_ptr<char[]> memory;
        char                   *begin = nullptr; // 64-byte aligned
        size_t                  at = 0;
        uint64_t                sum = 0;
    };
    std::vector<region> regions((size_t)n_threads);
    for (region &r : regions) { // new[] without () touches nothing
        r.memory.reset(new char[bytes + 64]);
        r.begin = r.memory.get() + (64 - ((uintptr_t)r.memory.get() & 63)) % 64;
    }
    return best_rate(n_threads, [&](int t) {
        region &r = regions[(size_t)t];
        if (r.sum == 0) std::fill(r.begin, r.begin + bytes, (char)(t % 100 + 1)); // first touch
        r.sum += fn(r.begin + r.at, kPiece) | 1;
        r.at = (r.at + kPiece) % bytes;
        return (double)kPiece;
    });
}

} // namespace

extern "C" tia2_status tia2_peak_measure(int32_t n_threads, tia2_peak *out, tia2_error *err) noexcept {
    return tia2_guard(err, [&] {
        if (const char *why = tia2_cpu_env_error()) tia2::fail(TIA2_EINVAL, "%s", why);
        if (n_threads < 1 || n_threads > kThreadsMax)
            tia2::fail(TIA2_EINVAL, "n_threads is %d; expected 1 to %d", n_threads, kThreadsMax);
        if (!out) tia2::fail(TIA2_EINVAL, "out is NULL");
        const tia2_cpu_ops &ops = tia2_cpu();
        try {
            out->f32_gflops = 1e-9 * flops_rate(n_threads, ops.peak_f32);
            out->bf16_gflops = 1e-9 * flops_rate(n_threads, ops.peak_bf16);
            out->int8_gops = 1e-9 * flops_rate(n_threads, ops.peak_int8);
            out->bandwidth_gbs = 1e-9 * read_rate(n_threads, ops.peak_read);
        } catch (const std::system_error &e) {
            tia2::fail(TIA2_ENOMEM, "cannot start %d threads: %s", n_threads, e.what());
        }
    });
}
