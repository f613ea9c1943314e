// blip.cpp: BLIP for image-text matching, and ImageReward, which is the same cross encoder with another head.
//
// Source: BLIP models/blip_itm.py, vit.py, med.py; transformers modeling_blip.py, modeling_blip_text.py; ImageReward.py.
#include "bert.h"
#include "transformer.h"

namespace tia2 {
namespace {

class blip : public family {
  public:
    blip(const gguf_file &file, weights &w);

    const char *name() const override { return "blip"; }
    size_t      nodes_max() const override { return 128 + 80 * (size_t)std::max(vision_.blocks.size.layers, text_.size.layers); }
    bool        causal() const override { return false; }

    std::vector<ggml_tensor *> image_graph(graph_builder &g, int64_t B, bool f32_pixels, image_outputs want) override;
    ggml_tensor               *text_graph(graph_builder &g, const text_shape &s) override;
    ggml_tensor               *first_rows_graph(graph_builder &g, const text_shape &s) override;
    ggml_tensor               *pair_graph(graph_builder &g, const pair_shape &s) override;

  private:
    vit            vision_;
    norm_weights   post_ln_;
    bert           text_;
    linear_weights image_proj_, text_proj_; // of the contrastive embeddings; none where embed_dim is 0
    linear_weights pair_head_;
};

blip::blip(const gguf_file &file, weights &w) {
    embed_dim    = file.u32("blip.embed_dim", 0, 1 << 14);
    context      = file.u32("blip.text.context", 2, 1 << 14);
    vocab_size   = file.u32("blip.text.vocab_size", 3, 1 << 24);
    pair_outputs = file.u32("blip.pair_outputs", 1, 2);

    vision_     = load_vit(file, w, "blip", {false, true});
    grid        = vision_.grid;
    state_width = (int32_t)vision_.blocks.size.width;
    post_ln_    = load_norm(w, "v.post_ln", state_width, file.f32("blip.vision.output_norm_eps", 1e-12f, 1e-2f));
    text_       = load_bert(file, w, "blip", state_width, 1, 0, context, vocab_size);
    text_width  = (int32_t)text_.size.width;
    if (embed_dim) {
        image_proj_ = load_linear(w, "v.proj", state_width, embed_dim);
        text_proj_  = load_linear(w, "t.proj", text_width, embed_dim);
    }
    pair_head_ = load_linear(w, "pair_head", text_width, pair_outputs);
}

std::vector<ggml_tensor *> blip::image_graph(graph_builder &g, int64_t B, bool f32_pixels, image_outputs want) {
    ggml_tensor *rows = run_vit(g, vision_, B, f32_pixels, want.states);
    if (!want.states) return {linear(g, "proj", layer_norm(g, "post_ln", rows, post_ln_, operand_type(g, image_proj_)), image_proj_)};
    ggml_tensor *states = layer_norm(g, "post_ln", rows, post_ln_);
    if (!want.embeds) return {states};
    ggml_tensor *classes = as_operand(g, "proj/rows", every_row(g, "pool", states, image_tokens()), image_proj_);
    return {linear(g, "proj", classes, image_proj_), states};
}

ggml_tensor *blip::text_graph(graph_builder &g, const text_shape &s) {
    return linear(g, "proj", as_operand(g, "proj/rows", run_text(g, text_, s), text_proj_), text_proj_);
}

ggml_tensor *blip::first_rows_graph(graph_builder &g, const text_shape &s) {
    return run_first_attention(g, text_, embed_texts(g, text_, s.nodes), {groups_of(g, text_, "self", s.texts, s.nodes, s.nodes), s.pairs});
}

ggml_tensor *blip::pair_graph(graph_builder &g, const pair_shape &s) {
    const int64_t T = image_tokens();
    bert_rows     rows;
    rows.states       = as_operand(g, "states", g.input("states", GGML_TYPE_F32, {state_width, T * s.images}), text_.layers[0].cross_kv);
    rows.self         = {groups_of(g, text_, "self", s.pairs, s.tokens, s.tokens), s.seen};
    rows.self_pooled  = {groups_of(g, text_, "self_pooled", s.pairs, s.pairs, s.tokens), s.tokens};
    rows.cross        = {groups_of(g, text_, "cross", s.cross, s.tokens, T * s.images), s.tokens * T};
    rows.cross_pooled = {groups_of(g, text_, "cross_pooled", s.cross_pooled, s.pairs, T * s.images), s.pairs * T};
    rows.pooled       = {s.pairs, nullptr};
    rows.pooled_at    = g.input("pooled", GGML_TYPE_I32, {s.pairs});
    ggml_tensor *x    = run_bert(g, text_, g.input("rows", GGML_TYPE_F32, {text_width, s.tokens}), rows);
    return linear(g, "head", as_operand(g, "head/rows", x, pair_head_), pair_head_);
}

} // namespace

std::unique_ptr<family> make_blip(const gguf_file &file, weights &w) { return std::make_unique<blip>(file, w); }

} // namespace tia2
