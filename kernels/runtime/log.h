// log.h: log lines of ggml and of this library, kept in a ring until the caller drains them (tia2_log_drain).
#pragma once

namespace tia2 {

// Routes ggml's log into the ring. Safe to call often.
void log_capture();

// Adds a line; a newline is appended where it lacks one.
void log_line(const char *text);

} // namespace tia2
