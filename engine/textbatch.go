package engine

import (
	"cmp"
	"context"
	"slices"
	"sync"

	"github.com/tia2-engine/tia2-engine/cgo"
	"github.com/tia2-engine/tia2-engine/engine/internal/embedcache"
)

// CLIP's text towers are causal: what a token becomes depends on the tokens before it alone. So a batch of texts is
// computed as a prefix tree, a node for each distinct prefix, and costs as many nodes, not as many texts. Texts that are
// neighbours in the order of their ids share the most: the texts of a call are sorted, and the row is cut by nodes. BERT's
// texts share nothing: there each token is a node.

const (
	// textNodesMax is the most nodes of a batch, whatever the options say: more take memory and gain nothing.
	textNodesMax = 1 << 14
	// deviceTextNodesMax is the same on devices other than the CPU: there attention costs the square of a batch's nodes.
	deviceTextNodesMax = 512
	// fullText is the most tokens that a text counts as where a batch is said in texts: BERT's context is 512, its texts are
	// about as long as CLIP's.
	fullText = 77
)

// textBudget returns how many nodes a batch of texts may have: as many as `batch` full texts that share nothing, up to
// what is good on the device. length is that of the longest text, which always fits.
func textBudget(batch, length int, cpu bool) int {
	most := textNodesMax
	if !cpu {
		most = deviceTextNodesMax
	}
	return max(length, min(min(batch, most)*min(length, fullText), most))
}

// textPlan is the order in which the distinct texts of a call are encoded. Its slices are kept for the next call.
type textPlan struct {
	texts [][]int32 // [items] ids of each; of CLIP's to the one it is pooled at
	order []int     // [items] sorted by their ids, so equal texts stand together
	start []int     // [n+1] distinct text k is that of the items order[start[k]:start[k+1]]
	lcp   []int     // [n] tokens that text k shares with text k-1
	fresh []int     // [n+1] sum of the tokens that the texts before k do not share with the one before them
}

// reset plans the texts given by ids. What follows a text's first eot is left out, and what texts begin with alike is one
// node; with an eot of -1, for BERT, neither is so.
func (p *textPlan) reset(ids [][]int32, eot int32) {
	p.texts, p.order = p.texts[:0], p.order[:0]
	for i, text := range ids {
		if end := slices.Index(text, eot); eot >= 0 && end >= 0 {
			text = text[:end+1]
		}
		p.texts, p.order = append(p.texts, text), append(p.order, i)
	}
	slices.SortFunc(p.order, func(a, b int) int {
		return cmp.Or(slices.Compare(p.texts[a], p.texts[b]), a-b)
	})
	p.start, p.lcp, p.fresh = p.start[:0], p.lcp[:0], append(p.fresh[:0], 0)
	var before []int32
	for at, i := range p.order {
		text := p.texts[i]
		shared := sharedPrefix(before, text)
		if at > 0 && shared == len(text) && shared == len(before) {
			continue
		}
		if eot < 0 {
			shared = 0
		}
		p.start, p.lcp = append(p.start, at), append(p.lcp, shared)
		p.fresh = append(p.fresh, p.fresh[len(p.fresh)-1]+len(text)-shared)
		before = text
	}
	p.start = append(p.start, len(p.order))
}

// sharedPrefix returns how many tokens two texts begin with alike.
func sharedPrefix(a, b []int32) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}

// distinct returns the number of distinct texts.
func (p *textPlan) distinct() int { return len(p.lcp) }

// text returns the ids of distinct text k.
func (p *textPlan) text(k int) []int32 { return p.texts[p.order[p.start[k]]] }

// items returns the items whose text is distinct text k.
func (p *textPlan) items(k int) []int { return p.order[p.start[k]:p.start[k+1]] }

// nodes returns the nodes of the prefix tree of texts from .. to-1, from < to: of each text the tokens that it does not
// share with the text before, and the first one whole.
func (p *textPlan) nodes(from, to int) int { return p.fresh[to] - p.fresh[from] + p.lcp[from] }

// end returns where the batch that begins with text from ends: at most budget nodes further on, or one text.
//
// What is left is divided evenly, so that no small batch remains for the end. Within 5 % of an even share the cut goes
// where the two texts beside it share the least, since what they share is computed on both sides; but not where the
// rest would need one more batch for it.
func (p *textPlan) end(from, budget int) int {
	n := p.distinct()
	left := p.nodes(from, n)
	if left <= budget {
		return n
	}
	share := divideUp(left, divideUp(left, budget))
	low, high := share-share/20, min(share+share/20, budget)
	best := from + 1
	for best < n-1 && p.nodes(from, best+1) <= high {
		best++
	}
	batches := func(at int) int { return divideUp(p.nodes(at, n), budget) }
	for at := best - 1; at > from && p.nodes(from, at) >= low; at-- {
		if p.lcp[at] < p.lcp[best] && batches(at) <= batches(best) {
			best = at
		}
	}
	return best
}

