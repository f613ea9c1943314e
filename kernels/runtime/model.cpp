// model.cpp: tia2_model, a model family's weights on one device and its graphs.
#include "../cpu/rows.h"
#include "../encoder/family.h"
#include "../ops/patches.h"
#include "error.h"
#include "token_tree.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <map>

using namespace tia2;

namespace {

constexpr size_t  kGraphsMax = 64;     // shapes kept; the least recently used goes first
constexpr int32_t kBatchMax  = 1 << 14; // keeps B*T*W within what ggml's kernels index

std::atomic<int64_t> live_handles{0};

struct gallocr_deleter {
    void operator()(ggml_gallocr_t a) const { ggml_gallocr_free(a); }
};

// What makes two graphs of a model differ.
struct graph_key {
    enum { image_u8, image_f32, text } tower;
    int64_t    images;
    text_shape texts;

    std::array<int64_t, 6> fields() const { return {tower, images, texts.texts, texts.tokens, texts.nodes, texts.pairs}; }
    bool                   operator<(const graph_key &o) const { return fields() < o.fields(); }
};

graph_key images_key(int32_t pixel_type, int64_t B) { return {pixel_type == TIA2_PIXELS_U8 ? graph_key::image_u8 : graph_key::image_f32, B, {}}; }

graph_key text_key(const text_shape &s) { return {graph_key::text, 0, s}; }

// One text of T tokens.
graph_key text_key(int64_t T) { return text_key({1, T, T, T * (T + 1) / 2}); }

struct cached_graph {
    std::unique_ptr<graph> g;
    uint64_t               used; // a clock
};

} // namespace

struct tia2_model {
    gguf_file                                      file;
    weights                                        w;
    backend_ptr                                    backend;
    std::unique_ptr<family>                        encoder;
    packed_weights                                 packed;
    int                                            n_threads;
    bool                                           fused; // the CPU's own kernels instead of plain ggml
    std::unique_ptr<ggml_gallocr, gallocr_deleter> alloc;
    const graph                                   *alloc_owner = nullptr;
    std::map<graph_key, cached_graph>              graphs;
    uint64_t                                       clock       = 0;
    float                                          logit_scale = 1;
    bool                                           profiling   = false;
    std::vector<tia2_op_sample>                    samples; // in order of first run
    std::vector<uint8_t>                           staging; // inputs on their way to the device

    tia2_model(const std::string &path, const std::string &device, int threads);
    ~tia2_model() { live_handles--; }

    graph  build(const graph_key &key);
    graph &graph_for(const graph_key &key);
    void  run(graph &g, const std::function<void(const char *, ggml_tensor *)> &fill, float *dst);
    int32_t images_per_pass() const;
    void  encode_images(const void *pixels, int32_t type, int32_t B, float *dst);
    void  add_sample(const graph_op &op, uint64_t ns);
    float read_logit_scale() const;
};

// On a CPU with vectors, unless TIA2_CPU=ggml asks for the plain form.
static bool has_own_kernels(ggml_backend_t backend) {
    const char *level = getenv("TIA2_CPU");
    return backend_name(ggml_backend_get_device(backend)) == "cpu" && packed_weights::worthwhile() && !(level && !strcmp(level, "ggml"));
}

tia2_model::tia2_model(const std::string &path, const std::string &device, int threads)
    : file(path), w(file), backend(open_backend(find_device(device), threads)), encoder(make_family(file, w)),
      packed(w, threads), n_threads(threads), fused(has_own_kernels(backend.get())) {
    w.get_f32("logit_scale", {1});
    w.upload(backend.get());
    alloc.reset(ggml_gallocr_new(ggml_backend_get_default_buffer_type(backend.get())));
    logit_scale = std::exp(read_logit_scale());
    graph_for(images_key(TIA2_PIXELS_U8, 1)).check_supported(backend.get());
    graph_for(text_key(2)).check_supported(backend.get());
    live_handles++; // last: the destructor runs only for a model that was made
}

float tia2_model::read_logit_scale() const {
    float v;
    ggml_backend_tensor_get(ggml_get_tensor(file.tensors.get(), "logit_scale"), &v, 0, sizeof v);
    if (!(v > -20 && v < 20)) fail(TIA2_EMODEL, "%s: tensor logit_scale is %g, expected a logarithm between -20 and 20", file.path.c_str(), v);
    return v;
}

graph tia2_model::build(const graph_key &key) {
    const bool    text = key.tower == graph_key::text;
    graph_builder b(text ? "text" : "image", encoder->nodes_max(), fused ? &packed : nullptr);
    ggml_tensor  *out = text ? encoder->text_graph(b, key.texts) : encoder->image_graph(b, key.images, key.tower == graph_key::image_f32);
    return graph(std::move(b), out);
}

