#include "ops.h"

#include "../cpu/ops.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <new>
#include <vector>

namespace tia2 {
namespace {

std::string shape_name(std::initializer_list<int64_t> dims, ggml_type type) {
    std::string s;
    for (const int64_t d : dims) s += (s.empty() ? "" : "x") + std::to_string(d);
    return s + " " + ggml_type_name(type);
}

// A product that accumulates in f32, and that keeps f32 operands in f32 on devices that would rather halve them.
ggml_tensor *matmul(ggml_context *ctx, ggml_tensor *a, ggml_tensor *b) {
    ggml_tensor *y = ggml_mul_mat(ctx, a, b);
    ggml_prec_set_acc(y, GGML_PREC_F32);
    if (a->type == GGML_TYPE_F32) {
        ggml_prec_set_src(y, GGML_PREC_F32, 0);
        ggml_prec_set_src(y, GGML_PREC_F32, 1);
    }
    return y;
}

// ggml_gelu and ggml_gelu_quick look their values up in f16 on the CPU, which costs three digits: these are exact.
ggml_tensor *activate(ggml_context *ctx, ggml_tensor *x, activation act) {
    switch (act) {
    case activation::none: return x;
    case activation::gelu: return ggml_gelu_erf(ctx, x);
    case activation::quick_gelu: return ggml_mul(ctx, x, ggml_sigmoid(ctx, ggml_scale(ctx, x, 1.702f)));
    }
    return x;
}

struct dense_call {
    const dense       *weights;
    std::atomic<bool> *failed;
};

// Each of ggml's threads computes a run of rows.
void run_dense(ggml_tensor *dst, int ith, int nth, void *call) {
    const dense_call  &c = *static_cast<const dense_call *>(call);
    const ggml_tensor *x = dst->src[0], *residual = dst->src[1];
    const int64_t      M = x->ne[1], first = M * ith / nth, end = M * (ith + 1) / nth;
    const auto         row = [&](const ggml_tensor *t) { return t ? (float *)((char *)t->data + t->nb[1] * (size_t)first) : nullptr; };
    if (!c.weights->run(row(dst), row(x), row(residual), end - first)) *c.failed = true;
}

ggml_tensor *linear_dense(graph_builder &g, ggml_tensor *x, ggml_tensor *residual, const dense *d, int64_t N) {
    ggml_tensor *args[] = {x, residual};
    return ggml_custom_4d(g.ctx(), GGML_TYPE_F32, N, x->ne[1], 1, 1, args, residual ? 2 : 1, run_dense, GGML_N_TASKS_MAX,
                          g.keep(dense_call{d, g.failed()}));
}

struct attention_shape {
    int64_t heads, T, B;
    bool    causal;
};

struct attention_call {
    attention_shape    shape;
    std::atomic<bool> *failed;
};

// Each of ggml's threads computes a run of the B * heads single attentions.
void run_attention(ggml_tensor *dst, int ith, int nth, void *call) {
    const attention_call  &c   = *static_cast<const attention_call *>(call);
    const attention_shape &s   = c.shape;
    const ggml_tensor     *qkv = dst->src[0];
    const int64_t          W = dst->ne[0], d = W / s.heads, n = s.B * s.heads;
    const auto             attend = tia2_cpu().attention_f32;

    static thread_local std::vector<float> scratch;
    try {
        scratch.resize(std::max(scratch.size(), tia2_attention_scratch((size_t)s.T, (size_t)d)));
    } catch (const std::bad_alloc &) {
        *c.failed = true;
        return;
    }
    for (int64_t i = n * ith / nth; i < n * (ith + 1) / nth; i++) {
        const int64_t b = i / s.heads, h = i % s.heads;
        const float  *q = (const float *)qkv->data + b * s.T * 3 * W + h * d; // qkv[0, b, :, h]
        float        *o = (float *)dst->data + b * s.T * W + h * d;           // out[b, :, h]
        const tia2_attention_head head = {q, q + W, q + 2 * W, (size_t)(3 * W), o, (size_t)W, (size_t)s.T, (size_t)d, s.causal, scratch.data()};
        attend(&head);
    }
}

ggml_tensor *attention_fused(graph_builder &g, ggml_tensor *qkv, const attention_shape &s) {
    ggml_tensor *args[] = {qkv};
    return ggml_custom_4d(g.ctx(), GGML_TYPE_F32, qkv->ne[0] / 3, s.T * s.B, 1, 1, args, 1, run_attention, GGML_N_TASKS_MAX,
                          g.keep(attention_call{s, g.failed()}));
}

} // namespace

ggml_tensor *linear(graph_builder &g, const char *name, ggml_tensor *x, const linear_weights &w, activation act,
                    ggml_tensor *residual) {
    const int64_t K = w.weight->ne[0], N = w.weight->ne[1], M = x->ne[1];
    const dense  *packed = g.fused() ? g.fused()->get(w.weight, w.bias, act, residual != nullptr) : nullptr;
    ggml_tensor  *y;
    if (packed) {
        y = linear_dense(g, x, residual, packed, N);
    } else {
        y = matmul(g.ctx(), w.weight, x);
        if (w.bias) y = ggml_add(g.ctx(), y, w.bias);
        y = activate(g.ctx(), y, act);
        if (residual) y = ggml_add(g.ctx(), y, residual);
    }
    return g.op(name, y, shape_name({M, K, N}, w.weight->type), 2.0 * (double)M * (double)K * (double)N,
                {x, w.weight, w.bias, residual});
}

ggml_tensor *layer_norm(graph_builder &g, const char *name, ggml_tensor *x, const norm_weights &w) {
    ggml_tensor *y = ggml_norm(g.ctx(), x, w.eps);
    y              = ggml_add(g.ctx(), ggml_mul(g.ctx(), y, w.weight), w.bias);
    return g.op(name, y, shape_name({x->ne[1], x->ne[0]}, x->type), 8.0 * (double)ggml_nelements(x), {x, w.weight, w.bias});
}

// The mask of causal attention: 0 where query q sees key k, else -infinity. [T, T].
static ggml_tensor *causal_mask(graph_builder &g, int64_t T) {
    std::vector<float> mask((size_t)(T * T), 0.0f);
    for (int64_t q = 0; q < T; q++)
        for (int64_t k = q + 1; k < T; k++) mask[(size_t)(q * T + k)] = -INFINITY;
    return g.constant("causal_mask", {T, T}, std::move(mask));
}

static ggml_tensor *attention_plain(graph_builder &g, ggml_tensor *qkv, const attention_shape &s) {
    ggml_context *ctx = g.ctx();
    const int64_t W = qkv->ne[0] / 3, d = W / s.heads;
    const size_t  e = ggml_element_size(qkv), row = qkv->nb[1];
    // part[d, heads, T, B] of qkv[3W, T*B]
    const auto part = [&](int64_t i) {
        return ggml_view_4d(ctx, qkv, d, s.heads, s.T, s.B, (size_t)d * e, row, row * (size_t)s.T, (size_t)(i * W) * e);
    };
    ggml_tensor *mask = s.causal ? causal_mask(g, s.T) : nullptr;
    ggml_tensor *q    = ggml_permute(ctx, part(0), 0, 2, 1, 3);                 // [d, T, heads, B]
    ggml_tensor *k    = ggml_permute(ctx, part(1), 0, 2, 1, 3);                 // [d, T, heads, B]
    ggml_tensor *v    = ggml_cont(ctx, ggml_permute(ctx, part(2), 1, 2, 0, 3)); // [T, d, heads, B]
    ggml_tensor *p    = ggml_soft_max_ext(ctx, matmul(ctx, k, q), mask, 1.0f / std::sqrt((float)d), 0.0f);
    ggml_tensor *o    = ggml_permute(ctx, matmul(ctx, v, p), 0, 2, 1, 3); // [d, heads, T, B]
    return ggml_cont_2d(ctx, o, W, s.T * s.B);
}

ggml_tensor *attention(graph_builder &g, const char *name, ggml_tensor *qkv, int64_t heads, int64_t T, int64_t B, bool causal) {
    const attention_shape s = {heads, T, B, causal};
    const int64_t         W = qkv->ne[0] / 3;
    // The scalar form is a reference; ggml is faster on a CPU without AVX2.
    const bool fused = g.fused() && tia2_cpu().attention_f32 != tia2_attention_f32_scalar;
    return g.op(name, fused ? attention_fused(g, qkv, s) : attention_plain(g, qkv, s),
                shape_name({B, heads, T, W / heads}, qkv->type), 4.0 * (double)B * (double)T * (double)T * (double)W, {qkv});
}

ggml_tensor *every_row(graph_builder &g, const char *name, ggml_tensor *x, int64_t n) {
    const int64_t W = x->ne[0], B = x->ne[1] / n;
    return g.op(name, ggml_cont(g.ctx(), ggml_view_2d(g.ctx(), x, W, B, x->nb[1] * (size_t)n, 0)), shape_name({B, W}, x->type), 0, {});
}

ggml_tensor *gather_rows(graph_builder &g, const char *name, ggml_tensor *x, ggml_tensor *rows) {
    return g.op(name, ggml_get_rows(g.ctx(), x, rows), shape_name({rows->ne[0], x->ne[0]}, x->type), 0, {rows});
}

ggml_tensor *add_class_and_positions(graph_builder &g, const char *name, ggml_tensor *patches, ggml_tensor *class_embd,
                                     ggml_tensor *position_embd, int64_t B) {
    ggml_context *ctx = g.ctx();
    const int64_t W = patches->ne[0], N = patches->ne[1] / B;
    ggml_tensor  *each = ggml_reshape_3d(ctx, patches, W, N, B);
    ggml_tensor  *cls  = ggml_repeat_4d(ctx, class_embd, W, 1, B, 1);
    ggml_tensor  *x    = ggml_add(ctx, ggml_concat(ctx, cls, each, 1), position_embd);
    return g.op(name, ggml_reshape_2d(ctx, x, W, (N + 1) * B), shape_name({B, N + 1, W}, x->type), (double)ggml_nelements(x),
                {patches, class_embd, position_embd});
}

ggml_tensor *embed_tokens(graph_builder &g, const char *name, ggml_tensor *ids, ggml_tensor *token_embd, ggml_tensor *position_embd,
                          int64_t T, int64_t B) {
    ggml_context *ctx = g.ctx();
    const int64_t W   = token_embd->ne[0];
    ggml_tensor  *pos = ggml_view_2d(ctx, position_embd, W, T, position_embd->nb[1], 0);
    ggml_tensor  *x   = ggml_reshape_3d(ctx, ggml_get_rows(ctx, token_embd, ids), W, T, B);
    x                 = ggml_add(ctx, x, pos);
    return g.op(name, ggml_reshape_2d(ctx, x, W, T * B), shape_name({B, T, W}, x->type), (double)ggml_nelements(x), {ids});
}

} // namespace tia2
