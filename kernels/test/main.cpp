// tia2_check: tests every kernel at every instruction-set level, and benches it.
//
//   tia2_check [--seed N] [--bench] [--level LEVEL] [--require LEVEL] [--list] [FILTER...]
//
// FILTER is a part of a check's name or of "<op>_<level>". --level runs one level only (so does TIA2_CPU); --require
// makes a machine without that level a failure instead of a skip.
// Exit status: 0 all passed, 1 something failed, 2 wrong usage.
#include <chrono>
#include <csetjmp>
#include <csignal>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "check.h"

namespace {

struct registered {
    const char *name;
    void (*fn)();
};
// A function-local static: registrars of other files run before main, in no known order.
std::vector<registered> &registry() {
    static std::vector<registered> r;
    return r;
}

struct options {
    uint64_t                 seed = 1;
    bool                     bench = false, list = false;
    std::string              level, require;
    std::vector<std::string> filters;
} opt;

int      n_passed, n_failed, n_skipped;
int      n_part_failures;
char     part_name[96], case_name[256];
uint64_t rng;

const char *check_name = "";

// Whether the part is asked for: a filter may name it or its check.
bool wanted(const char *part) {
    if (opt.filters.empty()) return true;
    for (const std::string &f : opt.filters)
        if (strstr(part, f.c_str()) || strstr(check_name, f.c_str())) return true;
    return false;
}

// ---- crashes -------------------------------------------------------------------------------------------------------

sigjmp_buf            crash_return;
volatile sig_atomic_t crash_armed;

const char *signal_name(int sig) {
    return sig == SIGSEGV ? "SIGSEGV" : sig == SIGILL ? "SIGILL" : sig == SIGBUS ? "SIGBUS" : "SIGFPE";
}

void on_crash(int sig) {
    if (crash_armed) {
        crash_armed = 0;
        siglongjmp(crash_return, sig);
    }
    static const char msg[] = "tia2_check: crash outside a check\n";
    (void)!write(2, msg, sizeof msg - 1);
    _exit(1);
}

void catch_crashes() {
    struct sigaction sa = {};
    sa.sa_handler = on_crash;
    sa.sa_flags = SA_NODEFER;
#if defined(__SANITIZE_ADDRESS__)
    const int signals[] = {SIGILL, SIGFPE}; // the sanitizer's own report of an address error says more
#else
    const int signals[] = {SIGILL, SIGFPE, SIGSEGV, SIGBUS};
#endif
    for (int sig : signals) sigaction(sig, &sa, nullptr);
}

// ---- command line --------------------------------------------------------------------------------------------------

int usage(const char *why) {
    fprintf(stderr,
            "tia2_check: %s\n"
            "usage: tia2_check [--seed N] [--bench] [--level LEVEL] [--require LEVEL] [--list] [FILTER...]\n",
            why);
    return 2;
}

int parse(int argc, char **argv) {
    for (int i = 1; i < argc; i++) {
        const std::string a = argv[i];
        if (a == "--bench") {
            opt.bench = true;
        } else if (a == "--list") {
            opt.list = true;
        } else if (a == "--seed" || a == "--level" || a == "--require") {
            if (++i == argc) return usage((a + " needs a value").c_str());
            if (a == "--seed") opt.seed = strtoull(argv[i], nullptr, 0);
            if (a == "--level") opt.level = argv[i];
            if (a == "--require") opt.require = argv[i];
        } else if (!a.empty() && a[0] == '-') {
            return usage(("unknown flag " + a).c_str());
        } else {
            opt.filters.push_back(a);
        }
    }
    if (const char *env = getenv("TIA2_CPU"); env && opt.level.empty()) opt.level = env;
    if (opt.level == "auto" || opt.level == "ggml") opt.level.clear();
    for (const std::string *l : {&opt.level, &opt.require})
        if (!l->empty() && !tia2_cpu_level_known(l->c_str())) return usage(("unknown level " + *l).c_str());
    return 0;
}

} // namespace

check_registrar::check_registrar(const char *name, void (*fn)()) {
    registry().push_back({name, fn});
}

