#include "family.h"

#include "../runtime/error.h"

namespace tia2 {

ggml_tensor *family::first_rows_graph(graph_builder &, const text_shape &) { fail(TIA2_EINVAL, "a model of family %s has no cross encoder", name()); }
ggml_tensor *family::pair_graph(graph_builder &, const pair_shape &) { fail(TIA2_EINVAL, "a model of family %s has no cross encoder", name()); }

std::unique_ptr<family> make_family(const gguf_file &file, weights &w) {
    const std::string arch = file.str("general.architecture");
    if (arch == "clip") return make_clip(file, w);
    if (arch == "blip") return make_blip(file, w);
    if (arch == "blip2") return make_blip2(file, w);
    fail(TIA2_EMODEL, "%s: general.architecture is \"%s\", expected clip, blip or blip2", file.path.c_str(), arch.c_str());
}

} // namespace tia2
