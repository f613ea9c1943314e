package api

import (
	"context"
	"time"

	"github.com/tia2-engine/tia2-engine/engine/serve"
)

// observers tells several.
type observers []serve.Observer

// Observers returns an observer that tells all in the list, and those that are stage observers too of stages.
func Observers(list ...serve.Observer) serve.Observer { return observers(list) }

// Queued implements serve.Observer.
func (o observers) Queued(items int) {
	for _, to := range o {
		to.Queued(items)
	}
}

// BatchDone implements serve.Observer.
func (o observers) BatchDone(b serve.BatchStats) {
	for _, to := range o {
		to.BatchDone(b)
	}
}

// RequestDone implements serve.Observer.
func (o observers) RequestDone(kind string, err error, items int, waited, computed time.Duration) {
	for _, to := range o {
		to.RequestDone(kind, err, items, waited, computed)
	}
}

// Stage implements serve.StageObserver.
func (o observers) Stage(ctx context.Context, name string, began time.Time, took time.Duration) {
	for _, to := range o {
		if s, ok := to.(serve.StageObserver); ok {
			s.Stage(ctx, name, began, took)
		}
	}
}
