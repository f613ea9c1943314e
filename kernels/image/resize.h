// resize.h: PIL's bicubic resize of 8 bit pictures in fixed point.
//
// A picture is resized by a horizontal and then a vertical pass, each of which rounds to 8 bits:
//
//   y[i, c] = clip8((2^21 + sum_t k[i, t] * x[first[i] + t, c]) >> 22),    clip8 limits to 0..255
//
//   k      the bicubic (a = -0.5) weights of output i, widened by the scale when shrinking, in 22 fraction bits
//   x, y   u8 [in, channels] and [n, channels], 1 <= channels <= 4
//
// Accuracy: integers; every form gives the same bits as the scalar one, and as PIL. Sums may wrap on the way: all forms
//           compute modulo 2^32, and the true sum fits in 32 bits.
// Bounds:   no form reads outside [in, channels] or writes outside [n, channels]; x and y do not overlap; any alignment.
// Cost:     per output pixel and channel about 4 * max(1, in / out) multiply-adds in each pass.
// Source:   Pillow 13, src/libImaging/Resample.c: precompute_coeffs, normalize_coeffs_8bpc, ImagingResample*_8bpc.
// Pure functions, thread-safe, no allocation.
#pragma once
#include <stddef.h>
#include <stdint.h>

enum { TIA2_RESIZE_BITS = 22, TIA2_RESIZE_SPLIT = 15, TIA2_RESIZE_ALIGN = 16 };

// tia2_resize_axis holds the weights of one direction.
struct tia2_resize_axis {
    int32_t        n;       // outputs
    int32_t        in;      // inputs
    int32_t        stride;  // weights kept per output, a multiple of TIA2_RESIZE_ALIGN; zeros behind count[i]
    const int32_t *first;   // [n] first input of an output
    const int32_t *count;   // [n] how many, >= 1; first + count <= in
    const int32_t *k;       // [n, stride]
    const int16_t *lo, *hi; // [n, stride] k = hi * 2^15 + lo, for 16 bit multiply-adds
    const int8_t  *d0, *d1, *d2; // [n, stride] k = d2 * 2^16 + d1 * 2^8 + d0, for 8 bit ones; |k| stays below 1.2 * 2^22
};

// Horizontal pass over so many rows, rows >= 1, which lie x_pitch and y_pitch bytes apart.
typedef void (*tia2_resize_h_u8_fn)(uint8_t *y, size_t y_pitch, const uint8_t *x, size_t x_pitch, int32_t rows,
                                    const struct tia2_resize_axis *axis, int channels);
// Vertical pass to output row i. x: row first[i] of the input; rows lie `pitch` bytes apart; n bytes of each are used.
typedef void (*tia2_resize_v_u8_fn)(uint8_t *y, const uint8_t *x, size_t pitch, size_t n,
                                    const struct tia2_resize_axis *axis, int32_t i);

void tia2_resize_h_u8_scalar(uint8_t *y, size_t y_pitch, const uint8_t *x, size_t x_pitch, int32_t rows,
                             const struct tia2_resize_axis *axis, int channels);
void tia2_resize_v_u8_scalar(uint8_t *y, const uint8_t *x, size_t pitch, size_t n, const struct tia2_resize_axis *axis,
                             int32_t i);
void tia2_resize_h_u8_avx2(uint8_t *y, size_t y_pitch, const uint8_t *x, size_t x_pitch, int32_t rows,
                           const struct tia2_resize_axis *axis, int channels);
void tia2_resize_v_u8_avx2(uint8_t *y, const uint8_t *x, size_t pitch, size_t n, const struct tia2_resize_axis *axis,
                           int32_t i);
void tia2_resize_h_u8_avx512vnni(uint8_t *y, size_t y_pitch, const uint8_t *x, size_t x_pitch, int32_t rows,
                                 const struct tia2_resize_axis *axis, int channels);
void tia2_resize_v_u8_avx512(uint8_t *y, const uint8_t *x, size_t pitch, size_t n, const struct tia2_resize_axis *axis,
                             int32_t i);

struct tia2_resize_ops {
    tia2_resize_h_u8_fn h_u8;
    tia2_resize_v_u8_fn v_u8;
};

// Fills every slot with the best form that tia2_cpu_flags() allows.
void tia2_resize_ops_init(struct tia2_resize_ops *o);
