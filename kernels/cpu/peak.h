// peak.h: loops that do nothing but multiply and add, or read, at the speed of this machine.
//
// What a kernel can reach is judged against these, measured in the same run.
//
//   tia2_peak_<type>_<isa>(rounds)    `rounds` times a fixed number of independent multiply-adds in registers; returns
//                                     the operations done, multiply and add counted as two
//   tia2_peak_read_<isa>(src, bytes)  reads every byte once, in order; bytes a multiple of 256; src 64-byte aligned.
//                                     Returns a value that depends on all of them, so that no read can be left out
//
// bf16 and int8 exist only where one instruction multiplies and adds in that type (AVX512-BF16 VDPBF16PS, AVX512-VNNI
// VPDPBUSD); elsewhere the slot is NULL.
// Pure functions, thread-safe, no allocation.
#pragma once
#include <stddef.h>
#include <stdint.h>

typedef double (*tia2_peak_flops_fn)(size_t rounds);
typedef uint64_t (*tia2_peak_read_fn)(const void *src, size_t bytes);

double tia2_peak_f32_scalar(size_t rounds);
double tia2_peak_f32_avx2(size_t rounds);
double tia2_peak_f32_avx512(size_t rounds);
double tia2_peak_f32_neon(size_t rounds);
double tia2_peak_bf16_avx512bf16(size_t rounds);
double tia2_peak_int8_avx512vnni(size_t rounds);

uint64_t tia2_peak_read_scalar(const void *src, size_t bytes);
uint64_t tia2_peak_read_avx2(const void *src, size_t bytes);
uint64_t tia2_peak_read_avx512(const void *src, size_t bytes);
