package ftfy

import (
	"sync"
	"unicode/utf8"

	"github.com/tia2-engine/tia2-engine/engine/internal/unitext"
)

// clues say which byte of a UTF-8 sequence a character may have been.
type clues struct {
	first              [3]*unitext.Set // of sequences of 2, 3 and 4 bytes
	rest, continuation *unitext.Set    // a later byte; the same without what often stands for itself
}

var utf8Clues = sync.OnceValue(func() *clues {
	c := &clues{rest: unitext.ParseSet(continuation), continuation: unitext.ParseSet(continuationStrict)}
	for i, list := range []string{firstOf2, firstOf3, firstOf4} {
		c.first[i] = unitext.ParseSet(list)
	}
	return c
})

// sequence returns the length in bytes of the one sequence that text begins with, 0 if it begins with none.
func (c *clues) sequence(text string) int {
	first, size := utf8.DecodeRuneInString(text)
next:
	for i := range c.first {
		if !c.first[i].Contains(first) {
			continue
		}
		end := size
		for range i + 1 {
			r, size := utf8.DecodeRuneInString(text[end:])
			if size == 0 || !c.rest.Contains(r) {
				continue next
			}
			end += size
		}
		return end
	}
	return 0
}

// decodeInconsistent repairs pieces of text that look like UTF-8 read in another encoding, though the whole does not:
// decode_inconsistent_utf8. A piece is a run of sequences that does not follow on a continuation character.
func decodeInconsistent(text string) string {
	c := utf8Clues()
	var out []byte
	previous := rune(-1)
	for i := 0; i < len(text); {
		end := i
		if previous < 0 || !c.continuation.Contains(previous) {
			for n := c.sequence(text[end:]); n > 0; n = c.sequence(text[end:]) {
				end += n
			}
		}
		piece := text[i:end]
		if end == i {
			_, size := utf8.DecodeRuneInString(text[i:])
			end += size
			piece = text[i:end]
		} else if len(piece) < len(text) && isBad(piece) { // shorter, or this would never end
			piece = fixEncoding(piece)
		}
		out = append(out, piece...)
		previous, _ = utf8.DecodeLastRuneInString(text[:end])
		i = end
	}
	return string(out)
}
