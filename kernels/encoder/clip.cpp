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
    linear_weights     last_q, last_kv; // the last block's qkv in two: only pooled rows need a query there
    norm_weights       post_ln;
    linear_weights     projection;
};

class clip : public family {
  public:
    clip(const gguf_file &file, weights &w);

    const char *name() const override { return "clip"; }
    // 21 tensors a block (views included), and some for the ends.
    size_t       nodes_max() const override { return 64 + 40 * (size_t)std::max(vision_.layers, text_.layers); }
    ggml_tensor *image_graph(graph_builder &g, int64_t B, bool f32_pixels) override;
    ggml_tensor *text_graph(graph_builder &g, const text_shape &s) override;

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

// Some of the outputs of a product.
linear_weights part(weights &w, const linear_weights &l, int64_t first, int64_t n) { return {w.part(l.weight, first, n), w.part(l.bias, first, n)}; }

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
    t.last_q     = part(w, t.blocks.back().qkv, 0, t.width);
    t.last_kv    = part(w, t.blocks.back().qkv, t.width, 2 * t.width);
    t.post_ln    = load_norm(w, t.prefix + ".post_ln", t.width, t.eps);
    t.projection = {w.get(t.prefix + ".proj.weight", {t.width, embed_dim}), w.find(t.prefix + ".proj.bias", {embed_dim})};
    return t;
}

clip::clip(const gguf_file &file, weights &w) {
    embed_dim  = file.u32("clip.embed_dim", 1, 1 << 14);
    grid       = {file.u32("clip.vision.image_size", 1, 4096), file.u32("clip.vision.patch_size", 1, 4096),
                  file.f32x3("preprocess.mean"), file.f32x3("preprocess.std")};
    context    = file.u32("clip.text.context", 2, 1 << 14);
    vocab_size = file.u32("clip.text.vocab_size", 3, 1 << 24);
    for (const float s : grid.std)
        if (!(s > 0)) fail(TIA2_EMODEL, "%s: key preprocess.std has %g, expected more than 0", file.path.c_str(), s);
    if (grid.image_size % grid.patch_size)
        fail(TIA2_EMODEL, "%s: image_size %d is no multiple of patch_size %d", file.path.c_str(), (int)grid.image_size, (int)grid.patch_size);

    vision_ = load_tower(file, w, "vision", "v", embed_dim);
    text_   = load_tower(file, w, "text", "t", embed_dim);

    patch_embd_          = {w.get("v.patch_embd.weight", {3 * grid.patch_size * grid.patch_size, vision_.width}), nullptr};
    class_embd_          = w.get_f32("v.class_embd", {vision_.width});
    image_position_embd_ = w.get_f32("v.position_embd", {vision_.width, image_tokens()});
    pre_ln_              = load_norm(w, "v.pre_ln", vision_.width, vision_.eps);
    token_embd_          = w.get("t.token_embd.weight", {text_.width, vocab_size});
    text_position_embd_  = w.get_f32("t.position_embd", {text_.width, context});
}

// How many (query, key) pairs there are.
struct pair_counts {
    int64_t all, pooled; // pooled: of the pooled rows' queries
};

// x + attention(ln1(x)), then x + mlp(ln2(x)), for every block. x f32 [W, T*B] -> the pooled rows [W, n].
//
// In the last block only pooled rows matter: from their queries on, it is computed for them alone. `pool` takes them out.
template <class Pool>
ggml_tensor *transformer(graph_builder &g, ggml_tensor *x, const tower &t, const attention_shape &s, const pair_counts &pairs,
                         const pooled_rows &pooled, Pool pool) {
    for (size_t i = 0; i < t.blocks.size(); i++) {
        const block &b = t.blocks[i];
        g.scope("blk." + std::to_string(i));
        const auto   product = [&](const char *name, ggml_tensor *rows, const linear_weights &w) {
            return linear(g, name, rows, w, {activation::none, nullptr, between_type(g, b.out)});
        };
        ggml_tensor *n = layer_norm(g, "ln1", x, b.ln1, operand_type(g, b.qkv)), *a;
        if (i + 1 < t.blocks.size()) {
            ggml_tensor *qkv = product("attn/qkv", n, b.qkv);
            a                = attention(g, "attn/softmax", qkv, qkv, s, pairs.all);
        } else {
            ggml_tensor *kv = product("attn/kv", n, t.last_kv);
            x               = pool("pool", x);
            ggml_tensor *q  = product("attn/q", layer_norm(g, "pool/ln1", x, b.ln1, operand_type(g, t.last_q)), t.last_q);
            a               = attention(g, "attn/softmax", q, kv, s, pairs.pooled, pooled);
        }
        x              = linear(g, "attn/out", as_operand(g, "attn/rows", a, b.out), b.out, {activation::none, x});
        n              = layer_norm(g, "ln2", x, b.ln2, operand_type(g, b.up));
        ggml_tensor *h = linear(g, "ffn/up", n, b.up, {t.act, nullptr, between_type(g, b.down)});
        x              = linear(g, "ffn/down", as_operand(g, "ffn/rows", h, b.down), b.down, {activation::none, x});
    }
    g.scope("");
    return x;
}

// The embedding of pooled rows.
ggml_tensor *project(graph_builder &g, ggml_tensor *x, const tower &t) {
    return linear(g, "proj", layer_norm(g, "post_ln", x, t.post_ln, operand_type(g, t.projection)), t.projection);
}

ggml_tensor *clip::image_graph(graph_builder &g, int64_t B, bool f32_pixels) {
    const int64_t T = image_tokens();
    ggml_tensor  *x = linear(g, "patch_embd", patch_input(g, grid, B, f32_pixels, patch_embd_), patch_embd_);
    x               = add_class_and_positions(g, "embd", x, class_embd_, image_position_embd_, B);
    x               = layer_norm(g, "pre_ln", x, pre_ln_);
    // The class token is the first row of each image.
    x = transformer(g, x, vision_, {vision_.heads, T, B, nullptr}, {B * T * T, B * T}, {B, nullptr},
                    [&](const char *name, ggml_tensor *rows) { return every_row(g, name, rows, T); });
    return project(g, x, vision_);
}

ggml_tensor *clip::text_graph(graph_builder &g, const text_shape &s) {
    ggml_tensor *tokens = g.input("tokens", GGML_TYPE_I32, {s.nodes}), *positions = g.input("positions", GGML_TYPE_I32, {s.nodes});
    ggml_tensor *pooled = g.input("pooled", GGML_TYPE_I32, {s.texts});
    ggml_tensor *x      = embed_tokens(g, "embd", tokens, positions, token_embd_, text_position_embd_);
    x = transformer(g, x, text_, {text_.heads, s.nodes, 1, token_tree_input(g, s.nodes)}, {s.pairs, s.tokens}, {s.texts, pooled},
                    [&](const char *name, ggml_tensor *rows) { return gather_rows(g, name, rows, pooled); });
    return project(g, x, text_);
}

} // namespace

std::unique_ptr<family> make_clip(const gguf_file &file, weights &w) { return std::make_unique<clip>(file, w); }

} // namespace tia2
