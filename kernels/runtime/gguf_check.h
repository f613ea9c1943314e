// gguf_check.h: refuses GGUF files at which ggml's own reader would abort the process.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>

namespace tia2 {

// Walks the header of the GGUF file `data`, called `path` in messages, and checks everything that ggml 0.27 asserts,
// divides by or takes quadratic time over: versions, counts, keys, kinds of values, alignment, names and dimensions.
// What ggml refuses with an error (doubled names, offsets, sizes) is left to it. Throws TIA2_EMODEL.
void gguf_check(const uint8_t *data, size_t size, const std::string &path);

} // namespace tia2