graph &tia2_model::graph_for(const graph_key &key) {
    cached_graph &c = graphs[key];
    c.used          = ++clock;
    if (c.g) return *c.g;
    c.g = std::make_unique<graph>(build(key));
    if (graphs.size() > kGraphsMax) {
        auto oldest = graphs.begin();
        for (auto it = graphs.begin(); it != graphs.end(); ++it)
            if (it->second.used < oldest->second.used) oldest = it;
        if (alloc_owner == oldest->second.g.get()) alloc_owner = nullptr;
        graphs.erase(oldest);
    }
    return *c.g;
}

void tia2_model::add_sample(const graph_op &op, uint64_t ns) {
    tia2_op_sample *at = nullptr;
    for (tia2_op_sample &s : samples)
        if (op.name == s.name && op.shape == s.shape) at = &s;
    if (!at) {
        samples.emplace_back();
        at = &samples.back();
        snprintf(at->name, sizeof at->name, "%s", op.name.c_str());
        snprintf(at->shape, sizeof at->shape, "%s", op.shape.c_str());
    }
    at->count++;
    at->ns += ns;
    at->flops += op.flops;
    at->bytes += op.bytes;
}

void tia2_model::run(graph &g, const std::function<void(const char *, ggml_tensor *)> &fill, float *dst) {
    g.place(alloc.get(), &alloc_owner);
    std::function<void(const graph_op &, uint64_t)> on_op;
    if (profiling) on_op = [this](const graph_op &op, uint64_t ns) { add_sample(op, ns); };
    g.run(backend.get(), fill, dst, on_op);
}

// On the CPU a batch is computed some images at a time: what lies between two ops then stays in cache, and the images of
// a pass are still many enough to amortise reading the weights.
int32_t tia2_model::images_per_pass() const {
    constexpr int64_t kRowsPerThread = 200;
    return fused ? (int32_t)std::max<int64_t>(1, kRowsPerThread * n_threads / encoder->image_tokens()) : kBatchMax;
}

// Embeds B images in one pass, not normalised.
void tia2_model::encode_images(const void *pixels, int32_t type, int32_t B, float *dst) {
    const patch_grid &grid = encoder->grid;
    run(
        graph_for(images_key(type, B)),
        [&](const char *name, ggml_tensor *in) {
            if (!strcmp(name, "pixels")) return ggml_backend_tensor_set(in, pixels, 0, ggml_nbytes(in));
            staging.resize(ggml_nbytes(in));
            auto *rows = reinterpret_cast<float *>(staging.data());
            if (type == TIA2_PIXELS_U8)
                patches_from_u8(rows, (const uint8_t *)pixels, B, grid);
            else
                patches_from_f32(rows, (const float *)pixels, B, grid);
            ggml_backend_tensor_set(in, rows, 0, ggml_nbytes(in));
        },
        dst);
}

// ---- the C ABI -----------------------------------------------------------------------------------------------------

namespace {

void require(bool ok, const char *what) {
    if (!ok) fail(TIA2_EINVAL, "%s", what);
}

void check_batch(const tia2_model *m, int32_t B, const float *dst, size_t dst_len) {
    if (B < 0 || B > kBatchMax) fail(TIA2_EINVAL, "batch of %d, expected 0 to %d", B, kBatchMax);
    const size_t want = (size_t)B * (size_t)m->encoder->embed_dim;
    if (dst_len != want || (!dst && want)) fail(TIA2_EINVAL, "dst holds %zu floats, expected %zu", dst ? dst_len : 0, want);
}

void l2_normalize(float *rows, int32_t B, int32_t D) { tia2_l2_normalize(rows, (size_t)D * sizeof(float), (size_t)B, (size_t)D); }

} // namespace

extern "C" int64_t tia2_live_handles(void) noexcept { return live_handles; }

extern "C" tia2_status tia2_model_open(const char *path, const tia2_model_options *opt, tia2_model **out, tia2_error *err) noexcept {
    return tia2_guard(err, [&] {
        require(path && opt && opt->device && out, "path, options, options.device and out must not be NULL");
        if (opt->n_threads < 1 || opt->n_threads > GGML_MAX_N_THREADS)
            fail(TIA2_EINVAL, "%d threads, expected 1 to %d", opt->n_threads, GGML_MAX_N_THREADS);
        *out = nullptr;
        *out = new tia2_model(path, opt->device, opt->n_threads);
    });
}

extern "C" void tia2_model_free(tia2_model *m) noexcept { delete m; }

