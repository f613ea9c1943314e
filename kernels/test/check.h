// check.h: the harness of the kernel tests, a small checkasm.
//
// A test file registers itself; no list has to be edited:
//
//     TIA2_CHECK(rmsnorm) {
//         check_levels("rmsnorm_f32", [](const tia2_cpu_ops &o) { return o.rmsnorm_f32; },
//                      [](const char *isa, tia2_rmsnorm_f32_fn fn) {
//                          check_case("n=%d", n);            // printed when the kernel crashes
//                          if (wrong) return FAIL("...");    // or FAIL and go on: one report a case is enough
//                          if (check_bench_wanted()) ...
//                      });
//     }
//
// Every (check, level) is one result of the final line "N passed, N failed, N skipped".
#pragma once
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <type_traits>
#include <vector>

#include <sys/mman.h>
#include <unistd.h>

#include "../cpu/ops.h"

// ---- registration --------------------------------------------------------------------------------------------------

struct check_registrar {
    check_registrar(const char *name, void (*fn)());
};
#define TIA2_CHECK(name)                                                 \
    static void                  check_##name();                         \
    static const check_registrar check_registrar_##name(#name, check_##name); \
    static void                  check_##name()

// ---- results -------------------------------------------------------------------------------------------------------

// Marks the running part as failed and prints why, with the seed; printing stops after ten lines a part.
__attribute__((format(printf, 1, 2))) void check_fail(const char *fmt, ...);
#define FAIL(...) check_fail(__VA_ARGS__)

// What is being run now, for the crash report and the head of failure lines. Cheap enough for every case.
__attribute__((format(printf, 1, 2))) void check_case(const char *fmt, ...);

// One named part of a check: runs it unless filtered out, catches SIGSEGV, SIGBUS, SIGFPE and SIGILL, and counts it.
void check_part(const char *name, const std::function<void()> &run);

// The level loop. For each level asked for: sets it, and runs part "<op>_<level>" with the level set. A level that the
// CPU lacks is printed and counted as skipped (failed under --require).
void check_levels(const char *op, const std::function<void(const char *isa)> &run);

bool check_level_begin(const char *op, const char *level); // sets the level; false: skipped, and counted
void check_level_end();

// The same for one kernel: `get` picks its pointer from the table. A level that adds no new form of the kernel is not
// run again. run(isa, fn) is called with the level set.
template <class Get, class Run> void check_levels(const char *op, Get get, Run run) {
    std::vector<std::decay_t<decltype(get(tia2_cpu()))>> seen;
    for (int i = 0; i < tia2_cpu_level_count(); i++) {
        const char *level = tia2_cpu_level_name(i);
        if (!check_level_begin(op, level)) continue;
        const auto fn = get(tia2_cpu());
        bool       is_new = true;
        for (const auto &old : seen) is_new = is_new && old != fn;
        if (is_new) {
            seen.push_back(fn);
            char name[96];
            snprintf(name, sizeof name, "%s_%s", op, level);
            check_part(name, [&] { run(level, fn); });
        }
        check_level_end();
    }
}

// ---- inputs --------------------------------------------------------------------------------------------------------

uint64_t check_rand();                // from --seed, started anew for each part, so a filter changes no input
double   check_rand_double();         // [0, 1)
float    check_rand_float();          // [-1, 1)
int      check_rand_int(int lo, int hi); // [lo, hi]

// n elements starting `mis` elements past a 64-byte line, guard values on both sides. Guard inputs with NaN and outputs
// with a finite value: NaN written over NaN would go unseen.
template <class T> struct check_buf {
    static constexpr size_t kGuard = 128 / sizeof(T);
    std::vector<T>          v;
    size_t                  off, n;
    T                       guard;

    check_buf(size_t n_, size_t mis, T guard_) : v(n_ + 3 * kGuard + mis, guard_), n(n_), guard(guard_) {
        const size_t past = (uintptr_t)&v[kGuard] & 63;
        off = kGuard + ((64 - past) & 63) / sizeof(T) + mis;
    }
    T       *p() { return v.data() + off; }
    const T *p() const { return v.data() + off; }
    bool     intact() const {
        for (size_t i = 0; i < v.size(); i++)
            if ((i < off || i >= off + n) && memcmp(&v[i], &guard, sizeof(T)) != 0) return false;
        return true;
    }
};

// n elements whose end (or, with `front`, whose beginning) lies at a page that cannot be touched: a read past it, whose
// result is dropped and which no guard value can show, is a SIGSEGV. Elements are not initialised.
template <class T> struct check_fence {
    char  *pages;
    size_t bytes, n;
    bool   front;

    check_fence(size_t n_, bool front_) : n(n_), front(front_) {
        const size_t page = (size_t)sysconf(_SC_PAGESIZE);
        bytes = (n * sizeof(T) + page - 1) / page * page + 2 * page;
        void *m = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (m == MAP_FAILED) abort();
        pages = (char *)m;
        if (mprotect(pages, page, PROT_NONE) != 0 || mprotect(pages + bytes - page, page, PROT_NONE) != 0) abort();
        first = front ? pages + page : pages + bytes - page - n * sizeof(T);
    }
    check_fence(const check_fence &) = delete;
    check_fence &operator=(const check_fence &) = delete;
    ~check_fence() { munmap(pages, bytes); }
    T *p() { return (T *)first; }

private:
    char *first;
};

// ---- benches -------------------------------------------------------------------------------------------------------

bool   check_bench_wanted();
double check_now();       // seconds, monotonic
double check_bandwidth(); // bytes/s read from memory by one thread, measured in this run
double check_flops();     // f32 flop/s of one thread at the level set now, measured in this run

// Seconds of one run of f: the best of `reps` timings, each of enough runs to last about a millisecond or more.
double check_time(const std::function<void()> &f, int reps = 7);

// Prints one bench line, and fails where more is claimed than the roof allows: peak flop/s, and the measured bandwidth.
// bytes: traffic from and to memory in one run, 0 where all stays in cache. peak: of the type computed in, such as
// check_flops(), or half of it for f64.
void check_bench_line(const char *name, const char *shape, double seconds, double flops, double bytes, double peak);
