// gguf_file.h: a GGUF file mapped into memory, and its metadata with types and ranges checked.
#pragma once
#include "ggml.h"
#include "gguf.h"

#include <array>
#include <cstdint>
#include <memory>
#include <string>

namespace tia2 {

struct gguf_deleter {
    void operator()(gguf_context *g) const { gguf_free(g); }
};
struct ggml_deleter {
    void operator()(ggml_context *c) const { ggml_free(c); }
};
using gguf_ptr = std::unique_ptr<gguf_context, gguf_deleter>;
using ggml_ptr = std::unique_ptr<ggml_context, ggml_deleter>;

// A whole file, mapped read-only and unmapped by the destructor.
class mapped_file {
  public:
    explicit mapped_file(const std::string &path); // throws TIA2_EIO
    ~mapped_file();
    mapped_file(const mapped_file &)            = delete;
    mapped_file &operator=(const mapped_file &) = delete;

    const uint8_t *data() const { return data_; }
    size_t         size() const { return size_; }

  private:
    uint8_t *data_ = nullptr;
    size_t   size_ = 0;
};

class gguf_file {
  public:
    explicit gguf_file(const std::string &path); // throws TIA2_EIO, TIA2_EMODEL

    // Metadata. The getters throw TIA2_EMODEL naming the key where it is missing, of another type or out of range.
    bool                 has(const char *key) const { return gguf_find_key(gguf.get(), key) >= 0; }
    int32_t              u32(const char *key, uint32_t min, uint32_t max) const;
    uint64_t             u64(const char *key) const;
    float                f32(const char *key, float min, float max) const;
    std::string          str(const char *key) const;
    std::array<float, 3> f32x3(const char *key) const;

    std::string path;
    gguf_ptr    gguf;
    ggml_ptr    tensors; // their names, types and shapes; no data
    mapped_file file;

  private:
    int64_t find(const char *key, gguf_type type) const;
};

} // namespace tia2
