package serve

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// open begins a request. Close it.
func (s *Server) open(ctx context.Context, kind, client string) *request {
	r := &request{kind: kind, client: client, done: make(chan struct{})}
	if arrived, ok := ctx.Value(readingKey{s}).(func()); ok {
		r.arrive = arrived
	} else {
		r.arrive = s.announce()
	}
	if _, limited := ctx.Deadline(); limited || s.opt.Timeout < 0 {
		r.ctx, r.cancel = context.WithCancel(ctx)
	} else {
		r.ctx, r.cancel = context.WithTimeout(ctx, s.opt.Timeout)
	}
	return r
}

// close frees what open took, and tells the observer.
func (s *Server) close(r *request, err *error) {
	r.arrive()
	r.cancel()
	s.mu.Lock()
	var waited, computed time.Duration
	switch {
	case r.ended.IsZero(): // it was refused
	case r.began.IsZero():
		waited = r.ended.Sub(r.queued)
	default:
		waited, computed = r.began.Sub(r.queued), r.ended.Sub(r.began)
	}
	queued, began := r.queued, r.began
	s.mu.Unlock()
	if waited > 0 {
		s.stage(r, "queue", queued, waited)
	}
	if computed > 0 {
		s.stage(r, "compute", began, computed)
	}
	s.opt.Observer.RequestDone(r.kind, *err, r.items, waited, computed)
}

// stage tells the observer of a stage of r, if it wants to hear of those.
func (s *Server) stage(r *request, name string, began time.Time, took time.Duration) {
	if o, ok := s.opt.Observer.(StageObserver); ok {
		o.Stage(r.ctx, name, began, took)
	}
}

// submit queues what a request asks of w, nil for the current worker, and waits for the answer.
func (s *Server) submit(r *request, w *worker, ask func(*worker) ([]wish, error)) error {
	s.mu.Lock()
	err := s.accept(r, w, ask)
	s.mu.Unlock()
	r.arrive()
	if err != nil {
		return err
	}
	s.tellQueued()
	select {
	case <-r.done:
		return r.err
	case <-r.ctx.Done():
	}
	err = fmt.Errorf("the client has gone: %w", r.ctx.Err())
	if errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("not answered in time: %w", r.ctx.Err())
	}
	s.mu.Lock()
	s.end(r, err) // unless it was answered just now
	s.mu.Unlock()
	s.tellQueued()
	return r.err
}

// accept queues a request or refuses it.
func (s *Server) accept(r *request, w *worker, ask func(*worker) ([]wish, error)) error {
	if w == nil {
		w = s.worker
	}
	wishes, err := ask(w)
	if err != nil {
		return err
	}
	r.worker, r.queued = w, time.Now()
	var groups [][]*group
	for _, wish := range wishes {
		groups = append(groups, w.cut(r, wish))
		r.items += len(wish.items)
	}
	switch {
	case s.draining:
		s.drop(DropDraining, r.items)
		return errDraining()
	case w.retired: // of a probe
		return ofKind(ErrNotReady, "the models were replaced")
	}
	if err := r.ctx.Err(); err != nil {
		return err
	}
	if !r.urgent {
		if err := w.admit(r, groups); err != nil {
			return err
		}
		s.requests++
		s.counts.accepted++
		w.answered = max(w.answered-1, 0)
	}
	s.bytes += r.bytes
	for i, wish := range wishes {
		w.enqueue(r, wish, groups[i])
	}
	if r.left == 0 {
		s.end(r, nil)
	}
	return nil
}

// admit refuses a request that is too large, for which there is no room, or that could not be answered in time.
func (w *worker) admit(r *request, groups [][]*group) error {
	s, o := w.s, w.s.opt
	switch {
	case r.items > o.QueueItems:
		return ofKind(ErrTooLarge, "%d items: expected at most %d", r.items, o.QueueItems)
	case r.bytes > o.QueueBytes:
		return ofKind(ErrTooLarge, "%d bytes of pictures and texts: expected at most %d", r.bytes, o.QueueBytes)
	case s.waiting+r.items > o.QueueItems:
		s.drop(DropQueue, r.items)
		return retryLater(ErrOverloaded, w.until(s.waiting+r.items-o.QueueItems), "%d items wait, and no more than %d may", s.waiting, o.QueueItems)
	case s.bytes+r.bytes > o.QueueBytes:
		s.drop(DropBytes, r.items)
		part := float64(s.bytes+r.bytes-o.QueueBytes) / float64(s.bytes)
		return retryLater(ErrOverloaded, w.until(int(part*float64(s.waiting))), "requests hold %d bytes, and no more than %d may be held", s.bytes, o.QueueBytes)
	}
	deadline, limited := r.ctx.Deadline()
	if !limited {
		return nil
	}
	left := time.Until(deadline)
	if expected := w.expect(r, groups); expected > left {
		s.drop(DropDeadline, r.items)
		return retryLater(ErrOverloaded, expected-left, "the answer would take %.3g s, and %.3g s are left for it", expected.Seconds(), left.Seconds())
	}
	return nil
}

