#include "transformer.h"

namespace tia2 {

transformer load_transformer(const gguf_file &file, weights &w, const std::string &section, const std::string &prefix) {
    transformer   t;
    const int64_t W = (t.size = load_sizes(file, section)).width, mlp = t.size.mlp_width;
    for (int64_t i = 0; i < t.size.layers; i++) {
        const std::string b = prefix + ".blk." + std::to_string(i) + ".";
        t.blocks.push_back({load_norm(w, b + "ln1", W, t.size.eps), load_norm(w, b + "ln2", W, t.size.eps), load_linear(w, b + "attn_qkv", W, 3 * W),
                            load_linear(w, b + "attn_out", W, W), load_linear(w, b + "ffn_up", W, mlp), load_linear(w, b + "ffn_down", mlp, W)});
    }
    t.last_q  = part(w, t.blocks.back().qkv, 0, W);
    t.last_kv = part(w, t.blocks.back().qkv, W, 2 * W);
    return t;
}

ggml_tensor *run_transformer(graph_builder &g, ggml_tensor *x, const transformer &t, const attention_shape &s, const pair_counts &pairs,
                             const pooled_rows &pooled, const pool_rows &pool) {
    for (size_t i = 0; i < t.blocks.size(); i++) {
        const transformer_block &b = t.blocks[i];
        g.scope("blk." + std::to_string(i));
        const auto   product = [&](const char *name, ggml_tensor *rows, const linear_weights &w) {
            return linear(g, name, rows, w, {activation::none, nullptr, between_type(g, b.out)});
        };
        ggml_tensor *n = layer_norm(g, "ln1", x, b.ln1, operand_type(g, b.qkv)), *a;
        if (i + 1 < t.blocks.size()) {
            ggml_tensor *qkv = product("attn/qkv", n, b.qkv);
            a                = attention(g, "attn/softmax", qkv, qkv, s, pairs.all);
        } else {
            ggml_tensor *kv = product("attn/kv", n, t.last_kv), *rows = pool("pool", x);
            if (rows != x) n = layer_norm(g, "pool/ln1", rows, b.ln1, operand_type(g, t.last_q));
            x = rows;
            a = attention(g, "attn/softmax", product("attn/q", n, t.last_q), kv, s, pairs.pooled, pooled);
        }
        x              = linear(g, "attn/out", as_operand(g, "attn/rows", a, b.out), b.out, {activation::none, x});
        n              = layer_norm(g, "ln2", x, b.ln2, operand_type(g, b.up));
        ggml_tensor *h = linear(g, "ffn/up", n, b.up, {t.size.act, nullptr, between_type(g, b.down)});
        x              = linear(g, "ffn/down", as_operand(g, "ffn/rows", h, b.down), b.down, {activation::none, x});
    }
    g.scope("");
    return x;
}

vit load_vit(const gguf_file &file, weights &w, const std::string &arch, const vit_parts &parts) {
    vit v;
    v.grid          = load_grid(file, arch + ".vision");
    v.blocks        = load_transformer(file, w, arch + ".vision", "v");
    const int64_t W = v.blocks.size.width;
    v.patch_embd    = {w.get("v.patch_embd.weight", {3 * v.grid.patch_size * v.grid.patch_size, W}),
                       parts.patch_bias ? w.get_f32("v.patch_embd.bias", {W}) : nullptr};
    v.class_embd    = w.get_f32("v.class_embd", {W});
    v.position_embd = w.get_f32("v.position_embd", {W, v.tokens()});
    if (parts.pre_ln) v.pre_ln = load_norm(w, "v.pre_ln", W, v.blocks.size.eps);
    return v;
}

ggml_tensor *run_vit(graph_builder &g, const vit &v, int64_t B, bool f32_pixels, bool every_token) {
    const int64_t T = v.tokens();
    ggml_tensor  *x = linear(g, "patch_embd", patch_input(g, v.grid, B, f32_pixels, v.patch_embd), v.patch_embd);
    x               = add_class_and_positions(g, "embd", x, v.class_embd, v.position_embd, B);
    if (v.pre_ln.weight) x = layer_norm(g, "pre_ln", x, v.pre_ln);
    const attention_shape s{v.blocks.size.heads, T, B};
    const pair_counts     pairs{B * T * T, every_token ? B * T * T : B * T};
    return run_transformer(g, x, v.blocks, s, pairs, {every_token ? T * B : B}, [&](const char *name, ggml_tensor *rows) {
        return every_token ? rows : every_row(g, name, rows, T); // the class token is the first row of each image
    });
}

} // namespace tia2
