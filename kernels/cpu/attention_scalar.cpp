// The reference. Plain loops; it is the spec, change it last.
#include <assert.h>
#include <math.h>

#include "attention.h"

void tia2_attention_f32_scalar(const tia2_attention_head *h) {
    assert(h->T >= 1 && h->d >= 1 && h->stride >= h->d && h->out_stride >= h->d);
    const double scale = 1 / sqrt((double)h->d);
    float       *weight = h->scratch; // [T]
    for (size_t t = 0; t < h->T; t++) {
        const size_t n_keys = h->causal ? t + 1 : h->T;
        double       top = -INFINITY, sum = 0;
        for (size_t j = 0; j < n_keys; j++) {
            double s = 0;
            for (size_t i = 0; i < h->d; i++) s += (double)h->q[t * h->stride + i] * (double)h->k[j * h->stride + i];
            weight[j] = (float)(s * scale);
            if (weight[j] > top) top = weight[j];
        }
        for (size_t j = 0; j < n_keys; j++) {
            weight[j] = (float)exp((double)weight[j] - top);
            sum += weight[j];
        }
        for (size_t i = 0; i < h->d; i++) {
            double o = 0;
            for (size_t j = 0; j < n_keys; j++) o += (double)weight[j] * (double)h->v[j * h->stride + i];
            h->out[t * h->out_stride + i] = (float)(o / sum);
        }
    }
}
