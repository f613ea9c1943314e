// resize_axis.h: computes and owns the weights of one direction of a resize.
#pragma once
#include "resize.h"

#include <vector>

namespace tia2 {

class resize_axis {
  public:
    // Weights of outputs from .. from + n - 1 of a resize from `in` to `out` pixels. Double weights are kept only if
    // `exact`, the fixed-point ones only if not. Throws tia2::failure where a side is so long that the weights of one
    // output alone would fill memory (PIL refuses those too, somewhat later).
    resize_axis(int32_t in, int32_t out, int32_t from, int32_t n, bool exact = false);

    const tia2_resize_axis &view() const { return view_; }
    const double           *exact(int32_t i) const { return exact_.data() + size_t(i) * size_t(view_.stride); }
    int32_t                 first(int32_t i) const { return first_[size_t(i)]; }
    int32_t                 count(int32_t i) const { return count_[size_t(i)]; }
    int32_t                 inputs() const { return view_.in; }
    // narrow drops the inputs that no output uses and returns how many of them lay before the first one in use.
    int32_t narrow();

  private:
    tia2_resize_axis     view_ = {};
    std::vector<int32_t> first_, count_, k_;
    std::vector<int16_t> lo_, hi_;
    std::vector<int8_t>  digits_; // d0, d1 and d2 one after another
    std::vector<double>  exact_;

    void weights(int32_t i, double width, double center, double *w) const;
    void fixed(size_t at, const double *w, int32_t count);
};

} // namespace tia2
