package unitext

import (
	"fmt"
	"strings"
)

// Mapping maps single code points to single code points; those it does not name stay as they are.
type Mapping struct {
	known *Set // the code points in to; most texts have none, and the set is faster than the map
	to    map[rune]rune
}

// ParseMapping reads groups "first-last/step+delta" (or -delta), all numbers hexadecimal: every step-th code point from
// first to last moves by delta. They are constants of the program, so a damaged one is a panic.
func ParseMapping(groups ...string) *Mapping {
	m := &Mapping{known: ParseSet(), to: map[rune]rune{}}
	for _, list := range groups {
		for _, group := range strings.Fields(list) {
			span, shift, ok := strings.Cut(group, "/")
			sign := strings.IndexAny(shift, "+-")
			if !ok || sign < 1 {
				panic(fmt.Sprintf("unitext: %q: expected first-last/step+delta", group))
			}
			first, last := parseRange(span)
			step, delta := ParseRune(shift[:sign]), ParseRune(shift[sign+1:])
			if shift[sign] == '-' {
				delta = -delta
			}
			for r := first; r <= last; r += step {
				m.known.add(r)
				m.to[r] = r + delta
			}
		}
	}
	return m
}

// Map returns what r becomes.
func (m *Mapping) Map(r rune) rune {
	if m.known.Contains(r) {
		return m.to[r]
	}
	return r
}
