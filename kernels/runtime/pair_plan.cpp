#include "pair_plan.h"

namespace tia2 {

std::vector<pair_pass> plan_pairs(const pair_list &pairs, const std::vector<int32_t> &rows, const pass_limits &limits) {
    const auto rows_of = [&](int32_t p) { return rows[(size_t)pairs.text_of[p]]; };
    std::vector<pair_pass> passes;
    int64_t                size = 0; // rows of the last pass
    const auto             begin_pass = [&](int32_t p) {
        passes.push_back({p, p, {}, {}});
        size = 0;
    };
    for (int32_t p = 0; p < pairs.n;) {
        const int32_t image = pairs.image_of[p];
        int32_t       end   = p; // of the image's pairs
        int64_t       own   = 0;
        for (; end < pairs.n && pairs.image_of[end] == image; end++) own += rows_of(end);
        if (passes.empty() || size + own > limits.rows || (int64_t)passes.back().images.size() >= limits.images) begin_pass(p);
        for (; p < end; p++) {
            if (passes.back().end > passes.back().begin && size + rows_of(p) > limits.most) begin_pass(p);
            pair_pass &pass = passes.back();
            if (pass.images.empty() || pass.images.back() != image) {
                pass.images.push_back(image);
                pass.starts.push_back(p - pass.begin);
            }
            size += rows_of(p);
            pass.end = p + 1;
        }
    }
    for (pair_pass &pass : passes) pass.starts.push_back(pass.end - pass.begin);
    return passes;
}

} // namespace tia2
