// match.cpp: pairs of images and texts through the cross encoder.
#include "error.h"
#include "model.h"
#include "pair_plan.h"

#include <algorithm>
#include <cstring>

using namespace tia2;

namespace {

// Queries of one call of the attention kernel, which may be spread over threads; keys and values are read once for each.
constexpr int32_t kQueriesMax = 192;

// Rows of texts after the first self-attention, which no image changes.
struct first_rows {
    text_rows          of;
    std::vector<float> values; // f32 [rows, W]
};

// What fits a pass: activations of a few MB a thread on the CPU; elsewhere masks grow with rows * images.
pass_limits limits_of(const tia2_model &m) {
    if (!m.fused) return {2048, 4096, 4};
    return {512 * (int64_t)m.n_threads, 4096, 4 * (int64_t)m.n_threads};
}

// Rows that each text makes.
std::vector<int32_t> rows_of(const family &f, const std::vector<text_span> &texts) {
    std::vector<int32_t> rows;
    for (const text_span &t : texts) rows.push_back(f.queries + t.n);
    return rows;
}

std::vector<text_span> spans_of(const int32_t *ids, const int32_t *offsets, int32_t N) {
    std::vector<text_span> texts;
    for (int32_t t = 0; t < N; t++) texts.push_back({ids ? ids + offsets[t] : nullptr, offsets[t + 1] - offsets[t]});
    return texts;
}

// Computes the first rows of texts, some texts at a time.
std::vector<first_rows> read_texts(tia2_model &m, const std::vector<text_span> &texts) {
    const family           &f    = *m.encoder;
    const pass_limits       most = limits_of(m);
    std::vector<first_rows> all;
    for (size_t t = 0; t < texts.size();) {
        int64_t n   = 0;
        size_t  end = t;
        while (end < texts.size() && (end == t || n + f.queries + texts[end].n <= most.rows)) n += f.queries + texts[end++].n;
        all.push_back({text_rows({texts.begin() + (ptrdiff_t)t, texts.begin() + (ptrdiff_t)end}, f.queries), {}});
        first_rows &rows = all.back();
        rows.values.resize((size_t)rows.of.size() * (size_t)f.text_width);
        m.run(
            m.graph_for(first_rows_key(rows.of)),
            [&](const char *name, ggml_tensor *in) {
                if (!strcmp(name, "tokens")) return m.set(in, rows.of.tokens.data());
                if (!strcmp(name, "positions")) return m.set(in, rows.of.positions.data());
                m.set_groups(in, rows.of.self);
            },
            {rows.values.data()});
        t = end;
    }
    return all;
}

// The groups of rows that see an image: pair p of the pass has rows at[p]..at[p+1].
std::vector<attention_group> cross_groups(const pair_pass &pass, const std::vector<int32_t> &at, int32_t T) {
    std::vector<attention_group> groups;
    for (size_t i = 0; i < pass.images.size(); i++) {
        const int32_t end = at[(size_t)pass.starts[i + 1]];
        for (int32_t q = at[(size_t)pass.starts[i]]; q < end; q += kQueriesMax)
            groups.push_back({q, std::min(kQueriesMax, end - q), (int32_t)i * T, T, 0, 0});
    }
    return groups;
}

// One pass laid out: the rows of its pairs and who sees what.
struct pass_layout {
    text_rows                    rows;
    std::vector<attention_group> cross, cross_pooled;
    pair_shape                   shape;

    pass_layout(const family &f, const pair_pass &pass, const std::vector<text_span> &texts) : rows(texts, f.queries) {
        const int32_t        n = pass.end - pass.begin, T = f.image_tokens();
        std::vector<int32_t> pooled((size_t)n + 1); // queries or [CLS] of each pair
        for (int32_t p = 0; p <= n; p++) pooled[(size_t)p] = p * std::max(1, f.queries);
        cross_pooled = cross_groups(pass, pooled, T);
        cross        = f.queries ? cross_pooled : cross_groups(pass, rows.first, T);
        shape        = {(int64_t)pass.images.size(), n, (int64_t)rows.positions.size(), rows.seen, (int64_t)cross.size(), (int64_t)cross_pooled.size()};
    }
};

// A match call, with what all of its passes share.
struct match_call {
    tia2_model                   &m;
    const float                  *states;
    pair_list                     pairs;
    std::vector<text_span>        texts;
    std::vector<first_rows>       first;
    std::vector<std::pair<int32_t, int32_t>> at; // each text: which of `first`, and which text there

    match_call(tia2_model &model, const float *image_states, const pair_list &p, const std::vector<text_span> &t)
        : m(model), states(image_states), pairs(p), texts(t), first(read_texts(model, t)) {
        for (size_t i = 0; i < first.size(); i++)
            for (size_t k = 0; k + 1 < first[i].of.first.size(); k++) at.emplace_back((int32_t)i, (int32_t)k);
    }

