// resize_axis_scalar.cpp: PIL's precompute_coeffs and normalize_coeffs_8bpc. Doubles in PIL's order of operations, and
// built without contraction, so that the weights are PIL's to the bit on every machine.
#include "resize_axis.h"
#include "runtime/error.h"

#include <algorithm>
#include <cmath>

namespace tia2 {
namespace {

constexpr double   kSupport = 2.0; // of the bicubic filter, a = -0.5
constexpr uint64_t kWeightsMax = uint64_t(1) << 26;

double bicubic(double x) {
    constexpr double a = -0.5;
    if (x < 0.0) x = -x;
    if (x < 1.0) return ((a + 2.0) * x - (a + 3.0)) * x * x + 1;
    if (x < 2.0) return (((x - 5) * x + 8) * x - 4) * a;
    return 0.0;
}

} // namespace

resize_axis::resize_axis(int32_t in, int32_t out, int32_t from, int32_t n, bool exact) {
    const double scale = double(float(in)) / out, width = std::max(scale, 1.0), support = kSupport * width;
    const auto   size = uint64_t(std::ceil(support)) * 2 + 1;
    const auto   stride = (size + TIA2_RESIZE_ALIGN - 1) / TIA2_RESIZE_ALIGN * TIA2_RESIZE_ALIGN;
    if (stride * uint64_t(n) > kWeightsMax)
        fail(TIA2_EIMAGE, "a side of %d pixels is too long to be resized to %d", in, out);

    const size_t total = size_t(stride) * size_t(n);
    first_.resize(size_t(n));
    count_.resize(size_t(n));
    if (exact) {
        exact_.resize(total);
    } else {
        k_.resize(total);
        lo_.resize(total);
        hi_.resize(total);
        digits_.resize(3 * total);
    }
    view_ = {n, in, int32_t(stride), first_.data(), count_.data(), k_.data(), lo_.data(), hi_.data(),
             digits_.data(), digits_.data() + total, digits_.data() + 2 * total};
    std::vector<double> w(static_cast<size_t>(stride));
    for (int32_t i = 0; i < n; i++) {
        const double center = (from + i + 0.5) * scale;
        const int    lo = std::max(int(center - support + 0.5), 0), hi = std::min(int(center + support + 0.5), in);
        first_[size_t(i)] = lo;
        count_[size_t(i)] = hi - lo;
        weights(i, width, center, w.data());
        if (exact)
            std::copy(w.begin(), w.begin() + (hi - lo), exact_.begin() + ptrdiff_t(stride) * i);
        else
            fixed(size_t(stride) * size_t(i), w.data(), hi - lo);
    }
}

int32_t resize_axis::narrow() {
    const int32_t begin = first_.front(), end = first_.back() + count_.back(); // both grow with the output
    for (int32_t &f : first_) f -= begin;
    view_.in = end - begin;
    return begin;
}

void resize_axis::weights(int32_t i, double width, double center, double *w) const {
    const double  inverse = 1.0 / width;
    const int32_t lo = first(i), n = count(i);
    double        sum = 0;
    for (int32_t t = 0; t < n; t++) {
        w[t] = bicubic((t + lo - center + 0.5) * inverse);
        sum += w[t];
    }
    if (sum != 0.0)
        for (int32_t t = 0; t < n; t++) w[t] /= sum;
}

void resize_axis::fixed(size_t at, const double *w, int32_t count) {
    const size_t total = k_.size();
    for (int32_t t = 0; t < count; t++, at++) {
        const double  v = w[t] * (1 << TIA2_RESIZE_BITS);
        const int32_t k = int32_t(w[t] < 0 ? -0.5 + v : 0.5 + v);
        const int32_t hi = (k + (1 << (TIA2_RESIZE_SPLIT - 1))) >> TIA2_RESIZE_SPLIT;
        k_[at] = k;
        hi_[at] = int16_t(hi);
        lo_[at] = int16_t(k - hi * (1 << TIA2_RESIZE_SPLIT));
        const int32_t high = (k + 128) >> 8, highest = (high + 128) >> 8; // rounded, so that what is left is signed
        digits_[at] = int8_t(k - high * 256);
        digits_[at + total] = int8_t(high - highest * 256);
        digits_[at + 2 * total] = int8_t(highest);
    }
}

} // namespace tia2
