#include <mutex>

#include "ops.h"

void tia2_cpu_ops_init(tia2_cpu_ops *o, uint32_t flags) {
    *o = {};
    o->attention_f32 = tia2_attention_f32_scalar;
    o->attention_bf16 = tia2_attention_bf16_scalar;
    o->dense_f32 = tia2_dense_f32_scalar;
    o->dense_bf16 = tia2_dense_bf16_scalar;
    o->dense_q8 = tia2_dense_q8_scalar;
    o->layer_norm = tia2_layer_norm_scalar;
    o->quantize_f32 = tia2_quantize_f32_scalar;
    o->quantize_bf16 = tia2_quantize_bf16_scalar;
    o->to_bf16 = tia2_to_bf16_scalar;
    o->activate = tia2_activate_scalar;
    o->textnorm_f32 = tia2_textnorm_f32_scalar;
    o->peak_f32 = tia2_peak_f32_scalar;
    o->peak_read = tia2_peak_read_scalar;
#if defined(__x86_64__)
    if (!(flags & TIA2_CPU_AVX2)) return;
    o->attention_f32 = tia2_attention_f32_avx2;
    o->attention_bf16 = tia2_attention_bf16_avx2;
    o->dense_f32 = tia2_dense_f32_avx2;
    o->layer_norm = tia2_layer_norm_avx2;
    o->quantize_f32 = tia2_quantize_f32_avx2;
    o->quantize_bf16 = tia2_quantize_bf16_avx2;
    o->to_bf16 = tia2_to_bf16_avx2;
    o->activate = tia2_activate_avx2;
    o->textnorm_f32 = tia2_textnorm_f32_avx2;
    o->peak_f32 = tia2_peak_f32_avx2;
    o->peak_read = tia2_peak_read_avx2;
    if (!(flags & TIA2_CPU_AVX512)) return;
    o->attention_f32 = tia2_attention_f32_avx512;
    o->attention_bf16 = tia2_attention_bf16_avx512;
    o->dense_f32 = tia2_dense_f32_avx512;
    o->layer_norm = tia2_layer_norm_avx512;
    o->quantize_f32 = tia2_quantize_f32_avx512;
    o->quantize_bf16 = tia2_quantize_bf16_avx512;
    o->to_bf16 = tia2_to_bf16_avx512;
    o->activate = tia2_activate_avx512;
    o->textnorm_f32 = tia2_textnorm_f32_avx512;
    o->peak_f32 = tia2_peak_f32_avx512;
    o->peak_read = tia2_peak_read_avx512;
    if (!(flags & TIA2_CPU_AVX512VNNI)) return;
    o->dense_q8 = tia2_dense_q8_avx512vnni;
    o->peak_int8 = tia2_peak_int8_avx512vnni;
    if (!(flags & TIA2_CPU_AVX512BF16)) return;
    o->attention_bf16 = tia2_attention_bf16_avx512bf16;
    o->dense_bf16 = tia2_dense_bf16_avx512bf16;
    o->peak_bf16 = tia2_peak_bf16_avx512bf16;
#elif defined(__aarch64__)
    if (!(flags & TIA2_CPU_NEON)) return;
    o->attention_f32 = tia2_attention_f32_neon;
    o->attention_bf16 = tia2_attention_bf16_neon;
    o->dense_f32 = tia2_dense_f32_neon;
    o->layer_norm = tia2_layer_norm_neon;
    o->quantize_f32 = tia2_quantize_f32_neon;
    o->quantize_bf16 = tia2_quantize_bf16_neon;
    o->to_bf16 = tia2_to_bf16_neon;
    o->activate = tia2_activate_neon;
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
