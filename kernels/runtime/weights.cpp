#include "weights.h"

#include "error.h"

#include <cmath>
#include <cstring>
#include <sys/mman.h>
#include <unistd.h>
#include <vector>

namespace tia2 {
namespace {

std::string shape_name(const ggml_tensor *t) {
    std::string s;
    for (int i = 0; i < ggml_n_dims(t); i++) s += (i ? ", " : "[") + std::to_string(t->ne[i]);
    return s + "]";
}

std::string shape_name(std::initializer_list<int64_t> shape) {
    std::string s;
    for (const int64_t n : shape) s += (s.empty() ? "[" : ", ") + std::to_string(n);
    return s + "]";
}

constexpr size_t kPartsMax = 64; // made by weights::part

bool is_known(ggml_type type) {
    return type == GGML_TYPE_F32 || type == GGML_TYPE_F16 || type == GGML_TYPE_BF16 || type == GGML_TYPE_Q8_0;
}

// splitmix64: a small generator with a known reference (Steele et al. 2014), the same on every machine.
uint64_t next_random(uint64_t &state) {
    uint64_t z = (state += 0x9e3779b97f4a7c15u);
    z          = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z          = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

// What a random tensor is filled with: norms are 1 and biases 0, matrices keep the scale of their input.
float random_scale(const std::string &name, const ggml_tensor *t, float &offset) {
    const auto ends = [&](const char *s) { return name.size() >= strlen(s) && name.compare(name.size() - strlen(s), strlen(s), s) == 0; };
    offset          = 0;
    if (name == "logit_scale") return offset = 4.6052f, 0;
    if (ends(".bias")) return 0;
    if (ggml_n_dims(t) == 1 && ends(".weight") && name != "pair_head.weight") return offset = 1, 0;
    return ends("_embd") || ends("token_embd.weight") ? 0.4f : std::sqrt(3.0f / (float)t->ne[0]);
}

} // namespace

ggml_tensor *weights::find(const std::string &name, std::initializer_list<int64_t> shape) {
    ggml_tensor *t = ggml_get_tensor(file_.tensors.get(), name.c_str());
    if (!t) return nullptr;
    bool same = (size_t)ggml_n_dims(t) <= shape.size();
    for (size_t i = 0; i < shape.size(); i++) same = same && t->ne[i] == shape.begin()[i];
    if (!same)
        fail(TIA2_EMODEL, "%s: tensor %s has shape %s, expected %s", file_.path.c_str(), name.c_str(), shape_name(t).c_str(),
             shape_name(shape).c_str());
    return t;
}

ggml_tensor *weights::get(const std::string &name, std::initializer_list<int64_t> shape) {
    ggml_tensor *t = find(name, shape);
    if (!t) fail(TIA2_EMODEL, "%s: tensor %s is missing", file_.path.c_str(), name.c_str());
    return t;
}

ggml_tensor *weights::get_f32(const std::string &name, std::initializer_list<int64_t> shape) {
    get(name, shape); // or it is missing
    return find_f32(name, shape);
}

ggml_tensor *weights::find_f32(const std::string &name, std::initializer_list<int64_t> shape) {
    ggml_tensor *t = find(name, shape);
    if (t && t->type != GGML_TYPE_F32)
        fail(TIA2_EMODEL, "%s: tensor %s has type %s, expected f32", file_.path.c_str(), name.c_str(), ggml_type_name(t->type));
    return t;
}

ggml_tensor *weights::part(ggml_tensor *t, int64_t first, int64_t n) {
    if (!parts_) {
        parts_.reset(ggml_init({kPartsMax * ggml_tensor_overhead(), nullptr, true}));
        if (!parts_) throw std::bad_alloc();
    }
    if (t->ne[1] == 1) return ggml_view_1d(parts_.get(), t, n, (size_t)first * t->nb[0]);
    return ggml_view_2d(parts_.get(), t, t->ne[0], n, t->nb[1], (size_t)first * t->nb[1]);
}

// Refuses tensors of other types, those that nobody asked for included: they are uploaded and drawn too.
void weights::check_types() const {
    for (ggml_tensor *t = ggml_get_first_tensor(file_.tensors.get()); t; t = ggml_get_next_tensor(file_.tensors.get(), t))
        if (!is_known(t->type))
            fail(TIA2_EMODEL, "%s: tensor %s has type %s, expected f32, f16, bf16 or q8_0", file_.path.c_str(), t->name, ggml_type_name(t->type));
}

void weights::upload(ggml_backend_t backend) {
    check_types();
    place(backend);
    for (ggml_tensor *t = parts_ ? ggml_get_first_tensor(parts_.get()) : nullptr; t; t = ggml_get_next_tensor(parts_.get(), t))
        if (ggml_backend_view_init(t) != GGML_STATUS_SUCCESS) fail(TIA2_EBACKEND, "%s: a part of tensor %s cannot be placed on the device", file_.path.c_str(), t->view_src->name);
}

void weights::place(ggml_backend_t backend) {
    if (file_.has("tia2.random.seed")) return draw(backend, file_.u64("tia2.random.seed"));
    const size_t data_offset = gguf_get_data_offset(file_.gguf.get());
    for (int64_t i = 0; i < gguf_get_n_tensors(file_.gguf.get()); i++) {
        const size_t end = data_offset + gguf_get_tensor_offset(file_.gguf.get(), i) + gguf_get_tensor_size(file_.gguf.get(), i);
        if (end > file_.file.size())
            fail(TIA2_EMODEL, "%s: the file ends before tensor %s: %zu bytes, expected %zu", file_.path.c_str(),
                 gguf_get_tensor_name(file_.gguf.get(), i), file_.file.size(), end);
    }
    if (!map_file(backend)) copy_file(backend);
}

void weights::release(const ggml_tensor *t) const {
    if (!buffer_ || !ggml_backend_buffer_is_host(buffer_.get())) return;
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), data = (uintptr_t)t->data;
    const uintptr_t begin = (data + page - 1) / page * page, end = (data + ggml_nbytes(t)) / page * page;
    if (begin < end) madvise((void *)begin, end - begin, MADV_DONTNEED);
}

// Lets the device use the mapped pages where it can (CPU).
bool weights::map_file(ggml_backend_t backend) {
    const auto             device = ggml_backend_get_device(backend);
    ggml_backend_dev_props props;
    ggml_backend_dev_get_props(device, &props);
    if (!props.caps.buffer_from_host_ptr || props.type != GGML_BACKEND_DEVICE_TYPE_CPU) return false;
    uint8_t *base = const_cast<uint8_t *>(file_.file.data()); // a mapped page is only ever read
    buffer_.reset(ggml_backend_dev_buffer_from_host_ptr(device, base, file_.file.size(), file_.file.size()));
    if (!buffer_) return false;
    ggml_backend_buffer_set_usage(buffer_.get(), GGML_BACKEND_BUFFER_USAGE_WEIGHTS);
    const size_t data_offset = gguf_get_data_offset(file_.gguf.get());
    for (int64_t i = 0; i < gguf_get_n_tensors(file_.gguf.get()); i++) {
        ggml_tensor *t = ggml_get_tensor(file_.tensors.get(), gguf_get_tensor_name(file_.gguf.get(), i));
        if (ggml_backend_tensor_alloc(buffer_.get(), t, base + data_offset + gguf_get_tensor_offset(file_.gguf.get(), i)) !=
            GGML_STATUS_SUCCESS)
            fail(TIA2_EBACKEND, "%s: tensor %s cannot be placed on the device", file_.path.c_str(), t->name);
    }
    return true;
}

void weights::copy_file(ggml_backend_t backend) {
    buffer_.reset(ggml_backend_alloc_ctx_tensors(file_.tensors.get(), backend));
    if (!buffer_) fail(TIA2_ENOMEM, "%s: the weights do not fit on %s", file_.path.c_str(), ggml_backend_name(backend));
    ggml_backend_buffer_set_usage(buffer_.get(), GGML_BACKEND_BUFFER_USAGE_WEIGHTS);
    const uint8_t *data = file_.file.data() + gguf_get_data_offset(file_.gguf.get());
    for (int64_t i = 0; i < gguf_get_n_tensors(file_.gguf.get()); i++) {
        ggml_tensor *t = ggml_get_tensor(file_.tensors.get(), gguf_get_tensor_name(file_.gguf.get(), i));
        ggml_backend_tensor_set(t, data + gguf_get_tensor_offset(file_.gguf.get(), i), 0, ggml_nbytes(t));
    }
}

// Fills every tensor from the seed: for throughput measurements of full-size models without their weights.
void weights::draw(ggml_backend_t backend, uint64_t seed) {
    // Such a file of a few bytes can ask for any amount of memory, and an operating system may grant more than it has.
    size_t free_bytes, total_bytes;
    ggml_backend_dev_memory(ggml_backend_get_device(backend), &free_bytes, &total_bytes);
    if (total_bytes > 0 && bytes() > total_bytes)
        fail(TIA2_ENOMEM, "%s: the weights take %llu bytes, %s has %zu", file_.path.c_str(), (unsigned long long)bytes(), ggml_backend_name(backend), total_bytes);
    buffer_.reset(ggml_backend_alloc_ctx_tensors(file_.tensors.get(), backend));
    if (!buffer_) fail(TIA2_ENOMEM, "%s: the weights do not fit on %s", file_.path.c_str(), ggml_backend_name(backend));
    ggml_backend_buffer_set_usage(buffer_.get(), GGML_BACKEND_BUFFER_USAGE_WEIGHTS);

    // A table that every row starts to read at another place: fast, and no two rows are alike.
    std::vector<float> table(1 << 18);
    for (float &v : table) v = (float)((double)next_random(seed) / 9223372036854775808.0 - 1.0); // [-1, 1)
    std::vector<float>   row;
    std::vector<uint8_t> encoded;
    for (ggml_tensor *t = ggml_get_first_tensor(file_.tensors.get()); t; t = ggml_get_next_tensor(file_.tensors.get(), t)) {
        float       offset;
        const float scale     = random_scale(t->name, t, offset);
        const size_t row_size = ggml_row_size(t->type, t->ne[0]);
        row.resize((size_t)t->ne[0]);
        encoded.resize(row_size);
        for (int64_t r = 0; r < ggml_nrows(t); r++) {
            const size_t start = next_random(seed) % table.size();
            for (size_t i = 0; i < row.size(); i++) row[i] = offset + scale * table[(start + i) & (table.size() - 1)];
            ggml_quantize_chunk(t->type, row.data(), encoded.data(), 0, 1, t->ne[0], nullptr);
            ggml_backend_tensor_set(t, encoded.data(), (size_t)r * row_size, row_size);
        }
    }
}

uint64_t weights::bytes() const {
    uint64_t sum = 0;
    for (ggml_tensor *t = ggml_get_first_tensor(file_.tensors.get()); t; t = ggml_get_next_tensor(file_.tensors.get(), t))
        sum += ggml_nbytes(t);
    return sum;
}

} // namespace tia2
