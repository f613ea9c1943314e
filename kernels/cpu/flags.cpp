#include "flags.h"

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace {

struct level {
    const char *name;
    uint32_t    flags; // all that the level may use, and must have
};

constexpr uint32_t kAvx2 = TIA2_CPU_AVX2;
constexpr uint32_t kAvx512 = kAvx2 | TIA2_CPU_AVX512;
constexpr uint32_t kAvx512Vnni = kAvx512 | TIA2_CPU_AVX512VNNI;
constexpr uint32_t kAvx512Bf16 = kAvx512Vnni | TIA2_CPU_AVX512BF16;

constexpr level kLevels[] = {
    {"scalar", 0},
    {"avx2", kAvx2},
    {"avx512", kAvx512},
    {"avx512vnni", kAvx512Vnni},
    {"avx512bf16", kAvx512Bf16},
    {"neon", TIA2_CPU_NEON},
};
constexpr int kLevelCount = sizeof kLevels / sizeof kLevels[0];

bool is_auto(const char *name) {
    return strcmp(name, "auto") == 0 || strcmp(name, "ggml") == 0;
}

const level *find_level(const char *name) {
    for (const level &l : kLevels)
        if (strcmp(l.name, name) == 0) return &l;
    return nullptr;
}

#if defined(__x86_64__)
// XCR0: which register states the system saves at a context switch. A CPU with AVX-512 under a system (or a
// hypervisor) that does not save the upper registers must be treated as one without.
uint64_t xcr0() {
    uint32_t lo, hi;
    __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0)); // the intrinsic would need -mxsave
    return (uint64_t)hi << 32 | lo;
}

// Intel SDM vol. 2A, CPUID; bit names as there.
uint32_t detect() {
    uint32_t a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d)) return 0;
    const uint32_t fma = 1u << 12, osxsave = 1u << 27, avx = 1u << 28, f16c = 1u << 29;
    const uint32_t leaf1 = fma | osxsave | avx | f16c;
    if ((c & leaf1) != leaf1) return 0;
    const uint64_t state = xcr0();
    const uint64_t ymm = 0x6, zmm = 0xe6; // SSE, AVX; and opmask, upper half of ZMM0-15, ZMM16-31
    if ((state & ymm) != ymm) return 0;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return 0;
    const uint32_t leaf7_max = a;
    if (!(b & (1u << 5))) return 0; // AVX2
    uint32_t flags = TIA2_CPU_AVX2;
    const uint32_t avx512f = 1u << 16, dq = 1u << 17, bw = 1u << 30, vl = 1u << 31;
    const uint32_t leaf7 = avx512f | dq | bw | vl;
    if ((state & zmm) != zmm || (b & leaf7) != leaf7) return flags;
    flags |= TIA2_CPU_AVX512;
    if (!(c & (1u << 11))) return flags; // AVX512_VNNI
    flags |= TIA2_CPU_AVX512VNNI;
    if (leaf7_max < 1 || !__get_cpuid_count(7, 1, &a, &b, &c, &d)) return flags;
    if (a & (1u << 5)) flags |= TIA2_CPU_AVX512BF16;
    return flags;
}
#elif defined(__aarch64__)
uint32_t detect() {
    return TIA2_CPU_NEON; // part of every ARMv8-A
}
#else
uint32_t detect() {
    return 0;
}
#endif

struct cpu_state {
    std::atomic<uint32_t> mask{~0u};
    std::atomic<bool>     env_refused{false};
    char                  env_error[256] = "";

    cpu_state() {
        const char *env = getenv("TIA2_CPU");
        if (!env || !*env || is_auto(env)) return;
        const level *l = find_level(env);
        if (l && (l->flags & ~tia2_cpu_detected()) == 0) {
            mask = l->flags;
            return;
        }
        snprintf(env_error, sizeof env_error,
                 l ? "TIA2_CPU=%.64s: this CPU lacks that level; expected auto or a level it has"
                   : "TIA2_CPU=%.64s: unknown level; expected auto, " TIA2_CPU_LEVEL_NAMES,
                 env);
        env_refused = true;
    }
};

cpu_state &state() {
    static cpu_state s;
    return s;
}

} // namespace

uint32_t tia2_cpu_detected() {
    static const uint32_t flags = detect();
    return flags;
}

uint32_t tia2_cpu_flags() {
    return tia2_cpu_detected() & state().mask.load(std::memory_order_acquire);
}

bool tia2_cpu_set_level(const char *name) {
    if (!name) return false;
    uint32_t mask = ~0u;
    if (!is_auto(name)) {
        const level *l = find_level(name);
        if (!l || (l->flags & ~tia2_cpu_detected()) != 0) return false;
        mask = l->flags;
    }
    state().mask.store(mask, std::memory_order_release);
    state().env_refused = false;
    return true;
}

const char *tia2_cpu_level() {
    const uint32_t flags = tia2_cpu_flags();
    const char    *name = kLevels[0].name;
    for (const level &l : kLevels)
        if (l.flags != 0 && (l.flags & ~flags) == 0) name = l.name;
    return name;
}

const char *tia2_cpu_env_error() {
    return state().env_refused.load() ? state().env_error : nullptr;
}

int tia2_cpu_level_count() {
    return kLevelCount;
}

const char *tia2_cpu_level_name(int i) {
    return i >= 0 && i < kLevelCount ? kLevels[i].name : nullptr;
}

bool tia2_cpu_level_known(const char *name) {
    return name && (is_auto(name) || find_level(name));
}
