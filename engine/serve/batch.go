package serve

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"runtime/pprof"
	"time"

	"github.com/tia2-engine/tia2-engine/engine"
)

// batch is what a worker computes at once: distinct units of one target.
type batch struct {
	worker *worker
	target *target
	units  []*unit
	load   load
	items  int       // that it answers
	live   int       // of these, items of requests that are not over
	oldest time.Time // when the first of its groups was queued

	requests map[*request]bool

	images map[digest]bool
	texts  map[string]bool

	ctx    context.Context // ends when no request wants the batch any more, and when the server is closed
	cancel context.CancelFunc
	began  time.Time
}

func (w *worker) newBatch() *batch {
	b := &batch{worker: w, images: map[digest]bool{}, texts: map[string]bool{}, requests: map[*request]bool{}, began: time.Now()}
	b.ctx, b.cancel = context.WithCancel(w.s.closing)
	return b
}

// add puts what is left to compute of g into b, or returns false where it does not fit. An empty batch takes any group.
func (b *batch) add(g *group) bool {
	var more load
	for _, u := range g.units {
		if u.state == waiting {
			more = more.plus(b.increase(u, more.images > 0))
		}
	}
	sum := b.load.plus(more)
	if len(b.units) > 0 && (b.load.grows(more, b.worker.most) || b.worker.time(g.target, sum.cost) > b.worker.s.opt.MaxBatchTime) {
		return false
	}
	b.load = sum
	if b.oldest.IsZero() || g.at.Before(b.oldest) {
		b.oldest = g.at
	}
	for _, u := range g.units {
		if u.state == waiting {
			b.begin(u)
		}
	}
	return true
}

// increase is what u adds to the load of b. The texts of a group are distinct, its picture is one.
func (b *batch) increase(u *unit, pictureCounted bool) load {
	var more load
	if !b.images[u.image] && !pictureCounted && u.target.kind != texts {
		more.images = 1
	}
	if !b.texts[u.text] && u.target.kind != images {
		more.tokens = u.tokens
	}
	if u.target.kind == pairs {
		more.pairs = 1
	}
	more.cost = b.worker.cost(more)
	return more
}

// begin makes u one of the batch's units.
func (b *batch) begin(u *unit) {
	u.state, u.batch = running, b
	if u.target.kind != texts {
		b.images[u.image] = true
	}
	if u.target.kind != images {
		b.texts[u.text] = true
	}
	b.units = append(b.units, u)
	for _, s := range u.subs {
		if !s.req.over {
			b.join(s.req)
			b.worker.s.waiting--
			s.req.waiting--
		}
	}
}

// join counts an item that the batch will answer.
func (b *batch) join(r *request) {
	b.live++
	b.items++
	b.requests[r] = true
	if r.began.IsZero() {
		r.began = time.Now()
	}
}

// results are what a backend gave for some units: row i belongs to units[i].
type results struct {
	target *target
	units  []*unit
	scores [][]float32       // of pairs: [rewards of the target][units]
	rows   engine.Embeddings // of pictures or texts
	failed map[digest]string // pictures that could not be read
	err    error             // nothing was computed

	panicked bool
}

// compute computes the batch, in two halves where memory does not suffice for the whole.
func (b *batch) compute() (all []*results, halved bool) {
	whole := b.attempt(b.units)
	if !errors.Is(whole.err, engine.ErrMemory) || len(b.units) < 2 {
		return []*results{whole}, false
	}
	half := len(b.units) / 2
	return []*results{b.attempt(b.units[:half]), b.attempt(b.units[half:])}, true
}

// attempt has the backend compute units. A panic of its goroutine is an error, its stack is logged.
func (b *batch) attempt(units []*unit) (res *results) {
	res = &results{target: b.target, units: units}
	defer func() {
		if p := recover(); p != nil {
			b.worker.s.opt.Logger.Error("the backend panicked", "target", b.target.name, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			res.panicked = true
			res.err = ofKind(ErrBackend, "the batch failed: the backend panicked, the server's log has its stack")
		}
	}()
	labels := pprof.Labels("model", b.target.name, "stage", b.target.kind.String())
	pprof.Do(b.ctx, labels, func(ctx context.Context) { res.err = res.ask(ctx, b.worker.backend) })
	return res
}

// ask calls the backend and checks the shape of what it returns.
func (res *results) ask(ctx context.Context, backend Backend) error {
	call := newCall(res.units)
	t := res.target
	var err error
	switch t.kind {
	case pairs:
		var rewards []engine.Reward
		rewards, err = backend.Score(ctx, call.images, call.texts, call.pairs, t.rewards)
		for _, r := range rewards {
			res.scores = append(res.scores, r.Scores)
		}
	case images:
		res.rows, err = backend.EncodeImages(ctx, t.model, call.images)
	case texts:
		res.rows, err = backend.EncodeTexts(ctx, t.model, call.texts)
	}
	items, err := engine.SplitItemErrors(err)
	if err != nil {
		return err
	}
	res.failed = call.failed(items)
	return res.check()
}

// check refuses results that do not have a row for each unit.
func (res *results) check() error {
	n := len(res.units)
	if res.target.kind != pairs {
		if e := res.rows; e.N != n || len(e.Data) != n*e.Dim {
			return fmt.Errorf("the backend returned %d embeddings of %d values (%d in all): expected %d", e.N, e.Dim, len(e.Data), n)
		}
		return nil
	}
	if len(res.scores) != len(res.target.rewards) {
		return fmt.Errorf("the backend returned %d rewards: expected %s", len(res.scores), res.target.name)
	}
	for i, scores := range res.scores {
		if len(scores) != n {
			return fmt.Errorf("the backend returned %d scores of %s: expected %d", len(scores), res.target.rewards[i], n)
		}
	}
	return nil
}

// call is the arguments of a call of the backend: the union of the pictures and texts of some units.
type call struct {
	images  []engine.Image
	digests []digest // [images]
	texts   []string
	pairs   []engine.Pair // [units]; of pictures and texts alone, it has their places too
}

func newCall(units []*unit) call {
	var c call
	imageOf, textOf := map[digest]int{}, map[string]int{}
	for _, u := range units {
		i, known := imageOf[u.image]
		if !known && u.target.kind != texts {
			i = len(c.images)
			imageOf[u.image] = i
			c.images = append(c.images, engine.Image{Name: u.image.String(), Data: u.data})
			c.digests = append(c.digests, u.image)
		}
		t, known := textOf[u.text]
		if !known && u.target.kind != images {
			t = len(c.texts)
			textOf[u.text] = t
			c.texts = append(c.texts, u.text)
		}
		c.pairs = append(c.pairs, engine.Pair{Image: i, Text: t})
	}
	return c
}

// failed returns why pictures of the call failed.
func (c call) failed(items engine.ItemErrors) map[digest]string {
	failed := map[digest]string{}
	for _, item := range items {
		if item.Index >= 0 && item.Index < len(c.digests) {
			failed[c.digests[item.Index]] = forPeople(item.Err)
		}
	}
	return failed
}
