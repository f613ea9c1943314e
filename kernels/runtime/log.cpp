#include "log.h"

#include "ggml.h"
#include "tia2.h"

#include <cstring>
#include <mutex>
#include <string>

namespace tia2 {
namespace {

constexpr size_t kKeptBytes = 64 << 10;

std::mutex  mutex;
std::string kept; // the newest lines

// Debug lines of ggml report every buffer; they are of no use to a caller.
void from_ggml(ggml_log_level level, const char *text, void *) {
    if (level == GGML_LOG_LEVEL_WARN || level == GGML_LOG_LEVEL_ERROR || level == GGML_LOG_LEVEL_INFO) log_line(text);
}

} // namespace

void log_capture() {
    static std::once_flag once;
    std::call_once(once, [] { ggml_log_set(from_ggml, nullptr); });
}

void log_line(const char *text) {
    const std::lock_guard<std::mutex> lock(mutex);
    kept += text;
    if (kept.empty() || kept.back() != '\n') kept += '\n';
    if (kept.size() > kKeptBytes) kept.erase(0, kept.find('\n', kept.size() - kKeptBytes) + 1);
}

} // namespace tia2

extern "C" size_t tia2_log_drain(char *buf, size_t cap) noexcept {
    if (!buf || cap == 0) return 0;
    const std::lock_guard<std::mutex> lock(tia2::mutex);
    // The oldest lines are dropped where the caller's buffer is too small for all.
    const size_t n = tia2::kept.size() < cap ? tia2::kept.size() : cap - 1;
    memcpy(buf, tia2::kept.data() + tia2::kept.size() - n, n);
    buf[n] = 0;
    tia2::kept.clear();
    return n;
}
