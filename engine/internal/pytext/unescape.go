package pytext

import (
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/tia2-engine/tia2-engine/engine/internal/unitext"
)

// entityRunesMax bounds what html.unescape takes for a name, the semicolon left out.
const entityRunesMax = 32

// Entities returns html.entities.html5: the text of each name, such as "amp;" or, for some, "amp". Do not change it.
var Entities = sync.OnceValue(func() map[string]string {
	table := make(map[string]string, 2231)
	for _, field := range strings.Fields(entityList) {
		name, hex, _ := strings.Cut(field, "=")
		var value []rune
		for _, digits := range strings.Split(hex, ",") {
			value = append(value, unitext.ParseRune(digits))
		}
		table[name] = string(value)
	}
	return table
})

// Unescape returns html.unescape(s).
//
// It differs from Go's html.UnescapeString: any name that begins with one of the legacy names is cut after the longest
// of them, references to noncharacters and control characters vanish, and &#10000000000 is U+FFFD.
func Unescape(s string) string {
	at := strings.IndexByte(s, '&')
	if at < 0 {
		return s
	}
	out := make([]byte, 0, len(s))
	for at >= 0 {
		out = append(out, s[:at]...)
		s = s[at:]
		text, size := reference(s)
		if size == 0 {
			text, size = "&", 1
		}
		out = append(out, text...)
		s = s[size:]
		at = strings.IndexByte(s, '&')
	}
	return string(append(out, s...))
}

// reference reads the character reference that s, which begins with '&', begins with: its text and its length in
// bytes, 0 if it is none.
func reference(s string) (text string, size int) {
	if len(s) > 1 && s[1] == '#' {
		return numericReference(s)
	}
	end, runes := 1, 0
	for runes < entityRunesMax && end < len(s) && !strings.ContainsRune("\t\n\f <&#;", rune(s[end])) {
		_, size := utf8.DecodeRuneInString(s[end:])
		end += size
		runes++
	}
	if runes == 0 {
		return "", 0
	}
	name := s[1:end]
	if end < len(s) && s[end] == ';' {
		end++
		if text, ok := Entities()[s[1:end]]; ok {
			return text, end
		}
	}
	for cut := len(name); cut > 1; cut-- { // names are ASCII, so cuts inside a character find nothing
		if text, ok := Entities()[name[:cut]]; ok {
			return text, cut + 1
		}
	}
	return s[:end], end
}

// numericReference is reference for a text that begins with "&#".
func numericReference(s string) (text string, size int) {
	i, base := 2, 10
	if i < len(s) && s[i]|0x20 == 'x' {
		i, base = 3, 16
	}
	digits, code := i, 0
	for ; i < len(s); i++ {
		d := digit(s[i])
		if d >= base {
			break
		}
		code = min(code*base+d, utf8.MaxRune+1)
	}
	if i == digits {
		return "", 0
	}
	if i < len(s) && s[i] == ';' {
		i++
	}
	return CodeText(code), i
}

func digit(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c|0x20 >= 'a' && c|0x20 <= 'f':
		return int(c|0x20-'a') + 10
	}
	return 16
}

// windows1252 is what references to 0x80 to 0x9f mean in HTML.
var windows1252 = []rune("€\u0081‚ƒ„…†‡ˆ‰Š‹Œ\u008dŽ\u008f\u0090‘’“”•–—˜™š›œ\u009džŸ")

// CodeText is the text of a numeric reference by the rules of HTML 5: code points that no text may hold are left out.
func CodeText(code int) string {
	switch {
	case code == 0 || code >= 0xd800 && code <= 0xdfff || code > utf8.MaxRune:
		return "\ufffd"
	case code >= 0x80 && code <= 0x9f:
		return string(windows1252[code-0x80])
	case code < 9, code == 0xb, code >= 0xe && code <= 0x1f, code == 0x7f:
		return ""
	case code >= 0xfdd0 && code <= 0xfdef, code&0xfffe == 0xfffe:
		return ""
	}
	return string(rune(code))
}
