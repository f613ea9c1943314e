// load.h: weights and hyper-parameters as the families read them from a GGUF file. All throw TIA2_EMODEL.
#pragma once
#include "../ops/ops.h"
#include "../runtime/weights.h"

namespace tia2 {

norm_weights load_norm(weights &w, const std::string &name, int64_t width, float eps);

// A matrix with its bias.
linear_weights load_linear(weights &w, const std::string &name, int64_t in, int64_t out);

// Some of the outputs of a product.
linear_weights part(weights &w, const linear_weights &l, int64_t first, int64_t n);

// What a stack of transformer layers is made of, from the keys that start with `section`: ".width", ".heads", ...
struct layer_sizes {
    int64_t    width, heads, layers, mlp_width;
    float      eps;
    activation act;
};
layer_sizes load_sizes(const gguf_file &file, const std::string &section);

// Picture size, patches and normalisation; `section` as above.
patch_grid load_grid(const gguf_file &file, const std::string &section);

} // namespace tia2
