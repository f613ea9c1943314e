#include "dense_onednn.h"

#include "dnnl.hpp"

#include <map>
#include <mutex>
#include <new>
#include <stdexcept>
#include <string>
#include <tuple>
#include <unordered_map>
#include <vector>

namespace tia2 {
namespace {

using dt   = dnnl::memory::data_type;
using tag  = dnnl::memory::format_tag;
using dims = dnnl::memory::dims;

dnnl::engine &cpu() {
    static dnnl::engine e(dnnl::engine::kind::cpu, 0);
    return e;
}

// What a thread needs to run primitives of its own: a stream, and scratch that grows.
struct thread_state {
    dnnl::stream         stream{cpu()};
    std::vector<uint8_t> scratch;
};

thread_state &this_thread() {
    static thread_local thread_state s;
    return s;
}

// At least n bytes at a cache line, from a vector that only grows.
void *grow(std::vector<uint8_t> &v, size_t n) {
    if (v.size() < n + 64) v.resize(n + 64);
    return (void *)(((uintptr_t)v.data() + 63) & ~(uintptr_t)63);
}

// What makes two products with one matrix differ.
struct product_key {
    size_t     M, residual_stride; // 0: no residual
    activation act;
    bool       bias, y_bf16;
    size_t     x_stride, y_stride;

    bool operator<(const product_key &o) const {
        return std::tie(M, residual_stride, act, bias, y_bf16, x_stride, y_stride) <
               std::tie(o.M, o.residual_stride, o.act, o.bias, o.y_bf16, o.x_stride, o.y_stride);
    }
};

struct product {
    dnnl::matmul::primitive_desc desc;
    dnnl::matmul                 matmul;
};

constexpr size_t kProductsMax = 64;  // kept; oneDNN's own cache makes an old one again quickly
constexpr size_t kUsualRows   = 512; // the weights' layout is the best for so many rows, and serves any number

dnnl::memory::desc rows(size_t n, size_t W, dt type, size_t stride_bytes) {
    const int64_t size = type == dt::f32 ? 4 : 2;
    return dnnl::memory::desc(dims{(int64_t)n, (int64_t)W}, type, dims{(int64_t)stride_bytes / size, 1});
}

} // namespace

bool onednn_has_tiles() {
    const unsigned want = (unsigned)dnnl::cpu_isa::avx512_core_amx;
    return ((unsigned)dnnl::get_effective_cpu_isa() & want) == want;
}

struct dense_onednn::impl {
    size_t                         K, N;
    dnnl::memory                   weights;
    std::mutex                     mutex; // of products
    std::map<product_key, product> products;

    dnnl::matmul::primitive_desc describe(const product_key &key, const dnnl::memory::desc &weights_desc) const;
    product                      product_for(const product_key &key);
    void                         run(const tia2_dense_call &c);
};

dnnl::matmul::primitive_desc dense_onednn::impl::describe(const product_key &key, const dnnl::memory::desc &weights_desc) const {
    dnnl::primitive_attr attr;
    dnnl::post_ops       post;
    if (key.act == activation::gelu) post.append_eltwise(dnnl::algorithm::eltwise_gelu_erf, 0, 0);
    if (key.act == activation::quick_gelu) post.append_eltwise(dnnl::algorithm::eltwise_swish, 1.702f, 0);
    if (key.residual_stride) post.append_binary(dnnl::algorithm::binary_add, rows(key.M, N, dt::f32, key.residual_stride));
    attr.set_post_ops(post);
    attr.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    const dnnl::memory::desc x = rows(key.M, K, dt::bf16, key.x_stride), y = rows(key.M, N, key.y_bf16 ? dt::bf16 : dt::f32, key.y_stride);
    const dnnl::memory::desc bias(dims{1, (int64_t)N}, dt::f32, tag::ab);
    const auto pd = key.bias ? dnnl::matmul::primitive_desc(cpu(), x, weights_desc, bias, y, attr) : dnnl::matmul::primitive_desc(cpu(), x, weights_desc, y, attr);
    if (std::string(pd.impl_info_str()).find("ref") != std::string::npos) throw std::runtime_error("oneDNN has only its reference form of this product");
    return pd;
}

dense_onednn::dense_onednn(const float *weight, size_t K, size_t N) : impl_(std::make_unique<impl>()) {
    impl &d = *impl_;
    d.K     = K;
    d.N     = N;
    const dims shape{(int64_t)K, (int64_t)N};
    try {
        const product_key usual{kUsualRows, 0, activation::none, true, false, 2 * K, 4 * N};
        d.weights = dnnl::memory(d.describe(usual, {shape, dt::bf16, tag::any}).weights_desc(), cpu());
        dnnl::memory plain({shape, dt::f32, tag::ba}, cpu(), const_cast<float *>(weight));
        dnnl::stream stream(cpu());
        dnnl::reorder(plain, d.weights).execute(stream, plain, d.weights);
        stream.wait();
    } catch (const dnnl::error &e) {
        if (e.status == dnnl_out_of_memory) throw std::bad_alloc();
        throw std::runtime_error(std::string("oneDNN has no form of this product: ") + e.what());
    }
}

dense_onednn::~dense_onednn() = default;

product dense_onednn::impl::product_for(const product_key &key) {
    const std::lock_guard<std::mutex> lock(mutex);
    auto                              at = products.find(key);
    if (at == products.end()) {
        if (products.size() >= kProductsMax) products.clear();
        const auto pd = describe(key, weights.get_desc());
        at            = products.emplace(key, product{pd, dnnl::matmul(pd)}).first;
    }
    return at->second;
}

void dense_onednn::impl::run(const tia2_dense_call &c) {
    const product_key key{c.M, c.residual ? c.residual_stride : 0, c.act, c.bias != nullptr, c.y_bf16, c.x_stride, c.y_stride};
    const product     p      = product_for(key);
    thread_state     &t      = this_thread();
    const auto        memory = [](const dnnl::memory::desc &d, const void *data) { return dnnl::memory(d, cpu(), const_cast<void *>(data)); };
    std::unordered_map<int, dnnl::memory> args{{DNNL_ARG_SRC, memory(p.desc.src_desc(), c.x)},
                                               {DNNL_ARG_WEIGHTS, weights},
                                               {DNNL_ARG_DST, memory(p.desc.dst_desc(), c.y)},
                                               {DNNL_ARG_SCRATCHPAD, memory(p.desc.scratchpad_desc(), grow(t.scratch, p.desc.scratchpad_desc().get_size()))}};
    if (c.bias) args[DNNL_ARG_BIAS] = memory(p.desc.bias_desc(), c.bias);
    if (c.residual) {
        const int at = c.act == activation::none ? 0 : 1; // position among the post-ops
        args[DNNL_ARG_ATTR_MULTIPLE_POST_OP(at) | DNNL_ARG_SRC_1] = memory(rows(c.M, N, dt::f32, c.residual_stride), c.residual);
    }
    p.matmul.execute(t.stream, args);
    t.stream.wait();
}

bool dense_onednn::run(const tia2_dense_call &c) const noexcept {
    try {
        if (c.M > 0) impl_->run(c);
        return true;
    } catch (...) {
        return false;
    }
}

} // namespace tia2
