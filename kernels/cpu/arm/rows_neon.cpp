// No C++ library header here (see x86/textnorm_avx2.cpp).
#include <assert.h>

#include "../rows.h"
#include "vec_neon.h"

#include "../simd_math.inc"

#include "../rows_simd.inc"

TIA2_ROWS_DEFINE(neon)
