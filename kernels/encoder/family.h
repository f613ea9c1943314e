// family.h: what a model family offers to the runtime. Each family is defined once, in a file of its own.
#pragma once
#include "../ops/ops.h"
#include "../runtime/weights.h"

#include <array>
#include <memory>

namespace tia2 {

// A dual encoder: an image tower and a text tower into one embedding space.
//
// Its image graph has one input "patches", f32 [3*P*P, N*B]: the normalised pixels of each patch, channel by channel,
// row by row. Its text graph has the inputs "tokens", i32 [T*B], rows padded to T with any valid id, and "pooled",
// i32 [B], the row of [T*B] at which each text is pooled. Both return f32 [D, B], not normalised.
class family {
  public:
    virtual ~family() = default;

    virtual const char  *name() const                                      = 0;
    virtual size_t       nodes_max() const                                 = 0; // an upper bound of a graph's tensors
    virtual ggml_tensor *image_graph(graph_builder &g, int64_t B)            = 0;
    virtual ggml_tensor *text_graph(graph_builder &g, int64_t B, int64_t T) = 0;

    int32_t              embed_dim = 0, image_size = 0, patch_size = 0, context = 0, vocab_size = 0;
    std::array<float, 3> mean{}, std{};

    int32_t grid() const { return image_size / patch_size; }
    int32_t image_tokens() const { return grid() * grid() + 1; }
};

// Makes the family that the file names in general.architecture. Throws TIA2_EMODEL.
std::unique_ptr<family> make_family(const gguf_file &file, weights &w);

std::unique_ptr<family> make_clip(const gguf_file &file, weights &w);

} // namespace tia2
