// The reference. Plain loops; it is the spec, change it last.
#include <assert.h>
#include <math.h>

#include "textnorm.h"

namespace {

struct range {
    double lo, hi;
};

double reward(const tia2_textnorm_set *s, size_t i, size_t j) {
    const float *image = s->images + (size_t)s->rows[i] * s->D, *text = s->texts + j * s->D;
    double       sum = 0;
    for (size_t d = 0; d < s->D; d++) sum += (double)image[d] * (double)text[d];
    return s->reward_scale * sum;
}

bool finite_row(const double *r, size_t P) {
    for (size_t j = 0; j < P; j++)
        if (!isfinite(r[j])) return false;
    return true;
}

void widen(range *g, const double *r, size_t P) {
    for (size_t j = 0; j < P; j++) {
        if (r[j] < g->lo) g->lo = r[j];
        if (r[j] > g->hi) g->hi = r[j];
    }
}

// softmax(scale * (r - lo) / (hi - lo))[0]. The greatest reward is subtracted instead of lo: the same by the softmax's
// invariance, and exp() cannot overflow.
double normalise(const double *r, size_t P, range g, double scale) {
    if (!finite_row(r, P)) return NAN;
    if (g.hi == g.lo) return 1.0 / (double)P;
    double top = r[0], sum = 0;
    for (size_t j = 1; j < P; j++)
        if (r[j] > top) top = r[j];
    for (size_t j = 0; j < P; j++) sum += exp(scale * ((r[j] - top) / (g.hi - g.lo)));
    return exp(scale * ((r[0] - top) / (g.hi - g.lo))) / sum;
}

} // namespace

void tia2_textnorm_f32_scalar(const tia2_textnorm_set *s) {
    assert(s->P >= 1 && s->D >= 1 && s->scale > 0);
    const size_t P = s->P, block = s->whole_set ? s->n_rows : kTextnormBlock;
    for (size_t i0 = 0; i0 < s->n_rows; i0 += block) {
        const size_t n = s->n_rows - i0 < block ? s->n_rows - i0 : block;
        range        all = {INFINITY, -INFINITY};
        for (size_t i = 0; i < n; i++) {
            double *r = s->rewards + i * P; // rewards[i0 + i, :]
            for (size_t j = 0; j < P; j++) r[j] = reward(s, i0 + i, j);
            if (finite_row(r, P)) widen(&all, r, P);
        }
        for (size_t i = 0; i < n; i++) {
            const double *r = s->rewards + i * P;
            const size_t  row = (size_t)s->rows[i0 + i];
            range         g = {INFINITY, -INFINITY};
            if (s->whole_set)
                g = all;
            else
                widen(&g, r, P);
            if (s->raw) s->raw[row] = (float)r[0];
            s->norm[row] = (float)normalise(r, P, g, s->scale);
        }
    }
}
