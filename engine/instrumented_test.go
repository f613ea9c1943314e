//go:build race || asan

package engine_test

// instrumented is whether the compiler adds calls that allocate: the race detector or the address sanitizer.
const instrumented = true
