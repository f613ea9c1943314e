// blip2.cpp: BLIP-2 for image-text matching: EVA's vision transformer and the Q-Former, whose queries read the image.
//
// Source: LAVIS blip2_image_text_matching.py, Qformer.py, eva_vit.py; transformers modeling_blip_2.py
// Blip2ForImageTextRetrieval.
#include "bert.h"
#include "transformer.h"

namespace tia2 {
namespace {

class blip2 : public family {
  public:
    blip2(const gguf_file &file, weights &w);

    const char *name() const override { return "blip2"; }
    size_t      nodes_max() const override { return 256 + 80 * (size_t)vision_.blocks.size.layers + 120 * (size_t)text_.size.layers; }
    bool        causal() const override { return false; }

    std::vector<ggml_tensor *> image_graph(graph_builder &g, int64_t B, bool f32_pixels, image_outputs want) override;
    ggml_tensor               *text_graph(graph_builder &g, const text_shape &s) override;
    ggml_tensor               *first_rows_graph(graph_builder &g, const text_shape &s) override;
    ggml_tensor               *pair_graph(graph_builder &g, const pair_shape &s) override;

  private:
    ggml_tensor *read_image(graph_builder &g, ggml_tensor *states, int64_t B);

    vit            vision_;
    norm_weights   post_ln_;
    bert           text_;
    linear_weights image_proj_, text_proj_, pair_head_;
};

blip2::blip2(const gguf_file &file, weights &w) {
    embed_dim    = file.u32("blip2.embed_dim", 1, 1 << 14);
    context      = file.u32("blip2.text.context", 2, 1 << 14);
    vocab_size   = file.u32("blip2.text.vocab_size", 3, 1 << 24);
    pair_outputs = file.u32("blip2.pair_outputs", 1, 2);
    queries      = file.u32("blip2.queries", 1, 1 << 10);

    vision_       = load_vit(file, w, "blip2", {false, true});
    grid          = vision_.grid;
    image_vectors = queries;
    state_width   = (int32_t)vision_.blocks.size.width;
    post_ln_      = load_norm(w, "v.post_ln", state_width, file.f32("blip2.vision.output_norm_eps", 1e-12f, 1e-2f));
    text_         = load_bert(file, w, "blip2", state_width, file.u32("blip2.cross_attention_every", 1, 256), queries, context, vocab_size);
    text_width    = (int32_t)text_.size.width;
    image_proj_   = load_linear(w, "v.proj", text_width, embed_dim);
    text_proj_    = load_linear(w, "t.proj", text_width, embed_dim);
    pair_head_    = load_linear(w, "pair_head", text_width, pair_outputs);
}

std::vector<ggml_tensor *> blip2::image_graph(graph_builder &g, int64_t B, bool f32_pixels, image_outputs want) {
    ggml_tensor *states = layer_norm(g, "post_ln", run_vit(g, vision_, B, f32_pixels, true), post_ln_);
    if (!want.embeds) return {states};
    ggml_tensor *embeds = linear(g, "proj", as_operand(g, "proj/rows", read_image(g, states, B), image_proj_), image_proj_);
    if (!want.states) return {embeds};
    return {embeds, states};
}

// The queries without a text. Their first self-attention is the same for all images. -> [W, Q*B]
ggml_tensor *blip2::read_image(graph_builder &g, ggml_tensor *states, int64_t B) {
    const int64_t Q = queries, H = text_.size.heads, T = image_tokens();
    ggml_tensor  *x = run_first_attention(g, text_, embed_queries(g, text_), {{H, Q, 1}, Q * Q}, "query/");
    bert_rows     rows;
    rows.scope        = "query/";
    rows.queries      = Q * B;
    rows.states       = as_operand(g, "states", states, text_.layers[0].cross_kv);
    rows.self         = {{H, Q, B}, Q * Q * B};
    rows.self_pooled  = rows.self;
    rows.cross        = {{H, T, B}, Q * T * B};
    rows.cross_pooled = rows.cross;
    rows.pooled       = {Q * B, nullptr};
    return run_bert(g, text_, repeat_rows(g, "queries", x, B), rows);
}

ggml_tensor *blip2::text_graph(graph_builder &g, const text_shape &s) {
    return linear(g, "proj", as_operand(g, "proj/rows", run_text(g, text_, s), text_proj_), text_proj_);
}

ggml_tensor *blip2::first_rows_graph(graph_builder &g, const text_shape &s) {
    ggml_tensor *q = repeat_rows(g, "queries", embed_queries(g, text_), s.texts);
    ggml_tensor *x = join_rows(g, "rows", q, embed_texts(g, text_, s.tokens));
    return run_first_attention(g, text_, x, {groups_of(g, text_, "self", 2 * s.texts, s.nodes, s.nodes), s.pairs});
}

ggml_tensor *blip2::pair_graph(graph_builder &g, const pair_shape &s) {
    const int64_t T = image_tokens(), q_rows = queries * s.pairs, n = q_rows + s.tokens;
    bert_rows     rows;
    rows.queries      = q_rows;
    rows.states       = as_operand(g, "states", g.input("states", GGML_TYPE_F32, {state_width, T * s.images}), text_.layers[0].cross_kv);
    rows.self         = {groups_of(g, text_, "self", 2 * s.pairs, n, n), s.seen};
    rows.self_pooled  = {groups_of(g, text_, "self_pooled", s.pairs, q_rows, n), queries * n};
    rows.cross        = {groups_of(g, text_, "cross", s.cross, q_rows, T * s.images), q_rows * T};
    rows.cross_pooled = rows.cross;
    rows.pooled       = {q_rows, nullptr};
    ggml_tensor *x    = run_bert(g, text_, g.input("rows", GGML_TYPE_F32, {text_width, n}), rows);
    // The logits' mean over the queries.
    return mean_rows(g, "mean", linear(g, "head", as_operand(g, "head/rows", x, pair_head_), pair_head_), queries);
}

} // namespace

std::unique_ptr<family> make_blip2(const gguf_file &file, weights &w) { return std::make_unique<blip2>(file, w); }

} // namespace tia2
