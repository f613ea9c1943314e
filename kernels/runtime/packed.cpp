#include "packed.h"

#include "log.h"

#include "ggml.h"

#include <algorithm>
#include <cstdlib>
#include <new>
#include <stdexcept>
#include <thread>

namespace tia2 {
namespace {

constexpr size_t kAlign = 64; // of cpu/dense.h

// bf16 rows of odd length have no whole groups of 4 bytes.
tia2_format format_of(const ggml_tensor *weight) {
    const tia2_cpu_ops &ops = tia2_cpu();
    if (weight->type == GGML_TYPE_BF16 && ops.dense_bf16 != tia2_dense_bf16_scalar && weight->ne[0] % 2 == 0) return tia2_format::bf16;
    if (weight->type == GGML_TYPE_Q8_0 && ops.dense_q8 != tia2_dense_q8_scalar) return tia2_format::q8;
    return tia2_format::f32;
}

} // namespace

packed_matrix::packed_matrix(const ggml_tensor *weight, tia2_format format, int n_threads)
    : format_(format), K_((size_t)weight->ne[0]), N_((size_t)weight->ne[1]) {
    if (!pack_for_tiles(weight)) pack_all(weight, n_threads);
}

// Where the CPU has tiles for bf16 and may use all that it has.
bool packed_matrix::pack_for_tiles(const ggml_tensor *weight) {
    if (format_ != tia2_format::bf16 || tia2_cpu_flags() != tia2_cpu_detected() || !onednn_has_tiles()) return false;
    std::vector<float> wide(K_ * N_);
    ggml_get_type_traits(weight->type)->to_float(weight->data, wide.data(), (int64_t)wide.size());
    try {
        onednn_ = std::make_unique<dense_onednn>(wide.data(), K_, N_);
    } catch (const std::runtime_error &e) {
        log_line(e.what());
    }
    return onednn_ != nullptr;
}

void packed_matrix::pack_all(const ggml_tensor *weight, int n_threads) {
    const size_t panels = tia2_dense_panels(N_);
    panels_.reset((uint8_t *)aligned_alloc(kAlign, tia2_dense_packed(format_, K_, N_)));
    if (!panels_) throw std::bad_alloc();
    if (format_ == tia2_format::q8) {
        scale_.resize(panels * kDensePanel);
        start_.resize(panels * kDensePanel);
    }
    const size_t             n = std::min((size_t)n_threads, panels);
    std::vector<std::thread> threads;
    for (size_t i = 1; i < n; i++) threads.emplace_back([this, weight, panels, i, n] { pack_panels(weight, panels * i / n, panels * (i + 1) / n); });
    pack_panels(weight, 0, panels / n);
    for (std::thread &t : threads) t.join();
}

void packed_matrix::pack_panels(const ggml_tensor *weight, size_t begin, size_t end) {
    const auto         to_float = ggml_get_type_traits(weight->type)->to_float; // NULL for f32
    std::vector<float> wide(to_float ? kDensePanel * K_ : 0);
    for (size_t p = begin; p < end; p++) {
        const size_t first = p * kDensePanel, n = std::min(kDensePanel, N_ - first);
        const void  *rows = (const char *)weight->data + first * weight->nb[1];
        if (to_float) to_float(rows, wide.data(), (int64_t)(n * K_));
        tia2_dense_pack_panel(format_, to_float ? wide.data() : (const float *)rows, n, K_, &panels_[p * tia2_dense_packed(format_, K_, 1)],
                              scale_.empty() ? nullptr : &scale_[first], start_.empty() ? nullptr : &start_[first]);
    }
}

bool packed_matrix::run(tia2_dense_call c) const noexcept {
    c.K = K_;
    c.N = N_;
    if (onednn_) return c.panel_begin == c.panel_end || onednn_->run(c);
    c.weights = panels_.get();
    c.scale   = scale_.data();
    c.start   = start_.data();
    const tia2_cpu_ops &ops = tia2_cpu();
    (format_ == tia2_format::f32 ? ops.dense_f32 : format_ == tia2_format::bf16 ? ops.dense_bf16 : ops.dense_q8)(&c);
    return true;
}

bool packed_weights::worthwhile() { return tia2_cpu().dense_f32 != tia2_dense_f32_scalar; }

const packed_matrix *packed_weights::get(const ggml_tensor *weight) {
    std::unique_ptr<packed_matrix> &m = matrices_[weight];
    if (m) return m.get();
    m = std::make_unique<packed_matrix>(weight, format_of(weight), n_threads_);
    weights_.release(weight);
    return m.get();
}

} // namespace tia2
