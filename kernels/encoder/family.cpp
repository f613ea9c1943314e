#include "family.h"

#include "../runtime/error.h"

namespace tia2 {

std::unique_ptr<family> make_family(const gguf_file &file, weights &w) {
    const std::string arch = file.str("general.architecture");
    if (arch == "clip") return make_clip(file, w);
    fail(TIA2_EMODEL, "%s: general.architecture is \"%s\", expected \"clip\"", file.path.c_str(), arch.c_str());
}

} // namespace tia2
