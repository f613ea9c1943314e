package engine

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"sync"

	"github.com/tia2-engine/tia2-engine/cgo"
)

// MatchInto computes pairs of pictures and texts, which the cross encoder reads together, in one call into C: pair p is
// picture imageOf[p] with text textOf[p]. states are those of EncodeStatesInto, f32 [images, ImageTokens, StateWidth];
// texts are ids as Tokenize returns them. dst is f32 [len(imageOf), PairOutputs]: the logits of no match and of a match, or
// ImageReward's reward.
//
// Pairs of a picture should stand together: what belongs to a picture or to a text alone is then computed once. A call
// like an earlier one allocates no memory. ErrInvalid if the model has no cross encoder or lengths do not fit.
func (m *Model) MatchInto(ctx context.Context, states []float32, images int, texts [][]int32, imageOf, textOf []int32, dst []float32) error {
	if err := m.needPairs(); err != nil {
		return err
	}
	if err := checkRows(states, images, m.stateSize()); err != nil {
		return err
	}
	if err := checkRows(dst, len(imageOf), m.info.PairOutputs); err != nil {
		return err
	}
	c := matchCalls.Get().(*matchCall)
	defer c.release()
	c.begin(m, states, images)
	for _, ids := range texts {
		c.addText(ids, m.texts.pairToken)
	}
	c.pairs.ImageOf, c.pairs.TextOf, c.dst = append(c.pairs.ImageOf, imageOf...), append(c.pairs.TextOf, textOf...), dst
	if err := m.exec.run(ctx, c); err != nil {
		return fmt.Errorf("tia2: pairs: %w", err)
	}
	return nil
}

// MatchFLOPs returns the cost of all pairs of so many pictures with texts, given by their ids; that of encoding the
// pictures is not in it. 0 if the model has no cross encoder.
func (m *Model) MatchFLOPs(images int, texts [][]int32) float64 {
	if m.info.PairOutputs == 0 {
		return 0
	}
	offsets := make([]int32, 1, len(texts)+1)
	for _, ids := range texts {
		offsets = append(offsets, offsets[len(offsets)-1]+int32(len(ids)))
	}
	return m.native.MatchFLOPs(images, offsets)
}

// matchCall is one call into C for pairs. It is kept for the next one.
type matchCall struct {
	native *cgo.Model
	pairs  cgo.Pairs
	dst    []float32 // [pairs, PairOutputs]
}

var matchCalls = sync.Pool{New: func() any { return new(matchCall) }}

func (c *matchCall) run() error { return c.native.Match(c.dst, &c.pairs) }

// begin empties c for pairs of some pictures; states: f32 [images, ImageTokens, StateWidth].
func (c *matchCall) begin(m *Model, states []float32, images int) {
	p := &c.pairs
	c.native, p.States, p.Images = m.native, states, images
	p.IDs, p.Offsets, p.ImageOf, p.TextOf = p.IDs[:0], append(p.Offsets[:0], 0), p.ImageOf[:0], p.TextOf[:0]
}

// addText adds a text. Its first token becomes the one given, if that is not 0.
func (c *matchCall) addText(ids []int32, first int32) {
	p := &c.pairs
	start := len(p.IDs)
	p.IDs = append(p.IDs, ids...)
	if first != 0 && len(ids) > 0 {
		p.IDs[start] = first
	}
	p.Offsets = append(p.Offsets, int32(len(p.IDs)))
}

// release forgets what belongs to the caller and keeps c for another call.
func (c *matchCall) release() {
	c.native, c.pairs.States, c.dst = nil, nil, nil
	matchCalls.Put(c)
}

// matchRowsMax is the most tokens of all pairs of a call into C, but for one pair that has more: enough that what is
// computed once a call costs little, and few enough that memory is bounded and the context is asked now and then.
const matchRowsMax = 1 << 15

// statesBytesMax is how much the states of pictures may take whose pairs are computed together, but for one picture's. A
// test makes it small.
var statesBytesMax = 128 << 20

