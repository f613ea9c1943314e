package serve

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"time"

	"github.com/tia2-engine/tia2-engine/engine"
)

// kind is what a lane and its units are about.
type kind int

const (
	pairs  kind = iota // rewards of pairs
	images             // embeddings of pictures
	texts              // embeddings of texts
	kinds
)

func (k kind) String() string { return [...]string{"pairs", "images", "texts"}[k] }

// target is what units are computed by: some rewards, or one model. Units of a batch have the same. A worker has one
// target for each set of rewards that was asked for.
type target struct {
	kind    kind
	name    string   // rewards joined by commas, or the model: of logs and labels
	rewards []string // in the order of the backend
	model   string
	pace    pace
}

// unitKey names a unit: what is asked of which picture and text, by content.
type unitKey struct {
	target *target
	image  digest // zero where there is no picture
	text   string
}

// unit is one computation that waits or runs: a pair, a picture or a text.
type unit struct {
	unitKey
	data   []byte // of the picture
	tokens int    // of the text, estimated
	state  unitState
	subs   []subscription
	live   int    // subscriptions of requests that are not over
	batch  *batch // that computes it
}

type unitState int

const (
	waiting unitState = iota
	running
	done // or not wanted any more
)

// subscription is one item of a request that waits for a unit.
type subscription struct {
	req   *request
	place int // of the item in the results
	image int // its picture in the request
}

// digest is the sha256 of a picture's file.
type digest [sha256.Size]byte

func (d digest) String() string { return hex.EncodeToString(d[:8]) }

// item is one thing that a request asks for: a pair, a picture or a text.
type item struct {
	image digest
	data  []byte // of the picture
	text  string
	place int // in the results
	index int // of the picture in the request
}

// wish is what a request asks of one target. Items with the same picture stand together.
type wish struct {
	target *target
	items  []item
}

// load is what units cost; a batch is bounded by it.
type load struct {
	images, tokens, pairs int
	cost                  int // in tokens of both towers: only the relation to others counts
}

func (l load) plus(o load) load {
	return load{l.images + o.images, l.tokens + o.tokens, l.pairs + o.pairs, l.cost + o.cost}
}

func (l load) minus(o load) load {
	return load{l.images - o.images, l.tokens - o.tokens, l.pairs - o.pairs, l.cost - o.cost}
}

// pace is the time that a unit of cost takes, by the batches so far.
type pace struct{ perCost float64 } // seconds; 0: none was measured

// smoothing is the part of a slower measurement in a pace. A faster one is taken as it is: a batch can be delayed by much
// (the first one packs the weights), but cannot be faster than the device.
const smoothing = 0.3

func (p pace) time(cost int) time.Duration {
	return time.Duration(p.perCost * float64(cost) * float64(time.Second))
}

func (p *pace) learn(cost int, took time.Duration) {
	now := took.Seconds() / float64(max(cost, 1))
	if p.perCost == 0 || now < p.perCost {
		p.perCost = now
	}
	p.perCost += smoothing * (now - p.perCost)
}

// reaches tells whether l is at one of the bounds of a batch; a cost of 0 is none.
func (l load) reaches(most load) bool {
	return l.images >= most.images || l.tokens >= most.tokens || l.pairs >= most.pairs || most.cost > 0 && l.cost >= most.cost
}

// grows tells whether more would take l over one of the bounds of a batch.
func (l load) grows(more, most load) bool {
	over := func(l, more, most int) bool { return more > 0 && l+more > most }
	return over(l.images, more.images, most.images) || over(l.tokens, more.tokens, most.tokens) || over(l.pairs, more.pairs, most.pairs) ||
		most.cost > 0 && over(l.cost, more.cost, most.cost)
}

// group is what of a request is put into a batch at once: a picture with its texts, a picture, or a text.
type group struct {
	req    *request
	target *target
	items  int     // of the request, repeated ones too
	units  []*unit // that were not computed already when it was queued
	load   load
	at     time.Time // when it was queued
	taken  bool      // into a batch, or dropped
}

// gone tells whether nothing of g need be computed any more: its request has ended, though it may not know yet, or others
// had the same computed.
func (g *group) gone() bool {
	return g.req.ctx.Err() != nil || !slices.ContainsFunc(g.units, func(u *unit) bool { return u.state == waiting })
}

// request is one call of Score, TextNorm or Embed on its way. The server's mutex guards what changes once it is queued.
type request struct {
	kind   string
	client string
	ctx    context.Context
	cancel context.CancelFunc
	arrive func() // tells that it is no longer being read
	bytes  int64  // of its pictures and texts
	items  int
	failed map[int]string // pictures that failed, and why

	worker *worker
	urgent bool // a probe
	groups []*group
	units  []*unit // one for each item

	waiting int // items that are in no batch yet
	left    int // items that are not answered yet
	over    bool
	done    chan struct{} // closed when it is over
	err     error

	queued, began, ended time.Time // of the request, its first batch, and the whole

	scores [][]float32              // [rewards of the target][pairs]
	rows   [kinds]engine.Embeddings // of pictures and texts; N is set before
}

// put stores what a unit gave for one item.
func (r *request) put(s subscription, res *results, row int) {
	if res.target.kind != pairs {
		out := &r.rows[res.target.kind]
		if out.Data == nil {
			out.Dim = res.rows.Dim
			out.Data = make([]float32, out.N*out.Dim)
		}
		copy(out.Row(s.place), res.rows.Row(row))
		return
	}
	for i, scores := range res.scores {
		r.scores[i][s.place] = scores[row]
	}
}

// fail notes why a picture of the request failed.
func (r *request) fail(image int, why string) {
	if r.failed == nil {
		r.failed = map[int]string{}
	}
	r.failed[image] = why
}
