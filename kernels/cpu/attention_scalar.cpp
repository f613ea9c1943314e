// The reference. Plain loops; it is the spec, change it last.
#include <assert.h>
#include <math.h>

#include "attention.h"
#include "scalar.h"

static double number(float x) { return (double)x; }
static double number(uint16_t x) { return (double)from_bf16(x); }
static void   put(float *p, double x) { *p = (float)x; }
static void   put(uint16_t *p, double x) { *p = to_bf16((float)x); }

template <class E> static void attention(const tia2_attention_head<E> *h) {
    assert(h->d >= 1 && h->n >= 1 && h->T >= 1 && (h->n <= h->T || !h->causal));
    assert(h->q_stride >= h->d && h->stride >= h->d && h->out_stride >= h->d);
    const double scale = 1 / sqrt((double)h->d);
    float       *weight = h->scratch; // [T]
    for (size_t t = 0; t < h->n; t++) {
        const size_t n_keys = h->causal ? h->T - h->n + t + 1 : h->T;
        const auto   row = [h](const E *x, size_t j) { return x + (h->rows ? (size_t)h->rows[j] : j) * h->stride; };
        double       top = -INFINITY, sum = 0;
        for (size_t j = 0; j < n_keys; j++) {
            double s = 0;
            for (size_t i = 0; i < h->d; i++) s += number(h->q[t * h->q_stride + i]) * number(row(h->k, j)[i]);
            weight[j] = (float)(s * scale);
            if (weight[j] > top) top = weight[j];
        }
        for (size_t j = 0; j < n_keys; j++) {
            weight[j] = (float)exp((double)weight[j] - top);
            sum += weight[j];
        }
        for (size_t i = 0; i < h->d; i++) {
            double o = 0;
            for (size_t j = 0; j < n_keys; j++) o += (double)weight[j] * number(row(h->v, j)[i]);
            put(&h->out[t * h->out_stride + i], o / sum);
        }
    }
}

void tia2_attention_f32_scalar(const tia2_attention_head<float> *h) { attention(h); }
void tia2_attention_bf16_scalar(const tia2_attention_head<uint16_t> *h) { attention(h); }
