// ops.h: the ops that every model family is written with.
//
// Each function adds one op to the graph and returns its result. Activations are f32 [W, n]: n rows of width W (ggml
// order: the innermost first). The forms here are plain ggml: they run on every backend, and they are what a fused form
// of an op is tested against.
#pragma once
#include "../runtime/graph.h"

namespace tia2 {

struct linear_weights {
    ggml_tensor *weight; // [K, N]
    ggml_tensor *bias;   // [N] or NULL
};

struct norm_weights {
    ggml_tensor *weight, *bias; // [W]
    float        eps;
};

// act(x W^T + b) + residual. x [K, M] -> [N, M]; residual [N, M] or NULL.
ggml_tensor *linear(graph_builder &g, const char *name, ggml_tensor *x, const linear_weights &w,
                    activation act = activation::none, ggml_tensor *residual = nullptr);

// (x - mean) / sqrt(var + eps) * weight + bias over each row. x [W, M].
ggml_tensor *layer_norm(graph_builder &g, const char *name, ggml_tensor *x, const norm_weights &w);

// Self-attention of B sequences of T tokens. qkv [3W, T*B]: q, k and v of a token after each other, each H heads of
// W/H; causal: a token sees itself and what is before it. Result [W, T*B].
ggml_tensor *attention(graph_builder &g, const char *name, ggml_tensor *qkv, int64_t heads, int64_t T, int64_t B, bool causal);

// Every n-th row of x, from the first. x [W, n*B] -> [W, B].
ggml_tensor *every_row(graph_builder &g, const char *name, ggml_tensor *x, int64_t n);

// Rows of x by index. x [W, M], rows i32 [n] -> [W, n].
ggml_tensor *gather_rows(graph_builder &g, const char *name, ggml_tensor *x, ggml_tensor *rows);

// Puts a class token before the patches of each image and adds positions.
// patches [W, N*B], class_embd [W], position_embd [W, N+1] -> [W, (N+1)*B].
ggml_tensor *add_class_and_positions(graph_builder &g, const char *name, ggml_tensor *patches, ggml_tensor *class_embd,
                                     ggml_tensor *position_embd, int64_t B);

// Token embeddings plus positions. ids i32 [T*B], token_embd [W, V], position_embd [W, context] -> [W, T*B].
ggml_tensor *embed_tokens(graph_builder &g, const char *name, ggml_tensor *ids, ggml_tensor *token_embd, ggml_tensor *position_embd,
                          int64_t T, int64_t B);

} // namespace tia2
