// clip.cpp: CLIP with a vision transformer, as OpenAI, OpenCLIP and Hugging Face compute it.
//
// Source: openai/CLIP clip/model.py (VisionTransformer, CLIP.encode_text); open_clip transformer.py for head widths and
// exact GELU; transformers modeling_clip.py for the layer norm epsilon. All three agree on the graph.
#include "family.h"

#include "../runtime/error.h"

#include <cstring>

namespace tia2 {
namespace {

struct block {
    norm_weights   ln1, ln2;
    linear_weights qkv, out, up, down;
};

// The part that both towers share: pre-norm transformer blocks and a projection of one pooled row.
struct tower {
    std::string        prefix; // "v" or "t", of tensor names
    int64_t            width, heads, layers, mlp_width;
    float              eps;
    activation         act;
    std::vector<block> blocks;
    norm_weights       post_ln;
    linear_weights     projection;
};

class clip : public family {
  public:
    clip(const gguf_file &file, weights &w);

    const char *name() const override { return "clip"; }
    // 21 tensors a block (views included), and some for the ends.
    size_t       nodes_max() const override { return 64 + 40 * (size_t)std::max(vision_.layers, text_.layers); }
    ggml_tensor *image_graph(graph_builder &g, int64_t B) override;
    ggml_tensor *text_graph(graph_builder &g, int64_t B, int64_t T) override;

