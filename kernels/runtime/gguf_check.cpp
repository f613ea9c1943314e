#include "gguf_check.h"

#include "error.h"

#include "ggml.h"
#include "gguf.h"

#include <cstring>

namespace tia2 {
namespace {

// Far beyond any model; ggml compares every name with all names before it.
constexpr uint64_t kKeysMax = 1 << 14, kTensorsMax = 1 << 15;
// Mapped tensors are read with the alignment of the file.
constexpr uint32_t kAlignmentMin = 32, kAlignmentMax = 1 << 20;
constexpr uint64_t kKeyBytesMax = (1 << 16) - 1;

class header {
  public:
    header(const uint8_t *data, size_t size, const std::string &path) : at_(data), end_(data + size), path_(path) {}

    void check();

  private:
    template <class T> T number() {
        T v;
        memcpy(&v, take(sizeof v), sizeof v);
        return v;
    }
    const uint8_t *take(uint64_t n) {
        if (n > (uint64_t)(end_ - at_)) fail(TIA2_EMODEL, "%s: the file ends inside its header", path_.c_str());
        const uint8_t *p = at_;
        at_ += n;
        return p;
    }
    std::string text(const char *what, uint64_t bytes_max);
    void        key_value();
    void        values(const std::string &key, uint32_t kind, uint64_t n);
    void        tensor();

    const uint8_t     *at_, *end_;
    const std::string &path_;
};

std::string header::text(const char *what, uint64_t bytes_max) {
    const auto n = number<uint64_t>();
    if (n < 1 || n > bytes_max)
        fail(TIA2_EMODEL, "%s: %s has %llu bytes, expected 1 to %llu", path_.c_str(), what, (unsigned long long)n, (unsigned long long)bytes_max);
    return std::string((const char *)take(n), n);
}

// Passes n values of one kind.
void header::values(const std::string &key, uint32_t kind, uint64_t n) {
    if (kind == GGUF_TYPE_STRING) {
        for (; n > 0; n--) take(number<uint64_t>());
        return;
    }
    uint64_t bytes = 0;
    switch (kind) {
    case GGUF_TYPE_UINT8: case GGUF_TYPE_INT8: case GGUF_TYPE_BOOL: bytes = 1; break;
    case GGUF_TYPE_UINT16: case GGUF_TYPE_INT16: bytes = 2; break;
    case GGUF_TYPE_UINT32: case GGUF_TYPE_INT32: case GGUF_TYPE_FLOAT32: bytes = 4; break;
    case GGUF_TYPE_UINT64: case GGUF_TYPE_INT64: case GGUF_TYPE_FLOAT64: bytes = 8; break;
    default: fail(TIA2_EMODEL, "%s: key %.80s has the unknown type %u", path_.c_str(), key.c_str(), kind);
    }
    if (n > (uint64_t)(end_ - at_) / bytes) fail(TIA2_EMODEL, "%s: the file ends inside key %.80s", path_.c_str(), key.c_str());
    take(n * bytes);
}

void header::key_value() {
    const std::string key  = text("a metadata key", kKeyBytesMax);
    const auto        kind = number<uint32_t>();
    // ggml compares keys as C strings, so bytes behind a NUL would hide from us.
    if (!strcmp(key.c_str(), GGUF_KEY_GENERAL_ALIGNMENT)) {
        if (kind != GGUF_TYPE_UINT32) fail(TIA2_EMODEL, "%s: key general.alignment: expected a u32", path_.c_str());
        const auto a = number<uint32_t>();
        if (a < kAlignmentMin || a > kAlignmentMax || (a & (a - 1)))
            fail(TIA2_EMODEL, "%s: key general.alignment is %u, expected a power of two from %u to %u", path_.c_str(), a, kAlignmentMin, kAlignmentMax);
        return;
    }
    if (kind != GGUF_TYPE_ARRAY) return values(key, kind, 1);
    const auto element = number<uint32_t>();
    values(key, element, number<uint64_t>());
}

void header::tensor() {
    const std::string name = text("a tensor name", GGML_MAX_NAME - 1);
    const auto        n    = number<uint32_t>();
    if (n < 1 || n > GGML_MAX_DIMS) fail(TIA2_EMODEL, "%s: tensor %s has %u dimensions, expected 1 to %d", path_.c_str(), name.c_str(), n, GGML_MAX_DIMS);
    int64_t elements = 1;
    for (uint32_t i = 0; i < n; i++) {
        const auto d = number<int64_t>();
        // The limit leaves room for eight bytes an element.
        if (d < 1 || d > (INT64_MAX >> 4) / elements)
            fail(TIA2_EMODEL, "%s: tensor %s has a dimension of %lld, expected at least 1 and fewer than 2^59 elements in all", path_.c_str(), name.c_str(), (long long)d);
        elements *= d;
    }
    number<uint32_t>(); // type
    number<uint64_t>(); // offset
}

void header::check() {
    if (memcmp(take(4), GGUF_MAGIC, 4) != 0) fail(TIA2_EMODEL, "%s: not a GGUF file", path_.c_str());
    const auto version = number<uint32_t>();
    if (version != 2 && version != 3) fail(TIA2_EMODEL, "%s: GGUF version %u, expected 2 or 3", path_.c_str(), version);
    const auto tensors = number<uint64_t>(), keys = number<uint64_t>();
    if (tensors > kTensorsMax || keys > kKeysMax)
        fail(TIA2_EMODEL, "%s: %llu tensors and %llu metadata keys, expected at most %llu and %llu", path_.c_str(), (unsigned long long)tensors,
             (unsigned long long)keys, (unsigned long long)kTensorsMax, (unsigned long long)kKeysMax);
    for (uint64_t i = 0; i < keys; i++) key_value();
    for (uint64_t i = 0; i < tensors; i++) tensor();
}

} // namespace

void gguf_check(const uint8_t *data, size_t size, const std::string &path) { header(data, size, path).check(); }

} // namespace tia2
