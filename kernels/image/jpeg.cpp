// jpeg.cpp: JPEG through libjpeg-turbo's libjpeg API, with PIL's settings: accurate integer DCT, fancy upsampling,
// greyscale as L, three components as RGB, four as CMYK inverted (Adobe's convention, whether or not the marker is
// there).
//
// libjpeg reports errors by longjmp. Each function that calls setjmp below holds no C++ object, so nothing is jumped
// over; the session is destroyed by its owner. The source never waits for more data: where libjpeg asks for some, the
// file is truncated, which is also PIL's rule for a file without an end marker.
#include "reader.h"

#include <csetjmp>
#include <cstdio>
#include <cstring>

#include <jpeglib.h>

namespace tia2 {
namespace {

// A progressive file may hold any number of scans, each of which costs a pass over all blocks; encoders make at most
// a few dozen. Both bounds must be passed for a file to be refused.
constexpr uint64_t kScansMax = 64, kScanPixelsMax = uint64_t(1) << 31;

enum class step { done, truncated, failed };

struct jpeg_session { // plain data, because longjmp returns into functions that use it
    jpeg_decompress_struct cinfo;
    jpeg_error_mgr         errors;
    jpeg_source_mgr        source;
    jpeg_progress_mgr      progress;
    jmp_buf                jump;
    char                   message[JMSG_LENGTH_MAX];
};

jpeg_session *session_of(j_common_ptr cinfo) { return static_cast<jpeg_session *>(cinfo->client_data); }

void on_error(j_common_ptr cinfo) {
    jpeg_session *s = session_of(cinfo);
    cinfo->err->format_message(cinfo, s->message);
    longjmp(s->jump, 1);
}
void    on_message(j_common_ptr) {} // libjpeg would print it
void    on_source(j_decompress_ptr) {}
boolean on_empty(j_decompress_ptr) { return FALSE; }

void on_skip(j_decompress_ptr cinfo, long n) {
    if (n <= 0) return;
    jpeg_source_mgr *src = cinfo->src;
    const size_t     step = size_t(n) < src->bytes_in_buffer ? size_t(n) : src->bytes_in_buffer;
    src->next_input_byte += step;
    src->bytes_in_buffer -= step;
}

void on_progress(j_common_ptr common) {
    auto          *cinfo = reinterpret_cast<j_decompress_ptr>(common);
    const uint64_t scans = uint64_t(cinfo->input_scan_number);
    if (scans <= kScansMax || scans * cinfo->image_width * cinfo->image_height <= kScanPixelsMax) return;
    jpeg_session *s = session_of(common);
    snprintf(s->message, sizeof s->message, "more than %llu scans", (unsigned long long)kScansMax);
    longjmp(s->jump, 1);
}

void open_session(jpeg_session *s, file_bytes file) {
    s->cinfo.err = jpeg_std_error(&s->errors);
    s->errors.error_exit = on_error;
    s->errors.output_message = on_message;
    s->cinfo.client_data = s;
    s->source.init_source = on_source;
    s->source.term_source = on_source;
    s->source.fill_input_buffer = on_empty;
    s->source.skip_input_data = on_skip;
    s->source.resync_to_restart = jpeg_resync_to_restart;
    s->source.next_input_byte = file.data;
    s->source.bytes_in_buffer = file.size;
    s->progress.progress_monitor = on_progress;
}

step read_header(jpeg_session *s) {
    if (setjmp(s->jump)) return step::failed;
    jpeg_create_decompress(&s->cinfo);
    s->cinfo.src = &s->source;
    s->cinfo.progress = &s->progress;
    int rc = JPEG_HEADER_TABLES_ONLY;
    while (rc == JPEG_HEADER_TABLES_ONLY) rc = jpeg_read_header(&s->cinfo, FALSE);
    return rc == JPEG_HEADER_OK ? step::done : step::truncated;
}

step read_pixels(jpeg_session *s, uint8_t *dst, size_t row_bytes) {
    if (setjmp(s->jump)) return step::failed;
    const int n = s->cinfo.num_components;
    s->cinfo.out_color_space = n == 1 ? JCS_GRAYSCALE : n == 3 ? JCS_RGB : JCS_CMYK;
    if (!jpeg_start_decompress(&s->cinfo)) return step::truncated;
    while (s->cinfo.output_scanline < s->cinfo.output_height) {
        JSAMPROW row = dst + size_t(s->cinfo.output_scanline) * row_bytes;
        if (jpeg_read_scanlines(&s->cinfo, &row, 1) != 1) return step::truncated;
    }
    jpeg_finish_decompress(&s->cinfo); // damage before the end marker counts; a missing end marker no longer does
    return step::done;
}

struct jpeg_frame {
    uint32_t width = 0, height = 0, components = 0;
};

void read_frame(const uint8_t *s, size_t n, jpeg_frame *f) {
    if (n < 6 || n % 3) fail(TIA2_EIMAGE, "JPEG frame header of %zu bytes is damaged", n);
    if (s[0] != 8) fail(TIA2_EIMAGE, "JPEG picture has %d bits a sample, 8 can be read", s[0]);
    *f = {be16(s + 3), be16(s + 1), s[5]};
    if (f->components != 1 && f->components != 3 && f->components != 4)
        fail(TIA2_EIMAGE, "JPEG picture has %u components: 1, 3 or 4 can be read", f->components);
}

void check_tables(const uint8_t *s, size_t n) { // of quantisation
    while (n) {
        const size_t step = 1 + (s[0] < 16 ? 64 : 128);
        if (n < step) fail(TIA2_EIMAGE, "JPEG quantisation table is damaged");
        s += step;
        n -= step;
    }
}

// scan_markers reads the segments up to the first scan as PIL does (JpegImagePlugin._open), which refuses some that
// libjpeg would skip.
jpeg_frame scan_markers(file_bytes file) {
    reader     in{file, "JPEG", 2};
    jpeg_frame frame;
    for (;;) {
        if (in.byte("a marker") != 0xFF) continue; // rubbish between segments
        uint8_t m = in.byte("a marker");
        while (m == 0xFF) m = in.byte("a marker");
        if (m == 0) continue;
        if (m < 0xC0) fail(TIA2_EIMAGE, "JPEG marker ff%02x at byte %zu is not known", m, in.pos - 2);
        if (m == 0xC8 || (m >= 0xD0 && m <= 0xD9) || (m >= 0xF0 && m <= 0xFD)) continue; // these stand alone
        const size_t   length = be16(in.take(2, "a segment"));
        const size_t   n = length > 2 ? length - 2 : 0;
        const uint8_t *s = in.take(n, "a segment");
        if (m == 0xDA) return frame;
        if (m == 0xDB) check_tables(s, n);
        if ((m >= 0xC0 && m <= 0xCF && m != 0xC4 && m != 0xCC) || m == 0xDE) read_frame(s, n, &frame);
        if ((m == 0xE0 && n >= 4 && n < 7 && memcmp(s, "JFIF", 4) == 0) ||
            (m == 0xEE && n >= 5 && n < 7 && memcmp(s, "Adobe", 5) == 0))
            fail(TIA2_EIMAGE, "JPEG segment ff%02x is too short: %zu bytes", m, n);
    }
}

// jpeg_file owns a session whose header has been read and checked.
struct jpeg_file {
    jpeg_session s = {};
    picture_info info = {"JPEG", pixel_mode::rgb, 0, 0};

