package tokenizer

import (
	"fmt"
	"math"
	"slices"
)

// merge is what becomes of a pair of symbols.
type merge struct {
	rank int32 // lower comes first
	id   int32 // the symbol that the two make
}

// bpe is a byte-pair encoding: words of bytes become the ids of symbols.
type bpe struct {
	size     int
	sot, eot int32
	bytes    [256]int32 // ids of bytes; at the end of a word, 256 more
	merges   map[uint64]merge
	words    *cache
}

// pairKey packs two symbols into a key of bpe.merges.
func pairKey(left, right int32) uint64 { return uint64(uint32(left))<<32 | uint64(uint32(right)) }

// newBPE numbers the symbols that the merges make and looks up the parts of each merge.
//
// Every part must be a byte or made by an earlier merge. Then merging the leftmost pair of lowest rank, as append does
// and the tokenizers library too, is the same as merging all such pairs at once, as the Python tokenizers do: a pair
// with a new symbol always has a higher rank. Two merges may make the same symbol only where share says so: the
// tokenizers library then gives it one id.
func newBPE(v Vocabulary, share bool) (*bpe, error) {
	b := &bpe{merges: make(map[uint64]merge, len(v.Merges)), words: newCache()}
	if len(v.Merges) > math.MaxInt32-byteSymbols-2 {
		return nil, fmt.Errorf("%d merges: expected fewer", len(v.Merges))
	}
	ids := make(map[string]int32, byteSymbols+len(v.Merges))
	symbols, order := byteAlphabet()
	for i, symbol := range symbols {
		b.bytes[order[i]] = int32(i)
		ids[symbol], ids[symbol+wordEnd] = int32(i), int32(i+len(symbols))
	}
	next := int32(byteSymbols)
	for i, entry := range v.Merges {
		left, right, err := splitMerge(entry)
		if err != nil {
			return nil, fmt.Errorf("merge %d: %w", i+1, err)
		}
		var parts [2]int32
		for k, part := range []string{left, right} {
			id, ok := ids[part]
			if !ok {
				return nil, fmt.Errorf("merge %d: %.80q: expected %.80q to be a byte or made by an earlier merge", i+1, entry, part)
			}
			parts[k] = id
		}
		key := pairKey(parts[0], parts[1])
		if first, ok := b.merges[key]; ok {
			return nil, fmt.Errorf("merge %d: %.80q: the same as merge %d, expected no repetition", i+1, entry, first.rank+1)
		}
		id, ok := ids[left+right]
		if ok && !share {
			return nil, fmt.Errorf("merge %d: %.80q: its symbol has the id %d already, expected a new one", i+1, entry, id)
		}
		if !ok {
			id = next
			ids[left+right] = id
			next++
		}
		b.merges[key] = merge{rank: int32(i), id: id}
	}
	return b, b.setSpecials(v, next)
}

// setSpecials sets the special ids and the size; next is the first id after the merges.
func (b *bpe) setSpecials(v Vocabulary, next int32) error {
	b.sot, b.eot = v.SOT, v.EOT
	if v.SOT == 0 && v.EOT == 0 {
		b.sot, b.eot = next, next+1
	}
	b.size = int(max(b.sot, b.eot)) + 1
	if v.Size != 0 {
		b.size = v.Size
	}
	for _, special := range []int32{b.sot, b.eot} {
		if special < next || int(special) >= b.size {
			return fmt.Errorf("special ids %d and %d of %d: expected them after the %d symbols of the %d merges",
				b.sot, b.eot, b.size, next, len(v.Merges))
		}
	}
	if b.sot == b.eot {
		return fmt.Errorf("special ids %d and %d: expected two different ones", b.sot, b.eot)
	}
	return nil
}

// append adds the ids of one word, a non-empty run of bytes.
func (b *bpe) append(dst []int32, word []byte) []int32 {
	if ids, ok := b.words.get(word); ok {
		return append(dst, ids...)
	}
	start := len(dst)
	dst = b.merge(dst, word)
	b.words.put(word, dst[start:])
	return dst
}

// symbol is a node of the word that is being merged: its id, and its neighbours (-1: none).
type symbol struct {
	id             int32
	previous, next int32
}

// merge is append without the cache. The pairs wait in a heap by rank, then place, as rank<<32 | place.
func (b *bpe) merge(dst []int32, word []byte) []int32 {
	last := len(word) - 1
	symbols := make([]symbol, len(word))
	for i, c := range word {
		symbols[i] = symbol{id: b.bytes[c], previous: int32(i - 1), next: int32(i + 1)}
	}
	symbols[last].id += byteSymbols / 2
	symbols[last].next = -1

	waiting := make(queue, 0, len(word))
	// offer puts the pair that begins at symbol i into the queue, if there is one and it merges.
	offer := func(i int32) {
		if i < 0 || symbols[i].next < 0 {
			return
		}
		if m, ok := b.merges[pairKey(symbols[i].id, symbols[symbols[i].next].id)]; ok {
			waiting.push(uint64(m.rank)<<32 | uint64(i))
		}
	}
	for i := range symbols {
		offer(int32(i))
	}
	for len(waiting) > 0 {
		top := waiting.pop()
		s := &symbols[uint32(top)]
		if s.id < 0 || s.next < 0 { // merged into its left neighbour, or the last by now
			continue
		}
		right := &symbols[s.next]
		m, ok := b.merges[pairKey(s.id, right.id)]
		if !ok || uint64(m.rank) != top>>32 { // another pair by now
			continue
		}
		s.id, s.next = m.id, right.next
		right.id = -1
		if s.next >= 0 {
			symbols[s.next].previous = int32(uint32(top))
		}
		offer(s.previous)
		offer(int32(uint32(top)))
	}
	for i := int32(0); i >= 0; i = symbols[i].next {
		dst = append(dst, symbols[i].id)
	}
	return dst
}

// queue is a binary heap with the least element first.
type queue []uint64

func (q *queue) push(x uint64) {
	*q = append(*q, x)
	h := *q
	for i := len(h) - 1; i > 0; {
		parent := (i - 1) / 2
		if h[parent] <= h[i] {
			return
		}
		h[parent], h[i] = h[i], h[parent]
		i = parent
	}
}

func (q *queue) pop() uint64 {
	h := *q
	top, last := h[0], len(h)-1
	h[0] = h[last]
	h = h[:last]
	*q = h
	for i := 0; ; {
		child := 2*i + 1
		if child >= last {
			return top
		}
		if child+1 < last && h[child+1] < h[child] {
			child++
		}
		if h[i] <= h[child] {
			return top
		}
		h[i], h[child] = h[child], h[i]
		i = child
	}
}

// clone returns a copy of ids of exactly their length.
func clone(ids []int32) []int32 { return slices.Clip(slices.Clone(ids)) }
