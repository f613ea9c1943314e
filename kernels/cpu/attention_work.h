// attention_work.h: what attention_simd.inc keeps in the scratch, the same for every width of vectors. No library header.
#pragma once
#include <stddef.h>
#include <stdint.h>

struct attention_rows { // of units of 32 bits, `step` bytes apart; row j is row index[j], or j where index is NULL
    const void    *base;
    size_t         step;
    const int32_t *index;
};

struct attention_work {
    size_t         units, width; // of a row of q and k; of a row of v and of a result, in whole vectors
    bool           copied;       // rows of q and k do not lie in memory as units
    float         *q;            // [queries, units], if copied
    float         *qt;           // [units, lanes]
    float         *s;            // [T, lanes]: scores, then weights in units
    float         *o;            // [queries, width]: sums over the first keys
    float         *inverse;      // [lanes]: 1 / sum of weights
    attention_rows k, v;
};

struct attention_block { // of queries computed together
    size_t t0, n;       // its first query, and how many
    size_t lanes;       // n up to whole vectors
    size_t first, seen; // keys that query t0 sees, and that the last one sees
};
