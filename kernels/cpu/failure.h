// failure.h: what went wrong in a worker thread of ggml, which no exception may leave.
#pragma once

namespace tia2 {

void mark_failure(); // out of memory in a CPU op; its results are void
bool take_failure(); // whether one was marked since this was last asked

} // namespace tia2
