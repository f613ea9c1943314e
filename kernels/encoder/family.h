// family.h: what a model family offers to the runtime. Each family is defined once, in a file of its own.
#pragma once
#include "../ops/ops.h"
#include "../runtime/weights.h"

#include <memory>

namespace tia2 {

// How large a batch of texts is.
struct text_shape {
    int64_t texts, tokens; // tokens: of all texts together
    int64_t nodes, pairs;  // rows that are computed, and which of them see each other; causal: of their token tree
};

// How large a pass over pairs is, whose rows are those of text_rows.h.
struct pair_shape {
    int64_t images, pairs;
    int64_t tokens, seen;         // rows of texts; how many rows see each other in the self-attention
    int64_t cross, cross_pooled;  // groups of rows, and of pooled rows, that see one image
};

// What an image graph is to compute.
struct image_outputs {
    bool embeds, states;
};

// An image tower and a text tower into one embedding space, and perhaps a cross encoder that reads images and texts together.
//
// The image graph has the input of patch_input (ops.h). It gives embeddings, f32 [D, vectors*B], not normalised, and the
// states of all tokens that the cross encoder reads, f32 [W, T*B]: those that are asked for, in this order.
//
// The text graph gives f32 [D, B], not normalised. A causal one has the inputs "tokens" and "positions", i32 [n], of the nodes of
// a token tree, "pooled", i32 [B], the node at which each text is pooled, and that of token_tree_input. One that is not causal
// has "tokens" and "positions" of all texts' tokens one after another, "pooled", and the groups "self" and "self_pooled".
//
// A cross encoder has two graphs. The first reads texts alone, as far as no image is needed: "tokens", "positions" and
// "self" as above, of rows with queries; f32 [W, rows]. The second reads "states", f32 [W, T*images], and "rows", f32 [W, n], the
// first graph's rows for each pair, and has the groups "self", "self_pooled", "cross" and "cross_pooled" and, without
// queries, "pooled", i32 [pairs]; f32 [outputs, pairs].
class family {
  public:
    virtual ~family() = default;

    virtual const char *name() const      = 0;
    virtual size_t      nodes_max() const = 0; // an upper bound of a graph's tensors
    virtual bool        causal() const    = 0;

    virtual std::vector<ggml_tensor *> image_graph(graph_builder &g, int64_t B, bool f32_pixels, image_outputs want) = 0;
    virtual ggml_tensor               *text_graph(graph_builder &g, const text_shape &s)                              = 0;
    virtual ggml_tensor               *first_rows_graph(graph_builder &g, const text_shape &s); // throws: no cross encoder
    virtual ggml_tensor               *pair_graph(graph_builder &g, const pair_shape &s);       // throws: no cross encoder

    int32_t    embed_dim = 0, image_vectors = 1, context = 0, vocab_size = 0;
    int32_t    state_width = 0, text_width = 0, pair_outputs = 0; // of the cross encoder; 0: there is none
    int32_t    queries = 0;                                       // rows of a pair before those of its text
    patch_grid grid{};

    int32_t image_tokens() const { return (int32_t)grid.patches() + 1; }
};

// Makes the family that the file names in general.architecture. Throws TIA2_EMODEL.
std::unique_ptr<family> make_family(const gguf_file &file, weights &w);

std::unique_ptr<family> make_clip(const gguf_file &file, weights &w);
std::unique_ptr<family> make_blip(const gguf_file &file, weights &w);
std::unique_ptr<family> make_blip2(const gguf_file &file, weights &w);

} // namespace tia2
