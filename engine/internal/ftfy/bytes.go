package ftfy

import "bytes"

// Repairs of the bytes that a piece of mojibake is in its supposed encoding.

// byteClass is a set of bytes that an element of a byte pattern accepts.
type byteClass [256]bool

// bytesOf makes a class of single bytes and of ranges, given as pairs.
func bytesOf(pairs ...byte) (c byteClass) {
	for i := 0; i < len(pairs); i += 2 {
		for b := int(pairs[i]); b <= int(pairs[i+1]); b++ {
			c[b] = true
		}
	}
	return c
}

var (
	space    = bytesOf(' ', ' ')
	rest     = bytesOf(0x80, 0xbf)
	restNoA0 = bytesOf(0x80, 0x84, 0x86, 0x9f, 0xa1, 0xbf) // without 0xa0, and 0x85, the ellipsis

	lost          = bytesOf(substitute, substitute)
	lostOrMark    = bytesOf(substitute, substitute, '?', '?')
	lostOrRest    = bytesOf(substitute, substitute, 0x80, 0xbf)
	lostOrAny     = bytesOf(substitute, substitute, '?', '?', 0x80, 0xbf)
	surrogate     = bytesOf(0xed, 0xed)
	highSurrogate = bytesOf(0xa0, 0xaf)
	lowSurrogate  = bytesOf(0xb0, 0xbf)
	leadOf3       = bytesOf(0xe0, 0xef)
	leadOf4       = bytesOf(0xf0, 0xf4)
)

// alteredUTF8 are UTF-8 sequences with a space where 0xa0 belongs: ALTERED_UTF8_RE. The lead bytes are those for which
// the character is a likely one.
var alteredUTF8 = [][]byteClass{
	{bytesOf(0xc2, 0xc3, 0xc5, 0xc5, 0xce, 0xce, 0xd0, 0xd0, 0xd9, 0xd9), space},
	{bytesOf(0xe2, 0xe3), space, restNoA0},
	{bytesOf(0xe0, 0xe3), restNoA0, space},
	{bytesOf(0xf0, 0xf0), space, rest, rest},
	{bytesOf(0xf0, 0xf0), rest, space, rest},
	{bytesOf(0xf0, 0xf0), rest, rest, space},
}

// lossyUTF8 are UTF-8 and CESU-8 sequences in which a byte was lost: LOSSY_UTF8_RE.
var lossyUTF8 = [][]byteClass{
	{bytesOf(0xc2, 0xdf), lost},
	{bytesOf(0xc2, 0xc3), bytesOf('?', '?')},
	{surrogate, highSurrogate, lostOrMark, surrogate, lowSurrogate, lostOrAny},
	{surrogate, highSurrogate, lostOrAny, surrogate, lowSurrogate, lostOrMark},
	{leadOf3, lostOrMark, lostOrRest},
	{leadOf3, lostOrRest, lostOrMark},
	{leadOf4, lostOrMark, lostOrRest, lostOrRest},
	{leadOf4, lostOrRest, lostOrMark, lostOrRest},
	{leadOf4, lostOrRest, lostOrRest, lostOrMark},
	{lost},
}

// matchBytes returns the length of the first pattern that raw begins with, 0 if none does.
func matchBytes(patterns [][]byteClass, raw []byte) int {
next:
	for _, pattern := range patterns {
		if len(raw) < len(pattern) {
			continue
		}
		for i := range pattern {
			if !pattern[i][raw[i]] {
				continue next
			}
		}
		return len(pattern)
	}
	return 0
}

// replaceBytes returns raw with every match of the patterns, from left to right, replaced by what edit makes of it.
func replaceBytes(patterns [][]byteClass, raw []byte, edit func(match []byte) []byte) []byte {
	out := make([]byte, 0, len(raw)+8)
	for i := 0; i < len(raw); {
		if n := matchBytes(patterns, raw[i:]); n > 0 {
			out = append(out, edit(raw[i:i+n])...)
			i += n
			continue
		}
		out = append(out, raw[i])
		i++
	}
	return out
}

// hasAlteredUTF8 reports whether restoreA0 could change raw.
func hasAlteredUTF8(raw []byte) bool {
	for i := range raw {
		if matchBytes(alteredUTF8, raw[i:]) > 0 {
			return true
		}
	}
	return false
}

// restoreA0 puts 0xa0 back where something made a space of it.
func restoreA0(raw []byte) []byte {
	return replaceBytes(alteredUTF8, separateAGrave(raw), func(match []byte) []byte {
		return bytes.ReplaceAll(match, []byte{' '}, []byte{0xa0})
	})
}

// separateAGrave makes "\xc3 " the word à and a space, since it nearly always is one; not before another space, nor
// where it begins one of the Portuguese words às, àquele, àquela, àquilo.
func separateAGrave(raw []byte) []byte {
	pattern := []byte("\xc3 ")
	var out []byte
	for {
		at := bytes.Index(raw, pattern)
		if at < 0 {
			return append(out, raw...)
		}
		out = append(out, raw[:at]...)
		raw = raw[at+len(pattern):]
		if hasAnyPrefix(raw, " ", "quele", "quela", "quilo", "s ") {
			out = append(out, pattern...)
		} else {
			out = append(out, "\xc3\xa0 "...)
		}
	}
}

func hasAnyPrefix(raw []byte, prefixes ...string) bool {
	for _, prefix := range prefixes {
		if bytes.HasPrefix(raw, []byte(prefix)) {
			return true
		}
	}
	return false
}

// replaceLossy makes U+FFFD, in UTF-8, of each sequence that lost a byte.
func replaceLossy(raw []byte) []byte {
	return replaceBytes(lossyUTF8, raw, func([]byte) []byte { return []byte("\ufffd") })
}
