// encode.cpp: images and texts alone.
#include "../cpu/rows.h"
#include "../ops/patches.h"
#include "error.h"
#include "model.h"
#include "token_tree.h"

#include <algorithm>
#include <cstring>

using namespace tia2;

namespace {

void l2_normalize(float *rows, size_t n, int32_t D) { tia2_l2_normalize(rows, (size_t)D * sizeof(float), n, (size_t)D); }

// On the CPU a batch is computed some images at a time: what lies between two ops then stays in cache, and the images of
// a pass are still many enough to amortise reading the weights.
int32_t images_per_pass(const tia2_model &m) {
    constexpr int64_t kRowsPerThread = 200;
    return m.fused ? (int32_t)std::max<int64_t>(1, kRowsPerThread * m.n_threads / m.encoder->image_tokens()) : kBatchMax;
}

// Encodes B images in one pass. embeds are not normalised; either may be NULL.
void encode_pass(tia2_model &m, const void *pixels, int32_t type, int32_t B, float *embeds, float *states) {
    const patch_grid &grid = m.encoder->grid;
    const auto        fill = [&](const char *name, ggml_tensor *in) {
        if (!strcmp(name, "pixels")) return m.set(in, pixels);
        m.set(in, [&](float *rows) {
            if (type == TIA2_PIXELS_U8)
                patches_from_u8(rows, (const uint8_t *)pixels, B, grid);
            else
                patches_from_f32(rows, (const float *)pixels, B, grid);
        });
    };
    graph &g = m.graph_for({graph_key::images, B, type == TIA2_PIXELS_F32, {embeds != nullptr, states != nullptr}});
    if (embeds && states)
        m.run(g, fill, {embeds, states});
    else
        m.run(g, fill, {embeds ? embeds : states});
}

// A batch of texts whose encoder is causal, as a tree.
void encode_tree(tia2_model &m, const int32_t *ids, const int32_t *offsets, int32_t B, float *dst) {
    const token_tree tree(ids, offsets, B);
    m.run(
        m.graph_for({graph_key::texts, 0, false, {}, {B, offsets[B], tree.size(), tree.pairs}}),
        [&](const char *name, ggml_tensor *in) {
            if (!strcmp(name, "tokens")) return m.set(in, tree.tokens.data());
            if (!strcmp(name, "positions")) return m.set(in, tree.positions.data());
            if (!strcmp(name, "pooled")) return m.set(in, tree.pooled.data());
            if (!strcmp(name, "parents")) return m.set(in, tree.parents.data());
            m.set(in, [&](float *mask) { tree.write_mask(mask); });
        },
        {dst});
}

// A batch of texts whose encoder is not.
void encode_rows(tia2_model &m, const int32_t *ids, const int32_t *offsets, int32_t B, float *dst) {
    std::vector<text_span> texts;
    for (int32_t b = 0; b < B; b++) texts.push_back({ids + offsets[b], offsets[b + 1] - offsets[b]});
    const text_rows rows(texts, 0);
    m.run(
        m.graph_for({graph_key::texts, 0, false, {}, {B, offsets[B], rows.size(), rows.seen}}),
        [&](const char *name, ggml_tensor *in) {
            if (!strcmp(name, "tokens")) return m.set(in, rows.tokens.data());
            if (!strcmp(name, "positions")) return m.set(in, rows.positions.data());
            if (!strcmp(name, "pooled")) return m.set(in, rows.first.data());
            m.set_groups(in, strncmp(name, "self_pooled", 11) ? rows.self : rows.self_pooled);
        },
        {dst});
}

} // namespace

extern "C" tia2_status tia2_encode_images(tia2_model *m, const void *pixels, int32_t type, int32_t B, int32_t normalize, float *dst,
                                          size_t dst_len, float *states, size_t states_len, tia2_error *err) noexcept {
    return tia2_guard(err, [&] {
        require(m, "model must not be NULL");
        const family &f = *m->encoder;
        const int64_t D = (int64_t)f.image_vectors * f.embed_dim, S = (int64_t)f.image_tokens() * f.state_width;
        if (dst || !states) check_batch(B, dst, dst_len, D, "dst");
        if (states) check_batch(B, states, states_len, f.pair_outputs ? S : 0, "states");
        if (B == 0) return;
        require(dst ? D > 0 : f.pair_outputs > 0, "the model does not have what is asked for: embeddings or states");
        require(pixels, "pixels must not be NULL");
        if (type != TIA2_PIXELS_U8 && type != TIA2_PIXELS_F32) fail(TIA2_EINVAL, "pixel type is %d, expected 0 (u8) or 1 (f32)", type);
        const size_t  bytes = (size_t)(3 * f.grid.image_size * f.grid.image_size) * (type == TIA2_PIXELS_U8 ? 1 : sizeof(float));
        const int32_t step  = images_per_pass(*m);
        for (int32_t b = 0; b < B; b += step)
            encode_pass(*m, (const char *)pixels + bytes * (size_t)b, type, std::min(step, B - b), dst ? dst + (size_t)(b * D) : nullptr,
                        states ? states + (size_t)(b * S) : nullptr);
        if (dst && normalize) l2_normalize(dst, (size_t)B * (size_t)f.image_vectors, f.embed_dim);
    });
}

extern "C" tia2_status tia2_encode_texts(tia2_model *m, const int32_t *ids, const int32_t *offsets, int32_t B, int32_t normalize,
                                         float *dst, size_t dst_len, tia2_error *err) noexcept {
    return tia2_guard(err, [&] {
        require(m, "model must not be NULL");
        const family &f = *m->encoder;
        check_batch(B, dst, dst_len, f.embed_dim, "dst");
        if (B == 0) return;
        require(f.embed_dim > 0, "the model has no embeddings");
        check_texts(f, ids, offsets, B);
        f.causal() ? encode_tree(*m, ids, offsets, B, dst) : encode_rows(*m, ids, offsets, B, dst);
        if (normalize) l2_normalize(dst, (size_t)B, f.embed_dim);
    });
}
