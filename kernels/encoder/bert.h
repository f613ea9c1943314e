// bert.h: BERT with cross-attention: post-norm layers, texts without padding. BLIP's text encoder and BLIP-2's Q-Former.
//
// Source: BLIP models/med.py (BertLayer, BertEmbeddings without token types); LAVIS Qformer.py (the same, with rows of
// queries before those of the text, which alone cross-attend, in every other layer, and have a feed-forward part of their own).
#pragma once
#include "family.h"
#include "load.h"

namespace tia2 {

struct feed_forward {
    linear_weights up, down;
    norm_weights   ln;
};

// A product back to the residual stream, and the norm after it.
struct joined {
    linear_weights out;
    norm_weights   ln;
};

struct bert_layer {
    linear_weights qkv;
    joined         self;
    bool           crosses;
    linear_weights cross_q, cross_kv;
    joined         cross;
    feed_forward   text, query;
};

struct bert {
    layer_sizes             size;
    std::vector<bert_layer> layers;
    linear_weights          last_q, last_kv; // the last layer's qkv in two: pooled rows alone need a query there
    ggml_tensor            *token_embd, *position_embd, *query_embd;
    norm_weights            embd_ln;
};

// Reads the tensors t.* of a family whose keys start with `arch`. state_width: of the images' rows; every cross_every-th layer
// cross-attends. queries: 0 for BERT.
bert load_bert(const gguf_file &file, weights &w, const std::string &arch, int64_t state_width, int64_t cross_every, int64_t queries,
               int32_t context, int32_t vocab_size);

// Who sees whom in an attention, and how many pairs that makes.
struct visible {
    attention_shape shape;
    int64_t         pairs = 0;
};

// The rows of a pass. Those of queries, if there are any, come first.
struct bert_rows {
    std::string  scope;              // before the names of ops
    int64_t      queries = 0;        // rows of queries, of all sequences
    visible      self, self_pooled;  // self-attention; of pooled rows alone, in the last layer
    pooled_rows  pooled{};           // n: pooled rows
    ggml_tensor *pooled_at = nullptr; // i32 [n], which rows these are; NULL: the first n
    ggml_tensor *states    = nullptr; // images' rows, operands of the layers' cross_kv; NULL: no cross-attention
    visible      cross, cross_pooled;
};

// n groups of queries that see some of the keys: an input, see attention_groups_input.
attention_shape groups_of(graph_builder &g, const bert &b, const char *name, int64_t n, int64_t queries, int64_t keys);

// Rows of tokens after the embedding norm, f32 [W, n]; rows of the queries, [W, Q].
ggml_tensor *embed_texts(graph_builder &g, const bert &b, int64_t n);
ggml_tensor *embed_queries(graph_builder &g, const bert &b);

// The self-attention of the first layer, with its residual and norm. x [W, n] -> [W, n]. scope: as bert_rows has it.
ggml_tensor *run_first_attention(graph_builder &g, const bert &b, ggml_tensor *x, const visible &self, const std::string &scope = "");

// All that follows. x [W, n] -> the pooled rows [W, pooled].
ggml_tensor *run_bert(graph_builder &g, const bert &b, ggml_tensor *x, const bert_rows &rows);

// A text graph as family.h has it: [CLS] of each text, [W, B].
ggml_tensor *run_text(graph_builder &g, const bert &b, const text_shape &s);

} // namespace tia2
