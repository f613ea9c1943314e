package serve

import (
	"cmp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tia2-engine/tia2-engine/engine"
)

// worker computes with one backend, from New or Reload until the backend is replaced and has answered what was asked of
// it. The server's mutex guards all that changes.
type worker struct {
	s                  *Server
	backend            Backend
	rewards            []string
	models             []engine.Info
	slots              int // batches that may be computed at once
	imageCost, context int // tokens of a picture; most tokens of a text

	wake    *sync.Cond // something was queued, a batch is done, or a wait is over
	timer   *time.Timer
	lanes   [kinds]lane
	clock   time.Duration // that the lane of the last batch had used before it
	urgent  []*group
	targets map[string]*target
	units   map[unitKey]*unit // that wait or run
	most    load              // bounds of a batch; less after memory did not suffice
	running int               // batches
	retired bool              // nothing new comes

	last     time.Time // when a batch was done last
	busy     time.Time // when what runs should be done, by the paces
	answered int       // requests that the last batch answered, and whose clients may ask again
	pace     pace      // of all targets
}

// Defaults for backends that do not describe their models: ViT-B/16's tokens, BERT's context.
const (
	defaultImageTokens = 197
	defaultContext     = 512
)

func (s *Server) newWorker(b Backend) *worker {
	o := s.opt
	w := &worker{s: s, backend: b, rewards: b.Rewards(), models: b.Models(), slots: 1, wake: sync.NewCond(&s.mu),
		targets: map[string]*target{}, units: map[unitKey]*unit{},
		most: load{images: o.MaxBatchImages, tokens: o.MaxBatchTokens, pairs: o.MaxBatchPairs}}
	for _, m := range w.models {
		w.imageCost, w.context = max(w.imageCost, m.ImageTokens), max(w.context, m.Context)
		if m.Backend != "" && m.Backend != "cpu" {
			w.slots = 2
		}
	}
	if w.imageCost == 0 {
		w.imageCost = defaultImageTokens
	}
	if w.context == 0 {
		w.context = defaultContext
	}
	for k := range w.lanes {
		w.lanes[k] = lane{kind: kind(k), clients: map[string]*client{}}
	}
	w.timer = time.AfterFunc(time.Hour, w.signal)
	w.timer.Stop()
	var slots sync.WaitGroup
	for range w.slots {
		slots.Go(w.run)
	}
	s.workers.Go(func() {
		slots.Wait()
		w.timer.Stop()
		if err := b.Close(); err != nil {
			o.Logger.Error("closing a backend", "error", err)
		}
	})
	return w
}

func (w *worker) signal() {
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	w.wake.Broadcast()
}

// run computes batch after batch until the worker is retired and has nothing left.
func (w *worker) run() {
	for b := w.next(); b != nil; b = w.next() {
		w.s.tellQueued()
		all, halved := b.compute()
		b.cancel()
		w.finish(b, all, halved)
	}
}

// next waits for the next batch. It returns nil when no more will come.
func (w *worker) next() *batch {
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	for {
		if b := w.form(); b != nil {
			w.running++
			w.s.running++
			w.busy = later(w.busy, b.began).Add(w.time(b.target, b.load.cost))
			return b
		}
		if w.retired && w.groups() == 0 {
			return nil
		}
		w.wake.Wait()
	}
}

// groups returns how many groups wait in all lanes.
func (w *worker) groups() int {
	n := len(w.urgent)
	for k := range w.lanes {
		n += w.lanes[k].groups
	}
	return n
}

// form returns a batch if it is time for one: of the lane whose batches took least of the device.
func (w *worker) form() *batch {
	if b := w.formUrgent(); b != nil {
		return b
	}
	order := []*lane{&w.lanes[pairs], &w.lanes[images], &w.lanes[texts]}
	slices.SortStableFunc(order, func(a, b *lane) int { return cmp.Compare(a.used, b.used) })
	for _, l := range order {
		if l.groups == 0 || !w.due(l) {
			continue
		}
		b := w.newBatch()
		if l.take(b); b.target != nil {
			w.clock = l.used
			return b
		}
		b.cancel()
	}
	return nil
}

// formUrgent returns a batch of the first probe that waits, nil where there is none.
func (w *worker) formUrgent() *batch {
	for len(w.urgent) > 0 {
		g := w.urgent[0]
		w.urgent = w.urgent[1:]
		if g.gone() {
			continue
		}
		b := w.newBatch()
		b.target = g.target
		b.add(g)
		return b
	}
	return nil
}

// due tells whether what waits in l should be computed now, or wait for company. It arranges to be asked again.
func (w *worker) due(l *lane) bool {
	if w.retired || w.s.draining || l.load.reaches(w.most) {
		return true
	}
	if w.running > 0 {
		return false
	}
	left := w.patience(l)
	if left > 0 {
		w.timer.Reset(left)
	}
	return left <= 0
}

// patience returns how long the idle backend waits for company of what is in l: company is likely while a request is
// being read, and while one that was just answered has not asked again.
func (w *worker) patience(l *lane) time.Duration {
	budget := w.s.opt.LatencyBudget
	left := time.Until(l.since.Add(budget))
	switch {
	case w.s.reading > 0:
		return left
	case w.answered > 0:
		return min(left, time.Until(w.last.Add(budget)))
	}
	return 0
}

// target returns the worker's target of that name, making it of like if it is new.
func (w *worker) target(like target) *target {
	like.name = like.model
	if like.kind == pairs {
		like.name = strings.Join(like.rewards, ",")
	}
	key := like.kind.String() + " " + like.name
	t := w.targets[key]
	if t == nil {
		t = &like
		w.targets[key] = t
	}
	return t
}

