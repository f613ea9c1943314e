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
	work chan *request
}

// job is what an executor runs. The jobs of batches are kept and used again, so that a batch allocates nothing.
type job interface{ run() error }

// jobFunc makes a job of a function.
type jobFunc func() error

func (f jobFunc) run() error { return f() }

// request is a job on its way to an executor, kept for the next one.
type request struct {
	job  job
	done chan error // its capacity is 1: the executor waits for nobody
}

var requests = sync.Pool{New: func() any { return &request{done: make(chan error, 1)} }}

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
		e = &executor{work: make(chan *request)}
		executors.byDevice[device] = e
		go func() {
			runtime.LockOSThread()
			for r := range e.work {
				r.done <- r.job.run()
			}
		}()
	}
	return e
}

// do runs f as run does a job.
func (e *executor) do(ctx context.Context, f func() error) error { return e.run(ctx, jobFunc(f)) }

// run runs j on the executor's thread and waits for it. A context that ends while j is queued keeps j from running.
func (e *executor) run(ctx context.Context, j job) error {
	if err := ctx.Err(); err != nil { // select would choose at random where both are ready
		return err
	}
	r := requests.Get().(*request)
	r.job = j
	var err error
	select {
	case e.work <- r:
		err = <-r.done
	case <-ctx.Done():
		err = ctx.Err()
	}
	r.job = nil
	requests.Put(r)
	return err
}