// matching are the pairs that one cross encoder computes in a call of Score, a few pictures at a time.
type matching struct {
	m      *Model
	pairs  *pairing
	plan   textPlan  // of the texts of the call
	textOf []int     // [texts] the distinct text that each is
	scores []float32 // [pairs] NaN until they are computed

	states []float32 // of the pictures whose pairs are computed now, [pictures, ImageTokens, StateWidth]
	call   matchCall
	rows   int       // tokens of the call's pairs
	local  []int32   // [distinct] place of a text in the call, -1: it is not there
	used   []int     // distinct texts of the call
	wanted []scoreAt // of one picture: by distinct texts
	found  []scoreAt // of the call: by its pairs
	dst    []float32
}

// scoreAt is a place in the scores, and the text or pair whose score it is.
type scoreAt struct{ of, at int }

// newMatching plans pairs of texts that are given by their ids.
func newMatching(m *Model, ids [][]int32, pairs *pairing) *matching {
	x := &matching{m: m, pairs: pairs, textOf: make([]int, len(ids)), scores: make([]float32, pairs.len())}
	for i := range x.scores {
		x.scores[i] = float32(math.NaN())
	}
	x.plan.reset(ids, m.texts.end())
	x.local = make([]int32, x.plan.distinct())
	for k := range x.local {
		x.local[k] = -1
		for _, text := range x.plan.items(k) {
			x.textOf[text] = k
		}
	}
	return x
}

// pictures returns of how many pictures states are held at once.
func (x *matching) pictures() int { return max(1, statesBytesMax/4/x.m.stateSize()) }

// match computes the pairs of the pictures that x has the states of.
func (x *matching) match(ctx context.Context, images []int) error {
	x.call.begin(x.m, x.states, len(images))
	x.rows = 0
	for i, image := range images {
		x.wanted = x.wanted[:0]
		x.pairs.each(image, func(text, at int) { x.wanted = append(x.wanted, scoreAt{x.textOf[text], at}) })
		slices.SortFunc(x.wanted, func(a, b scoreAt) int { return cmp.Or(a.of-b.of, a.at-b.at) })
		for k, w := range x.wanted {
			if k == 0 || w.of != x.wanted[k-1].of {
				if err := x.add(ctx, int32(i), w.of); err != nil {
					return err
				}
			}
			x.found = append(x.found, scoreAt{len(x.call.pairs.ImageOf) - 1, w.at})
		}
	}
	return x.flush(ctx)
}

// add adds the pair of a picture and a distinct text to the call, which is made before where it is full.
func (x *matching) add(ctx context.Context, image int32, k int) error {
	p := &x.call.pairs
	rows := len(x.plan.text(k)) + x.m.info.ImageVectors
	if x.rows > 0 && x.rows+rows > matchRowsMax {
		if err := x.flush(ctx); err != nil {
			return err
		}
	}
	if x.local[k] < 0 {
		x.local[k] = int32(len(p.Offsets) - 1)
		x.used = append(x.used, k)
		x.call.addText(x.plan.text(k), x.m.texts.pairToken)
	}
	p.ImageOf, p.TextOf = append(p.ImageOf, image), append(p.TextOf, x.local[k])
	x.rows += rows
	return nil
}

// flush makes the call, writes its scores and empties it.
func (x *matching) flush(ctx context.Context) error {
	n, outputs := len(x.call.pairs.ImageOf), x.m.info.PairOutputs
	if n == 0 {
		return nil
	}
	x.dst = slices.Grow(x.dst[:0], n*outputs)[:n*outputs]
	x.call.dst = x.dst
	if err := x.m.exec.run(ctx, &x.call); err != nil {
		return err
	}
	for _, f := range x.found {
		x.scores[f.at] = x.m.pairScore(x.dst[f.of*outputs : (f.of+1)*outputs])
	}
	for _, k := range x.used {
		x.local[k] = -1
	}
	x.found, x.used, x.rows = x.found[:0], x.used[:0], 0
	x.call.begin(x.m, x.states, x.call.pairs.Images)
	return nil
}
