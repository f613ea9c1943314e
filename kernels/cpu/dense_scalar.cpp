// The reference, and the packing. Plain loops; it is the spec, change it last.
#include <assert.h>
#include <math.h>
#include <string.h>

#include "dense.h"
#include "scalar.h"

void tia2_dense_pack_panel(tia2_format f, const float *w, size_t n, size_t K, void *dst, float *scale, int32_t *start) {
    assert(n <= kDensePanel && K >= 1);
    memset(dst, 0, tia2_dense_packed(f, K, 1));
    for (size_t c = 0; c < kDensePanel && f == tia2_format::q8; c++) scale[c] = 0, start[c] = 0;
    // A few k at a time over all columns: what is written then stays in the first-level cache.
    constexpr size_t kBlock = 16;
    float            inverse[kDensePanel];
    for (size_t c = 0; c < n && f == tia2_format::q8; c++) {
        float most = 0;
        for (size_t k = 0; k < K; k++) most = fmaxf(most, fabsf(w[c * K + k]));
        scale[c]   = most / 127;
        inverse[c] = most > 0 ? 127 / most : 0;
    }
    for (size_t k0 = 0; k0 < K; k0 += kBlock) {
        const size_t end = k0 + kBlock < K ? k0 + kBlock : K;
        for (size_t c = 0; c < n; c++)
            for (size_t k = k0; k < end; k++) {
                const float v = w[c * K + k];
                if (f == tia2_format::f32) {
                    ((float *)dst)[k * kDensePanel + c] = v;
                } else if (f == tia2_format::bf16) {
                    ((uint16_t *)dst)[(k / 2 * kDensePanel + c) * 2 + k % 2] = to_bf16(v);
                } else {
                    const int32_t q = (int32_t)nearbyintf(v * inverse[c]);
                    ((int8_t *)dst)[(k / 4 * kDensePanel + c) * 4 + k % 4] = (int8_t)q;
                    start[c] -= 128 * q;
                }
            }
    }
}

// W[n, k] as packed.
static double weight_at(const tia2_dense_call *c, tia2_format f, size_t n, size_t k) {
    const size_t panel = n / kDensePanel, column = n % kDensePanel;
    const char  *p = (const char *)c->weights + panel * tia2_dense_packed(f, c->K, 1);
    if (f == tia2_format::f32) return ((const float *)p)[k * kDensePanel + column];
    if (f == tia2_format::bf16) return from_bf16(((const uint16_t *)p)[(k / 2 * kDensePanel + column) * 2 + k % 2]);
    return ((const int8_t *)p)[(k / 4 * kDensePanel + column) * 4 + k % 4];
}

static double value_at(const char *row, tia2_format f, size_t k) {
    if (f == tia2_format::f32) return ((const float *)row)[k];
    if (f == tia2_format::bf16) return from_bf16(((const uint16_t *)row)[k]);
    return (double)((const uint8_t *)row)[k] - 128;
}

static void dense_scalar(const tia2_dense_call *c, tia2_format f) {
    assert(c->K >= 1 && c->panel_begin <= c->panel_end && c->panel_end <= tia2_dense_panels(c->N));
    const size_t end = c->panel_end * kDensePanel < c->N ? c->panel_end * kDensePanel : c->N;
    for (size_t m = 0; m < c->M; m++) {
        const char *x = (const char *)c->x + m * c->x_stride;
        for (size_t n = c->panel_begin * kDensePanel; n < end; n++) {
            double sum = 0;
            for (size_t k = 0; k < c->K; k++) sum += value_at(x, f, k) * weight_at(c, f, n, k);
            if (f == tia2_format::q8) sum *= (double)*(const float *)(x + tia2_q8_scale_at(c->K)) * c->scale[n];
            if (c->bias) sum += c->bias[n];
            float y = (float)activate(sum, c->act);
            if (c->residual) y += ((const float *)((const char *)c->residual + m * c->residual_stride))[n];
            char *row = (char *)c->y + m * c->y_stride;
            if (c->y_bf16)
                ((uint16_t *)row)[n] = to_bf16(y);
            else
                ((float *)row)[n] = y;
        }
    }
}

void tia2_dense_f32_scalar(const tia2_dense_call *c) { dense_scalar(c, tia2_format::f32); }
void tia2_dense_bf16_scalar(const tia2_dense_call *c) { dense_scalar(c, tia2_format::bf16); }
void tia2_dense_q8_scalar(const tia2_dense_call *c) { dense_scalar(c, tia2_format::q8); }
