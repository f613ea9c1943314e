package ftfy

import (
	"slices"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/tia2-engine/tia2-engine/engine/internal/pytext"
	"github.com/tia2-engine/tia2-engine/engine/internal/unitext"
)

// substitute is the byte that stands for U+FFFD in the sloppy encodings.
const substitute = 0x1a

// charmap is a single-byte encoding whose bytes below 0x80 are ASCII.
type charmap struct {
	name   string
	sloppy bool // unassigned bytes are those of Latin-1, and U+FFFD is the byte substitute
	macRoman,
	latin1 bool
	decode [256]rune
	encode map[rune]byte // of the characters that are not ASCII
}

var charmaps = sync.OnceValue(func() []*charmap {
	var found []*charmap
	for _, entry := range charmapList {
		m := &charmap{name: entry[0], sloppy: strings.HasPrefix(entry[0], "sloppy"), encode: map[rune]byte{}}
		m.macRoman, m.latin1 = m.name == "macroman", m.name == "latin-1"
		for b := range rune(0x80) {
			m.decode[b] = b
		}
		b := 0x80
		for _, span := range strings.Fields(entry[1]) {
			low, high, ok := strings.Cut(span, "-")
			if !ok {
				high = low
			}
			for r := unitext.ParseRune(low); r <= unitext.ParseRune(high); r++ {
				m.decode[b], m.encode[r] = r, byte(b)
				b++
			}
		}
		if m.sloppy {
			m.decode[substitute], m.encode[utf8.RuneError] = utf8.RuneError, substitute
		}
		found = append(found, m)
	}
	return found
})

// windows1252 is the sloppy Windows-1252.
func windows1252() *charmap { return charmaps()[1] }

// bytes returns text in the encoding; false if some character has no byte.
func (m *charmap) bytes(text string) ([]byte, bool) {
	out := make([]byte, 0, len(text))
	for _, r := range text {
		b, ok := byte(r), r < utf8.RuneSelf && !(m.sloppy && r == substitute)
		if !ok {
			b, ok = m.encode[r]
		}
		if !ok {
			return nil, false
		}
		out = append(out, b)
	}
	return out, true
}

// fixEncoding undoes mojibake, layer by layer: ftfy.fix_encoding.
func fixEncoding(text string) string {
	for {
		before := text
		text = fixEncodingStep(text)
		if text == before {
			return text
		}
	}
}

// fixEncodingStep undoes one layer of mojibake, or returns text as it is.
func fixEncodingStep(text string) string {
	if pytext.IsASCII(text) || !isBad(text) {
		return text
	}
	latin1 := false
	for _, m := range charmaps() {
		raw, ok := m.bytes(text)
		if !ok {
			continue
		}
		latin1 = latin1 || m.latin1
		if !m.macRoman && hasAlteredUTF8(raw) { // in MacRoman it would match an en dash and a space
			raw = restoreA0(raw)
		}
		if m.sloppy {
			raw = replaceLossy(raw)
		}
		if fixed, ok := decodeUTF8(raw); ok {
			return fixed
		}
	}
	if fixed := decodeInconsistent(text); fixed != text {
		return fixed
	}
	if latin1 {
		if fixed, ok := latin1AsWindows1252(text); ok && fixed != text {
			return fixed
		}
	}
	return fixC1Controls(text)
}

// latin1AsWindows1252 reads text, all of Latin-1, as strict Windows-1252; false if it has a byte not assigned there.
func latin1AsWindows1252(text string) (string, bool) {
	if strings.ContainsAny(text, "\u0081\u008d\u008f\u0090\u009d") {
		return "", false
	}
	return fixC1Controls(text), true
}

// decodeUTF8 decodes UTF-8, and where a byte 0xed or 0xc0 hints at it the variants CESU-8 and Java's.
func decodeUTF8(raw []byte) (string, bool) {
	if slices.Contains(raw, 0xed) || slices.Contains(raw, 0xc0) {
		return decodeVariants(raw)
	}
	if !utf8.Valid(raw) {
		return "", false
	}
	return string(raw), true
}

// decodeVariants is ftfy's codec utf-8-variants: UTF-8, surrogate pairs of three bytes each (CESU-8), and 0xc0 0x80 for
// U+0000. As in the original, a line feed at the end of the text can stand for the byte after 0xc0, and for the last
// byte of a pair: its patterns use $ for the end.
func decodeVariants(raw []byte) (string, bool) {
	var out []byte
	for len(raw) > 0 {
		special := variantStart(raw)
		if !utf8.Valid(raw[:special]) {
			return "", false
		}
		out = append(out, raw[:special]...)
		raw = raw[special:]
		switch {
		case len(raw) == 0:
		case raw[0] == 0xc0:
			if len(raw) == 1 {
				return "", false
			}
			out, raw = append(out, 0), raw[2:]
		default:
			r, ok := surrogatePair(raw)
			if !ok {
				return "", false
			}
			out, raw = utf8.AppendRune(out, r), raw[6:]
		}
	}
	return string(out), true
}

// variantStart returns where raw first departs from UTF-8 in a way that decodeVariants knows, or len(raw).
func variantStart(raw []byte) int {
	// ends reports whether a $ matches at i: at the end, or before a line feed at the end.
	ends := func(i int) bool { return i == len(raw) || i == len(raw)-1 && raw[i] == '\n' }
	for i, b := range raw {
		switch b {
		case 0xc0:
			if ends(i+1) || raw[i+1] == 0x80 {
				return i
			}
		case 0xed:
			if ends(i+1) || raw[i+1] >= 0xa0 && raw[i+1] <= 0xbf && (ends(i+2) || isContinuation(raw[i+2])) {
				return i
			}
		}
	}
	return len(raw)
}

// surrogatePair decodes the six bytes of CESU-8 that raw begins with.
func surrogatePair(raw []byte) (rune, bool) {
	if len(raw) < 6 || raw[0] != 0xed || raw[1]&0xf0 != 0xa0 || !isContinuation(raw[2]) || raw[3] != 0xed || raw[4]&0xf0 != 0xb0 {
		return 0, false
	}
	if !isContinuation(raw[5]) && !(len(raw) == 6 && raw[5] == '\n') {
		return 0, false
	}
	return rune(raw[1]&0xf)<<16 + rune(raw[2]&0x3f)<<10 + rune(raw[4]&0xf)<<6 + rune(raw[5]&0x3f) + 0x10000, true
}

func isContinuation(b byte) bool { return b&0xc0 == 0x80 }
