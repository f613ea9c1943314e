// devices.h: the devices that the installed ggml plug-ins offer.
#pragma once
#include "ggml-backend.h"

#include <memory>
#include <string>
#include <vector>

namespace tia2 {

struct backend_deleter {
    void operator()(ggml_backend_t b) const { ggml_backend_free(b); }
};
struct buffer_deleter {
    void operator()(ggml_backend_buffer_t b) const { ggml_backend_buffer_free(b); }
};
using backend_ptr = std::unique_ptr<ggml_backend, backend_deleter>;
using buffer_ptr  = std::unique_ptr<ggml_backend_buffer, buffer_deleter>;

// The devices that a model can be opened on: GPUs, the CPU, then GPUs that are simulated. Loads ggml's plug-ins at the
// first call.
std::vector<ggml_backend_dev_t> devices();

// "cpu", "vulkan", "cuda", "metal", or the lower-case name of another ggml backend.
std::string backend_name(ggml_backend_dev_t device);

// Finds a device by its name ("Vulkan0"), in any case. Throws TIA2_EBACKEND and lists what there is.
ggml_backend_dev_t find_device(const std::string &name);

// Opens a device for computing; n_threads matters on the CPU only.
backend_ptr open_backend(ggml_backend_dev_t device, int n_threads);

} // namespace tia2