void check_fail(const char *fmt, ...) {
    const int kPrinted = 10;
    if (++n_part_failures > kPrinted) return;
    va_list args;
    va_start(args, fmt);
    printf("  FAIL %s [%s] seed %llu: ", part_name, case_name, (unsigned long long)opt.seed);
    vprintf(fmt, args);
    printf("%s\n", n_part_failures == kPrinted ? " (further failures of this part are only counted)" : "");
    va_end(args);
}

void check_case(const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    vsnprintf(case_name, sizeof case_name, fmt, args);
    va_end(args);
}

void check_part(const char *name, const std::function<void()> &run) {
    if (!wanted(name)) return;
    snprintf(part_name, sizeof part_name, "%s", name);
    case_name[0] = 0;
    n_part_failures = 0;
    rng = opt.seed;
    const double t0 = check_now();
    const int    sig = sigsetjmp(crash_return, 1);
    if (sig == 0) {
        crash_armed = 1;
        run();
        crash_armed = 0;
    } else {
        check_fail("%s", signal_name(sig)); // what run() had allocated is lost; the process soon ends
    }
    const bool ok = n_part_failures == 0;
    (ok ? n_passed : n_failed)++;
    printf("%s %-32s %6.2f s", ok ? "ok  " : "FAIL", name, check_now() - t0);
    if (!ok) printf("  %d failures", n_part_failures);
    printf("\n");
    fflush(stdout);
}

bool check_level_begin(const char *op, const char *level) {
    char name[96];
    snprintf(name, sizeof name, "%s_%s", op, level);
    if (!opt.level.empty() && opt.level != level) return false;
    if (!wanted(name)) return false;
    if (tia2_cpu_set_level(level)) return true;
    if (opt.require == level) {
        printf("FAIL %-32s this CPU lacks %s, which --require asks for\n", name, level);
        n_failed++;
    } else {
        printf("SKIP %-32s this CPU lacks %s\n", name, level);
        n_skipped++;
    }
    return false;
}

void check_level_end() {
    tia2_cpu_set_level("auto");
}

void check_levels(const char *op, const std::function<void(const char *isa)> &run) {
    for (int i = 0; i < tia2_cpu_level_count(); i++) {
        const char *level = tia2_cpu_level_name(i);
        if (!check_level_begin(op, level)) continue;
        char name[96];
        snprintf(name, sizeof name, "%s_%s", op, level);
        check_part(name, [&] { run(level); });
        check_level_end();
    }
}

// splitmix64 (Steele, Lea, Flood 2014): any seed is a good seed.
uint64_t check_rand() {
    uint64_t z = (rng += 0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
}
double check_rand_double() {
    return (double)(check_rand() >> 11) * 0x1p-53;
}
float check_rand_float() {
    return (float)((int64_t)(check_rand() >> 40) - (1 << 23)) * 0x1p-23f;
}
int check_rand_int(int lo, int hi) {
    return lo + (int)(check_rand() % (uint64_t)(hi - lo + 1));
}

bool check_bench_wanted() {
    return opt.bench;
}

double check_now() {
    using namespace std::chrono;
    return duration<double>(steady_clock::now().time_since_epoch()).count();
}

double check_time(const std::function<void()> &f, int reps) {
    int runs = 1;
    for (;; runs *= 2) { // also the warm-up
        const double t0 = check_now();
        for (int i = 0; i < runs; i++) f();
        if (check_now() - t0 > 1e-3 || runs > (1 << 20)) break;
    }
    double best = 1e30;
    for (int r = 0; r < reps; r++) {
        const double t0 = check_now();
        for (int i = 0; i < runs; i++) f();
        const double t = (check_now() - t0) / runs;
        if (t < best) best = t;
    }
    return best;
}

int main(int argc, char **argv) {
    if (const int rc = parse(argc, argv)) return rc;
    if (opt.list) {
        for (const registered &r : registry()) printf("%s\n", r.name);
        return 0;
    }
    tia2_cpu_set_level("auto");
    printf("tia2_check: seed %llu, this CPU goes to %s\n", (unsigned long long)opt.seed, tia2_cpu_level());
    catch_crashes();
    for (const registered &r : registry()) {
        check_name = r.name;
        r.fn();
    }
    if (n_passed + n_failed + n_skipped == 0) return usage("no check matches");
    printf("%d passed, %d failed, %d skipped\n", n_passed, n_failed, n_skipped);
    return n_failed ? 1 : 0;
}
