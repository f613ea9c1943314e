// Rows of texts that are not causal, and pairs cut into passes, against their definitions.
#include <cmath>
#include <map>
#include <set>

#include "../runtime/pair_plan.h"
#include "../runtime/text_rows.h"
#include "check.h"

using namespace tia2;

namespace {

// Whose rows these are: of queries first, Q for each text, then of tokens.
std::vector<size_t> owners(const std::vector<std::vector<int32_t>> &texts, int32_t Q) {
    std::vector<size_t> of;
    for (size_t t = 0; t < texts.size(); t++) of.insert(of.end(), (size_t)Q, t);
    for (size_t t = 0; t < texts.size(); t++) of.insert(of.end(), texts[t].size(), t);
    return of;
}

// A row sees all rows of its own text, and no other.
void check_rows(const std::vector<std::vector<int32_t>> &texts, int32_t Q) {
    std::vector<text_span> spans;
    std::vector<int32_t>   ids;
    for (const auto &t : texts) {
        spans.push_back({t.data(), (int32_t)t.size()});
        ids.insert(ids.end(), t.begin(), t.end());
    }
    const text_rows rows(spans, Q);
    const auto      of = owners(texts, Q);
    const size_t    n  = of.size();
    if (rows.size() != (int64_t)n || rows.tokens != ids) return FAIL("%ld rows, want %zu", (long)rows.size(), n);
    for (size_t t = 0, token = 0; t < texts.size(); t++)
        for (size_t i = 0; i < texts[t].size(); i++, token++) {
            if (rows.positions[token] != (int32_t)i) return FAIL("token %zu of text %zu is at position %d", i, t, rows.positions[token]);
            if (of[(size_t)rows.first[t] + i] != t) return FAIL("text %zu begins at row %d", t, rows.first[t]);
        }
    std::vector<float> mask(n * n, 7.f);
    write_mask(mask.data(), n, n, rows.self);
    int64_t seen = 0;
    for (size_t q = 0; q < n; q++)
        for (size_t k = 0; k < n; k++) {
            if (mask[q * n + k] != (of[q] == of[k] ? 0 : -INFINITY)) return FAIL("row %zu, key %zu: mask is wrong", q, k);
            seen += of[q] == of[k];
        }
    if (rows.seen != seen) return FAIL("%ld pairs, want %ld", (long)rows.seen, (long)seen);

    // Pooled rows, in the order of texts: the queries, or the first tokens.
    const size_t per = Q ? (size_t)Q : 1, pooled = per * texts.size();
    mask.assign(pooled * n, 7.f);
    write_mask(mask.data(), pooled, n, rows.self_pooled);
    for (size_t q = 0; q < pooled; q++)
        for (size_t k = 0; k < n; k++)
            if (mask[q * n + k] != (q / per == of[k] ? 0 : -INFINITY)) return FAIL("pooled row %zu, key %zu: mask is wrong", q, k);
}

// Every pair is in one pass, in order; a pass keeps its limits, and an image is torn apart only where it alone is too much.
void check_plan(const std::vector<int32_t> &image_of, const std::vector<int32_t> &rows, const pass_limits &limits) {
    std::vector<int32_t> text_of;
    for (size_t p = 0; p < image_of.size(); p++) text_of.push_back((int32_t)(p % rows.size()));
    int32_t next = 0;
    for (const pair_pass &pass : plan_pairs({image_of.data(), text_of.data(), (int32_t)image_of.size()}, rows, limits)) {
        if (pass.begin != next || pass.end <= pass.begin) return FAIL("a pass of pairs %d to %d, want one from %d", pass.begin, pass.end, next);
        next       = pass.end;
        int64_t size = 0;
        for (int32_t p = pass.begin; p < pass.end; p++) size += rows[(size_t)text_of[(size_t)p]];
        const bool one = pass.end - pass.begin == 1;
        if (size > limits.most && !one) return FAIL("a pass of %ld rows, want at most %ld", (long)size, (long)limits.most);
        if (size > limits.rows && pass.images.size() > 1) return FAIL("a pass of %ld rows and %zu images, want %ld", (long)size, pass.images.size(), (long)limits.rows);
        if ((int64_t)pass.images.size() > limits.images) return FAIL("a pass of %zu images", pass.images.size());
        for (size_t i = 0; i < pass.images.size(); i++)
            for (int32_t p = pass.starts[i]; p < pass.starts[i + 1]; p++)
                if (image_of[(size_t)(pass.begin + p)] != pass.images[i]) return FAIL("pair %d is of another image", pass.begin + p);
        if (pass.starts.back() != pass.end - pass.begin) return FAIL("the images of a pass have %d pairs, want %d", pass.starts.back(), pass.end - pass.begin);
    }
    if (next != (int32_t)image_of.size()) FAIL("%d pairs were planned of %zu", next, image_of.size());
}

} // namespace

TIA2_CHECK(text_rows) {
    check_part("text_rows", [] {
        for (int trial = 0; trial < 100; trial++) {
            std::vector<std::vector<int32_t>> texts((size_t)check_rand_int(1, 6));
            for (auto &t : texts) {
                t.resize((size_t)check_rand_int(1, 9));
                for (int32_t &id : t) id = check_rand_int(0, 99);
            }
            const int32_t Q = trial % 2 ? check_rand_int(1, 5) : 0;
            check_case("%zu texts, %d queries", texts.size(), Q);
            check_rows(texts, Q);
        }
    });
}

TIA2_CHECK(pair_plan) {
    check_part("pair_plan", [] {
        check_plan({}, {3}, {10, 20, 2});
        check_plan({0, 0, 0, 0, 0, 0, 0, 0, 0}, {3}, {10, 20, 2}); // one image, over both limits
        check_plan({4}, {100}, {10, 20, 2});                       // one pair over both
        for (int trial = 0; trial < 200; trial++) {
            std::vector<int32_t> image_of((size_t)check_rand_int(1, 60)), rows((size_t)check_rand_int(1, 5));
            int32_t              image = 0;
            for (int32_t &i : image_of) i = image += check_rand_int(0, 3) == 0 ? check_rand_int(-image, 3) : 0;
            for (int32_t &r : rows) r = check_rand_int(1, 40);
            const pass_limits limits{check_rand_int(1, 100), check_rand_int(100, 200), check_rand_int(1, 4)};
            check_case("%zu pairs", image_of.size());
            check_plan(image_of, rows, limits);
        }
    });
}
