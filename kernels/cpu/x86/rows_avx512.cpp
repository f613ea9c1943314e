// Built with the AVX-512 flags. No C++ library header here (see textnorm_avx2.cpp).
#include <assert.h>

#include "../rows.h"
#include "vec_avx512.h"

#include "../simd_math.inc"

#include "../rows_simd.inc"

TIA2_ROWS_DEFINE(avx512)
