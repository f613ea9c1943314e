// dense.h: act(x W^T + b) + residual on the CPU, through oneDNN, with the weights packed once.
//
// oneDNN rather than a kernel of our own: measured on the layers of ViT-B/32 to H/14 it reaches 92 to 96 % of the f32
// peak of 2 Zen 4 cores. Bias, activation and residual are post-ops, so a result is written once.
#pragma once
#include <cstdint>
#include <memory>
#include <stdexcept>

namespace tia2 {

enum class activation { none, gelu, quick_gelu };

// What the constructor of dense throws on a CPU for which oneDNN has only its reference form of the product, or none.
struct no_fast_form : std::runtime_error {
    using std::runtime_error::runtime_error;
};

class dense {
  public:
    // weight f32 [N, K] and bias f32 [N] (or NULL) are only read here. bf16: weights and inputs are rounded to bf16,
    // sums stay f32. residual: whether run gets one.
    // Throws std::bad_alloc or no_fast_form.
    dense(const float *weight, int64_t K, int64_t N, const float *bias, activation act, bool residual, bool bf16);
    ~dense();
    dense(const dense &)            = delete;
    dense &operator=(const dense &) = delete;

    // y [M, N] from x [M, K] and residual [M, N] (NULL if there is none), which y must not overlap. Computes on the
    // calling thread alone where that is inside an OpenMP region, as ggml's are. Threads may call it at once.
    // False, with y void, where memory ran out; never throws, since no exception may leave ggml's workers.
    bool run(float *y, const float *x, const float *residual, int64_t M) const noexcept;

  private:
    struct impl;
    std::unique_ptr<impl> impl_;
};

} // namespace tia2