func divideUp(a, b int) int { return (a + b - 1) / b }

// drop leaves out the distinct texts that are marked, [distinct], and their items. The others keep their order.
func (p *textPlan) drop(marked []bool) {
	kept, at, shared := 0, 0, 0 // distinct texts and items that stay; tokens shared with the text that stayed last
	for k := range p.lcp {
		shared = min(shared, p.lcp[k])
		if marked[k] {
			continue
		}
		// What stays moves to the front: the items of text k are still where they were.
		items, length := p.items(k), len(p.text(k))
		p.start[kept], p.lcp[kept], p.fresh[kept+1] = at, shared, p.fresh[kept]+length-shared
		at += copy(p.order[at:], items)
		kept++
		shared = length
	}
	p.start[kept] = at
	p.order, p.start, p.lcp, p.fresh = p.order[:at], p.start[:kept+1], p.lcp[:kept], p.fresh[:kept+1]
}

// textCall is one call of EncodeTokens: its plan, and one batch at a time laid out for C. It is kept for the next call.
type textCall struct {
	plan      textPlan
	native    *cgo.Model
	normalize bool
	ids       []int32 // of the batch's texts, one after another
	offsets   []int32 // [B+1]
	rows      []float32
	keys      []embedcache.Key // [distinct] of the plan's texts; empty without a cache
	found     []bool           // [distinct] before the plan was cut to what is missing
}

var textCalls = sync.Pool{New: func() any { return new(textCall) }}

// run is the one call into C of a batch.
func (c *textCall) run() error { return c.native.EncodeTexts(c.rows, c.ids, c.offsets, c.normalize) }

// textLookUp is how many distinct texts are looked up in the cache at once.
const textLookUp = 256

// lookUp copies the embeddings of texts that the cache has to their rows of out, and leaves the others in the plan.
func (c *textCall) lookUp(cache *embeddingTable, out Embeddings) {
	n := c.plan.distinct()
	c.found = slices.Grow(c.found[:0], n)[:n]
	for k := range n {
		c.keys = append(c.keys, textKey(c.plan.text(k)))
	}
	size := min(n, textLookUp) * out.Dim
	c.rows = slices.Grow(c.rows[:0], size)[:size]
	hits := 0
	for from := 0; from < n; from += textLookUp {
		to := min(from+textLookUp, n)
		hits += cache.get(c.keys[from:to], c.rows[:(to-from)*out.Dim], c.found[from:to])
		for k := from; k < to; k++ {
			if c.found[k] {
				c.spread(k, c.rows[(k-from)*out.Dim:(k-from+1)*out.Dim], out)
			}
		}
	}
	cache.asked.Add(uint64(n))
	cache.found.Add(uint64(hits))
	c.plan.drop(c.found)
	missing := c.keys[:0]
	for k, found := range c.found {
		if !found {
			missing = append(missing, c.keys[k])
		}
	}
	c.keys = missing
}

// spread copies the embedding of distinct text k to the rows of its items.
func (c *textCall) spread(k int, row []float32, out Embeddings) {
	for _, item := range c.plan.items(k) {
		copy(out.Row(item), row)
	}
}

// encode embeds the distinct texts from .. to-1 and puts each row where its items belong in out.
func (c *textCall) encode(ctx context.Context, exec *executor, from, to int, out Embeddings) error {
	c.ids, c.offsets = c.ids[:0], append(c.offsets[:0], 0)
	for k := from; k < to; k++ {
		c.ids = append(c.ids, c.plan.text(k)...)
		c.offsets = append(c.offsets, int32(len(c.ids)))
	}
	size := (to - from) * out.Dim
	c.rows = slices.Grow(c.rows[:0], size)[:size]
	if err := exec.run(ctx, c); err != nil {
		return err
	}
	for k := from; k < to; k++ {
		c.spread(k, c.rows[(k-from)*out.Dim:(k-from+1)*out.Dim], out)
	}
	return nil
}

// release forgets what belongs to the caller and keeps c for another call.
func (c *textCall) release() {
	clear(c.plan.texts)
	c.native, c.keys = nil, c.keys[:0]
	textCalls.Put(c)
}
