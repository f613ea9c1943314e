package unitext

import (
	"fmt"
	"iter"
	"strconv"
	"strings"
	"unicode/utf8"
)

const (
	pageBits  = 256
	pageCount = (utf8.MaxRune + 1) / pageBits
)

// Set is an immutable set of code points with constant-time lookup. Its methods may be called from many goroutines.
type Set struct {
	page [pageCount]uint16 // which element of bits holds code points page*256 and up; 0 is the empty page
	bits [][pageBits / 64]uint64
}

// ParseSet reads hexadecimal ranges such as "41-5a 61-7a b5", in any order. They are constants of the program, so a
// damaged one is a panic.
func ParseSet(ranges ...string) *Set {
	s := &Set{bits: make([][pageBits / 64]uint64, 1)}
	for _, list := range ranges {
		for _, field := range strings.Fields(list) {
			first, last := parseRange(field)
			for r := first; r <= last; r++ {
				s.add(r)
			}
		}
	}
	return s
}

func (s *Set) add(r rune) {
	page := &s.page[r/pageBits]
	if *page == 0 {
		*page = uint16(len(s.bits))
		s.bits = append(s.bits, [pageBits / 64]uint64{})
	}
	s.bits[*page][r%pageBits/64] |= 1 << (r % 64)
}

// Contains reports whether r is in the set. r must be a code point (0 to 10FFFF hexadecimal).
func (s *Set) Contains(r rune) bool {
	return s.bits[s.page[r/pageBits]][r%pageBits/64]>>(r%64)&1 != 0
}

// All goes through the set in ascending order.
func (s *Set) All() iter.Seq[rune] {
	return func(yield func(rune) bool) {
		for page, index := range s.page {
			if index == 0 {
				continue
			}
			for r := rune(page) * pageBits; r < rune(page+1)*pageBits; r++ {
				if s.Contains(r) && !yield(r) {
					return
				}
			}
		}
	}
}

// parseRange reads "first-last" or "first", in hexadecimal.
func parseRange(field string) (first, last rune) {
	low, high, ok := strings.Cut(field, "-")
	if !ok {
		high = low
	}
	first, last = ParseRune(low), ParseRune(high)
	if last < first {
		panic(fmt.Sprintf("unitext: range %q: expected first <= last", field))
	}
	return first, last
}

// ParseRune reads a code point written in hexadecimal; anything else is a panic.
func ParseRune(digits string) rune {
	v, err := strconv.ParseUint(digits, 16, 32)
	if err != nil || v > utf8.MaxRune {
		panic(fmt.Sprintf("unitext: %q: expected a code point in hexadecimal", digits))
	}
	return rune(v)
}
