// cpu_nodes.h: the fused CPU forms of ops, as custom nodes of ggml that call the kernels of kernels/cpu.
//
// Rows between these nodes are f32, bf16, or q8 (cpu/rows.h): q8 rows lie in a tensor of type I8 whose row is
// tia2_q8_stride(W) long. ggml's threads share a node's rows.
#pragma once
#include "ops.h"

namespace tia2 {

ggml_tensor *linear_node(graph_builder &g, ggml_tensor *x, const packed_matrix *w, const ggml_tensor *bias, const epilogue &e);
ggml_tensor *layer_norm_node(graph_builder &g, ggml_tensor *x, const norm_weights &w, ggml_type out);
ggml_tensor *convert_node(graph_builder &g, ggml_tensor *x, ggml_type out); // f32 to bf16 or q8, bf16 to q8
ggml_tensor *attention_node(graph_builder &g, ggml_tensor *q, ggml_tensor *kv, const attention_shape &s, const pooled_rows &pooled);
ggml_tensor *patches_node(graph_builder &g, ggml_tensor *pixels, const patch_grid &grid, ggml_type out);

} // namespace tia2
