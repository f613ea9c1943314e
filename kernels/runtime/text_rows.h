// text_rows.h: the rows of texts in an encoder that is not causal: those of every text one after another, no padding; and
// which of them see which.
#pragma once
#include "../ops/ops.h"

#include <cstdint>
#include <vector>

namespace tia2 {

// One span of ids for each text.
struct text_span {
    const int32_t *ids; // NULL where only sizes matter
    int32_t        n; // >= 1
};

// The rows of texts, or of pairs of a text and an image: first `queries` rows for each, then all tokens.
struct text_rows {
    std::vector<int32_t>         tokens, positions; // of each token
    std::vector<int32_t>         first;             // [texts + 1] row of each text's first token; then the number of rows
    std::vector<attention_group> self;              // the queries and the tokens of a text see both
    std::vector<attention_group> self_pooled;       // of pooled rows: the queries, or without these each first token
    int64_t                      seen = 0;          // how many (query, key) pairs `self` has

    text_rows(const std::vector<text_span> &texts, int32_t queries);

    int64_t size() const { return first.back(); }
};

// mask f32 [queries, keys]: 0 where a group says that a query row sees a key column, else -infinity.
void write_mask(float *mask, size_t queries, size_t keys, const std::vector<attention_group> &groups);

} // namespace tia2
