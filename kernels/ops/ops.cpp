#include "ops.h"

#include "cpu_nodes.h"

#include <cmath>

namespace tia2 {
namespace {

std::string shape_name(std::initializer_list<int64_t> dims, ggml_type type) {
    std::string s;
    for (const int64_t d : dims) s += (s.empty() ? "" : "x") + std::to_string(d);
    return s + " " + (type == GGML_TYPE_I8 ? "q8" : ggml_type_name(type));
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

const packed_matrix *packed(graph_builder &g, const linear_weights &w) { return g.fused() ? g.fused()->get(w.weight) : nullptr; }

} // namespace

ggml_type operand_type(graph_builder &g, const linear_weights &w) {
    const packed_matrix *m = packed(g, w);
    if (!m || m->format() == tia2_format::f32) return GGML_TYPE_F32;
    return m->format() == tia2_format::bf16 ? GGML_TYPE_BF16 : GGML_TYPE_I8;
}

ggml_type between_type(graph_builder &g, const linear_weights &w) {
    return operand_type(g, w) == GGML_TYPE_F32 ? GGML_TYPE_F32 : GGML_TYPE_BF16;
}

ggml_tensor *as_operand(graph_builder &g, const char *name, ggml_tensor *x, const linear_weights &w) {
    const ggml_type type = operand_type(g, w);
    if (x->type == type) return x;
    return g.op(name, convert_node(g, x, type), shape_name({x->ne[1], x->ne[0]}, type), 0, {x});
}

ggml_tensor *linear(graph_builder &g, const char *name, ggml_tensor *x, const linear_weights &w, const epilogue &e) {
    const int64_t        K = w.weight->ne[0], N = w.weight->ne[1], M = x->ne[1];
    const packed_matrix *m = packed(g, w);
    ggml_tensor         *y;
    if (m) {
        y = linear_node(g, x, m, w.bias, e);
    } else {
        y = matmul(g.ctx(), w.weight, x);
        if (w.bias) y = ggml_add(g.ctx(), y, w.bias);
        y = activate(g.ctx(), y, e.act);
        if (e.residual) y = ggml_add(g.ctx(), y, e.residual);
    }
    return g.op(name, y, shape_name({M, K, N}, m ? x->type : w.weight->type), 2.0 * (double)M * (double)K * (double)N,
                {x, w.weight, w.bias, e.residual});
}

ggml_tensor *layer_norm(graph_builder &g, const char *name, ggml_tensor *x, const norm_weights &w, ggml_type out) {
    ggml_tensor *y;
    if (g.fused()) {
        y = layer_norm_node(g, x, w, out);
    } else {
        y = ggml_norm(g.ctx(), x, w.eps);
        y = ggml_add(g.ctx(), ggml_mul(g.ctx(), y, w.weight), w.bias);
    }
    return g.op(name, y, shape_name({x->ne[1], x->ne[0]}, out), 8.0 * (double)ggml_nelements(x), {x, w.weight, w.bias});
}

static ggml_tensor *attention_plain(graph_builder &g, ggml_tensor *q, ggml_tensor *kv, const attention_shape &s, const pooled_rows &pooled) {
    ggml_context *ctx = g.ctx();
    const int64_t W = pooled.n ? q->ne[0] : q->ne[0] / 3, d = W / s.heads, queries = q->ne[1] / s.B;
    const size_t  e = ggml_element_size(q);
    // part[d, heads, n, B]: W values of each of n*B rows, from value `at` on
    const auto part = [&](ggml_tensor *t, int64_t n, int64_t at) {
        return ggml_view_4d(ctx, t, d, s.heads, n, s.B, (size_t)d * e, t->nb[1], t->nb[1] * (size_t)n, (size_t)at * e);
    };
    ggml_tensor *qs   = ggml_permute(ctx, part(q, queries, 0), 0, 2, 1, 3);                         // [d, queries, heads, B]
    ggml_tensor *ks   = ggml_permute(ctx, part(kv, s.T, kv->ne[0] - 2 * W), 0, 2, 1, 3);            // [d, T, heads, B]
    ggml_tensor *vs   = ggml_cont(ctx, ggml_permute(ctx, part(kv, s.T, kv->ne[0] - W), 1, 2, 0, 3)); // [T, d, heads, B]
    ggml_tensor *mask = s.groups ? s.groups : pooled.nodes ? ggml_get_rows(ctx, s.tree, pooled.nodes) : s.tree;
    ggml_tensor *p    = ggml_soft_max_ext(ctx, matmul(ctx, ks, qs), mask, 1.0f / std::sqrt((float)d), 0.0f);
    ggml_tensor *o    = ggml_permute(ctx, matmul(ctx, vs, p), 0, 2, 1, 3); // [d, heads, queries, B]
    return ggml_cont_2d(ctx, o, W, queries * s.B);
}

ggml_tensor *attention(graph_builder &g, const char *name, ggml_tensor *q, ggml_tensor *kv, const attention_shape &s, int64_t pairs,
                       const pooled_rows &pooled) {
    ggml_tensor  *y = g.fused() ? attention_node(g, q, kv, s, pooled) : attention_plain(g, q, kv, s, pooled);
    const int64_t W = y->ne[0];
    return g.op(name, y, shape_name({y->ne[1], s.T, s.heads, W / s.heads}, q->type), 4.0 * (double)pairs * (double)W, {kv, pooled.n ? q : nullptr});
}

ggml_tensor *token_tree_input(graph_builder &g, int64_t n) {
    return g.fused() ? g.input("parents", GGML_TYPE_I32, {n}) : g.input("mask", GGML_TYPE_F32, {n, n});
}

ggml_tensor *attention_groups_input(graph_builder &g, const std::string &name, int64_t n, int64_t queries, int64_t keys) {
    return g.fused() ? g.input((name + ".groups").c_str(), GGML_TYPE_I32, {(int64_t)(sizeof(attention_group) / sizeof(int32_t)), n})
                     : g.input((name + ".mask").c_str(), GGML_TYPE_F32, {keys, queries});
}

ggml_tensor *every_row(graph_builder &g, const char *name, ggml_tensor *x, int64_t n) {
    const int64_t W = x->ne[0], B = x->ne[1] / n;
    return g.op(name, ggml_cont(g.ctx(), ggml_view_2d(g.ctx(), x, W, B, x->nb[1] * (size_t)n, 0)), shape_name({B, W}, x->type), 0, {});
}

ggml_tensor *gather_rows(graph_builder &g, const char *name, ggml_tensor *x, ggml_tensor *rows) {
    return g.op(name, ggml_get_rows(g.ctx(), x, rows), shape_name({rows->ne[0], x->ne[0]}, x->type), 0, {rows});
}

ggml_tensor *rows_between(graph_builder &g, ggml_tensor *x, int64_t first, int64_t n) {
    if (n == x->ne[1]) return x;
    return ggml_view_2d(g.ctx(), x, x->ne[0], n, x->nb[1], x->nb[1] * (size_t)first);
}

ggml_tensor *join_rows(graph_builder &g, const char *name, ggml_tensor *a, ggml_tensor *b) {
    ggml_tensor *y = ggml_concat(g.ctx(), a, b, 1);
    return g.op(name, y, shape_name({y->ne[1], y->ne[0]}, y->type), 0, {a, b});
}

ggml_tensor *repeat_rows(graph_builder &g, const char *name, ggml_tensor *x, int64_t n) {
    ggml_tensor *y = ggml_repeat_4d(g.ctx(), x, x->ne[0], x->ne[1] * n, 1, 1);
    return g.op(name, y, shape_name({y->ne[1], y->ne[0]}, y->type), 0, {x});
}

ggml_tensor *mean_rows(graph_builder &g, const char *name, ggml_tensor *x, int64_t n) {
    ggml_context *ctx = g.ctx();
    const int64_t W = x->ne[0], M = x->ne[1] / n;
    ggml_tensor  *columns = ggml_cont(ctx, ggml_permute(ctx, ggml_reshape_3d(ctx, x, W, n, M), 1, 0, 2, 3)); // [n, W, M]
    return g.op(name, ggml_reshape_2d(ctx, ggml_mean(ctx, columns), W, M), shape_name({M, W}, x->type), (double)ggml_nelements(x), {x});
}

ggml_tensor *patch_input(graph_builder &g, const patch_grid &grid, int64_t B, bool f32_pixels, const linear_weights &w) {
    const int64_t S = grid.image_size, width = 3 * grid.patch_size * grid.patch_size, n = grid.patches() * B;
    if (!g.fused() || f32_pixels) return as_operand(g, "patches", g.input("patches", GGML_TYPE_F32, {width, n}), w);
    ggml_tensor    *pixels = g.input("pixels", GGML_TYPE_I8, {3 * S * S, B});
    const ggml_type type   = operand_type(g, w);
    return g.op("patches", patches_node(g, pixels, grid, type), shape_name({n, width}, type), 0, {pixels});
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

ggml_tensor *embed_tokens(graph_builder &g, const char *name, ggml_tensor *ids, ggml_tensor *positions, ggml_tensor *token_embd,
                          ggml_tensor *position_embd) {
    ggml_tensor *x = ggml_add(g.ctx(), ggml_get_rows(g.ctx(), token_embd, ids), ggml_get_rows(g.ctx(), position_embd, positions));
    return g.op(name, x, shape_name({x->ne[1], x->ne[0]}, x->type), (double)ggml_nelements(x), {ids, positions});
}

} // namespace tia2
