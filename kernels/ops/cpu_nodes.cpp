#include "cpu_nodes.h"

#include "../cpu/ops.h"
#include "patches.h"

#include <algorithm>
#include <atomic>
#include <iterator>
#include <new>
#include <numeric>
#include <vector>

namespace tia2 {
namespace {

char *row_of(const ggml_tensor *t, int64_t i) { return (char *)t->data + t->nb[1] * (size_t)i; }

struct range {
    int64_t begin, end;
};

// The part of n items that thread ith of nth computes.
range part_of(int64_t n, int ith, int nth) { return {n * ith / nth, n * (ith + 1) / nth}; }

// How many values of type a row of W is long.
int64_t row_length(ggml_type type, int64_t W) { return type == GGML_TYPE_I8 ? (int64_t)tia2_q8_stride((size_t)W) : W; }

tia2_format format_of_rows(ggml_type type) {
    return type == GGML_TYPE_I8 ? tia2_format::q8 : type == GGML_TYPE_BF16 ? tia2_format::bf16 : tia2_format::f32;
}

// What ggml calls, with what the body wants to know. It lives as long as the graph.
template <class Call> struct node_body {
    Call call;
    void (*run)(ggml_tensor *dst, int ith, int nth, const Call &call); // the part of thread ith of nth
    std::atomic<bool> *failed;

    // No exception may leave ggml's workers: where memory ran out the graph fails.
    static void compute(ggml_tensor *dst, int ith, int nth, void *body) {
        const auto &b = *static_cast<const node_body *>(body);
        try {
            b.run(dst, ith, nth, b.call);
        } catch (const std::bad_alloc &) {
            *b.failed = true;
        }
    }
};

// A node of n rows of W values. Sources that are NULL are left out.
template <class Call>
ggml_tensor *node(graph_builder &g, ggml_type type, int64_t W, int64_t n, std::initializer_list<ggml_tensor *> sources,
                  void (*run)(ggml_tensor *, int, int, const Call &), Call call) {
    std::vector<ggml_tensor *> src;
    std::copy_if(sources.begin(), sources.end(), std::back_inserter(src), [](ggml_tensor *t) { return t != nullptr; });
    return ggml_custom_4d(g.ctx(), type, row_length(type, W), n, 1, 1, src.data(), (int)src.size(), node_body<Call>::compute, GGML_N_TASKS_MAX,
                          g.keep(node_body<Call>{std::move(call), run, g.failed()}));
}

// ---- products ------------------------------------------------------------------------------------------------------

struct linear_call {
    const packed_matrix *w;
    const float         *bias;
    activation           act;
    bool                 residual;
};

// With many rows each thread takes a run of them; with few, a run of columns, so that each reads its own weights.
void run_linear(ggml_tensor *dst, int ith, int nth, const linear_call &l) {
    constexpr int64_t  kRowsMin = 48; // fewer do not amortise reading the weights
    const ggml_tensor *x = dst->src[0];
    const int64_t      M = x->ne[1], panels = (int64_t)l.w->panels();
    int                row_parts = (int)std::clamp<int64_t>(M / kRowsMin, 1, nth);
    while (nth % row_parts) row_parts--;
    const int   column_parts = nth / row_parts;
    const range rows = part_of(M, ith / column_parts, row_parts), columns = part_of(panels, ith % column_parts, column_parts);

    tia2_dense_call c{};
    c.x           = row_of(x, rows.begin);
    c.x_stride    = x->nb[1];
    c.M           = (size_t)(rows.end - rows.begin);
    c.panel_begin = (size_t)columns.begin;
    c.panel_end   = (size_t)columns.end;
    c.bias        = l.bias;
    c.act         = l.act;
    if (l.residual) {
        c.residual        = (const float *)row_of(dst->src[1], rows.begin);
        c.residual_stride = dst->src[1]->nb[1];
    }
    c.y        = row_of(dst, rows.begin);
    c.y_stride = dst->nb[1];
    c.y_bf16   = dst->type == GGML_TYPE_BF16;
    if (!l.w->run(c)) throw std::bad_alloc();
}

// ---- attention -----------------------------------------------------------------------------------------------------

struct attention_call {
    attention_shape shape;
    pooled_rows     pooled;
};

void attend(const tia2_attention_head<float> &h) { tia2_cpu().attention_f32(&h); }
void attend(const tia2_attention_head<uint16_t> &h) { tia2_cpu().attention_bf16(&h); }

// Queries and keys that belong together.
struct attention_block {
    range          heads;
    int64_t        first, n;   // rows of q and of the result
    int64_t        key, T;     // T keys from this row of kv on,
    const int32_t *path;       // or, where this is not NULL, [T] rows of kv
    bool           causal;     // query i sees the first T-n+i+1 of them only
};

template <class E> void attend_block(ggml_tensor *dst, int64_t n_heads, const attention_block &b) {
    static thread_local std::vector<float> scratch;
    const ggml_tensor                     *q = dst->src[0], *kv = dst->src[1];
    const int64_t                          W = dst->ne[0], d = W / n_heads;
    scratch.resize(std::max(scratch.size(), tia2_attention_scratch((size_t)b.T, (size_t)d)));
    const auto *v = (const E *)row_of(kv, b.path ? 0 : b.key) + kv->ne[0] - W; // values are the last W of a row, keys the W before
    for (int64_t h = b.heads.begin; h < b.heads.end; h++) {
        const int64_t at = h * d;
        attend({(const E *)row_of(q, b.first) + at, v - W + at, v + at, (size_t)q->ne[0], (size_t)kv->ne[0], b.path,
                (E *)row_of(dst, b.first) + at, (size_t)W, (size_t)b.T, (size_t)b.n, (size_t)d, b.causal, scratch.data()});
    }
}

// The nodes from the root to `node`.
void path_to(const int32_t *parents, int32_t node, std::vector<int32_t> &path) {
    path.clear();
    for (; node >= 0; node = parents[node]) path.push_back(node);
    std::reverse(path.begin(), path.end());
}

// Every run of nodes that follow each other, first to last, is a piece of one text: its keys are the path from the root.
template <class E> void attend_tree(ggml_tensor *dst, const attention_shape &s, range nodes) {
    const auto          *parents = (const int32_t *)dst->src[2]->data;
    std::vector<int32_t> path;
    const auto           starts = [&](int64_t i) { return i == 0 || parents[i] != i - 1; };
    int64_t              i      = nodes.begin;
    while (i < nodes.end && !starts(i)) i++; // a run belongs to whoever has its first node
    while (i < nodes.end) {
        int64_t end = i + 1;
        while (end < s.T && !starts(end)) end++;
        path_to(parents, (int32_t)end - 1, path);
        attend_block<E>(dst, s.heads, {{0, s.heads}, i, end - i, 0, (int64_t)path.size(), path.data(), true});
        i = end;
    }
}

template <class E> void attend_pooled_nodes(ggml_tensor *dst, const attention_shape &s, range queries) {
    std::vector<int32_t> path;
    for (int64_t i = queries.begin; i < queries.end; i++) {
        path_to((const int32_t *)dst->src[2]->data, ((const int32_t *)dst->src[3]->data)[i], path);
        attend_block<E>(dst, s.heads, {{0, s.heads}, i, 1, 0, (int64_t)path.size(), path.data(), true});
    }
}

// Calls attend(item, heads) for the heads of one item after another.
template <class Attend> void each_heads(range all, int64_t n_heads, Attend attend) {
    for (int64_t i = all.begin; i < all.end;) {
        const int64_t item = i / n_heads, end = std::min(all.end, (item + 1) * n_heads);
        attend(item, range{i - item * n_heads, end - item * n_heads});
        i = end;
    }
}

// n queries of each image.
template <class E> void attend_images(ggml_tensor *dst, const attention_shape &s, int64_t n, range all) {
    each_heads(all, s.heads, [&](int64_t b, range heads) {
        attend_block<E>(dst, s.heads, {heads, b * n, n, b * s.T, s.T, nullptr, false});
    });
}

template <class E> void attend_groups(ggml_tensor *dst, const attention_shape &s, range all) {
    std::vector<int32_t> path;
    each_heads(all, s.heads, [&](int64_t i, range heads) {
        const auto &a = ((const attention_group *)dst->src[2]->data)[i];
        if (a.mores) {
            path.resize((size_t)(a.keys + a.mores));
            std::iota(path.begin(), path.begin() + a.keys, a.key);
            std::iota(path.begin() + a.keys, path.end(), a.more);
        }
        attend_block<E>(dst, s.heads, {heads, a.query, a.queries, a.key, a.keys + a.mores, a.mores ? path.data() : nullptr, false});
    });
}

template <class E> void attend_part(ggml_tensor *dst, const attention_call &c, int ith, int nth) {
    const attention_shape &s = c.shape;
    if (c.pooled.nodes) return attend_pooled_nodes<E>(dst, s, part_of(c.pooled.n, ith, nth));
    if (s.tree) return attend_tree<E>(dst, s, part_of(s.T, ith, nth));
    if (s.groups) return attend_groups<E>(dst, s, part_of(dst->src[2]->ne[1] * s.heads, ith, nth));
    attend_images<E>(dst, s, dst->ne[1] / s.B, part_of(s.B * s.heads, ith, nth));
}

void run_attention(ggml_tensor *dst, int ith, int nth, const attention_call &c) {
    dst->type == GGML_TYPE_BF16 ? attend_part<uint16_t>(dst, c, ith, nth) : attend_part<float>(dst, c, ith, nth);
}

// ---- rows ----------------------------------------------------------------------------------------------------------

void run_layer_norm(ggml_tensor *dst, int ith, int nth, const norm_weights &w) {
    const ggml_tensor   *x    = dst->src[0];
    const range          rows = part_of(x->ne[1], ith, nth);
    tia2_layer_norm_call c{};
    c.x        = (const float *)row_of(x, rows.begin);
    c.x_stride = x->nb[1];
    c.n_rows   = (size_t)(rows.end - rows.begin);
    c.W        = (size_t)x->ne[0];
    c.weight   = (const float *)w.weight->data;
    c.bias     = (const float *)w.bias->data;
    c.eps      = w.eps;
    c.y        = row_of(dst, rows.begin);
    c.y_stride = dst->nb[1];
    c.format   = format_of_rows(dst->type);
    tia2_cpu().layer_norm(&c);
}

struct convert_call {}; // all is in the types

void run_convert(ggml_tensor *dst, int ith, int nth, const convert_call &) {
    const tia2_cpu_ops &ops  = tia2_cpu();
    const ggml_tensor  *x    = dst->src[0];
    const range         rows = part_of(x->ne[1], ith, nth);
    const size_t        n = (size_t)(rows.end - rows.begin), W = (size_t)x->ne[0];
    const void         *from = row_of(x, rows.begin);
    char               *to   = row_of(dst, rows.begin);
    if (dst->type == GGML_TYPE_BF16)
        ops.to_bf16((uint16_t *)to, dst->nb[1], (const float *)from, x->nb[1], n, W);
    else if (x->type == GGML_TYPE_BF16)
        ops.quantize_bf16(to, dst->nb[1], (const uint16_t *)from, x->nb[1], n, W);
    else
        ops.quantize_f32(to, dst->nb[1], (const float *)from, x->nb[1], n, W);
}

struct patches_call {
    patch_grid grid;
    float      table[3][256]; // all values of a channel, normalised
};

// Each patch becomes one row; q8 by way of f32, a row at a time.
void run_patches(ggml_tensor *dst, int ith, int nth, const patches_call &p) {
    const int64_t       per_image = p.grid.patches(), W = 3 * p.grid.patch_size * p.grid.patch_size;
    const bool          q8 = dst->type == GGML_TYPE_I8;
    std::vector<float>  wide(q8 ? (size_t)W : 0);
    const range         rows = part_of(dst->ne[1], ith, nth);
    for (int64_t i = rows.begin; i < rows.end;) {
        const int64_t b = i / per_image, end = q8 ? i + 1 : std::min(rows.end, (b + 1) * per_image);
        tia2_patches_call c{};
        c.pixels   = (const uint8_t *)row_of(dst->src[0], b);
        c.S        = (size_t)p.grid.image_size;
        c.P        = (size_t)p.grid.patch_size;
        c.begin    = (size_t)(i - b * per_image);
        c.end      = (size_t)(end - b * per_image);
        c.table    = p.table;
        c.y        = q8 ? (void *)wide.data() : row_of(dst, i);
        c.y_stride = q8 ? (size_t)W * sizeof(float) : dst->nb[1];
        c.format   = q8 ? tia2_format::f32 : format_of_rows(dst->type);
        tia2_patches(&c);
        if (q8) tia2_cpu().quantize_f32(row_of(dst, i), dst->nb[1], wide.data(), c.y_stride, 1, (size_t)W);
        i = end;
    }
}

} // namespace

ggml_tensor *linear_node(graph_builder &g, ggml_tensor *x, const packed_matrix *w, const ggml_tensor *bias, const epilogue &e) {
    const linear_call call = {w, bias ? (const float *)bias->data : nullptr, e.act, e.residual != nullptr};
    return node(g, e.out, (int64_t)w->N(), x->ne[1], {x, e.residual}, run_linear, call);
}

ggml_tensor *layer_norm_node(graph_builder &g, ggml_tensor *x, const norm_weights &w, ggml_type out) {
    return node(g, out, x->ne[0], x->ne[1], {x}, run_layer_norm, w);
}

ggml_tensor *convert_node(graph_builder &g, ggml_tensor *x, ggml_type out) { return node(g, out, x->ne[0], x->ne[1], {x}, run_convert, convert_call{}); }

ggml_tensor *attention_node(graph_builder &g, ggml_tensor *q, ggml_tensor *kv, const attention_shape &s, const pooled_rows &pooled) {
    const int64_t W = pooled.n ? q->ne[0] : q->ne[0] / 3;
    return node(g, q->type, W, q->ne[1], {q, kv, s.groups ? s.groups : s.tree, pooled.nodes}, run_attention, attention_call{s, pooled});
}

ggml_tensor *patches_node(graph_builder &g, ggml_tensor *pixels, const patch_grid &grid, ggml_type out) {
    patches_call call{grid, {}};
    write_pixel_table(call.table, grid);
    return node(g, out, 3 * grid.patch_size * grid.patch_size, grid.patches() * pixels->ne[1], {pixels}, run_patches, call);
}

} // namespace tia2
