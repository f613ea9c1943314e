// resize_exact_scalar.cpp: the passes of a 16 bit grey resize, in doubles as PIL does them
// (src/libImaging/Resample.c: _ImagingResample*_16bpc). Each pass rounds to 16 bits.
#include "resize_exact.h"

namespace tia2 {
namespace {

inline uint16_t clip16(double sum) {
    const int v = int(sum >= 0.0 ? sum + 0.5 : sum - 0.5);
    return uint16_t(v < 0 ? 0 : v > 65535 ? 65535 : v);
}

} // namespace

void resize_h_u16(uint16_t *y, const uint16_t *x, const resize_axis &axis) {
    for (int32_t i = 0; i < axis.view().n; i++) {
        const double   *w = axis.exact(i);
        const uint16_t *from = x + axis.first(i);
        double          sum = 0.0;
        for (int32_t t = 0; t < axis.count(i); t++) sum += from[t] * w[t];
        y[i] = clip16(sum);
    }
}

void resize_v_u16(uint16_t *y, const uint16_t *x, size_t pitch, size_t n, const resize_axis &axis, int32_t i) {
    const double *w = axis.exact(i);
    for (size_t j = 0; j < n; j++) {
        double sum = 0.0;
        for (int32_t t = 0; t < axis.count(i); t++) sum += x[size_t(t) * pitch + j] * w[t];
        y[j] = clip16(sum);
    }
}

} // namespace tia2
