package unitext

import (
	"slices"
	"sync"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// Normalizer makes the normal forms C and D as a reference with older Unicode tables makes them.
//
// Characters that the reference's tables do not know are inert: they do not decompose or compose, and no mark moves
// across them. For all others the decompositions of x/text are used; Unicode guarantees that these never change.
// Unlike x/text, which keeps to the stream-safe format, it does not put a U+034F into a run of more than 30 marks.
type Normalizer struct {
	inert *Set
}

// NewNormalizer returns a Normalizer for which the code points of inert have no properties.
func NewNormalizer(inert *Set) *Normalizer {
	return &Normalizer{inert: inert}
}

// Hangul syllables compose by arithmetic (Unicode 14, section 3.12).
const (
	hangulBase  = 0xac00
	hangulCount = 11172
	leadBase    = 0x1100
	leadCount   = 19
	vowelBase   = 0x1161
	vowelCount  = 21
	tailBase    = 0x11a7
	tailCount   = 28
)

// NFC returns the composed form of s, s itself if it is that already. s must be valid UTF-8.
func (n *Normalizer) NFC(s string) string {
	if n.isNFC(s) {
		return s
	}
	return string(runesOf(n.compose(n.decompose(s))))
}

// NFD returns the decomposed form of s as code points. s must be valid UTF-8.
func (n *Normalizer) NFD(s string) []rune {
	return runesOf(n.decompose(s))
}

// char is a code point with its combining class; 0 is a starter.
type char struct {
	r     rune
	class uint8
}

func runesOf(chars []char) []rune {
	runes := make([]rune, len(chars))
	for i, c := range chars {
		runes[i] = c.r
	}
	return runes
}

// isNFC is a quick check: true only if s is its own composed form.
func (n *Normalizer) isNFC(s string) bool {
	simple := true // below U+0300 nothing composes
	for _, r := range s {
		if r >= 0x300 {
			if n.inert.Contains(r) {
				return false
			}
			simple = false
		}
	}
	return simple || norm.NFC.IsNormalString(s)
}

// decompose returns the canonical decomposition of s in canonical order.
func (n *Normalizer) decompose(s string) []char {
	chars := make([]char, 0, len(s))
	push := func(r rune, class uint8) { chars = append(chars, char{r, class}) }
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		i += size
		switch {
		case r < 0xc0 || n.inert.Contains(r):
			push(r, 0)
		case r >= hangulBase && r < hangulBase+hangulCount:
			k := r - hangulBase
			push(leadBase+k/(vowelCount*tailCount), 0)
			push(vowelBase+k%(vowelCount*tailCount)/tailCount, 0)
			if tail := k % tailCount; tail != 0 {
				push(tailBase+tail, 0)
			}
		default:
			props := norm.NFD.PropertiesString(s[i-size : i])
			whole := props.Decomposition()
			if whole == nil {
				push(r, props.CCC())
				continue
			}
			for len(whole) > 0 {
				part, size := utf8.DecodeRune(whole)
				push(part, norm.NFD.Properties(whole[:size]).CCC())
				whole = whole[size:]
			}
		}
	}
	order(chars)
	return chars
}

// order sorts each run of marks by class; marks of one class keep their order.
func order(chars []char) {
	for start := 0; start < len(chars); start++ {
		if chars[start].class == 0 {
			continue
		}
		end := start + 1
		for end < len(chars) && chars[end].class != 0 {
			end++
		}
		slices.SortStableFunc(chars[start:end], func(a, b char) int { return int(a.class) - int(b.class) })
		start = end
	}
}

// compose puts decomposed characters together in place: the canonical composition algorithm of Unicode 14, section 3.11.
func (n *Normalizer) compose(chars []char) []char {
	pairs := compositions()
	starter, out := -1, 0 // index of the last starter, and the number of characters kept
	for _, c := range chars {
		if starter >= 0 && !n.inert.Contains(c.r) && !n.inert.Contains(chars[starter].r) {
			// A mark is blocked by one of the same class or a higher one between it and the starter.
			if out == starter+1 || chars[out-1].class < c.class {
				if whole, ok := composePair(pairs, chars[starter].r, c.r); ok {
					chars[starter].r = whole
					continue
				}
			}
		}
		if c.class == 0 {
			starter = out
		}
		chars[out] = c
		out++
	}
	return chars[:out]
}

// composePair returns the primary composite of two code points.
func composePair(pairs map[[2]rune]rune, a, b rune) (rune, bool) {
	if a >= leadBase && a < leadBase+leadCount && b >= vowelBase && b < vowelBase+vowelCount {
		return hangulBase + ((a-leadBase)*vowelCount+b-vowelBase)*tailCount, true
	}
	if a >= hangulBase && a < hangulBase+hangulCount && (a-hangulBase)%tailCount == 0 && b > tailBase && b < tailBase+tailCount {
		return a + b - tailBase, true
	}
	whole, ok := pairs[[2]rune{a, b}]
	return whole, ok
}

// compositions returns the primary composites by their two parts, read off x/text once: a composite is a code point
// that is its own form C and has a decomposition; its second part is the last code point of that.
var compositions = sync.OnceValue(func() map[[2]rune]rune {
	pairs := make(map[[2]rune]rune, 1024)
	for r := rune(0xc0); r < 0x30000; r++ {
		if r >= hangulBase && r < 0xe000 { // syllables, and the surrogates
			continue
		}
		text := string(r)
		whole := norm.NFD.PropertiesString(text).Decomposition()
		if whole == nil || !norm.NFC.IsNormalString(text) {
			continue
		}
		last, size := utf8.DecodeLastRune(whole)
		first, _ := utf8.DecodeRune(norm.NFC.Bytes(whole[:len(whole)-size]))
		pairs[[2]rune{first, last}] = r
	}
	return pairs
})