// cost returns what a load costs, in tokens of both towers.
func (w *worker) cost(l load) int { return l.images*w.imageCost + l.tokens + l.pairs }

// tokens estimates the tokens of a text: of English, four bytes make one; two are special.
func (w *worker) tokens(text string) int { return min(len(text)/4+2, w.context) }

// enqueue queues a wish of a request that was accepted, cut into groups as cut says.
func (w *worker) enqueue(r *request, wish wish, groups []*group) {
	next := 0
	for _, g := range groups {
		for _, it := range wish.items[next : next+g.items] {
			u := w.subscribe(r, wish.target, it)
			twice := len(u.subs) > 1 && u.subs[len(u.subs)-2].req == r // a request is queued at one go
			if u.state == waiting && !twice {
				g.units = append(g.units, u)
			}
		}
		next += g.items
		if len(g.units) == 0 {
			continue // all are being computed for others, or stand in an earlier group
		}
		r.groups = append(r.groups, g)
		if r.urgent {
			w.urgent = append(w.urgent, g)
		} else {
			w.push(g)
		}
	}
	w.wake.Broadcast()
}

// cut returns the groups of a wish, without units: one for each picture or text, and for each picture of pairs as many as
// the bounds of a batch demand.
func (w *worker) cut(r *request, wish wish) []*group {
	var groups []*group
	now := time.Now()
	for i, it := range wish.items {
		var g *group
		if len(groups) > 0 {
			g = groups[len(groups)-1]
		}
		more := load{tokens: w.tokens(it.text), pairs: 1}
		if g == nil || wish.target.kind != pairs || it.image != wish.items[i-1].image || g.load.grows(more, w.most) {
			g = &group{req: r, target: wish.target, at: now}
			groups = append(groups, g)
			more.images = 1
		}
		switch wish.target.kind {
		case images:
			more.tokens, more.pairs = 0, 0
		case texts:
			more.images, more.pairs = 0, 0
		}
		more.cost = w.cost(more)
		g.load = g.load.plus(more)
		g.items++
	}
	return groups
}

// subscribe makes an item wait for its unit: one that waits or runs already, or a new one.
func (w *worker) subscribe(r *request, t *target, it item) *unit {
	key := unitKey{t, it.image, it.text}
	u := w.units[key]
	if u == nil || u.state == running && u.batch.ctx.Err() != nil { // nobody wants that batch any more
		u = &unit{unitKey: key, data: it.data, tokens: w.tokens(it.text)}
		w.units[key] = u
	}
	if len(u.subs) > 2*u.live+8 {
		u.subs = slices.DeleteFunc(u.subs, func(s subscription) bool { return s.req.over })
	}
	u.subs = append(u.subs, subscription{r, it.place, it.index})
	u.live++
	r.units = append(r.units, u)
	r.left++
	if u.state == running {
		u.batch.join(r)
	} else {
		r.waiting++
		w.s.waiting++
	}
	return u
}

// push queues a group in its lane. A lane that was empty has no claim on the time that others used meanwhile.
func (w *worker) push(g *group) {
	l := &w.lanes[g.target.kind]
	if l.groups == 0 {
		l.used = max(l.used, w.clock)
	}
	l.push(g)
}

// finish hands out what a batch gave.
func (w *worker) finish(b *batch, all []*results, halved bool) {
	s, now := w.s, time.Now()
	stats := BatchStats{Kind: b.target.kind.String(), Target: b.target.name, Images: len(b.images), Texts: len(b.texts), Tokens: b.load.tokens,
		Units: len(b.units), Waited: b.began.Sub(b.oldest), Computed: now.Sub(b.began), Halved: halved}
	s.mu.Lock()
	took := min(now.Sub(b.began), now.Sub(w.last)) // of batches that run at once each has the time after the one before
	w.last = now
	w.running--
	s.running--
	w.lanes[b.target.kind].used += took
	stats.Items, stats.Requests = b.items, len(b.requests)
	w.answered = 0
	for _, res := range all {
		if res.err == nil {
			s.health.answer(now)
			w.deliver(res)
		} else {
			stats.Err = res.err
			w.fail(res)
		}
	}
	if stats.Err == nil && !halved {
		b.target.pace.learn(b.load.cost, took)
		w.pace.learn(b.load.cost, took)
	}
	if halved {
		w.most.cost = max(b.load.cost/2, 1)
	}
	s.count(all, stats, took)
	w.wake.Broadcast()
	s.mu.Unlock()
	s.opt.Observer.BatchDone(stats)
}

// deliver gives the results of a call to the requests that wait for them.
func (w *worker) deliver(res *results) {
	for row, u := range res.units {
		w.forget(u)
		why, failed := res.failed[u.image]
		for _, sub := range u.subs {
			r := sub.req
			if r.over {
				continue
			}
			r.put(sub, res, row)
			if failed {
				r.fail(sub.image, why)
			}
			w.s.counts.items++
			if r.left--; r.left == 0 {
				if !r.urgent {
					w.answered++
				}
				w.s.end(r, nil)
			}
		}
		w.s.counts.units++
	}
}

// fail ends the requests that wait for what a call did not compute.
func (w *worker) fail(res *results) {
	err := batchError(res.err)
	if w.s.closing.Err() != nil {
		err = errDraining()
	}
	for _, u := range res.units {
		w.forget(u)
		for _, sub := range u.subs {
			w.s.end(sub.req, err)
		}
	}
}

// forget makes u one that nobody can wait for any more.
func (w *worker) forget(u *unit) {
	u.state = done
	if w.units[u.unitKey] == u {
		delete(w.units, u.unitKey)
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
