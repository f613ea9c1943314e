// packed.h: weight matrices in the layout of cpu/dense.h, made at first use and shared by all graphs of a model.
#pragma once
#include "../cpu/dense_onednn.h"
#include "../cpu/ops.h"
#include "weights.h"

#include <cstdint>
#include <map>
#include <memory>
#include <vector>

namespace tia2 {

// A matrix [N, K] ready for products on the CPU.
class packed_matrix {
  public:
    // Reads the tensor's values once, on n_threads threads. Throws std::bad_alloc.
    packed_matrix(const ggml_tensor *weight, tia2_format format, int n_threads);

    tia2_format format() const { return format_; }
    size_t      K() const { return K_; }
    size_t      N() const { return N_; }

    // Panels of columns that can be computed apart from each other.
    size_t panels() const { return onednn_ ? 1 : tia2_dense_panels(N_); }

    // Computes c, in which K, N and the weights are filled in here. May be called by threads at once, for ranges of
    // panels() too. False where memory ran out.
    bool run(tia2_dense_call c) const noexcept;

  private:
    struct aligned_delete {
        void operator()(uint8_t *p) const { free(p); }
    };

    void pack_all(const ggml_tensor *weight, int n_threads);
    void pack_panels(const ggml_tensor *weight, size_t begin, size_t end);
    bool pack_for_tiles(const ggml_tensor *weight);

    tia2_format                                format_;
    size_t                                     K_, N_;
    std::unique_ptr<uint8_t[], aligned_delete> panels_;
    std::vector<float>                         scale_; // q8: of every column
    std::vector<int32_t>                       start_;
    std::unique_ptr<dense_onednn>              onednn_; // instead of panels_
};

// The packed matrices of a model.
class packed_weights {
  public:
    packed_weights(weights &w, int n_threads) : weights_(w), n_threads_(n_threads) {}

    // Whether this CPU has vector forms of the kernels. Where it has not, ggml is faster than their scalar references.
    static bool worthwhile();

    //   f32, f16    are computed in f32
    //   bf16, q8_0  in bf16 and 8 bit integers where the CPU has dot products of them, else in f32
    const packed_matrix *get(const ggml_tensor *weight);

  private:
    weights                                                       &weights_;
    int                                                            n_threads_;
    std::map<const ggml_tensor *, std::unique_ptr<packed_matrix>> matrices_;
};

} // namespace tia2
