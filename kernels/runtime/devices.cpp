#include "devices.h"

#include "error.h"
#include "log.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <unistd.h>

namespace tia2 {
namespace {

std::string lower(std::string s) {
    for (char &c : s)
        if (c >= 'A' && c <= 'Z') c += 'a' - 'A';
    return s;
}

bool is_cpu(ggml_backend_dev_t d) { return ggml_backend_dev_type(d) == GGML_BACKEND_DEVICE_TYPE_CPU; }

bool is_gpu(ggml_backend_dev_t d) {
    const auto type = ggml_backend_dev_type(d);
    return type == GGML_BACKEND_DEVICE_TYPE_GPU || type == GGML_BACKEND_DEVICE_TYPE_IGPU;
}

// Mesa's Vulkan device in software, which ggml takes for a GPU: a test bed, far slower than the CPU itself.
bool is_llvmpipe(ggml_backend_dev_t d) { return strstr(ggml_backend_dev_description(d), "llvmpipe") != nullptr; }

// The order in which "auto" prefers devices.
int rank(ggml_backend_dev_t d) { return is_cpu(d) ? 1 : is_llvmpipe(d) ? 2 : 0; }

// Whether the system has a file by which Vulkan's drivers reach a GPU: a DRM device (all of Mesa's, Intel's and AMD's),
// NVIDIA's, Windows' under WSL, a Mali or an Adreno.
bool may_have_gpu() {
#ifdef __linux__
    for (const char *path : {"/dev/dri", "/dev/nvidiactl", "/dev/dxg", "/dev/mali0", "/dev/kgsl-3d0"})
        if (access(path, F_OK) == 0) return true;
    return false;
#else
    return true;
#endif
}

// Vulkan's loader brings every installed driver into the process, for Mesa's 65 MB and 0.1 s. Where there is no GPU they
// could only offer a device in software, which ggml leaves out unless this variable of its own names devices. A value
// that the user gave stays; loaders before 1.3.234 do not know the variable.
void leave_out_idle_drivers() {
    if (!may_have_gpu() && !getenv("GGML_VK_VISIBLE_DEVICES")) setenv("VK_LOADER_DRIVERS_DISABLE", "*", 0);
}

} // namespace

std::vector<ggml_backend_dev_t> devices() {
    static std::once_flag loaded;
    std::call_once(loaded, [] {
        log_capture();
        leave_out_idle_drivers();
        ggml_backend_load_all();
    });
    std::vector<ggml_backend_dev_t> found;
    for (size_t i = 0; i < ggml_backend_dev_count(); i++) {
        const auto d = ggml_backend_dev_get(i);
        if (is_cpu(d) || is_gpu(d)) found.push_back(d); // not BLAS and the like, which only help the CPU
    }
    std::stable_sort(found.begin(), found.end(), [](ggml_backend_dev_t a, ggml_backend_dev_t b) { return rank(a) < rank(b); });
    return found;
}

std::string backend_name(ggml_backend_dev_t device) {
    const std::string name = lower(ggml_backend_reg_name(ggml_backend_dev_backend_reg(device)));
    return name == "mtl" ? "metal" : name;
}

ggml_backend_dev_t find_device(const std::string &name) {
    const auto all = devices();
    const auto at  = std::find_if(all.begin(), all.end(), [&](ggml_backend_dev_t d) { return lower(ggml_backend_dev_name(d)) == lower(name); });
    if (at != all.end()) return *at;

    std::string have;
    for (const auto d : all) have += (have.empty() ? "" : ", ") + std::string(ggml_backend_dev_name(d));
    fail(TIA2_EBACKEND, "no device \"%s\": ggml's plug-ins offer %s", name.c_str(), have.empty() ? "none" : have.c_str());
}

// Mesa's software device announces cooperative matrices, with which ggml 0.27 computes wrong products of sizes that are
// no multiple of its tiles. ggml reads this variable when a device is first opened.
static void work_around_llvmpipe(ggml_backend_dev_t device) {
    if (is_llvmpipe(device)) setenv("GGML_VK_DISABLE_COOPMAT", "1", 0);
}

backend_ptr open_backend(ggml_backend_dev_t device, int n_threads) {
    work_around_llvmpipe(device);
    backend_ptr backend(ggml_backend_dev_init(device, nullptr));
    if (!backend) fail(TIA2_EBACKEND, "device %s cannot be opened", ggml_backend_dev_name(device));
    const auto set_threads = (ggml_backend_set_n_threads_t)ggml_backend_reg_get_proc_address(
        ggml_backend_dev_backend_reg(device), "ggml_backend_set_n_threads");
    if (set_threads) set_threads(backend.get(), n_threads);
    return backend;
}

} // namespace tia2

extern "C" int32_t tia2_devices_list(tia2_device *out, int32_t cap) noexcept {
    int32_t n = 0;
    tia2_guard(nullptr, [&] {
        for (const auto d : tia2::devices()) {
            if (n < cap) {
                tia2_device &o = out[n];
                o              = {};
                size_t free_bytes, total_bytes;
                ggml_backend_dev_memory(d, &free_bytes, &total_bytes);
                snprintf(o.name, sizeof o.name, "%s", ggml_backend_dev_name(d));
                snprintf(o.backend, sizeof o.backend, "%s", tia2::backend_name(d).c_str());
                snprintf(o.description, sizeof o.description, "%s", ggml_backend_dev_description(d));
                o.memory_free_bytes  = free_bytes;
                o.memory_total_bytes = total_bytes;
            }
            n++;
        }
    });
    return n;
}
