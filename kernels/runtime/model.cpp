#include "model.h"

#include "error.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdlib>
#include <cstring>

using namespace tia2;

namespace {

constexpr size_t kGraphsMax = 64; // shapes kept; the least recently used goes first

std::atomic<int64_t> live_handles{0};

// On a CPU with vectors, unless TIA2_CPU=ggml asks for the plain form.
bool has_own_kernels(ggml_backend_t backend) {
    const char *level = getenv("TIA2_CPU");
    return backend_name(ggml_backend_get_device(backend)) == "cpu" && packed_weights::worthwhile() && !(level && !strcmp(level, "ggml"));
}

// What one image's graph computes where nobody says: its embedding, or where the model has none, its states.
image_outputs usual_outputs(const family &f) { return {f.embed_dim > 0, f.embed_dim == 0}; }

} // namespace

tia2_model::tia2_model(const std::string &path, const std::string &device, int threads)
    : file(path), w(file), backend(open_backend(find_device(device), threads)), encoder(make_family(file, w)),
      packed(w, threads), n_threads(threads), fused(has_own_kernels(backend.get())) {
    w.upload(backend.get());
    alloc.reset(ggml_gallocr_new(ggml_backend_get_default_buffer_type(backend.get())));
    logit_scale = std::exp(read_logit_scale());
    check_supported();
    live_handles++; // last: the destructor runs only for a model that was made
}

tia2_model::~tia2_model() { live_handles--; }

// Builds one graph of each kind.
void tia2_model::check_supported() {
    const family &f = *encoder;
    std::vector<graph_key> keys{{graph_key::images, 1, false, usual_outputs(f)}};
    if (f.embed_dim) keys.push_back({graph_key::texts, 0, false, {}, one_text(f, 2)});
    if (f.pair_outputs) {
        const text_rows two({{nullptr, 2}}, f.queries);
        keys.push_back(first_rows_key(two));
        keys.push_back({graph_key::pairs, 0, false, {}, {}, {1, 1, 2, two.seen, 1, 1}});
    }
    for (const graph_key &key : keys) graph_for(key).check_supported(backend.get());
}

// 0 where the family has none.
float tia2_model::read_logit_scale() const {
    const ggml_tensor *t = ggml_get_tensor(file.tensors.get(), "logit_scale");
    float              v = 0;
    if (t) ggml_backend_tensor_get(t, &v, 0, sizeof v);
    if (!(v > -20 && v < 20)) fail(TIA2_EMODEL, "%s: tensor logit_scale is %g, expected a logarithm between -20 and 20", file.path.c_str(), v);
    return v;
}

graph tia2_model::build(const graph_key &key) {
    graph_builder b(std::array{"image", "text", "pair", "pair"}[key.of], encoder->nodes_max(), fused ? &packed : nullptr);
    std::vector<ggml_tensor *> outputs;
    switch (key.of) {
    case graph_key::images: outputs = encoder->image_graph(b, key.n, key.f32_pixels, key.want); break;
    case graph_key::texts: outputs = {encoder->text_graph(b, key.text)}; break;
    case graph_key::first_rows: outputs = {encoder->first_rows_graph(b, key.text)}; break;
    case graph_key::pairs: outputs = {encoder->pair_graph(b, key.pair)}; break;
    }
    return graph(std::move(b), std::move(outputs));
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

void tia2_model::run(graph &g, const std::function<void(const char *, ggml_tensor *)> &fill, std::initializer_list<float *> dst) {
    g.place(alloc.get(), &alloc_owner);
    std::function<void(const graph_op &, uint64_t)> on_op;
    if (profiling) on_op = [this](const graph_op &op, uint64_t ns) { add_sample(op, ns); };
    g.run(backend.get(), fill, dst, on_op);
}

void tia2_model::set(ggml_tensor *in, const std::function<void(float *)> &write) {
    staging.resize(ggml_nbytes(in));
    write(reinterpret_cast<float *>(staging.data()));
    set(in, staging.data());
}

void tia2_model::set_groups(ggml_tensor *in, const std::vector<attention_group> &groups) {
    if (in->type == GGML_TYPE_I32) return set(in, groups.data());
    set(in, [&](float *mask) { write_mask(mask, (size_t)in->ne[1], (size_t)in->ne[0], groups); });
}

namespace tia2 {

void require(bool ok, const char *what) {
    if (!ok) fail(TIA2_EINVAL, "%s", what);
}

void check_batch(int32_t B, const float *dst, size_t dst_len, int64_t values, const char *name) {
    if (B < 0 || B > kBatchMax) fail(TIA2_EINVAL, "batch of %d, expected 0 to %d", B, kBatchMax);
    const size_t want = (size_t)B * (size_t)values;
    if (dst_len != want || (!dst && want)) fail(TIA2_EINVAL, "%s holds %zu floats, expected %zu", name, dst ? dst_len : 0, want);
}

void check_texts(const family &f, const int32_t *ids, const int32_t *offsets, int32_t B) {
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

text_shape one_text(const family &f, int64_t T) { return {1, T, T, f.causal() ? T * (T + 1) / 2 : T * T}; }

graph_key first_rows_key(const text_rows &r) {
    const int64_t texts = (int64_t)r.first.size() - 1, tokens = (int64_t)r.tokens.size();
    return {graph_key::first_rows, 0, false, {}, {texts, tokens, r.size(), r.seen}};
}

} // namespace tia2

// ---- the C ABI -----------------------------------------------------------------------------------------------------

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
        auto         *m = const_cast<tia2_model *>(cm); // building a graph packs weights, which is not part of what a caller sees
        const family &f = *m->encoder;
        snprintf(out->family, sizeof out->family, "%s", f.name());
        snprintf(out->device, sizeof out->device, "%s", ggml_backend_dev_name(ggml_backend_get_device(m->backend.get())));
        out->embed_dim     = f.embed_dim;
        out->image_vectors = f.image_vectors;
        out->state_width   = f.pair_outputs ? f.state_width : 0;
        out->pair_outputs  = f.pair_outputs;
        out->image_size    = (int32_t)f.grid.image_size;
        out->context       = f.context;
        out->vocab_size    = f.vocab_size;
        out->image_tokens  = f.image_tokens();
        out->logit_scale   = m->logit_scale;
        out->weights_bytes = m->w.bytes();
        out->image_flops   = m->build({graph_key::images, 1, false, usual_outputs(f)}).flops();
        if (!f.embed_dim) return;
        // A text of T tokens costs a*T + b*T^2 + c: three lengths give the three numbers.
        const auto   text = [m, &f](int64_t T) { return m->build({graph_key::texts, 0, false, {}, one_text(f, T)}).flops(); };
        const double f1 = text(1), f2 = text(2), f3 = text(3);
        out->text_flops_attention = (f3 - 2 * f2 + f1) / 2;
        out->text_flops_per_token = f2 - f1 - 3 * out->text_flops_attention;
        out->text_flops_pooled    = f1 - out->text_flops_per_token - out->text_flops_attention;
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
