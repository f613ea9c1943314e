// weights.h: a model's tensors on one device.
#pragma once
#include "devices.h"
#include "gguf_file.h"

#include <initializer_list>

namespace tia2 {

// All tensors of a GGUF file, uploaded once. On the CPU they are the mapped file itself: nothing is copied.
//
// Usage: ask for each tensor (`get`), which checks its shape and type, then `upload`. Only then do they hold data.
class weights {
  public:
    explicit weights(const gguf_file &file) : file_(file) {}

    // The tensor of that name with the given shape, ggml order (innermost first). Throws TIA2_EMODEL.
    ggml_tensor *get(const std::string &name, std::initializer_list<int64_t> shape);
    // A vector that must be f32: a norm, a bias, an embedding that is added.
    ggml_tensor *get_f32(const std::string &name, std::initializer_list<int64_t> shape);
    // The same, but NULL where the file has no tensor of that name.
    ggml_tensor *find_f32(const std::string &name, std::initializer_list<int64_t> shape);

    // Rows [first, first + n) of a matrix, or those values of a vector, of the file.
    ggml_tensor *part(ggml_tensor *t, int64_t first, int64_t n);

    void     upload(ggml_backend_t backend);
    // Gives back the memory of a tensor that is not read any more. What a later read finds is void, unless the file is
    // mapped: then it is read again.
    void     release(const ggml_tensor *t) const;
    uint64_t bytes() const;

  private:
    ggml_tensor *find(const std::string &name, std::initializer_list<int64_t> shape);

    void check_types() const;
    void place(ggml_backend_t backend);
    bool map_file(ggml_backend_t backend);
    void copy_file(ggml_backend_t backend);
    void draw(ggml_backend_t backend, uint64_t seed);

    const gguf_file &file_;
    buffer_ptr       buffer_;
    ggml_ptr         parts_; // views, which get their addresses after the tensors that they are part of
};

} // namespace tia2