    void run(const pair_pass &pass, float *dst);
    void write_rows(float *rows, const pair_pass &pass, const pass_layout &layout) const;
    void write_states(float *to, const pair_pass &pass) const;
};

// Copies the first rows of each pair's text to where the pass has them.
void match_call::write_rows(float *to, const pair_pass &pass, const pass_layout &layout) const {
    const size_t  W = (size_t)m.encoder->text_width;
    const int32_t Q = m.encoder->queries;
    for (int32_t p = 0; p < pass.end - pass.begin; p++) {
        const int32_t    text = pairs.text_of[pass.begin + p];
        const auto       [part, k] = at[(size_t)text];
        const first_rows &from = first[(size_t)part];
        const auto copy = [&](int32_t to_row, int32_t row, int32_t n) {
            std::copy_n(&from.values[(size_t)row * W], (size_t)n * W, to + (size_t)to_row * W);
        };
        if (Q) copy(p * Q, k * Q, Q);
        copy(layout.rows.first[(size_t)p], from.of.first[(size_t)k], texts[(size_t)text].n);
    }
}

void match_call::write_states(float *to, const pair_pass &pass) const {
    const size_t n = (size_t)m.encoder->image_tokens() * (size_t)m.encoder->state_width;
    for (size_t i = 0; i < pass.images.size(); i++) std::copy_n(states + (size_t)pass.images[i] * n, n, to + i * n);
}

void match_call::run(const pair_pass &pass, float *dst) {
    std::vector<text_span> own;
    for (int32_t p = pass.begin; p < pass.end; p++) own.push_back(texts[(size_t)pairs.text_of[p]]);
    const pass_layout layout(*m.encoder, pass, own);
    m.run(
        m.graph_for({graph_key::pairs, 0, false, {}, {}, layout.shape}),
        [&](const char *name, ggml_tensor *in) {
            const std::string s = name;
            if (s == "states") return m.set(in, [&](float *to) { write_states(to, pass); });
            if (s == "rows") return m.set(in, [&](float *to) { write_rows(to, pass, layout); });
            if (s == "pooled") return m.set(in, layout.rows.first.data());
            const std::string group = s.substr(0, s.find('.'));
            m.set_groups(in, group == "self" ? layout.rows.self : group == "self_pooled" ? layout.rows.self_pooled
                                           : group == "cross" ? layout.cross : layout.cross_pooled);
        },
        {dst});
}

void check_pairs(const tia2_model *m, const pair_list &pairs, int32_t images, int32_t texts) {
    require(pairs.n == 0 || (pairs.image_of && pairs.text_of), "image_of and text_of must not be NULL");
    for (int32_t p = 0; p < pairs.n; p++) {
        if (pairs.image_of[p] < 0 || pairs.image_of[p] >= images) fail(TIA2_EINVAL, "pair %d has image %d, expected 0 to %d", p, pairs.image_of[p], images - 1);
        if (pairs.text_of[p] < 0 || pairs.text_of[p] >= texts) fail(TIA2_EINVAL, "pair %d has text %d, expected 0 to %d", p, pairs.text_of[p], texts - 1);
    }
    if (!m->encoder->pair_outputs) fail(TIA2_EINVAL, "a model of family %s has no cross encoder", m->encoder->name());
}

} // namespace

extern "C" tia2_status tia2_match(tia2_model *m, const float *states, int32_t images, const int32_t *ids, const int32_t *offsets,
                                  int32_t texts, const int32_t *image_of, const int32_t *text_of, int32_t n, float *dst, size_t dst_len,
                                  tia2_error *err) noexcept {
    return tia2_guard(err, [&] {
        require(m, "model must not be NULL");
        const family &f = *m->encoder;
        require(images >= 0 && texts >= 0 && n >= 0, "images, texts and pairs must not be negative");
        const pair_list pairs{image_of, text_of, n};
        check_pairs(m, pairs, images, texts);
        const size_t want = (size_t)n * (size_t)f.pair_outputs;
        if (dst_len != want || (!dst && want)) fail(TIA2_EINVAL, "dst holds %zu floats, expected %zu", dst ? dst_len : 0, want);
        if (n == 0) return;
        require(states, "states must not be NULL");
        check_texts(f, ids, offsets, texts);
        match_call call(*m, states, pairs, spans_of(ids, offsets, texts));
        for (const pair_pass &pass : plan_pairs(pairs, rows_of(f, call.texts), limits_of(*m)))
            call.run(pass, dst + (size_t)pass.begin * (size_t)f.pair_outputs);
    });
}

extern "C" double tia2_match_flops(tia2_model *m, int32_t images, const int32_t *offsets, int32_t texts) noexcept {
    double sum = 0;
    tia2_guard(nullptr, [&] {
        require(m && m->encoder->pair_outputs && images > 0 && texts > 0 && offsets, "no pairs");
        const family        &f     = *m->encoder;
        const auto           spans = spans_of(nullptr, offsets, texts);
        std::vector<int32_t> image_of, text_of;
        for (int32_t i = 0; i < images; i++)
            for (int32_t t = 0; t < texts; t++) {
                image_of.push_back(i);
                text_of.push_back(t);
            }
        const text_rows all(spans, f.queries);
        sum += m->build(first_rows_key(all)).flops();
        for (const pair_pass &pass : plan_pairs({image_of.data(), text_of.data(), (int32_t)image_of.size()}, rows_of(f, spans), limits_of(*m))) {
            std::vector<text_span> own;
            for (int32_t p = pass.begin; p < pass.end; p++) own.push_back(spans[(size_t)text_of[(size_t)p]]);
            sum += m->build({graph_key::pairs, 0, false, {}, {}, pass_layout(f, pass, own).shape}).flops();
        }
    });
    return sum;
}
