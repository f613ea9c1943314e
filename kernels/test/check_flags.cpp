// Levels: what can be set, what is refused, and that a table only ever uses what its level has.
#include <thread>

#include "../include/tia2.h"
#include "check.h"

static void check_isa_set() {
    tia2_error err = {};
    if (tia2_isa_set("scalar", &err) != TIA2_OK || tia2_cpu_flags() != 0 || strcmp(tia2_cpu_level(), "scalar") != 0)
        FAIL("scalar: %s, flags %x, level %s", err.msg, tia2_cpu_flags(), tia2_cpu_level());
    if (tia2_isa_set("avx9", &err) != TIA2_EINVAL || !strstr(err.msg, "avx9")) FAIL("avx9 gave \"%s\"", err.msg);
    if (tia2_isa_set(nullptr, &err) != TIA2_EINVAL) FAIL("NULL was accepted");
    if (tia2_isa_set("", nullptr) != TIA2_EINVAL) FAIL("\"\" was accepted");
    if (tia2_cpu_flags() != 0) FAIL("a refused level changed the flags to %x", tia2_cpu_flags());
    if (tia2_isa_set("ggml", &err) != TIA2_OK || tia2_cpu_flags() != tia2_cpu_detected()) FAIL("ggml: %s", err.msg);
    tia2_isa_set("scalar", &err);
    if (tia2_isa_set("auto", &err) != TIA2_OK || tia2_cpu_flags() != tia2_cpu_detected()) FAIL("auto: %s", err.msg);
    for (int i = 0; i < tia2_cpu_level_count(); i++) {
        const char *level = tia2_cpu_level_name(i);
        const bool  ok = tia2_isa_set(level, &err) == TIA2_OK;
        if (ok && strcmp(tia2_cpu_level(), level) != 0) FAIL("%s was set, %s is in use", level, tia2_cpu_level());
        if (!ok && !strstr(err.msg, level)) FAIL("%s: message \"%s\"", level, err.msg);
        tia2_isa_set("auto", nullptr);
    }
    if (tia2_cpu_level_name(-1) || tia2_cpu_level_name(tia2_cpu_level_count())) FAIL("a level out of range has a name");
}

// Every level is a set of flags that some table is built for, and its slots that must exist do.
static void check_tables() {
    for (uint32_t flags = 0; flags < TIA2_CPU_FLAGS_END; flags++) {
        tia2_cpu_ops o;
        tia2_cpu_ops_init(&o, flags);
        if (!o.textnorm_f32 || !o.peak_f32 || !o.peak_read) FAIL("flags %x leave an empty slot", flags);
        // An instruction set that the flags do not name is not used, whatever else they name.
        tia2_textnorm_f32_fn want = tia2_textnorm_f32_scalar;
#if defined(__x86_64__)
        if (flags & TIA2_CPU_AVX2) want = tia2_textnorm_f32_avx2;
        if ((flags & TIA2_CPU_AVX2) && (flags & TIA2_CPU_AVX512)) want = tia2_textnorm_f32_avx512;
#elif defined(__aarch64__)
        if (flags & TIA2_CPU_NEON) want = tia2_textnorm_f32_neon;
#endif
        if (o.textnorm_f32 != want) FAIL("flags %x give another form of textnorm_f32 than they name", flags);
        if (!(flags & TIA2_CPU_AVX512VNNI) && o.peak_int8) FAIL("flags %x give VNNI code", flags);
        if (!(flags & TIA2_CPU_AVX512BF16) && o.peak_bf16) FAIL("flags %x give BF16 code", flags);
    }
}

// A thread that changes the level does not disturb one that uses a table (a data race would show under tsan).
static void check_threads() {
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; t++)
        threads.emplace_back([t] {
            for (int i = 0; i < 2000; i++) {
                if (t == 0) tia2_cpu_set_level(i % 2 ? "scalar" : "auto");
                const tia2_cpu_ops &o = tia2_cpu();
                if (!o.peak_f32) abort();
            }
        });
    for (std::thread &t : threads) t.join();
    tia2_cpu_set_level("auto");
}

TIA2_CHECK(flags) {
    check_part("flags_isa_set", check_isa_set);
    check_part("flags_tables", check_tables);
    check_part("flags_threads", check_threads);
}
