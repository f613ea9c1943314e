package serve

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/tia2-engine/tia2-engine/engine"
)

// Server answers requests with the models of a backend. Close it.
type Server struct {
	opt     Options
	closing context.Context // ends with Close
	stop    context.CancelFunc
	workers sync.WaitGroup
	reload  sync.Mutex // held while a backend is being swapped in

	mu       sync.Mutex
	worker   *worker // that new requests go to
	draining bool
	drained  chan struct{} // closed when draining and nothing is left
	waiting  int           // items in no batch
	bytes    int64         // that requests hold
	requests int           // that were accepted and are not over, probes left out
	reading  int           // requests that have not arrived in whole
	running  int           // batches
	health   health
	itemPace pace // of items
	counts   counts
}

// counts are the parts of Stats that only grow.
type counts struct {
	accepted, answered, batches, items, units, panics, reloads uint64
	dropped                                                    map[string]uint64
}

// New returns a server that computes with b, which it closes at its end.
func New(b Backend, opt Options) *Server {
	s := &Server{opt: opt.withDefaults(), drained: make(chan struct{})}
	s.counts.dropped = map[string]uint64{}
	s.closing, s.stop = context.WithCancel(context.Background())
	s.mu.Lock()
	defer s.mu.Unlock()
	s.worker = s.newWorker(b)
	return s
}

// Rewards returns the names of all rewards, in order.
func (s *Server) Rewards() []string { return slices.Clone(s.current().rewards) }

// Models describes the models.
func (s *Server) Models() []engine.Info { return slices.Clone(s.current().models) }

func (s *Server) current() *worker {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.worker
}

// Reload makes b the backend of new requests, once it has answered a probe of all its rewards; what was accepted before
// is computed by the one before, which is then closed. b is the server's from the call on: it is closed if it is not
// taken. Only one Reload runs at a time; another is ErrOverloaded.
func (s *Server) Reload(ctx context.Context, b Backend) error {
	if !s.reload.TryLock() {
		return errors.Join(retryLater(ErrOverloaded, retryDrain, "a reload is under way"), b.Close())
	}
	defer s.reload.Unlock()
	s.mu.Lock()
	if s.draining {
		s.mu.Unlock()
		return errors.Join(errDraining(), b.Close())
	}
	next := s.newWorker(b)
	s.mu.Unlock()
	err := next.probe(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil && s.draining {
		err = errDraining()
	}
	if err != nil {
		next.retire()
		return fmt.Errorf("the new models are not taken: %w", err)
	}
	s.worker.retire()
	s.worker = next
	s.counts.reloads++
	s.health.answer(time.Now())
	return nil
}

// retire lets the worker end when it has computed what it was asked.
func (w *worker) retire() {
	w.retired = true
	w.wake.Broadcast()
}

// Drain accepts nothing new and waits until all that was accepted is answered, or until ctx ends. Ready is ErrDraining
// from then on.
func (s *Server) Drain(ctx context.Context) error {
	s.mu.Lock()
	if !s.draining {
		s.draining = true
		s.checkDrained()
		s.worker.wake.Broadcast() // nobody waits for company any more
	}
	left := s.requests
	s.mu.Unlock()
	select {
	case <-s.drained:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("draining: %d requests were unanswered at its begin: %w", left, ctx.Err())
	}
}

// checkDrained tells Drain when nothing is left.
func (s *Server) checkDrained() {
	if s.draining && s.requests == 0 {
		select {
		case <-s.drained:
		default:
			close(s.drained)
		}
	}
}

// Close ends the server: what waits fails with ErrDraining, what is being computed ends between two batches of the
// engine, backends are closed. It waits for all that. Closing twice is fine.
func (s *Server) Close() error {
	s.mu.Lock()
	if !s.draining {
		s.draining = true
		s.checkDrained()
	}
	s.stop()
	s.worker.retire()
	s.mu.Unlock()
	s.workers.Wait()
	return nil
}

func errDraining() error { return retryLater(ErrDraining, retryDrain, "the server is shutting down") }

// Reading announces a request that is being read, until it arrives in Score, TextNorm or Embed with the context returned,
// or one derived from it, or until done is called. While one is being read the idle backend waits a little for it.
func (s *Server) Reading(ctx context.Context) (_ context.Context, done func()) {
	done = s.announce()
	return context.WithValue(ctx, readingKey{s}, done), done
}

type readingKey struct{ s *Server }

func (s *Server) announce() (arrived func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reading++
	return sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.reading--; s.reading == 0 {
			s.worker.wake.Broadcast()
		}
	})
}

// Stats returns counts since the server began, and what there is now.
func (s *Server) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	w, c := s.worker, s.counts
	out := Stats{
		Waiting: s.waiting, WaitingBytes: s.bytes, Running: s.running, Requests: s.requests, Reading: s.reading,
		Accepted: c.accepted, Answered: c.answered, Batches: c.batches, Items: c.items, Units: c.units, Panics: c.panics,
		Reloads: c.reloads, Dropped: maps.Clone(c.dropped),
		Backlog: w.backlog(), LastAnswer: s.health.last, Draining: s.draining,
	}
	if s.itemPace.perCost > 0 {
		out.ItemsPerSecond = 1 / s.itemPace.perCost
	}
	return out
}
