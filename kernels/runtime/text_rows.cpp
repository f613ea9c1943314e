#include "text_rows.h"

#include <algorithm>
#include <cmath>

namespace tia2 {

text_rows::text_rows(const std::vector<text_span> &texts, int32_t queries) {
    int32_t row = queries * (int32_t)texts.size(), query = 0;
    for (const text_span &t : texts) {
        first.push_back(row);
        for (int32_t i = 0; i < t.n; i++) {
            tokens.push_back(t.ids ? t.ids[i] : 0);
            positions.push_back(i);
        }
        if (queries) {
            self.push_back({query, queries, query, queries, row, t.n});
            self.push_back({row, t.n, query, queries, row, t.n});
            self_pooled.push_back(self[self.size() - 2]);
        } else {
            self.push_back({row, t.n, row, t.n, 0, 0});
            self_pooled.push_back({(int32_t)self_pooled.size(), 1, row, t.n, 0, 0});
        }
        seen += (int64_t)(queries + t.n) * (queries + t.n);
        query += queries;
        row += t.n;
    }
    first.push_back(row);
}

void write_mask(float *mask, size_t queries, size_t keys, const std::vector<attention_group> &groups) {
    std::fill_n(mask, queries * keys, -INFINITY);
    for (const attention_group &g : groups)
        for (int32_t q = g.query; q < g.query + g.queries; q++) {
            float *row = mask + (size_t)q * keys;
            std::fill_n(row + g.key, g.keys, 0.0f);
            std::fill_n(row + g.more, g.mores, 0.0f);
        }
}

} // namespace tia2
