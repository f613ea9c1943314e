package pytext

import (
	"sync"
	"unicode/utf8"

	"github.com/tia2-engine/tia2-engine/engine/internal/unitext"
)

// tables are the sets that Python's functions use, made once, when the first text outside ASCII comes.
var tables = sync.OnceValue(func() (t struct {
	word, decimal, space, cased, ignorable *unitext.Set
	lower                                  *unitext.Mapping
	form                                   *unitext.Normalizer
}) {
	t.word = unitext.ParseSet(wordRunes)
	t.decimal = unitext.ParseSet(decimalRunes)
	t.space = unitext.ParseSet(spaceRunes)
	t.cased = unitext.ParseSet(casedRunes)
	t.ignorable = unitext.ParseSet(ignorableRunes)
	t.lower = unitext.ParseMapping(LowerShifts)
	t.form = unitext.NewNormalizer(unitext.ParseSet(unassignedRunes))
	return t
})

// IsSpace reports str.isspace of one character: \s of the re module.
func IsSpace(r rune) bool {
	if r < utf8.RuneSelf {
		return r == ' ' || r >= '\t' && r <= '\r' || r >= 0x1c && r <= 0x1f
	}
	return tables().space.Contains(r)
}

// IsWord reports whether \w of the re module matches r.
func IsWord(r rune) bool { return tables().word.Contains(r) }

// IsDecimal reports whether \d of the re module matches r.
func IsDecimal(r rune) bool {
	if r < utf8.RuneSelf {
		return r >= '0' && r <= '9'
	}
	return tables().decimal.Contains(r)
}

// NFC returns unicodedata.normalize("NFC", s).
func NFC(s string) string {
	if IsASCII(s) {
		return s
	}
	return tables().form.NFC(s)
}

// IsASCII reports whether every byte of s is below 128.
func IsASCII(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// AppendClean appends " ".join(s.split()).lower() to dst: words apart by one space, in lower case.
func AppendClean(dst []byte, s string) []byte {
	base := len(dst)
	if ascii, ok := appendCleanASCII(dst, s); ok {
		return ascii
	}
	dst = dst[:base]
	space := false
	words := make([]byte, 0, len(s)+8)
	for _, r := range s {
		if IsSpace(r) {
			space = len(words) > 0
			continue
		}
		if space {
			words, space = append(words, ' '), false
		}
		words = utf8.AppendRune(words, r)
	}
	return appendLower(dst, string(words))
}

// appendCleanASCII is AppendClean for a text all of ASCII; it reports false at the first other byte.
func appendCleanASCII(dst []byte, s string) ([]byte, bool) {
	base := len(dst)
	space := false
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c >= utf8.RuneSelf:
			return dst, false
		case c == ' ' || c >= '\t' && c <= '\r' || c >= 0x1c && c <= 0x1f:
			space = len(dst) > base
			continue
		case c >= 'A' && c <= 'Z':
			c += 'a' - 'A'
		}
		if space {
			dst, space = append(dst, ' '), false
		}
		dst = append(dst, c)
	}
	return dst, true
}

// Lower returns str.lower of s: letter by letter, but for U+0130, which becomes two characters, and the capital sigma,
// which becomes U+03C2 at the end of a word.
func Lower(s string) string {
	return string(appendLower(make([]byte, 0, len(s)+8), s))
}

func appendLower(dst []byte, s string) []byte {
	t := tables()
	for i, r := range s {
		switch {
		case r < utf8.RuneSelf:
			if r >= 'A' && r <= 'Z' {
				r += 'a' - 'A'
			}
			dst = append(dst, byte(r))
		case r == 0x130:
			dst = append(dst, "i\u0307"...)
		case r == 0x3a3 && isSigmaFinal(s, i):
			dst = append(dst, "\u03c2"...)
		default:
			dst = utf8.AppendRune(dst, t.lower.Map(r))
		}
	}
	return dst
}

// isSigmaFinal reports whether the sigma at s[i] follows a letter and no letter follows it; marks do not count.
func isSigmaFinal(s string, i int) bool {
	t := tables()
	before := s[:i]
	for {
		r, size := utf8.DecodeLastRuneInString(before)
		if size == 0 {
			return false
		}
		if !t.ignorable.Contains(r) {
			if !t.cased.Contains(r) {
				return false
			}
			break
		}
		before = before[:len(before)-size]
	}
	for _, r := range s[i+len("\u03a3"):] {
		if !t.ignorable.Contains(r) {
			return !t.cased.Contains(r)
		}
	}
	return true
}
