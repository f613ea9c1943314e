#include "../cpu/flags.h"
#include "error.h"

#include "dnnl.h"
#include "ggml.h"
#include <jpeglib.h> // needs <cstdio>, which error.h includes
#include <png.h>
#include <webp/decode.h>

#define TIA2_STRINGIFY(x) #x
#define TIA2_VALUE(x) TIA2_STRINGIFY(x)

extern "C" void tia2_versions_get(tia2_versions *out) noexcept {
    *out             = {};
    const auto *dnnl = dnnl_version();
    const int   webp = WebPGetDecoderVersion(); // 0x010500
    snprintf(out->ggml, sizeof out->ggml, "%s", ggml_version());
    snprintf(out->onednn, sizeof out->onednn, "%d.%d.%d", dnnl->major, dnnl->minor, dnnl->patch);
    // libjpeg-turbo cannot be asked at run time: this is what was compiled against.
    snprintf(out->jpeg, sizeof out->jpeg, "%s", TIA2_VALUE(LIBJPEG_TURBO_VERSION));
    snprintf(out->png, sizeof out->png, "%s", png_get_libpng_ver(nullptr));
    snprintf(out->webp, sizeof out->webp, "%d.%d.%d", webp >> 16, webp >> 8 & 255, webp & 255);
    snprintf(out->isa, sizeof out->isa, "%s", tia2_cpu_level());
}
