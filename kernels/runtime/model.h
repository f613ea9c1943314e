// model.h: tia2_model, a model family's weights on one device and its graphs.
#pragma once
#include "../encoder/family.h"
#include "text_rows.h"
#include "tia2.h"

#include <map>

namespace tia2 {

constexpr int32_t kBatchMax = 1 << 14; // keeps B*T*W within what ggml's kernels index

struct gallocr_deleter {
    void operator()(ggml_gallocr_t a) const { ggml_gallocr_free(a); }
};

// What makes two graphs of a model differ.
struct graph_key {
    enum kind { images, texts, first_rows, pairs };
    kind          of;
    int64_t       n          = 0; // images
    bool          f32_pixels = false;
    image_outputs want{};
    text_shape    text{};
    pair_shape    pair{};

    std::array<int64_t, 15> fields() const {
        return {of, n, f32_pixels, want.embeds, want.states, text.texts, text.tokens, text.nodes, text.pairs,
                pair.images, pair.pairs, pair.tokens, pair.seen, pair.cross, pair.cross_pooled};
    }
    bool operator<(const graph_key &o) const { return fields() < o.fields(); }
};

struct cached_graph {
    std::unique_ptr<graph> g;
    uint64_t               used; // a clock
};

} // namespace tia2

struct tia2_model {
    tia2::gguf_file                                      file;
    tia2::weights                                        w;
    tia2::backend_ptr                                    backend;
    std::unique_ptr<tia2::family>                        encoder;
    tia2::packed_weights                                 packed;
    int                                                  n_threads;
    bool                                                 fused; // the CPU's own kernels instead of plain ggml
    std::unique_ptr<ggml_gallocr, tia2::gallocr_deleter> alloc;
    const tia2::graph                                   *alloc_owner = nullptr;
    std::map<tia2::graph_key, tia2::cached_graph>        graphs;
    uint64_t                                             clock       = 0;
    float                                                logit_scale = 1;
    bool                                                 profiling   = false;
    std::vector<tia2_op_sample>                          samples; // in order of first run
    std::vector<uint8_t>                                 staging; // inputs on their way to the device

    tia2_model(const std::string &path, const std::string &device, int threads);
    ~tia2_model();

    tia2::graph  build(const tia2::graph_key &key);
    tia2::graph &graph_for(const tia2::graph_key &key);

    void run(tia2::graph &g, const std::function<void(const char *, ggml_tensor *)> &fill, std::initializer_list<float *> dst);

    // Fills an input with bytes that lie on the host, or with what `write` puts into memory of its size.
    void set(ggml_tensor *in, const void *data) { ggml_backend_tensor_set(in, data, 0, ggml_nbytes(in)); }
    void set(ggml_tensor *in, const std::function<void(float *)> &write);
    // The same for the input of attention_groups_input.
    void set_groups(ggml_tensor *in, const std::vector<tia2::attention_group> &groups);

  private:
    void  check_supported();
    void  add_sample(const tia2::graph_op &op, uint64_t ns);
    float read_logit_scale() const;
};

namespace tia2 {

// Throws TIA2_EINVAL.
void require(bool ok, const char *what);
void check_batch(int32_t B, const float *dst, size_t dst_len, int64_t values, const char *name);
void check_texts(const family &f, const int32_t *ids, const int32_t *offsets, int32_t B);

// One text of T tokens.
text_shape one_text(const family &f, int64_t T);
graph_key  first_rows_key(const text_rows &rows);

} // namespace tia2
