// Built with -mavx2 -mfma. No C++ library header here (see textnorm_avx2.cpp).
#include <assert.h>

#include "../rows.h"
#include "vec_avx2.h"

#include "../simd_math.inc"

#include "../rows_simd.inc"

TIA2_ROWS_DEFINE(avx2)
