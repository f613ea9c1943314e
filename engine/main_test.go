package engine_test

import (
	"fmt"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/tia2-engine/tia2-engine/cgo"
)

// demoCache holds the embedded model as files, written once for all tests.
var demoCache string

// Every test closes what it opens: a handle that lives on after all of them is a leak in the engine.
func TestMain(m *testing.M) {
	var err error
	if demoCache, err = os.MkdirTemp("", "tia2-engine-test-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(demoCache)
	runtime.GC()
	for range 100 { // cleanups run on a goroutine of their own
		if cgo.LiveHandles() == 0 {
			os.Exit(code)
		}
		time.Sleep(10 * time.Millisecond)
	}
	fmt.Fprintf(os.Stderr, "FAIL: %d native models are alive after all tests\n", cgo.LiveHandles())
	os.Exit(1)
}