// expect estimates how long the answer to a request will take. Clients are served alike: until it is answered, another
// client of its lane gets as much as it, or less if less is asked, and another lane as much as its own. What an idle
// worker will take is not known better than by trying: an estimate that is too long must not keep itself alive.
func (w *worker) expect(r *request, groups [][]*group) time.Duration {
	if w.running == 0 && w.groups() == 0 {
		return 0
	}
	var total time.Duration
	for _, wish := range groups {
		if len(wish) == 0 {
			continue
		}
		mine, l := time.Duration(0), &w.lanes[wish[0].target.kind]
		for _, g := range wish {
			mine += w.time(g.target, g.load.cost)
		}
		if c := l.clients[r.client]; c != nil {
			mine += w.timeOf(c)
		}
		lane := mine
		for _, c := range l.clients {
			if c.name != r.client {
				lane += min(mine, w.timeOf(c))
			}
		}
		total = max(total, lane)
		for k := range w.lanes {
			if o := &w.lanes[k]; o != l {
				total += min(lane, w.timeOfAll(o))
			}
		}
	}
	return total + max(0, time.Until(w.busy))
}

// time estimates how long a cost takes on a target.
func (w *worker) time(t *target, cost int) time.Duration {
	if t.pace.perCost == 0 {
		return w.pace.time(cost)
	}
	return t.pace.time(cost)
}

// timeOf estimates how long what a client waits for takes.
func (w *worker) timeOf(c *client) (sum time.Duration) {
	for _, q := range c.queues {
		sum += w.time(q.target, q.load.cost)
	}
	return sum
}

// timeOfAll estimates how long what waits in a lane takes.
func (w *worker) timeOfAll(l *lane) (sum time.Duration) {
	for _, c := range l.clients {
		sum += w.timeOf(c)
	}
	return sum
}

// backlog estimates how long all that waits and runs takes.
func (w *worker) backlog() time.Duration {
	sum := max(0, time.Until(w.busy))
	if w.running == 0 {
		sum = 0
	}
	for k := range w.lanes {
		sum += w.timeOfAll(&w.lanes[k])
	}
	return sum
}

// until estimates when so many of the waiting items will have been computed.
func (w *worker) until(items int) time.Duration {
	backlog := w.backlog()
	if backlog == 0 || w.s.waiting == 0 {
		return time.Second
	}
	return time.Duration(float64(backlog) * min(1, float64(items)/float64(w.s.waiting)))
}

// end ends a request: answered, or with an error. What nobody else waits for is dropped. Ending twice is fine.
func (s *Server) end(r *request, err error) {
	if r.over {
		return
	}
	r.over, r.err, r.ended = true, err, time.Now()
	for _, u := range r.units {
		switch u.live--; {
		case u.state == waiting && u.live == 0:
			r.worker.forget(u)
		case u.state == running:
			if u.batch.live--; u.batch.live == 0 {
				u.batch.cancel()
			}
		}
	}
	for _, g := range r.groups {
		if !g.taken && !r.urgent {
			r.worker.lanes[g.target.kind].drop(g)
		}
	}
	s.waiting -= r.waiting
	s.bytes -= r.bytes
	r.groups, r.units, r.waiting = nil, nil, 0
	close(r.done)
	if r.urgent {
		r.worker.dropUrgent(r)
		return
	}
	s.requests--
	if err == nil {
		s.counts.answered++
	} else {
		s.drop(dropReason(err), r.left)
	}
	s.checkDrained()
}

// drop counts items that are not answered.
func (s *Server) drop(reason string, items int) { s.counts.dropped[reason] += uint64(items) }

func dropReason(err error) string {
	switch {
	case errors.Is(err, context.Canceled):
		return DropCanceled
	case errors.Is(err, context.DeadlineExceeded):
		return DropTimeout
	case errors.Is(err, ErrDraining):
		return DropDraining
	}
	return DropFailed
}

// count keeps what a batch adds to Stats.
func (s *Server) count(all []*results, b BatchStats, took time.Duration) {
	s.counts.batches++
	for _, res := range all {
		if res.panicked {
			s.counts.panics++
		}
	}
	if b.Err == nil {
		s.itemPace.learn(b.Items, took)
	}
}

// tellQueued tells the observer how many items wait.
func (s *Server) tellQueued() {
	s.mu.Lock()
	n := s.waiting
	s.mu.Unlock()
	s.opt.Observer.Queued(n)
}
