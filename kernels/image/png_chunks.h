// png_chunks.h: the chunks of a PNG file, read in PIL's order and with PIL's checks.
//
// Ahead of the pixels every chunk's CRC counts and a wrong one refuses the file, ancillary chunks included; CRCs of
// IDAT and of what follows are not looked at. Ancillary chunks are parsed only as far as PIL's refusals go (too short,
// too much text, inflating without end); what they say about colour does not change pixels.
#pragma once
#include "reader.h"

namespace tia2 {

// png_box is the part of the canvas that the pixel data covers: all of it, but for files that begin with a frame
// control chunk of an animation.
struct png_box {
    uint64_t x = 0, y = 0, width = 0, height = 0;
};

struct png_chunks {
    reader         in;
    picture_limits limits;

    uint32_t       width = 0, height = 0;
    int            depth = 0, color = 0; // of IHDR, if it names a combination that exists
    bool           known = false, interlaced = false;
    pixel_mode     mode = pixel_mode::l;
    const uint8_t *palette = nullptr; // of the last PLTE of a palette picture
    size_t         palette_bytes = 0;
    bool           has_box = false;
    png_box        box;

    png_chunks(file_bytes file, const picture_limits &lim) : in{file, "PNG", 8}, limits(lim) {}

    // open reads up to the first pixel data and checks the header.
    void open();
    // next_pixels returns the next piece of compressed pixel data; it ends with a failure, as pixels are then missing.
    file_bytes next_pixels();
    // close checks the chunks after the pixels as far as PIL does.
    void close();

  private:
    enum class kind { ordinary, pixels, end };
    struct chunk {
        uint32_t tag, length;
    };

    uint32_t data_left_ = 0;      // of the pixel chunk that is being read
    uint64_t text_bytes_ = 0;     // of all text so far
    uint64_t inflated_bytes_ = 0; // of all compressed ancillary chunks so far
    bool     sequence_started_ = false;
    uint32_t sequence_ = 0;
    uint64_t frames_ = 0; // of acTL; 0: none
    bool     default_image_ = false;

    bool   read_chunk(chunk *c, bool must);
    kind   handle(const chunk &c, bool after_pixels);
    void   ancillary(const chunk &c, const uint8_t *s);
    void   header(const chunk &c, const uint8_t *s);
    void   transparency(const chunk &c);
    void   frame_control(const chunk &c, const uint8_t *s);
    void   animation(const chunk &c, const uint8_t *s);
    kind   frame_data(const chunk &c);
    void   text(const chunk &c, const uint8_t *s);
    void   add_text(uint64_t n);
    size_t inflated(const chunk &c, const uint8_t *s, size_t n, bool *damaged);
    void   need(const chunk &c, uint32_t n) const;
};

} // namespace tia2
