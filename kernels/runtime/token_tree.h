// token_tree.h: the texts of a batch as a tree of their prefixes.
//
// In a causal encoder a token's state depends on the tokens before it alone, so a prefix that texts share is computed
// once. TIA2's 7,830 texts have 602,910 tokens padded to 77, 86,899 of their own, and 23,888 tree nodes.
#pragma once
#include <cstdint>
#include <vector>

namespace tia2 {

struct token_tree {
    // Per node, each after its parent: token id, position in its text, index of the parent (-1: a first token).
    std::vector<int32_t> tokens, positions, parents;
    std::vector<int32_t> pooled; // per text, the node of its last token
    int64_t              pairs;  // sum over nodes of itself and its ancestors: what attention computes

    // Text b is ids[offsets[b]..offsets[b+1]), not empty. Texts may come in any order, also more than once.
    token_tree(const int32_t *ids, const int32_t *offsets, int32_t B);

    int64_t size() const { return (int64_t)tokens.size(); }

    // mask f32 [size, size]: 0 where query row sees key column, else -infinity.
    void write_mask(float *mask) const;
};

} // namespace tia2
