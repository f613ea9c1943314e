// resize_scalar.cpp: the reference of resize.h. Plain loops.
#include "resize.h"

#include <assert.h>

static inline uint8_t clip8(int32_t sum) {
    const int32_t v = sum >> TIA2_RESIZE_BITS;
    return (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
}

static void resize_h_row(uint8_t *y, const uint8_t *x, const struct tia2_resize_axis *axis, int channels) {
    for (int32_t i = 0; i < axis->n; i++) {
        const int32_t *k = axis->k + (size_t)i * axis->stride;
        const uint8_t *from = x + (size_t)axis->first[i] * channels;
        for (int c = 0; c < channels; c++) {
            uint32_t sum = 1u << (TIA2_RESIZE_BITS - 1);
            for (int32_t t = 0; t < axis->count[i]; t++)
                sum += (uint32_t)from[(size_t)t * channels + c] * (uint32_t)k[t];
            y[(size_t)i * channels + c] = clip8((int32_t)sum);
        }
    }
}

void tia2_resize_h_u8_scalar(uint8_t *y, size_t y_pitch, const uint8_t *x, size_t x_pitch, int32_t rows,
                             const struct tia2_resize_axis *axis, int channels) {
    assert(rows >= 1 && channels >= 1 && channels <= 4);
    for (int32_t r = 0; r < rows; r++, y += y_pitch, x += x_pitch) resize_h_row(y, x, axis, channels);
}

void tia2_resize_v_u8_scalar(uint8_t *y, const uint8_t *x, size_t pitch, size_t n, const struct tia2_resize_axis *axis,
                             int32_t i) {
    const int32_t *k = axis->k + (size_t)i * axis->stride;
    for (size_t j = 0; j < n; j++) {
        uint32_t sum = 1u << (TIA2_RESIZE_BITS - 1);
        for (int32_t t = 0; t < axis->count[i]; t++) sum += (uint32_t)x[(size_t)t * pitch + j] * (uint32_t)k[t];
        y[j] = clip8((int32_t)sum);
    }
}
