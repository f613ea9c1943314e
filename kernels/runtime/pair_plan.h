// pair_plan.h: pairs of images and texts cut into passes of a bounded size.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

namespace tia2 {

struct pair_list {
    const int32_t *image_of, *text_of; // [n]
    int32_t        n;
};

// Pairs that are computed at once.
struct pair_pass {
    int32_t              begin, end; // pairs of the list
    std::vector<int32_t> images;     // distinct ones, one after another, as the pairs name them
    std::vector<int32_t> starts;     // [images + 1] each image's first pair, from 0; then end - begin
};

// What a pass may hold.
struct pass_limits {
    int64_t rows;   // of the pairs of several images
    int64_t most;   // of the pairs of one image; what is more is torn apart
    int64_t images;
};

// The passes of a list, whose text t makes rows[t] rows.
std::vector<pair_pass> plan_pairs(const pair_list &pairs, const std::vector<int32_t> &rows, const pass_limits &limits);

} // namespace tia2
