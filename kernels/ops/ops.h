// ops.h: the ops that every model family is written with.
//
// Each function adds one op to the graph and returns its result. Activations are rows of width W, [W, n] in ggml's order
// (the innermost first). On the CPU an op is one fused node (cpu_nodes.h); elsewhere, and where the CPU has no vector
// form, it is plain ggml, which is what the fused form is tested against.
//
// Between fused nodes rows may be bf16 or q8 (cpu/dense.h) instead of f32: who makes rows asks `operand_type` or
// `between_type` what the next product wants. Without fused nodes both say f32.
#pragma once
#include "../runtime/graph.h"

#include <array>

namespace tia2 {

struct linear_weights {
    ggml_tensor *weight; // [K, N]
    ggml_tensor *bias;   // [N] or NULL
};

struct norm_weights {
    ggml_tensor *weight, *bias; // [W]
    float        eps;
};

// The type of rows that a product with w reads: f32, bf16, or I8, which stands for q8 rows.
ggml_type operand_type(graph_builder &g, const linear_weights &w);
// The type in which rows wait that something else reads before they are an operand of w: f32 or bf16.
ggml_type between_type(graph_builder &g, const linear_weights &w);

// x as rows that a product with w reads; x itself where it is that already.
ggml_tensor *as_operand(graph_builder &g, const char *name, ggml_tensor *x, const linear_weights &w);

// What follows a product before its result is written: act(x W^T + b) + residual, as rows of type out.
struct epilogue {
    activation   act      = activation::none;
    ggml_tensor *residual = nullptr; // f32 [N, M]
    ggml_type    out      = GGML_TYPE_F32;
};

// act(x W^T + b) + residual. x: rows of operand_type, M of them -> [N, M].
ggml_tensor *linear(graph_builder &g, const char *name, ggml_tensor *x, const linear_weights &w, const epilogue &e = {});

// (x - mean) / sqrt(var + eps) * weight + bias over each row. x f32 [W, M] -> rows of type out.
ggml_tensor *layer_norm(graph_builder &g, const char *name, ggml_tensor *x, const norm_weights &w, ggml_type out = GGML_TYPE_F32);

// Which rows see which. Images: B sequences of T keys, which all queries of the sequence see. Causal texts: one tree of T
// tokens (B = 1), each of which sees itself and its ancestors. Rows of any length without padding: groups among T keys (B = 1).
struct attention_shape {
    int64_t      heads, T, B;
    ggml_tensor *tree   = nullptr; // of token_tree_input, or NULL
    ggml_tensor *groups = nullptr; // of attention_groups_input, or NULL
};

// Queries that are not those of all keys' tokens: some of them, or others.
struct pooled_rows {
    int64_t      n     = 0;       // 0: a query for every key
    ggml_tensor *nodes = nullptr; // tree: i32 [n], which nodes; otherwise NULL: n/B for each sequence, or as the groups say
};

// qkv, f32 or bf16, T*B rows [3W]: q, k and v of a token after each other, each H heads of W/H. With pooled rows q holds
// theirs, [W, n], and kv keys and values, T*B rows [2W]; otherwise both are qkv. pairs: how many (query, key) there
// are. Result: a row [W] for each query, of the same type.
ggml_tensor *attention(graph_builder &g, const char *name, ggml_tensor *q, ggml_tensor *kv, const attention_shape &s, int64_t pairs,
                       const pooled_rows &pooled = {});

// The input that says who is whose ancestor in a tree of n tokens: "parents", i32 [n], each token's parent (which comes
// before it) or -1; or without fused nodes "mask", f32 [n, n], 0 where a query sees a key, else -infinity.
ggml_tensor *token_tree_input(graph_builder &g, int64_t n);

// Queries that see the same keys, which lie in one piece or in two.
struct attention_group {
    int32_t query, queries; // rows of q, and of the result: first, number
    int32_t key, keys;      // rows of kv
    int32_t more, mores;    // and these; 0 of them: none
};

// The input that says which rows see which: NAME.groups, i32 [6, n] of attention_group; or without fused nodes NAME.mask,
// f32 [keys, queries], 0 where a query sees a key, else -infinity.
ggml_tensor *attention_groups_input(graph_builder &g, const std::string &name, int64_t n, int64_t queries, int64_t keys);

// Every n-th row of x, from the first. x [W, n*B] -> [W, B].
ggml_tensor *every_row(graph_builder &g, const char *name, ggml_tensor *x, int64_t n);

// Rows of x by index. x [W, M], rows i32 [n] -> f32 [W, n].
ggml_tensor *gather_rows(graph_builder &g, const char *name, ggml_tensor *x, ggml_tensor *rows);

// Rows first..first+n-1 of x, f32, where they are; b after a; x repeated, [W, M] -> [W, M*n]; the mean of each n rows, [W, n*M]
// -> [W, M].
ggml_tensor *rows_between(graph_builder &g, ggml_tensor *x, int64_t first, int64_t n);
ggml_tensor *join_rows(graph_builder &g, const char *name, ggml_tensor *a, ggml_tensor *b);
ggml_tensor *repeat_rows(graph_builder &g, const char *name, ggml_tensor *x, int64_t n);
ggml_tensor *mean_rows(graph_builder &g, const char *name, ggml_tensor *x, int64_t n);

// How pictures are cut into patches.
struct patch_grid {
    int64_t              image_size, patch_size; // S, P
    std::array<float, 3> mean, std;
    int64_t              patches() const { return (image_size / patch_size) * (image_size / patch_size); }
};

// The patch rows of B pictures, an input: operand of a product with w, [3*P*P, patches*B]. Its name says what is to be
// filled in: "pixels", u8 [3*S*S, B], which a fused node normalises and cuts; or "patches", f32 rows (patches.h).
// f32_pixels: the caller has no u8 pixels.
ggml_tensor *patch_input(graph_builder &g, const patch_grid &grid, int64_t B, bool f32_pixels, const linear_weights &w);

// Puts a class token before the patches of each image and adds positions.
// patches [W, N*B], class_embd [W], position_embd [W, N+1] -> [W, (N+1)*B].
ggml_tensor *add_class_and_positions(graph_builder &g, const char *name, ggml_tensor *patches, ggml_tensor *class_embd,
                                     ggml_tensor *position_embd, int64_t B);

// Token embeddings plus positions. ids and positions i32 [n], token_embd [W, V], position_embd [W, context] -> [W, n].
ggml_tensor *embed_tokens(graph_builder &g, const char *name, ggml_tensor *ids, ggml_tensor *positions, ggml_tensor *token_embd,
                          ggml_tensor *position_embd);

} // namespace tia2
