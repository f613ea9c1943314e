#include "load.h"

#include "../runtime/error.h"

namespace tia2 {

norm_weights load_norm(weights &w, const std::string &name, int64_t width, float eps) {
    return {w.get_f32(name + ".weight", {width}), w.get_f32(name + ".bias", {width}), eps};
}

linear_weights load_linear(weights &w, const std::string &name, int64_t in, int64_t out) {
    return {w.get(name + ".weight", {in, out}), w.get_f32(name + ".bias", {out})};
}

linear_weights part(weights &w, const linear_weights &l, int64_t first, int64_t n) { return {w.part(l.weight, first, n), w.part(l.bias, first, n)}; }

static activation load_activation(const gguf_file &file, const std::string &key) {
    const std::string s = file.str(key.c_str());
    if (s == "gelu") return activation::gelu;
    if (s == "quick_gelu") return activation::quick_gelu;
    fail(TIA2_EMODEL, "%s: key %s is \"%s\", expected gelu or quick_gelu", file.path.c_str(), key.c_str(), s.c_str());
}

layer_sizes load_sizes(const gguf_file &file, const std::string &section) {
    const auto key = [&](const char *field) { return section + "." + field; };
    layer_sizes s;
    s.width     = file.u32(key("width").c_str(), 1, 1 << 14);
    s.heads     = file.u32(key("heads").c_str(), 1, 1 << 10);
    s.layers    = file.u32(key("layers").c_str(), 1, 256);
    s.mlp_width = file.u32(key("mlp_width").c_str(), 1, 1 << 17);
    s.eps       = file.f32(key("layer_norm_eps").c_str(), 1e-12f, 1e-2f);
    s.act       = load_activation(file, key("activation"));
    if (s.width % s.heads)
        fail(TIA2_EMODEL, "%s: %s is no multiple of %s", file.path.c_str(), key("width").c_str(), key("heads").c_str());
    return s;
}

patch_grid load_grid(const gguf_file &file, const std::string &section) {
    patch_grid grid = {file.u32((section + ".image_size").c_str(), 1, 4096), file.u32((section + ".patch_size").c_str(), 1, 4096),
                       file.f32x3("preprocess.mean"), file.f32x3("preprocess.std")};
    for (const float s : grid.std)
        if (!(s > 0)) fail(TIA2_EMODEL, "%s: key preprocess.std has %g, expected more than 0", file.path.c_str(), s);
    if (grid.image_size % grid.patch_size)
        fail(TIA2_EMODEL, "%s: image_size %d is no multiple of patch_size %d", file.path.c_str(), (int)grid.image_size, (int)grid.patch_size);
    return grid;
}

} // namespace tia2
