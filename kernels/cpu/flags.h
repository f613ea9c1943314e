// flags.h: what this CPU can do, and what it is allowed to do.
//
// Every dispatch table asks tia2_cpu_flags() once: detected & mask. The mask is the whole test hook: tests and
// `TIA2_CPU=avx2` narrow it, and each table is built again (tia2_cpu_ops).
//
// Levels, lowest first; each contains those before it of the same architecture:
//   "scalar" < "avx2" < "avx512" < "avx512vnni" < "avx512bf16"   on x86-64
//   "scalar" < "neon"                                            on aarch64
//   "auto" is everything detected, and so is "ggml" (which asks the encoders for their plain-ggml form).
// All functions are safe from any thread.
#pragma once
#include <cstdint>

enum tia2_cpu_flag : uint32_t {
    TIA2_CPU_AVX2 = 1u << 0,        // AVX2, FMA, F16C
    TIA2_CPU_AVX512 = 1u << 1,      // AVX512 F, BW, DQ, VL
    TIA2_CPU_AVX512VNNI = 1u << 2,  // and VNNI
    TIA2_CPU_AVX512BF16 = 1u << 3,  // and BF16
    TIA2_CPU_NEON = 1u << 4,
    TIA2_CPU_FLAGS_END = 1u << 5,   // one past the last
};

uint32_t    tia2_cpu_detected();                 // by cpuid; constant
uint32_t    tia2_cpu_flags();                    // detected & mask
bool        tia2_cpu_set_level(const char *level); // "auto", "scalar", "avx2", ...; false if the machine lacks it
const char *tia2_cpu_level();                    // name of the highest level in use

// Why the environment variable TIA2_CPU could not be followed (one line, static), or NULL. While it is not NULL every
// call that can fail must refuse to work with this text and TIA2_EINVAL: a user who forces a level must not silently
// get another. A later tia2_cpu_set_level that succeeds settles it.
const char *tia2_cpu_env_error();

// For messages: every level, as a list in words.
#define TIA2_CPU_LEVEL_NAMES "scalar, avx2, avx512, avx512vnni, avx512bf16 or neon"

// Levels by name, for tests: 0..tia2_cpu_level_count()-1 in the order above ("auto" and "ggml" are not among them).
int         tia2_cpu_level_count();
const char *tia2_cpu_level_name(int i);
bool        tia2_cpu_level_known(const char *level); // any of the names above, "auto" and "ggml" too
