#include "gguf_file.h"

#include "error.h"
#include "gguf_check.h"
#include "log.h"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

namespace tia2 {

mapped_file::mapped_file(const std::string &path) {
    const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) fail(TIA2_EIO, "%s: %s", path.c_str(), strerror(errno));
    struct stat st;
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size > 0) {
        size_  = (size_t)st.st_size;
        data_  = (uint8_t *)mmap(nullptr, size_, PROT_READ, MAP_SHARED, fd, 0);
        if (data_ == MAP_FAILED) data_ = nullptr;
    }
    close(fd); // the mapping stays
    if (!data_) fail(TIA2_EIO, "%s: cannot be mapped; expected a file that is not empty", path.c_str());
}

mapped_file::~mapped_file() { munmap(data_, size_); }

gguf_file::gguf_file(const std::string &path_) : path(path_), file(path_) {
    log_capture();
    ggml_context *infos = nullptr;
    gguf_check(file.data(), file.size(), path);
    gguf.reset(gguf_init_from_buffer(file.data(), file.size(), {/*no_alloc=*/true, &infos}));
    tensors.reset(infos);
    if (!gguf || !tensors) fail(TIA2_EMODEL, "%s: a damaged GGUF file", path.c_str());
}

int64_t gguf_file::find(const char *key, gguf_type type) const {
    const int64_t id = gguf_find_key(gguf.get(), key);
    if (id < 0) fail(TIA2_EMODEL, "%s: key %s is missing", path.c_str(), key);
    const gguf_type got = gguf_get_kv_type(gguf.get(), id);
    if (got != type)
        fail(TIA2_EMODEL, "%s: key %s has type %s, expected %s", path.c_str(), key, gguf_type_name(got), gguf_type_name(type));
    return id;
}

int32_t gguf_file::u32(const char *key, uint32_t min, uint32_t max) const {
    const uint32_t v = gguf_get_val_u32(gguf.get(), find(key, GGUF_TYPE_UINT32));
    if (v < min || v > max) fail(TIA2_EMODEL, "%s: key %s is %u, expected %u to %u", path.c_str(), key, v, min, max);
    return (int32_t)v;
}

uint64_t gguf_file::u64(const char *key) const { return gguf_get_val_u64(gguf.get(), find(key, GGUF_TYPE_UINT64)); }

float gguf_file::f32(const char *key, float min, float max) const {
    const float v = gguf_get_val_f32(gguf.get(), find(key, GGUF_TYPE_FLOAT32));
    if (!(v >= min && v <= max)) // written so that NaN fails
        fail(TIA2_EMODEL, "%s: key %s is %g, expected %g to %g", path.c_str(), key, v, min, max);
    return v;
}

std::string gguf_file::str(const char *key) const { return gguf_get_val_str(gguf.get(), find(key, GGUF_TYPE_STRING)); }

std::array<float, 3> gguf_file::f32x3(const char *key) const {
    const int64_t id = find(key, GGUF_TYPE_ARRAY);
    if (gguf_get_arr_type(gguf.get(), id) != GGUF_TYPE_FLOAT32 || gguf_get_arr_n(gguf.get(), id) != 3)
        fail(TIA2_EMODEL, "%s: key %s is not an array of 3 floats", path.c_str(), key);
    std::array<float, 3> v;
    memcpy(v.data(), gguf_get_arr_data(gguf.get(), id), sizeof v);
    return v;
}

} // namespace tia2
