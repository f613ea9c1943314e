#include "../runtime/error.h"
#include "flags.h"

extern "C" tia2_status tia2_isa_set(const char *level, tia2_error *err) noexcept {
    if (!level) return tia2_fail(err, TIA2_EINVAL, "level is NULL");
    if (!tia2_cpu_level_known(level))
        return tia2_fail(err, TIA2_EINVAL, "unknown CPU level \"%.64s\"; expected auto, " TIA2_CPU_LEVEL_NAMES, level);
    if (!tia2_cpu_set_level(level))
        return tia2_fail(err, TIA2_EINVAL, "this CPU lacks level %.64s; expected auto or a level it has", level);
    return TIA2_OK;
}
