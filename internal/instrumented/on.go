//go:build race || asan

// Package instrumented tells tests of allocations whether the compiler adds calls that allocate.
package instrumented

// On is whether the race detector or the address sanitizer is compiled in.
const On = true
