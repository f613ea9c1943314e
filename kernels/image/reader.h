// reader.h: a cursor over the bytes of a picture file. Every read is checked against the end of the file.
#pragma once
#include "picture.h"

#include <algorithm>

namespace tia2 {

inline uint32_t le16(const uint8_t *p) { return uint32_t(p[0]) | uint32_t(p[1]) << 8; }
inline uint32_t le32(const uint8_t *p) { return le16(p) | le16(p + 2) << 16; }
inline uint32_t be16(const uint8_t *p) { return uint32_t(p[0]) << 8 | uint32_t(p[1]); }
inline uint32_t be32(const uint8_t *p) { return be16(p) << 16 | be16(p + 2); }

struct reader {
    file_bytes  file;
    const char *format; // for messages
    size_t      pos = 0;

    size_t left() const { return file.size - pos; }

    // take returns a pointer to the next n bytes and moves past them.
    const uint8_t *take(size_t n, const char *what) {
        if (n > left())
            fail(TIA2_EIMAGE, "%s file is truncated: %s at byte %zu needs %zu bytes, %zu are left", format, what, pos,
                 n, left());
        const uint8_t *p = file.data + pos;
        pos += n;
        return p;
    }
    uint8_t byte(const char *what) { return *take(1, what); }
    // skip moves on by n bytes, at most to the end of the file.
    void skip(size_t n) { pos += std::min(n, left()); }
    void seek(size_t to) { pos = std::min(to, file.size); }
};

} // namespace tia2
