// error.h: how C++ errors become the status and message of the C ABI.
#pragma once
#include "tia2.h"

#include <cstdarg>
#include <cstdio>
#include <exception>
#include <new>
#include <stdexcept>
#include <string>

#if defined(__GNUC__)
#define TIA2_PRINTF(fmt, first) __attribute__((format(printf, fmt, first)))
#else
#define TIA2_PRINTF(fmt, first)
#endif

namespace tia2 {

// failure is thrown inside the library and never leaves it: tia2_guard turns it into a status and a message.
struct failure : std::runtime_error {
    tia2_status code;
    failure(tia2_status code_, const std::string &msg) : std::runtime_error(msg), code(code_) {}
};

// fail throws a failure with a printf-style message, lower case, that says what was expected.
[[noreturn]] TIA2_PRINTF(2, 3) inline void fail(tia2_status code, const char *fmt, ...) {
    char    buf[sizeof(tia2_error::msg)];
    va_list args;
    va_start(args, fmt);
    vsnprintf(buf, sizeof buf, fmt, args);
    va_end(args);
    throw failure(code, buf);
}

} // namespace tia2

// Fills err (may be NULL) and returns code.
TIA2_PRINTF(3, 4)
inline tia2_status tia2_fail(tia2_error *err, tia2_status code, const char *fmt, ...) {
    if (err) {
        va_list args;
        va_start(args, fmt);
        vsnprintf(err->msg, sizeof err->msg, fmt, args);
        va_end(args);
    }
    return code;
}

// Runs f and turns whatever it throws into a status: the body of every extern "C" function that can fail.
template <class F> tia2_status tia2_guard(tia2_error *err, F &&f) noexcept {
    try {
        f();
        return TIA2_OK;
    } catch (const tia2::failure &e) {
        return tia2_fail(err, e.code, "%s", e.what());
    } catch (const std::bad_alloc &) {
        return tia2_fail(err, TIA2_ENOMEM, "out of memory");
    } catch (const std::exception &e) {
        return tia2_fail(err, TIA2_EINTERNAL, "internal error: %s", e.what());
    } catch (...) {
        return tia2_fail(err, TIA2_EINTERNAL, "internal error of an unknown kind");
    }
}
