#include "dense.h"

#include "dnnl.hpp"

#include <cstring>
#include <map>
#include <mutex>
#include <stdexcept>
#include <string>
#include <unordered_map>
#include <vector>

namespace tia2 {
namespace {

using dt  = dnnl::memory::data_type;
using tag = dnnl::memory::format_tag;

dnnl::engine &cpu() {
    static dnnl::engine e(dnnl::engine::kind::cpu, 0);
    return e;
}

// What a thread needs to run primitives of its own: a stream, and scratch that grows.
struct thread_state {
    dnnl::stream         stream{cpu()};
    std::vector<uint8_t> scratch, input;
};

thread_state &this_thread() {
    static thread_local thread_state s;
    return s;
}

// A primitive for one number of rows, and the scratch memory that it needs. Copies share it.
struct product {
    dnnl::matmul       matmul;
    dnnl::memory::desc scratch;
};

constexpr size_t kProductsMax = 64; // kept by one dense; oneDNN's own cache makes an old one again quickly

} // namespace

struct dense::impl {
    int64_t                    K, N;
    dt                         type;
    bool                       has_residual;
    activation                 act;
    dnnl::memory               weights, bias;
    std::mutex                 mutex;    // of products
    std::map<int64_t, product> products; // by M

    dnnl::matmul::primitive_desc describe(int64_t M, const dnnl::memory::desc &weights_desc) const;
    product                      product_for(int64_t M);
    void                         run(float *y, const float *x, const float *residual, int64_t M);
};

dnnl::matmul::primitive_desc dense::impl::describe(int64_t M, const dnnl::memory::desc &weights_desc) const {
    dnnl::primitive_attr attr;
    dnnl::post_ops       post;
    if (act == activation::gelu) post.append_eltwise(dnnl::algorithm::eltwise_gelu_erf, 0, 0);
    if (act == activation::quick_gelu) post.append_eltwise(dnnl::algorithm::eltwise_swish, 1.702f, 0);
    const dnnl::memory::desc y({M, N}, dt::f32, tag::ab);
    if (has_residual) post.append_binary(dnnl::algorithm::binary_add, y);
    attr.set_post_ops(post);
    attr.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    const dnnl::memory::desc x({M, K}, type, tag::ab);
    dnnl::matmul::primitive_desc pd =
        bias ? dnnl::matmul::primitive_desc(cpu(), x, weights_desc, dnnl::memory::desc({1, N}, dt::f32, tag::ab), y, attr)
             : dnnl::matmul::primitive_desc(cpu(), x, weights_desc, y, attr);
    if (std::string(pd.impl_info_str()).find("ref") != std::string::npos)
        throw no_fast_form("oneDNN has only its reference form of this product");
    return pd;
}

dense::dense(const float *weight, int64_t K, int64_t N, const float *bias, activation act, bool residual, bool bf16)
    : impl_(std::make_unique<impl>()) {
    impl &d        = *impl_;
    d.K            = K;
    d.N            = N;
    d.type         = bf16 ? dt::bf16 : dt::f32;
    d.has_residual = residual;
    d.act          = act;
    if (bias) {
        d.bias = dnnl::memory({{1, N}, dt::f32, tag::ab}, cpu());
        memcpy(d.bias.get_data_handle(), bias, (size_t)N * sizeof(float));
    }
    try {
        // The layout that is best for many rows serves any number of rows.
        d.weights = dnnl::memory(d.describe(1600, {{K, N}, d.type, tag::any}).weights_desc(), cpu());
    } catch (const dnnl::error &e) {
        if (e.status == dnnl_out_of_memory) throw std::bad_alloc();
        throw no_fast_form(std::string("oneDNN has no form of this product: ") + e.what());
    }
    dnnl::memory plain({{K, N}, dt::f32, tag::ba}, cpu(), const_cast<float *>(weight));
    dnnl::stream stream(cpu());
    dnnl::reorder(plain, d.weights).execute(stream, plain, d.weights);
    stream.wait();
}

dense::~dense() = default;

product dense::impl::product_for(int64_t M) {
    const std::lock_guard<std::mutex> lock(mutex);
    auto                              at = products.find(M);
    if (at == products.end()) {
        if (products.size() >= kProductsMax) products.clear();
        const auto pd = describe(M, weights.get_desc());
        at            = products.emplace(M, product{dnnl::matmul(pd), pd.scratchpad_desc()}).first;
    }
    return at->second;
}

// At least n bytes at a cache line, from a vector that only grows.
static void *grow(std::vector<uint8_t> &v, size_t n) {
    if (v.size() < n + 64) v.resize(n + 64);
    return (void *)(((uintptr_t)v.data() + 63) & ~(uintptr_t)63);
}

void dense::impl::run(float *y, const float *x, const float *residual, int64_t M) {
    const product p = product_for(M);
    thread_state &t = this_thread();
    dnnl::memory  src({{M, K}, dt::f32, tag::ab}, cpu(), const_cast<float *>(x));
    if (type == dt::bf16) {
        dnnl::memory rounded({{M, K}, dt::bf16, tag::ab}, cpu(), grow(t.input, (size_t)(M * K) * 2));
        dnnl::reorder(src, rounded).execute(t.stream, src, rounded);
        src = rounded;
    }
    dnnl::memory out({{M, N}, dt::f32, tag::ab}, cpu(), y);
    dnnl::memory scratch(p.scratch, cpu(), grow(t.scratch, p.scratch.get_size()));
    std::unordered_map<int, dnnl::memory> args{
        {DNNL_ARG_SRC, src}, {DNNL_ARG_WEIGHTS, weights}, {DNNL_ARG_DST, out}, {DNNL_ARG_SCRATCHPAD, scratch}};
    if (bias) args[DNNL_ARG_BIAS] = bias;
    if (has_residual) {
        const int at = act == activation::none ? 0 : 1; // position among the post-ops
        args[DNNL_ARG_ATTR_MULTIPLE_POST_OP(at) | DNNL_ARG_SRC_1] =
            dnnl::memory({{M, N}, dt::f32, tag::ab}, cpu(), const_cast<float *>(residual));
    }
    p.matmul.execute(t.stream, args);
    t.stream.wait();
}

bool dense::run(float *y, const float *x, const float *residual, int64_t M) const noexcept {
    try {
        if (M > 0) impl_->run(y, x, residual, M);
        return true;
    } catch (...) {
        return false;
    }
}

} // namespace tia2
