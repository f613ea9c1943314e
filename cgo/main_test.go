package cgo

import (
	"fmt"
	"os"
	"runtime"
	"testing"
)

// Every test frees what it makes: a handle that lives on after all of them is a leak.
func TestMain(m *testing.M) {
	code := m.Run()
	runtime.GC()
	if !handlesReach(0) {
		fmt.Fprintf(os.Stderr, "FAIL: %d native models are alive after all tests\n", LiveHandles())
		code = 1
	}
	os.Exit(code)
}
