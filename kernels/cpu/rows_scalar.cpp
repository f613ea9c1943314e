// The reference. Plain loops; it is the spec, change it last.
#include <assert.h>
#include <math.h>
#include <string.h>

#include "rows.h"
#include "scalar.h"

// A row of q8, as it is made from its values one by one.
struct q8_row {
    uint8_t *y;
    size_t   W;
    float    scale, inverse;

    // most: max|x|, or NaN if an x is.
    q8_row(void *row, size_t W_, float most) : y((uint8_t *)row), W(W_), scale(0), inverse(0) {
        if (!(most < INFINITY)) {
            scale = NAN;
        } else if (most >= kQ8Least) {
            scale = most / 127.0f;
            inverse = 127.0f / most;
        }
        memset(y, 128, tia2_q8_scale_at(W));
        memcpy(y + tia2_q8_scale_at(W), &scale, sizeof scale);
    }
    void set(size_t i, float x) {
        if (inverse > 0) y[i] = (uint8_t)(128 + (int)nearbyintf(x * inverse));
    }
};

static float greater(float a, float b) { // of |b| and a >= 0; NaN if one is
    return a != a || fabsf(b) <= a ? a : fabsf(b);
}

template <class T> static const T *row_of(const T *x, size_t stride, size_t i) {
    return (const T *)((const char *)x + i * stride);
}

void tia2_layer_norm_scalar(const tia2_layer_norm_call *c) {
    assert(c->W >= 1 && c->eps > 0 && c->x_stride >= 4 * c->W && c->y_stride >= tia2_row_bytes(c->format, c->W));
    for (size_t r = 0; r < c->n_rows; r++) {
        const float *x = row_of(c->x, c->x_stride, r);
        char        *y = (char *)c->y + r * c->y_stride;
        double       mean = 0, var = 0;
        for (size_t i = 0; i < c->W; i++) mean += x[i];
        mean /= (double)c->W;
        for (size_t i = 0; i < c->W; i++) var += (x[i] - mean) * (x[i] - mean);
        var /= (double)c->W;
        const double inverse = 1 / sqrt(var + c->eps);
        const auto   value = [&](size_t i) { return (float)((x[i] - mean) * inverse * c->weight[i] + c->bias[i]); };
        if (c->format == tia2_format::q8) {
            float most = 0;
            for (size_t i = 0; i < c->W; i++) most = greater(most, value(i));
            q8_row out(y, c->W, most);
            for (size_t i = 0; i < c->W; i++) out.set(i, value(i));
        } else if (c->format == tia2_format::bf16) {
            for (size_t i = 0; i < c->W; i++) ((uint16_t *)y)[i] = to_bf16(value(i));
        } else {
            for (size_t i = 0; i < c->W; i++) ((float *)y)[i] = value(i);
        }
    }
}

template <class T>
static void quantize(void *y, size_t y_stride, const T *x, size_t x_stride, size_t n_rows, size_t W, float (*value)(T)) {
    assert(W >= 1 && x_stride >= sizeof(T) * W && y_stride >= tia2_q8_stride(W));
    for (size_t r = 0; r < n_rows; r++) {
        const T *row = row_of(x, x_stride, r);
        float    most = 0;
        for (size_t i = 0; i < W; i++) most = greater(most, value(row[i]));
        q8_row out((char *)y + r * y_stride, W, most);
        for (size_t i = 0; i < W; i++) out.set(i, value(row[i]));
    }
}

void tia2_quantize_f32_scalar(void *y, size_t y_stride, const float *x, size_t x_stride, size_t n_rows, size_t W) {
    quantize<float>(y, y_stride, x, x_stride, n_rows, W, [](float v) { return v; });
}

void tia2_quantize_bf16_scalar(void *y, size_t y_stride, const uint16_t *x, size_t x_stride, size_t n_rows, size_t W) {
    quantize<uint16_t>(y, y_stride, x, x_stride, n_rows, W, from_bf16);
}

void tia2_to_bf16_scalar(uint16_t *y, size_t y_stride, const float *x, size_t x_stride, size_t n_rows, size_t W) {
    assert(W >= 1 && x_stride >= 4 * W && y_stride >= 2 * W);
    for (size_t r = 0; r < n_rows; r++)
        for (size_t i = 0; i < W; i++) ((uint16_t *)((char *)y + r * y_stride))[i] = to_bf16(row_of(x, x_stride, r)[i]);
}

void tia2_activate_scalar(float *x, size_t n, tia2::activation act) {
    for (size_t i = 0; i < n; i++) x[i] = (float)activate(x[i], act);
}

void tia2_l2_normalize(float *x, size_t x_stride, size_t n_rows, size_t W) {
    assert(W >= 1 && x_stride >= 4 * W);
    for (size_t r = 0; r < n_rows; r++) {
        float *row = (float *)((char *)x + r * x_stride);
        double ss = 0;
        for (size_t i = 0; i < W; i++) ss += (double)row[i] * row[i];
        const double factor = ss == 0 ? 0 : ss < INFINITY ? 1 / sqrt(ss) : NAN;
        for (size_t i = 0; i < W; i++) row[i] = (float)(row[i] * factor);
    }
}

template <class T> static void cut(const tia2_patches_call *c, const T (*table)[256]) {
    const size_t grid = c->S / c->P, P = c->P;
    for (size_t n = c->begin; n < c->end; n++) {
        const uint8_t *corner = c->pixels + (n / grid * P * c->S + n % grid * P) * 3; // pixels[top, left, 0]
        T             *y = (T *)((char *)c->y + (n - c->begin) * c->y_stride);
        for (size_t channel = 0; channel < 3; channel++)
            for (size_t v = 0; v < P; v++, y += P) { // y[channel, v, :]
                const uint8_t *p = corner + v * c->S * 3 + channel;
                const T       *value = table[channel];
                T *__restrict out = y;
#pragma GCC unroll 4
                for (size_t u = 0; u < P; u++) out[u] = value[p[3 * u]];
            }
    }
}

void tia2_patches(const tia2_patches_call *c) {
    assert(c->P >= 1 && c->S % c->P == 0 && c->begin <= c->end && c->end <= (c->S / c->P) * (c->S / c->P));
    assert(c->format != tia2_format::q8 && c->y_stride >= tia2_row_bytes(c->format, 3 * c->P * c->P));
    if (c->format == tia2_format::f32) return cut<float>(c, c->table);
    uint16_t rounded[3][256];
    for (int i = 0; i < 3; i++)
        for (int v = 0; v < 256; v++) rounded[i][v] = to_bf16(c->table[i][v]);
    cut<uint16_t>(c, rounded);
}
