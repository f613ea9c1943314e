// ops.h: the dispatch table of the CPU kernels.
//
// One slot per kernel. A caller takes the table once per call (never inside a loop) and calls through it:
//     const tia2_cpu_ops &ops = tia2_cpu();
//     ops.textnorm_f32(&set);
// To add a kernel: its contract header and scalar reference, a slot here, its lines in dispatch.cpp, a check in
// kernels/test.
#pragma once
#include "attention.h"
#include "dense.h"
#include "flags.h"
#include "peak.h"
#include "rows.h"
#include "textnorm.h"

struct tia2_cpu_ops {
    tia2_attention_f32_fn  attention_f32;
    tia2_attention_bf16_fn attention_bf16;
    tia2_dense_fn          dense_f32, dense_bf16, dense_q8;
    tia2_layer_norm_fn     layer_norm;
    tia2_quantize_f32_fn   quantize_f32;
    tia2_quantize_bf16_fn  quantize_bf16;
    tia2_to_bf16_fn        to_bf16;
    tia2_activate_fn       activate;
    tia2_textnorm_f32_fn   textnorm_f32;
    tia2_peak_flops_fn     peak_f32;
    tia2_peak_flops_fn     peak_bf16; // NULL where there is no such instruction
    tia2_peak_flops_fn     peak_int8; // NULL where there is no such instruction
    tia2_peak_read_fn      peak_read;
};

// Fills every slot with its scalar form, then lets each instruction set of `flags` override, lowest first.
void tia2_cpu_ops_init(tia2_cpu_ops *o, uint32_t flags);

// The table for tia2_cpu_flags(). Built at first use and never changed afterwards: there is one table per set of
// flags, so a reference stays valid (and a running call consistent) while another thread changes the level.
const tia2_cpu_ops &tia2_cpu();
