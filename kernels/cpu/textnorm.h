// textnorm.h: rewards of images against one prompt set, and their TextNorm, in one pass.
//
//   rewards[i, j] = reward_scale * images[rows[i], :] . texts[j, :]
//   raw[rows[i]]  = rewards[i, 0]
//   norm[rows[i]] = softmax over j of (scale * (rewards[i, :] - lo) / (hi - lo)), element 0
//
// lo and hi are the least and greatest reward of image i alone, or of all images of the call (whole_set). Where
// hi == lo the softmax is of equal values: 1/P. An image with a reward that is not finite gets NaN, and does not count
// in the lo and hi of the others.
//
// Accuracy: sums, min-max and softmax are in f64 (a product of two f32 is exact there), because min-max divides by a
//           range that can be as small as the differences between near-identical prompts: an f32 sum would be off by
//           1e-5 in the result. Against exact arithmetic
//             |norm - exact| <= 2^-24 * norm + 4 * scale * e / (hi - lo), where
//             e = D * 2^-52 * |reward_scale| * max_j sum_d |image_d * text_d|.
//           The vector exp is off by at most 1e-15 of its value on [-708, 0]; below, it is exp(-708).
// Order:    a reward is summed in an order that depends on D alone, so the results of an image have the same bits
//           whatever else is in the call (whole_set: whatever else has the same lo and hi). Levels differ by rounding.
// Cost:     2*D*n_rows*P flops. A block of images stays in the first-level cache while the texts of the set stream from
//           the second (61 x 1024 f32: 250 KB); rewards never leave the cache.
// Source:   Kim et al., ICLR 2024 (arXiv 2404.01863), section 4; kykim0/ddpo-overopt examples/scripts/reward_fns.py.
// Pure functions, thread-safe, no allocation. Any alignment. Preconditions are asserted.
#pragma once
#include <stddef.h>
#include <stdint.h>

struct tia2_textnorm_set {
    const float   *images;       // f32 [*, D]
    const int32_t *rows;         // [n_rows]: which rows of images, raw and norm the call is about
    size_t         n_rows;       // any
    const float   *texts;        // f32 [P, D]; row 0 is the prompt itself
    size_t         P, D;         // >= 1
    double         reward_scale; // finite
    double         scale;        // finite, > 0
    bool           whole_set;    // min-max over all images of the call instead of each its own
    double        *rewards;      // scratch, [tia2_textnorm_scratch(n_rows, P, whole_set)]
    float         *raw;          // f32 [*], or NULL
    float         *norm;         // f32 [*]
};

constexpr size_t kTextnormBlock = 24; // images handled together where each has its own min and max

constexpr size_t tia2_textnorm_scratch(size_t n_rows, size_t P, bool whole_set) {
    return (whole_set || n_rows < kTextnormBlock ? n_rows : kTextnormBlock) * P;
}

typedef void (*tia2_textnorm_f32_fn)(const tia2_textnorm_set *s);

void tia2_textnorm_f32_scalar(const tia2_textnorm_set *s);
void tia2_textnorm_f32_avx2(const tia2_textnorm_set *s);
void tia2_textnorm_f32_avx512(const tia2_textnorm_set *s);
void tia2_textnorm_f32_neon(const tia2_textnorm_set *s);
