// clip.cpp: CLIP with a vision transformer, as OpenAI, OpenCLIP and Hugging Face compute it.
//
// Source: openai/CLIP clip/model.py (VisionTransformer, CLIP.encode_text); open_clip transformer.py for head widths and
// exact GELU; transformers modeling_clip.py for the layer norm epsilon. All three agree on the graph.
#include "family.h"
#include "transformer.h"

namespace tia2 {
namespace {

// The embedding of pooled rows.
struct head {
    norm_weights   post_ln;
    linear_weights projection;
};

class clip : public family {
  public:
    clip(const gguf_file &file, weights &w);

    const char *name() const override { return "clip"; }
    // 21 tensors a block (views included), and some for the ends.
    size_t       nodes_max() const override { return 64 + 40 * (size_t)std::max(vision_.blocks.size.layers, text_.size.layers); }
    bool         causal() const override { return true; }
    std::vector<ggml_tensor *> image_graph(graph_builder &g, int64_t B, bool f32_pixels, image_outputs want) override;
    ggml_tensor               *text_graph(graph_builder &g, const text_shape &s) override;

  private:
    vit          vision_;
    transformer  text_;
    head         vision_head_, text_head_;
    ggml_tensor *token_embd_, *position_embd_;
};

head load_head(weights &w, const std::string &prefix, const layer_sizes &size, int64_t embed_dim) {
    return {load_norm(w, prefix + ".post_ln", size.width, size.eps),
            {w.get(prefix + ".proj.weight", {size.width, embed_dim}), w.find_f32(prefix + ".proj.bias", {embed_dim})}};
}

clip::clip(const gguf_file &file, weights &w) {
    embed_dim  = file.u32("clip.embed_dim", 1, 1 << 14);
    context    = file.u32("clip.text.context", 2, 1 << 14);
    vocab_size = file.u32("clip.text.vocab_size", 3, 1 << 24);

    vision_        = load_vit(file, w, "clip", {true, false});
    grid           = vision_.grid;
    text_          = load_transformer(file, w, "clip.text", "t");
    vision_head_   = load_head(w, "v", vision_.blocks.size, embed_dim);
    text_head_     = load_head(w, "t", text_.size, embed_dim);
    token_embd_    = w.get("t.token_embd.weight", {text_.size.width, vocab_size});
    position_embd_ = w.get_f32("t.position_embd", {text_.size.width, context});
    w.get_f32("logit_scale", {1});
}

ggml_tensor *project(graph_builder &g, ggml_tensor *x, const head &h) {
    return linear(g, "proj", layer_norm(g, "post_ln", x, h.post_ln, operand_type(g, h.projection)), h.projection);
}

std::vector<ggml_tensor *> clip::image_graph(graph_builder &g, int64_t B, bool f32_pixels, image_outputs) {
    return {project(g, run_vit(g, vision_, B, f32_pixels, false), vision_head_)};
}

ggml_tensor *clip::text_graph(graph_builder &g, const text_shape &s) {
    ggml_tensor *tokens = g.input("tokens", GGML_TYPE_I32, {s.nodes}), *positions = g.input("positions", GGML_TYPE_I32, {s.nodes});
    ggml_tensor *pooled = g.input("pooled", GGML_TYPE_I32, {s.texts});
    ggml_tensor *x      = embed_tokens(g, "embd", tokens, positions, token_embd_, position_embd_);
    const attention_shape shape{text_.size.heads, s.nodes, 1, token_tree_input(g, s.nodes)};
    x = run_transformer(g, x, text_, shape, {s.pairs, s.tokens}, {s.texts, pooled},
                        [&](const char *name, ggml_tensor *rows) { return gather_rows(g, name, rows, pooled); });
    return project(g, x, text_head_);
}

} // namespace

std::unique_ptr<family> make_clip(const gguf_file &file, weights &w) { return std::make_unique<clip>(file, w); }

} // namespace tia2
