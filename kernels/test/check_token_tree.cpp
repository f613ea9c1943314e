// token_tree against its definition: a node for every distinct prefix, and each text's path spells the text.
#include <cmath>
#include <set>

#include "../runtime/token_tree.h"
#include "check.h"

using tia2::token_tree;

namespace {

using text = std::vector<int32_t>;

// The tokens from the root to a node.
text spelled(const token_tree &t, int32_t node) {
    text s;
    for (; node >= 0; node = t.parents[(size_t)node]) s.insert(s.begin(), t.tokens[(size_t)node]);
    return s;
}

token_tree tree_of(const std::vector<text> &texts) {
    std::vector<int32_t> ids, offsets = {0};
    for (const text &t : texts) {
        ids.insert(ids.end(), t.begin(), t.end());
        offsets.push_back((int32_t)ids.size());
    }
    return token_tree(ids.data(), offsets.data(), (int32_t)texts.size());
}

void check_texts(const std::vector<text> &texts) {
    const token_tree t = tree_of(texts);
    std::set<text>   prefixes;
    for (const text &s : texts)
        for (size_t n = 1; n <= s.size(); n++) prefixes.insert(text(s.begin(), s.begin() + (long)n));
    int64_t pairs = 0;
    for (const text &p : prefixes) pairs += (int64_t)p.size();
    if (t.size() != (int64_t)prefixes.size() || t.pairs != pairs)
        return FAIL("%ld nodes and %ld pairs, want %zu and %ld", (long)t.size(), (long)t.pairs, prefixes.size(), (long)pairs);
    for (size_t i = 0; i < (size_t)t.size(); i++) {
        if (t.parents[i] >= (int32_t)i) return FAIL("node %zu has parent %d", i, t.parents[i]);
        if (t.positions[i] != (t.parents[i] < 0 ? 0 : t.positions[(size_t)t.parents[i]] + 1)) return FAIL("node %zu is at position %d", i, t.positions[i]);
    }
    for (size_t b = 0; b < texts.size(); b++)
        if (spelled(t, t.pooled[b]) != texts[b]) return FAIL("text %zu is pooled at a node that spells something else", b);
    std::vector<float> mask((size_t)(t.size() * t.size()), 7.f);
    t.write_mask(mask.data());
    for (int32_t q = 0; q < t.size(); q++) {
        std::set<int32_t> seen;
        for (int32_t at = q; at >= 0; at = t.parents[(size_t)at]) seen.insert(at);
        for (int32_t k = 0; k < t.size(); k++)
            if (mask[(size_t)(q * t.size() + k)] != (seen.count(k) ? 0 : -INFINITY)) return FAIL("mask of query %d, key %d is wrong", q, k);
    }
}

} // namespace

TIA2_CHECK(token_tree) {
    check_part("token_tree", [] {
        check_texts({{7}});
        check_texts({{7, 8, 9}, {7, 8, 9}});                   // twice the same
        check_texts({{7, 8}, {7, 8, 9}, {7}});                 // one is the prefix of another
        check_texts({{1, 2}, {3, 4}});                         // nothing shared
        check_texts({{5, 2, 9}, {5, 1, 9}, {5, 2, 8, 1}, {4}}); // not in order
        for (int n = 0; n < 200; n++) {
            std::vector<text> texts((size_t)check_rand_int(1, 40));
            const int         vocabulary = check_rand_int(1, 4);
            for (text &t : texts) {
                t.resize((size_t)check_rand_int(1, 12));
                for (int32_t &id : t) id = check_rand_int(0, vocabulary);
            }
            check_case("%zu texts of %d tokens", texts.size(), vocabulary + 1);
            check_texts(texts);
        }
    });
}
