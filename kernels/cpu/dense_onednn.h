// dense_onednn.h: bf16 products through oneDNN, for CPUs with matrix tiles (AMX), which the kernels of dense.h do not use.
//
// On CPUs without tiles those kernels are as fast or faster (ARCHITECTURE.md has the figures), so they are used there.
#pragma once
#include "dense.h"

#include <memory>

namespace tia2 {

// Whether this CPU has AMX tiles of bf16, and oneDNN uses them.
bool onednn_has_tiles();

class dense_onednn {
  public:
    // Packs a weight matrix f32 [N, K] for products of bf16 rows. Throws std::bad_alloc, or std::runtime_error where
    // oneDNN has only its reference form of the product on this CPU.
    dense_onednn(const float *weight, size_t K, size_t N);
    ~dense_onednn();

    // Computes c for bf16 rows, all panels; c.weights, c.scale and c.start are not used, and rows of the
    // residual are as many values apart as those of y. Computes on the calling thread
    // alone where that is inside an OpenMP region, as ggml's are. Threads may call it at once. False, with y void, where
    // memory ran out; never throws, since no exception may leave ggml's workers.
    bool run(const tia2_dense_call &c) const noexcept;

  private:
    struct impl;
    std::unique_ptr<impl> impl_;
};

} // namespace tia2
