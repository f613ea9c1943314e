// transformer.h: the pre-norm transformer that both towers of CLIP and the image towers of BLIP and BLIP-2 are, and the vision
// transformer on top of it.
#pragma once
#include "load.h"

namespace tia2 {

struct transformer_block {
    norm_weights   ln1, ln2;
    linear_weights qkv, out, up, down;
};

struct transformer {
    layer_sizes                    size;
    std::vector<transformer_block> blocks;
    linear_weights                 last_q, last_kv; // the last block's qkv in two: pooled rows alone need a query there
};

// Reads the tensors PREFIX.blk.N.*, sized as the keys of `section` say.
transformer load_transformer(const gguf_file &file, weights &w, const std::string &section, const std::string &prefix);

// How many (query, key) pairs there are.
struct pair_counts {
    int64_t all, pooled; // pooled: of the pooled rows' queries
};

// x + attention(ln1(x)), then x + mlp(ln2(x)), for every block. x f32 [W, T*B] -> the pooled rows [W, n].
//
// In the last block only pooled rows matter: from their queries on, it is computed for them alone. `pool` takes them out of
// all rows under the name of an op.
using pool_rows = std::function<ggml_tensor *(const char *name, ggml_tensor *rows)>;
ggml_tensor *run_transformer(graph_builder &g, ggml_tensor *x, const transformer &t, const attention_shape &s, const pair_counts &pairs,
                             const pooled_rows &pooled, const pool_rows &pool);

// A vision transformer: a class token before the patches, learned positions, perhaps a norm before the first block.
struct vit {
    patch_grid     grid;
    transformer    blocks;
    linear_weights patch_embd;
    ggml_tensor   *class_embd, *position_embd;
    norm_weights   pre_ln{}; // weight NULL: none

    int64_t tokens() const { return grid.patches() + 1; }
};

// What some vision transformers have and others have not.
struct vit_parts {
    bool pre_ln, patch_bias;
};

// Reads the tensors v.* of a family whose keys start with `arch`.
vit load_vit(const gguf_file &file, weights &w, const std::string &arch, const vit_parts &parts);

// The rows of B pictures after the last block: the class tokens' [W, B], or those of every token [W, T*B]. The graph's input is
// that of patch_input.
ggml_tensor *run_vit(graph_builder &g, const vit &v, int64_t B, bool f32_pixels, bool every_token);

} // namespace tia2
