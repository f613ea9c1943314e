#include "bert.h"

namespace tia2 {
namespace {

feed_forward load_feed_forward(weights &w, const std::string &name, const layer_sizes &s) {
    return {load_linear(w, name + "ffn_up", s.width, s.mlp_width), load_linear(w, name + "ffn_down", s.mlp_width, s.width),
            load_norm(w, name + "ffn_ln", s.width, s.eps)};
}

joined load_joined(weights &w, const std::string &name, const layer_sizes &s) {
    return {load_linear(w, name + "_out", s.width, s.width), load_norm(w, name + "_ln", s.width, s.eps)};
}

// A product whose rows an attention reads, which makes rows that `out` reads.
ggml_tensor *to_attention(graph_builder &g, const char *name, ggml_tensor *x, const linear_weights &w, const linear_weights &out) {
    return linear(g, name, as_operand(g, (std::string(name) + "/rows").c_str(), x, w), w, {activation::none, nullptr, between_type(g, out)});
}

// norm(x + y W): a is what was attended to.
ggml_tensor *join(graph_builder &g, const std::string &name, ggml_tensor *a, const joined &j, ggml_tensor *x) {
    ggml_tensor *rows = as_operand(g, (name + "/rows").c_str(), a, j.out);
    return layer_norm(g, (name + "/ln").c_str(), linear(g, (name + "/out").c_str(), rows, j.out, {activation::none, x}), j.ln);
}

ggml_tensor *self_attention(graph_builder &g, const bert_layer &l, ggml_tensor *x, const visible &v) {
    ggml_tensor *qkv = to_attention(g, "attn/qkv", x, l.qkv, l.self.out);
    return join(g, "attn", attention(g, "attn/softmax", qkv, qkv, v.shape, v.pairs), l.self, x);
}

// The last layer's, of pooled rows, which see all.
ggml_tensor *pooled_attention(graph_builder &g, const bert &b, ggml_tensor *x, ggml_tensor *pooled, const bert_rows &rows) {
    const joined &j  = b.layers.back().self;
    ggml_tensor  *kv = to_attention(g, "attn/kv", x, b.last_kv, j.out), *q = to_attention(g, "attn/q", pooled, b.last_q, j.out);
    return join(g, "attn", attention(g, "attn/softmax", q, kv, rows.self_pooled.shape, rows.self_pooled.pairs, rows.pooled), j, pooled);
}

ggml_tensor *cross_attention(graph_builder &g, const bert_layer &l, ggml_tensor *x, ggml_tensor *states, const visible &v) {
    const epilogue e{activation::none, nullptr, between_type(g, l.cross.out)};
    ggml_tensor   *kv = linear(g, "cross/kv", states, l.cross_kv, e), *q = to_attention(g, "cross/q", x, l.cross_q, l.cross.out);
    return join(g, "cross", attention(g, "cross/softmax", q, kv, v.shape, v.pairs, {x->ne[1], nullptr}), l.cross, x);
}

ggml_tensor *run_feed_forward(graph_builder &g, const std::string &name, ggml_tensor *x, const feed_forward &f, activation act) {
    const auto   named = [&](const char *op) { return name + op; };
    ggml_tensor *h     = linear(g, named("/up").c_str(), as_operand(g, named("/rows").c_str(), x, f.up), f.up, {act, nullptr, between_type(g, f.down)});
    h = linear(g, named("/down").c_str(), as_operand(g, named("/hidden").c_str(), h, f.down), f.down, {activation::none, x});
    return layer_norm(g, named("/ln").c_str(), h, f.ln);
}

// What follows a layer's self-attention. x: its rows, n_queries of queries first.
ggml_tensor *finish_layer(graph_builder &g, const bert &b, const bert_layer &l, ggml_tensor *x, int64_t n_queries, ggml_tensor *states, const visible &cross) {
    const activation act = b.size.act;
    if (n_queries == 0) {
        if (states && l.crosses) x = cross_attention(g, l, x, states, cross);
        return run_feed_forward(g, "ffn", x, l.text, act);
    }
    const int64_t n_texts = x->ne[1] - n_queries;
    ggml_tensor  *q       = rows_between(g, x, 0, n_queries);
    if (states && l.crosses) q = cross_attention(g, l, q, states, cross);
    q = run_feed_forward(g, "query_ffn", q, l.query, act);
    if (n_texts == 0) return q;
    return join_rows(g, "rows", q, run_feed_forward(g, "ffn", rows_between(g, x, n_queries, n_texts), l.text, act));
}

} // namespace

bert load_bert(const gguf_file &file, weights &w, const std::string &arch, int64_t state_width, int64_t cross_every, int64_t queries,
               int32_t context, int32_t vocab_size) {
    bert          b;
    const int64_t W = (b.size = load_sizes(file, arch + ".text")).width;
    b.token_embd    = w.get("t.token_embd.weight", {W, vocab_size});
    b.position_embd = w.get_f32("t.position_embd", {W, context});
    b.query_embd    = queries ? w.get_f32("t.query_embd", {W, queries}) : nullptr;
    b.embd_ln       = load_norm(w, "t.embd_ln", W, b.size.eps);
    for (int64_t i = 0; i < b.size.layers; i++) {
        const std::string name = "t.blk." + std::to_string(i) + ".";
        bert_layer        l{};
        l.qkv     = load_linear(w, name + "attn_qkv", W, 3 * W);
        l.self    = load_joined(w, name + "attn", b.size);
        l.crosses = i % cross_every == 0;
        if (l.crosses) {
            l.cross_q  = load_linear(w, name + "cross_q", W, W);
            l.cross_kv = load_linear(w, name + "cross_kv", state_width, 2 * W);
            l.cross    = load_joined(w, name + "cross", b.size);
        }
        l.text = load_feed_forward(w, name, b.size);
        if (queries) l.query = load_feed_forward(w, name + "query_", b.size);
        b.layers.push_back(l);
    }
    b.last_q  = part(w, b.layers.back().qkv, 0, W);
    b.last_kv = part(w, b.layers.back().qkv, W, 2 * W);
    return b;
}

attention_shape groups_of(graph_builder &g, const bert &b, const char *name, int64_t n, int64_t queries, int64_t keys) {
    return {b.size.heads, keys, 1, nullptr, attention_groups_input(g, name, n, queries, keys)};
}

ggml_tensor *embed_texts(graph_builder &g, const bert &b, int64_t n) {
    ggml_tensor *tokens = g.input("tokens", GGML_TYPE_I32, {n}), *positions = g.input("positions", GGML_TYPE_I32, {n});
    return layer_norm(g, "embd/ln", embed_tokens(g, "embd", tokens, positions, b.token_embd, b.position_embd), b.embd_ln);
}

ggml_tensor *embed_queries(graph_builder &g, const bert &b) { return layer_norm(g, "query_embd/ln", b.query_embd, b.embd_ln); }

ggml_tensor *run_first_attention(graph_builder &g, const bert &b, ggml_tensor *x, const visible &self, const std::string &scope) {
    g.scope(scope + "blk.0");
    x = self_attention(g, b.layers[0], x, self);
    g.scope("");
    return x;
}

ggml_tensor *run_bert(graph_builder &g, const bert &b, ggml_tensor *x, const bert_rows &rows) {
    for (size_t i = 0; i < b.layers.size(); i++) {
        const bert_layer &l    = b.layers[i];
        const bool        last = i + 1 == b.layers.size();
        g.scope(rows.scope + "blk." + std::to_string(i));
        ggml_tensor *pooled = !last ? nullptr : rows.pooled_at ? gather_rows(g, "pool", x, rows.pooled_at) : rows_between(g, x, 0, rows.pooled.n);
        if (last)
            x = i > 0 ? pooled_attention(g, b, x, pooled, rows) : pooled;
        else if (i > 0)
            x = self_attention(g, l, x, rows.self);
        x = finish_layer(g, b, l, x, rows.queries, rows.states, last ? rows.cross_pooled : rows.cross);
    }
    g.scope("");
    return x;
}

ggml_tensor *run_text(graph_builder &g, const bert &b, const text_shape &s) {
    ggml_tensor *x = embed_texts(g, b, s.nodes);
    bert_rows    rows;
    rows.self        = {groups_of(g, b, "self", s.texts, s.nodes, s.nodes), s.pairs};
    rows.self_pooled = {groups_of(g, b, "self_pooled", s.texts, s.texts, s.nodes), s.tokens};
    rows.pooled      = {s.texts, nullptr};
    rows.pooled_at   = g.input("pooled", GGML_TYPE_I32, {s.texts});
    return run_bert(g, b, run_first_attention(g, b, x, rows.self), rows);
}

} // namespace tia2