  private:
    tower          vision_, text_;
    linear_weights patch_embd_;
    ggml_tensor   *class_embd_, *image_position_embd_, *token_embd_, *text_position_embd_;
    norm_weights   pre_ln_;
};

norm_weights load_norm(weights &w, const std::string &name, int64_t width, float eps) {
    return {w.get_f32(name + ".weight", {width}), w.get_f32(name + ".bias", {width}), eps};
}

linear_weights load_linear(weights &w, const std::string &name, int64_t in, int64_t out) {
    return {w.get(name + ".weight", {in, out}), w.get_f32(name + ".bias", {out})};
}

activation parse_activation(const gguf_file &file, const char *key) {
    const std::string s = file.str(key);
    if (s == "gelu") return activation::gelu;
    if (s == "quick_gelu") return activation::quick_gelu;
    fail(TIA2_EMODEL, "%s: key %s is \"%s\", expected gelu or quick_gelu", file.path.c_str(), key, s.c_str());
}

tower load_tower(const gguf_file &file, weights &w, const char *section, const char *prefix, int64_t embed_dim) {
    const auto key = [&](const char *field) { return std::string("clip.") + section + "." + field; };
    tower      t;
    t.prefix    = prefix;
    t.width     = file.u32(key("width").c_str(), 1, 1 << 14);
    t.heads     = file.u32(key("heads").c_str(), 1, 1 << 10);
    t.layers    = file.u32(key("layers").c_str(), 1, 256);
    t.mlp_width = file.u32(key("mlp_width").c_str(), 1, 1 << 17);
    t.eps       = file.f32(key("layer_norm_eps").c_str(), 1e-12f, 1e-2f);
    t.act       = parse_activation(file, key("activation").c_str());
    if (t.width % t.heads)
        fail(TIA2_EMODEL, "%s: %s is no multiple of %s", file.path.c_str(), key("width").c_str(), key("heads").c_str());

    for (int64_t i = 0; i < t.layers; i++) {
        const std::string b = t.prefix + ".blk." + std::to_string(i) + ".";
        t.blocks.push_back({load_norm(w, b + "ln1", t.width, t.eps), load_norm(w, b + "ln2", t.width, t.eps),
                            load_linear(w, b + "attn_qkv", t.width, 3 * t.width), load_linear(w, b + "attn_out", t.width, t.width),
                            load_linear(w, b + "ffn_up", t.width, t.mlp_width), load_linear(w, b + "ffn_down", t.mlp_width, t.width)});
    }
    t.post_ln    = load_norm(w, t.prefix + ".post_ln", t.width, t.eps);
    t.projection = {w.get(t.prefix + ".proj.weight", {t.width, embed_dim}), w.find(t.prefix + ".proj.bias", {embed_dim})};
    return t;
}

clip::clip(const gguf_file &file, weights &w) {
    embed_dim  = file.u32("clip.embed_dim", 1, 1 << 14);
    image_size = file.u32("clip.vision.image_size", 1, 4096);
    patch_size = file.u32("clip.vision.patch_size", 1, 4096);
    context    = file.u32("clip.text.context", 2, 1 << 14);
    vocab_size = file.u32("clip.text.vocab_size", 3, 1 << 24);
    mean       = file.f32x3("preprocess.mean");
    std        = file.f32x3("preprocess.std");
    for (const float s : std)
        if (!(s > 0)) fail(TIA2_EMODEL, "%s: key preprocess.std has %g, expected more than 0", file.path.c_str(), s);
    if (image_size % patch_size) fail(TIA2_EMODEL, "%s: image_size %d is no multiple of patch_size %d", file.path.c_str(), image_size, patch_size);

    vision_ = load_tower(file, w, "vision", "v", embed_dim);
    text_   = load_tower(file, w, "text", "t", embed_dim);

    patch_embd_          = {w.get("v.patch_embd.weight", {3LL * patch_size * patch_size, vision_.width}), nullptr};
    class_embd_          = w.get_f32("v.class_embd", {vision_.width});
    image_position_embd_ = w.get_f32("v.position_embd", {vision_.width, image_tokens()});
    pre_ln_              = load_norm(w, "v.pre_ln", vision_.width, vision_.eps);
    token_embd_          = w.get("t.token_embd.weight", {text_.width, vocab_size});
    text_position_embd_  = w.get_f32("t.position_embd", {text_.width, context});
}

// x + attention(ln1(x)), then x + mlp(ln2(x)), for every block. x [W, T*B] -> the pooled rows [W, B].
//
// After the last attention only pooled rows matter: `pool` takes them out there, and the rest is computed for them alone.
template <class Pool>
ggml_tensor *transformer(graph_builder &g, ggml_tensor *x, const tower &t, int64_t T, int64_t B, bool causal, Pool pool) {
    for (size_t i = 0; i < t.blocks.size(); i++) {
        const block &b = t.blocks[i];
        g.scope("blk." + std::to_string(i));
        ggml_tensor *qkv = linear(g, "attn/qkv", layer_norm(g, "ln1", x, b.ln1), b.qkv);
        ggml_tensor *a   = attention(g, "attn/softmax", qkv, t.heads, T, B, causal);
        if (i + 1 == t.blocks.size()) {
            a = pool("pool/attn", a);
            x = pool("pool/residual", x);
        }
        x                = linear(g, "attn/out", a, b.out, activation::none, x);
        ggml_tensor *h   = linear(g, "ffn/up", layer_norm(g, "ln2", x, b.ln2), b.up, t.act);
        x                = linear(g, "ffn/down", h, b.down, activation::none, x);
    }
    g.scope("");
    return x;
}

ggml_tensor *clip::image_graph(graph_builder &g, int64_t B) {
    const int64_t N = image_tokens() - 1;
    ggml_tensor  *patches = g.input("patches", GGML_TYPE_F32, {3LL * patch_size * patch_size, N * B});
    ggml_tensor  *x       = linear(g, "patch_embd", patches, patch_embd_);
    x = add_class_and_positions(g, "embd", x, class_embd_, image_position_embd_, B);
    x = layer_norm(g, "pre_ln", x, pre_ln_);
    // The class token is the first row of each image.
    x = transformer(g, x, vision_, N + 1, B, /*causal=*/false,
                    [&](const char *name, ggml_tensor *rows) { return every_row(g, name, rows, N + 1); });
    return linear(g, "proj", layer_norm(g, "post_ln", x, vision_.post_ln), vision_.projection);
}

ggml_tensor *clip::text_graph(graph_builder &g, int64_t B, int64_t T) {
    ggml_tensor *tokens = g.input("tokens", GGML_TYPE_I32, {T * B});
    ggml_tensor *rows   = g.input("pooled", GGML_TYPE_I32, {B});
    ggml_tensor *x      = embed_tokens(g, "embd", tokens, token_embd_, text_position_embd_, T, B);
    // Padding comes after a text's own tokens, so the causal mask hides it from them.
    x = transformer(g, x, text_, T, B, /*causal=*/true, [&](const char *name, ggml_tensor *t) { return gather_rows(g, name, t, rows); });
    return linear(g, "proj", layer_norm(g, "post_ln", x, text_.post_ln), text_.projection);
}

} // namespace

std::unique_ptr<family> make_clip(const gguf_file &file, weights &w) { return std::make_unique<clip>(file, w); }

} // namespace tia2
