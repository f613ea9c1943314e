#include "failure.h"

#include <atomic>

namespace tia2 {

static std::atomic<bool> failed{false};

void mark_failure() { failed = true; }
bool take_failure() { return failed.exchange(false); }

} // namespace tia2
