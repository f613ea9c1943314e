package ftfy

import (
	"fmt"
	"strconv"
	"strings"
	"sync"

	"github.com/tia2-engine/tia2-engine/engine/internal/pytext"
	"github.com/tia2-engine/tia2-engine/engine/internal/unitext"
)

// positions is a set of places in badPatterns, one bit for each: bit i stands for the i-th class of all patterns
// written one after the other.
type positions [2]uint64

func (p *positions) set(i int) { p[i/64] |= 1 << (i % 64) }

func (p positions) has(i int) bool { return p[i/64]>>(i%64)&1 != 0 }

// or returns the places in p or q.
func (p positions) or(q positions) positions { return positions{p[0] | q[0], p[1] | q[1]} }

// and returns the places in p and q.
func (p positions) and(q positions) positions { return positions{p[0] & q[0], p[1] & q[1]} }

// next returns every place moved on by one.
func (p positions) next() positions { return positions{p[0] << 1, p[1]<<1 | p[0]>>63} }

// badness looks for all patterns at once with the shift-and method (Baeza-Yates and Gonnet 1992): after each character
// a bit says whether the pattern up to that place has just been matched.
type badness struct {
	first  positions // first classes of the patterns
	anchor positions // the same of patterns that must stand at the start of the text
	last   positions // last classes of the patterns
	// accepts has, for each character that a class names, the places that accept it; other has them for the rest, by
	// what the rest can be: a line feed, a space or a word character.
	accepts map[rune]positions
	other   [4]positions
}

// Kinds of characters that no class names.
const (
	otherPlain = iota
	otherWord
	otherSpace
	otherLine
)

// isBad reports whether text looks like mojibake: ftfy.badness.is_bad.
func isBad(text string) bool {
	b := heuristic()
	state, start := positions{}, b.anchor
	for _, r := range text {
		accept, ok := b.accepts[r]
		if !ok {
			accept = b.other[otherKind(r)]
		}
		state = state.next().or(b.first).or(start).and(accept)
		start = positions{}
		if hit := state.and(b.last); hit[0]|hit[1] != 0 {
			return true
		}
	}
	return false
}

func otherKind(r rune) int {
	switch {
	case r == '\n':
		return otherLine
	case pytext.IsSpace(r):
		return otherSpace
	case pytext.IsWord(r):
		return otherWord
	}
	return otherPlain
}

// heuristic is the search for badPatterns, made once.
var heuristic = sync.OnceValue(func() *badness {
	b := &badness{accepts: map[rune]positions{}}
	place := 0
	members := map[rune]bool{}
	classAt := map[int]*class{}
	for _, pattern := range badPatterns {
		first := &b.first
		for i, index := range strings.Split(pattern, ".") {
			c := parseClass(index)
			if c.start {
				first = &b.anchor
				continue
			}
			if i == 0 || first == &b.anchor && i == 1 {
				first.set(place)
			}
			classAt[place] = c
			if c.members != nil {
				for r := range c.members.All() {
					members[r] = true
				}
			}
			place++
		}
		b.last.set(place - 1)
	}
	if place > len(b.first)*64 {
		panic(fmt.Sprintf("ftfy: %d places in badPatterns, expected at most %d", place, len(b.first)*64))
	}
	for r := range members {
		var accept positions
		for at, c := range classAt {
			if c.contains(r) {
				accept.set(at)
			}
		}
		b.accepts[r] = accept
	}
	for at, c := range classAt {
		for kind, example := range []rune{otherPlain: 0x4dc0, otherWord: 0x4e00, otherSpace: 0x2003, otherLine: '\n'} {
			if c.contains(example) {
				b.other[kind].set(at)
			}
		}
	}
	return b
})

// class is one character class of a pattern.
type class struct {
	start       bool // not a class: the start of the text
	word, space bool // \w or \s
	negated     bool // everything but the members
	members     *unitext.Set
}

// parseClass reads the class with the given index into badClasses.
func parseClass(index string) *class {
	i, err := strconv.Atoi(index)
	if err != nil || i >= len(badClasses) {
		panic(fmt.Sprintf("ftfy: badPatterns: class %q, expected a number below %d", index, len(badClasses)))
	}
	switch text := badClasses[i]; text {
	case "start":
		return &class{start: true}
	case "word":
		return &class{word: true}
	case "space":
		return &class{space: true}
	default:
		members, negated := strings.CutPrefix(text, "not ")
		return &class{negated: negated, members: unitext.ParseSet(members)}
	}
}

func (c *class) contains(r rune) bool {
	switch {
	case c.word:
		return pytext.IsWord(r)
	case c.space:
		return pytext.IsSpace(r)
	}
	return c.members.Contains(r) != c.negated
}
