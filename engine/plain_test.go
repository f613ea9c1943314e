//go:build !race && !asan

package engine_test

const instrumented = false