extern "C" void tia2_model_info_get(const tia2_model *cm, tia2_model_info *out) noexcept {
    *out = {};
    tia2_guard(nullptr, [&] {
        auto         *m = const_cast<tia2_model *>(cm); // the graph cache is not part of what a caller sees
        const family &f = *m->encoder;
        snprintf(out->family, sizeof out->family, "%s", f.name());
        snprintf(out->device, sizeof out->device, "%s", ggml_backend_dev_name(ggml_backend_get_device(m->backend.get())));
        out->embed_dim     = f.embed_dim;
        out->image_size    = (int32_t)f.grid.image_size;
        out->context       = f.context;
        out->vocab_size    = f.vocab_size;
        out->image_tokens  = f.image_tokens();
        out->logit_scale   = m->logit_scale;
        out->weights_bytes = m->w.bytes();
        out->image_flops   = m->build(images_key(TIA2_PIXELS_U8, 1)).flops();
        // A text of T tokens costs a*T + b*T^2 + c: three lengths give the three numbers.
        const auto   text = [m](int64_t T) { return m->build(text_key(T)).flops(); };
        const double f1 = text(1), f2 = text(2), f3 = text(3);
        out->text_flops_attention = (f3 - 2 * f2 + f1) / 2;
        out->text_flops_per_token = f2 - f1 - 3 * out->text_flops_attention;
        out->text_flops_pooled    = f1 - out->text_flops_per_token - out->text_flops_attention;
    });
}

extern "C" tia2_status tia2_encode_images(tia2_model *m, const void *pixels, int32_t type, int32_t B, int32_t normalize,
                                          float *dst, size_t dst_len, tia2_error *err) noexcept {
    return tia2_guard(err, [&] {
        require(m, "model must not be NULL");
        check_batch(m, B, dst, dst_len);
        if (B == 0) return;
        require(pixels, "pixels must not be NULL");
        if (type != TIA2_PIXELS_U8 && type != TIA2_PIXELS_F32) fail(TIA2_EINVAL, "pixel type is %d, expected 0 (u8) or 1 (f32)", type);
        const family &f     = *m->encoder;
        const size_t  bytes = (size_t)(3 * f.grid.image_size * f.grid.image_size) * (type == TIA2_PIXELS_U8 ? 1 : sizeof(float));
        const int32_t step  = m->images_per_pass();
        for (int32_t b = 0; b < B; b += step)
            m->encode_images((const char *)pixels + bytes * (size_t)b, type, std::min(step, B - b), dst + (size_t)b * (size_t)f.embed_dim);
        if (normalize) l2_normalize(dst, B, f.embed_dim);
    });
}

// Checks the texts of a batch.
static void check_texts(const family &f, const int32_t *ids, const int32_t *offsets, int32_t B) {
    require(ids && offsets, "ids and offsets must not be NULL");
    if (offsets[0] != 0) fail(TIA2_EINVAL, "offsets start at %d, expected 0", offsets[0]);
    for (int32_t b = 0; b < B; b++) { // before any id is read: only rising offsets lie within the ids
        const int64_t n = (int64_t)offsets[b + 1] - offsets[b];
        if (n < 1 || n > f.context) fail(TIA2_EINVAL, "text %d has %lld tokens, expected 1 to %d", b, (long long)n, f.context);
    }
    for (int32_t b = 0; b < B; b++)
        for (int32_t i = offsets[b]; i < offsets[b + 1]; i++)
            if (ids[i] < 0 || ids[i] >= f.vocab_size)
                fail(TIA2_EINVAL, "text %d has token id %d, expected 0 to %d", b, ids[i], f.vocab_size - 1);
}

extern "C" tia2_status tia2_encode_texts(tia2_model *m, const int32_t *ids, const int32_t *offsets, int32_t B, int32_t normalize,
                                         float *dst, size_t dst_len, tia2_error *err) noexcept {
    return tia2_guard(err, [&] {
        require(m, "model must not be NULL");
        check_batch(m, B, dst, dst_len);
        if (B == 0) return;
        const family &f = *m->encoder;
        check_texts(f, ids, offsets, B);
        const token_tree tree(ids, offsets, B);
        m->run(
            m->graph_for(text_key({B, offsets[B], tree.size(), tree.pairs})),
            [&](const char *name, ggml_tensor *in) {
                const auto set = [in](const std::vector<int32_t> &v) { ggml_backend_tensor_set(in, v.data(), 0, ggml_nbytes(in)); };
                if (!strcmp(name, "tokens")) return set(tree.tokens);
                if (!strcmp(name, "positions")) return set(tree.positions);
                if (!strcmp(name, "pooled")) return set(tree.pooled);
                if (!strcmp(name, "parents")) return set(tree.parents);
                m->staging.resize(ggml_nbytes(in)); // "mask"
                tree.write_mask(reinterpret_cast<float *>(m->staging.data()));
                ggml_backend_tensor_set(in, m->staging.data(), 0, ggml_nbytes(in));
            },
            dst);
        if (normalize) l2_normalize(dst, B, f.embed_dim);
    });
}

extern "C" void tia2_profile_set(tia2_model *m, int32_t on) noexcept {
    m->profiling = on != 0;
    if (on) m->samples.clear();
}

extern "C" int32_t tia2_profile_read(const tia2_model *m, tia2_op_sample *out, int32_t cap) noexcept {
    const int32_t n = (int32_t)m->samples.size();
    for (int32_t i = 0; i < n && i < cap; i++) out[i] = m->samples[(size_t)i];
    return n;
}
