#include "token_tree.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace tia2 {

token_tree::token_tree(const int32_t *ids, const int32_t *offsets, int32_t B) : pooled((size_t)B), pairs(0) {
    const auto begin = [&](int32_t b) { return ids + offsets[b]; };
    const auto end   = [&](int32_t b) { return ids + offsets[b + 1]; };

    // In lexicographic order a text shares its longest known prefix with the text before it.
    std::vector<int32_t> order((size_t)B);
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
        return std::lexicographical_compare(begin(a), end(a), begin(b), end(b));
    });

    std::vector<int32_t> path; // the nodes of the text before
    const int32_t       *before = nullptr, *before_end = nullptr;
    for (const int32_t b : order) {
        const size_t shared = (size_t)(std::mismatch(before, before_end, begin(b), end(b)).first - before);
        path.resize(shared);
        for (const int32_t *id = begin(b) + shared; id < end(b); id++) {
            tokens.push_back(*id);
            positions.push_back((int32_t)path.size());
            parents.push_back(path.empty() ? -1 : path.back());
            path.push_back((int32_t)tokens.size() - 1);
            pairs += (int64_t)path.size();
        }
        pooled[(size_t)b] = path.back();
        before            = begin(b);
        before_end        = end(b);
    }
}

void token_tree::write_mask(float *mask) const {
    const size_t n = tokens.size();
    for (size_t i = 0; i < n; i++) {
        float *row = mask + i * n;
        if (parents[i] < 0)
            std::fill(row, row + n, -INFINITY);
        else
            std::copy_n(mask + (size_t)parents[i] * n, n, row);
        row[i] = 0;
    }
}

} // namespace tia2
