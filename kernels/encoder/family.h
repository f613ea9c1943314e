// family.h: what a model family offers to the runtime. Each family is defined once, in a file of its own.
#pragma once
#include "../ops/ops.h"
#include "../runtime/weights.h"

#include <memory>

namespace tia2 {

// How large a batch of texts is.
struct text_shape {
    int64_t texts, tokens; // tokens: of all texts together
    int64_t nodes, pairs;  // of their token tree; pairs of a node with itself or an ancestor
};

// A dual encoder: an image tower and a text tower into one embedding space.
//
// Its image graph has the input of patch_input (ops.h). Its text graph has "tokens" and "positions", i32 [n], of the nodes
// of a token tree, "pooled", i32 [B], the node at which each text is pooled, and the input of token_tree_input.
// Both return f32 [D, B], not normalised.
class family {
  public:
    virtual ~family() = default;

    virtual const char  *name() const                                      = 0;
    virtual size_t       nodes_max() const                                 = 0; // an upper bound of a graph's tensors
    virtual ggml_tensor *image_graph(graph_builder &g, int64_t B, bool f32_pixels) = 0;
    virtual ggml_tensor *text_graph(graph_builder &g, const text_shape &s)         = 0;

    int32_t    embed_dim = 0, context = 0, vocab_size = 0;
    patch_grid grid{};

    int32_t image_tokens() const { return (int32_t)grid.patches() + 1; }
};

// Makes the family that the file names in general.architecture. Throws TIA2_EMODEL.
std::unique_ptr<family> make_family(const gguf_file &file, weights &w);

std::unique_ptr<family> make_clip(const gguf_file &file, weights &w);

} // namespace tia2
