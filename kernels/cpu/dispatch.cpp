#include <mutex>

#include "ops.h"

void tia2_cpu_ops_init(tia2_cpu_ops *o, uint32_t flags) {
    *o = {};
    o->attention_f32 = tia2_attention_f32_scalar;
    o->textnorm_f32 = tia2_textnorm_f32_scalar;
    o->peak_f32 = tia2_peak_f32_scalar;
    o->peak_read = tia2_peak_read_scalar;
#if defined(__x86_64__)
    if (!(flags & TIA2_CPU_AVX2)) return;
    o->attention_f32 = tia2_attention_f32_avx2;
    o->textnorm_f32 = tia2_textnorm_f32_avx2;
    o->peak_f32 = tia2_peak_f32_avx2;
    o->peak_read = tia2_peak_read_avx2;
    if (!(flags & TIA2_CPU_AVX512)) return;
    o->attention_f32 = tia2_attention_f32_avx512;
    o->textnorm_f32 = tia2_textnorm_f32_avx512;
    o->peak_f32 = tia2_peak_f32_avx512;
    o->peak_read = tia2_peak_read_avx512;
    if (!(flags & TIA2_CPU_AVX512VNNI)) return;
    o->peak_int8 = tia2_peak_int8_avx512vnni;
    if (!(flags & TIA2_CPU_AVX512BF16)) return;
    o->peak_bf16 = tia2_peak_bf16_avx512bf16;
#elif defined(__aarch64__)
    if (!(flags & TIA2_CPU_NEON)) return;
    o->textnorm_f32 = tia2_textnorm_f32_neon;
    o->peak_f32 = tia2_peak_f32_neon;
#else
    (void)flags;
#endif
}

const tia2_cpu_ops &tia2_cpu() {
    static std::once_flag built[TIA2_CPU_FLAGS_END];
    static tia2_cpu_ops   tables[TIA2_CPU_FLAGS_END];
    const uint32_t        flags = tia2_cpu_flags();
    std::call_once(built[flags], [flags] { tia2_cpu_ops_init(&tables[flags], flags); });
    return tables[flags];
}
