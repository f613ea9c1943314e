// tia2_textnorm: checks the arguments, groups the images by prompt set, and runs the kernel once per set.
#include <cmath>
#include <vector>

#include "../runtime/error.h"
#include "ops.h"

namespace {

struct request {
    const float   *images;
    int32_t        B;
    const float   *texts;
    int32_t        N, D;
    const int32_t *set_of, *set_offsets;
    int32_t        n_sets;
    float          reward_scale, scale;
    int32_t        minmax;
    float         *raw, *norm;
};

void validate_sizes(const request &r) {
    if (r.B < 0 || r.N < 0 || r.n_sets < 0)
        tia2::fail(TIA2_EINVAL, "B is %d, N is %d, n_sets is %d; expected none below 0", r.B, r.N, r.n_sets);
    if (r.D < 1) tia2::fail(TIA2_EINVAL, "D is %d; expected at least 1", r.D);
    if (r.B > 0 && (!r.images || !r.set_of || !r.norm))
        tia2::fail(TIA2_EINVAL, "images, set_of or norm is NULL with B = %d", r.B);
    if (r.N > 0 && !r.texts) tia2::fail(TIA2_EINVAL, "texts is NULL with N = %d", r.N);
    if (r.n_sets > 0 && !r.set_offsets) tia2::fail(TIA2_EINVAL, "set_offsets is NULL with n_sets = %d", r.n_sets);
    if (!std::isfinite(r.reward_scale))
        tia2::fail(TIA2_EINVAL, "reward_scale is %g; expected a finite number", r.reward_scale);
    if (!std::isfinite(r.scale) || r.scale <= 0)
        tia2::fail(TIA2_EINVAL, "scale is %g; expected a finite number above 0", r.scale);
    if (r.minmax != TIA2_MINMAX_IMAGE && r.minmax != TIA2_MINMAX_SET)
        tia2::fail(TIA2_EINVAL, "minmax is %d; expected 0 (image) or 1 (set)", r.minmax);
}

void validate_sets(const request &r) {
    for (int32_t s = 0; s < r.n_sets; s++) {
        const int32_t lo = r.set_offsets[s], hi = r.set_offsets[s + 1];
        if (lo < 0 || hi < lo || hi > r.N)
            tia2::fail(TIA2_EINVAL, "prompt set %d is texts %d to %d; expected a range within 0 to %d", s, lo, hi, r.N);
    }
    for (int32_t b = 0; b < r.B; b++) {
        const int32_t s = r.set_of[b];
        if (s < 0 || s >= r.n_sets)
            tia2::fail(TIA2_EINVAL, "image %d is of prompt set %d; expected 0 to %d", b, s, r.n_sets - 1);
        if (r.set_offsets[s] == r.set_offsets[s + 1])
            tia2::fail(TIA2_EINVAL, "image %d is of prompt set %d, which has no texts", b, s);
    }
}

void run(const request &r) {
    // Counting sort of the images by set: rows[starts[s]..starts[s + 1]) are those of set s, in order.
    std::vector<int32_t> starts((size_t)r.n_sets + 1, 0), rows((size_t)r.B);
    for (int32_t b = 0; b < r.B; b++) starts[(size_t)r.set_of[b] + 1]++;
    for (int32_t s = 0; s < r.n_sets; s++) starts[(size_t)s + 1] += starts[(size_t)s];
    std::vector<int32_t> next(starts);
    for (int32_t b = 0; b < r.B; b++) rows[(size_t)next[(size_t)r.set_of[b]]++] = b;

    const tia2_cpu_ops &ops = tia2_cpu();
    std::vector<double> rewards;
    for (int32_t s = 0; s < r.n_sets; s++) {
        const size_t begin = (size_t)starts[(size_t)s], end = (size_t)starts[(size_t)s + 1];
        if (begin == end) continue;
        tia2_textnorm_set set = {};
        set.images = r.images;
        set.rows = rows.data() + begin;
        set.n_rows = end - begin;
        set.texts = r.texts + (size_t)r.set_offsets[s] * (size_t)r.D;
        set.P = (size_t)(r.set_offsets[s + 1] - r.set_offsets[s]);
        set.D = (size_t)r.D;
        set.reward_scale = (double)r.reward_scale;
        set.scale = (double)r.scale;
        set.whole_set = r.minmax == TIA2_MINMAX_SET;
        const size_t scratch = tia2_textnorm_scratch(set.n_rows, set.P, set.whole_set);
        if (rewards.size() < scratch) rewards.resize(scratch);
        set.rewards = rewards.data();
        set.raw = r.raw;
        set.norm = r.norm;
        ops.textnorm_f32(&set);
    }
}

} // namespace

extern "C" tia2_status tia2_textnorm(const float *images, int32_t B, const float *texts, int32_t N, int32_t D,
                                     const int32_t *set_of, const int32_t *set_offsets, int32_t n_sets,
                                     float reward_scale, float scale, int32_t minmax, float *raw, float *norm,
                                     tia2_error *err) noexcept {
    return tia2_guard(err, [&] {
        if (const char *why = tia2_cpu_env_error()) tia2::fail(TIA2_EINVAL, "%s", why);
        const request r = {images, B,      texts,        N,     D,    set_of, set_offsets,
                           n_sets, reward_scale, scale, minmax, raw, norm};
        validate_sizes(r);
        validate_sets(r);
        run(r);
    });
}