    jpeg_file(file_bytes file, const picture_limits &limits) {
        const jpeg_frame frame = scan_markers(file);
        check_size("JPEG", frame.width, frame.height, limits);
        info.mode = frame.components == 1 ? pixel_mode::l : frame.components == 3 ? pixel_mode::rgb : pixel_mode::cmyk;
        info.width = int32_t(frame.width);
        info.height = int32_t(frame.height);
        open_session(&s, file);
        try {
            check(read_header(&s), file);
            if (s.cinfo.image_width != frame.width || s.cinfo.image_height != frame.height ||
                s.cinfo.num_components != int(frame.components))
                fail(TIA2_EIMAGE, "JPEG file has two frame headers that differ");
        } catch (...) { // the destructor does not run for a half-made object
            jpeg_destroy_decompress(&s.cinfo);
            throw;
        }
    }
    ~jpeg_file() { jpeg_destroy_decompress(&s.cinfo); }
    jpeg_file(const jpeg_file &) = delete;
    jpeg_file &operator=(const jpeg_file &) = delete;

    void check(step result, file_bytes file) const {
        if (result == step::truncated)
            fail(TIA2_EIMAGE, "JPEG file is truncated: its %zu bytes end before the picture does", file.size);
        if (result == step::failed)
            fail(TIA2_EIMAGE, "JPEG data is damaged near byte %zu: %s", file.size - s.source.bytes_in_buffer,
                 s.message);
    }
};

} // namespace

picture_info probe_jpeg(file_bytes file, const picture_limits &limits) { return jpeg_file(file, limits).info; }

picture decode_jpeg(file_bytes file, const picture_limits &limits) {
    jpeg_file f(file, limits);
    picture   out(f.info.mode, f.info.width, f.info.height);
    f.check(read_pixels(&f.s, out.pixels.data(), out.row_bytes()), file);
    if (out.mode == pixel_mode::cmyk) {
        uint8_t     *p = out.pixels.data();
        const size_t n = out.row_bytes() * size_t(out.height);
        for (size_t i = 0; i < n; i++) p[i] = uint8_t(255 - p[i]);
    }
    return out;
}

} // namespace tia2
