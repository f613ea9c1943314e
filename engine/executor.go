package engine

import (
	"context"
	"runtime"
	"sync"
)

// executor runs the calls into C of one device, one after another, on one OS thread of its own. OpenMP keeps a pool of
// workers for each thread that calls it: with one caller there is one pool, and models of a device queue instead of
// competing for its cores.
type executor struct {
	work chan func()
}

var executors = struct {
	sync.Mutex
	byDevice map[string]*executor
}{byDevice: map[string]*executor{}}

// executorFor returns the executor of a device. It lives as long as the process.
func executorFor(device string) *executor {
	executors.Lock()
	defer executors.Unlock()
	e := executors.byDevice[device]
	if e == nil {
		e = &executor{work: make(chan func())}
		executors.byDevice[device] = e
		go func() {
			runtime.LockOSThread()
			for f := range e.work {
				f()
			}
		}()
	}
	return e
}

// do runs f on the executor's thread and waits for it. A context that ends while f is queued keeps f from running.
func (e *executor) do(ctx context.Context, f func() error) error {
	if err := ctx.Err(); err != nil { // select would choose at random where both are ready
		return err
	}
	done := make(chan error, 1)
	select {
	case e.work <- func() { done <- f() }:
		return <-done
	case <-ctx.Done():
		return ctx.Err()
	}
}
