package ftfy

import (
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/tia2-engine/tia2-engine/engine/internal/pytext"
	"github.com/tia2-engine/tia2-engine/engine/internal/unitext"
)

// segmentRunesMax is the longest piece that is looked at as a whole; a longer line is cut, as in ftfy.
const segmentRunesMax = 1_000_000

// FixText returns text as ftfy.fix_text(text) gives it: each line repaired by itself.
//
// From the first line with a "<" on, HTML entities stay as they are. The time is that of the length, times the number
// of layers of damage, such as the "amp;" of "&amp;amp;amp;", within a line. The call is safe from many goroutines.
func FixText(text string) string {
	if isPlain(text) {
		return text
	}
	text = strings.ToValidUTF8(text, "\ufffd")
	var out strings.Builder
	unescape := true
	for len(text) > 0 {
		end := segmentEnd(text)
		unescape = unescape && !strings.Contains(text[:end], "<")
		fixed := fixSegment(text[:end], unescape)
		if end == len(text) && out.Len() == 0 {
			return fixed
		}
		out.WriteString(fixed)
		text = text[end:]
	}
	return out.String()
}

// isPlain reports whether no repair can change the text: ASCII without '&' and without control characters other than
// tab, line feed and form feed.
func isPlain(text string) bool {
	for i := 0; i < len(text); i++ {
		c := text[i]
		if c >= 0x7f || c == '&' || c < ' ' && c != '\t' && c != '\n' && c != '\f' {
			return false
		}
	}
	return true
}

// segmentEnd returns the length in bytes of the first segment of text: a line with its end, or segmentRunesMax
// characters of it.
func segmentEnd(text string) int {
	end := strings.IndexByte(text, '\n') + 1
	if end == 0 {
		end = len(text)
	}
	if end <= segmentRunesMax {
		return end
	}
	runes := 0
	for i := range text[:end] {
		if runes == segmentRunesMax {
			return i
		}
		runes++
	}
	return end
}

// fixSegment is ftfy.fix_and_explain without the explanation: all repairs in order, until none changes anything.
func fixSegment(text string, unescape bool) string {
	for {
		before := text
		if unescape {
			text = unescapeHTML(text)
		}
		text = fixEncoding(text)
		text = fixC1Controls(text)
		text = replaceCharacters(text)
		text = fixLineBreaks(text)
		text = removeTerminalEscapes(text)
		text = removeControls(text)
		text = pytext.NFC(text)
		if text == before {
			return text
		}
	}
}

// entityNameMax is the length of the longest name that ftfy takes for an entity, '#' and ';' left out.
const entityNameMax = 24

// unescapeHTML replaces the entities that end in a semicolon, and some that are spelt in capitals.
func unescapeHTML(text string) string {
	at := strings.IndexByte(text, '&')
	if at < 0 {
		return text
	}
	var out strings.Builder
	for ; at >= 0; at = strings.IndexByte(text, '&') {
		out.WriteString(text[:at])
		text = text[at:]
		end := entityEnd(text)
		if end == 0 {
			out.WriteByte('&')
			text = text[1:]
			continue
		}
		out.WriteString(entityText(text[:end]))
		text = text[end:]
	}
	out.WriteString(text)
	return out.String()
}

// entityEnd returns the length of the match of &#?[0-9A-Za-z]{1,24}; at the start of text, 0 if there is none.
func entityEnd(text string) int {
	start := 1
	if start < len(text) && text[start] == '#' {
		start++
	}
	end := start
	for end < len(text) && isAlphanumeric(text[end]) {
		end++
	}
	if n := end - start; n < 1 || n > entityNameMax || end == len(text) || text[end] != ';' {
		return 0
	}
	return end + 1
}

func isAlphanumeric(c byte) bool {
	return c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'z'
}

// entityText is what an entity (from '&' to ';') becomes; itself, if nothing is known of it.
func entityText(entity string) string {
	name := entity[1:]
	if name[0] == '#' {
		if text := pytext.Unescape(entity); !strings.Contains(text, ";") {
			return text
		}
		return entity
	}
	if text, ok := pytext.Entities()[name]; ok {
		return text
	}
	if text, ok := upperEntities()[name]; ok {
		return text
	}
	return entity
}

// fixC1Controls reads what is left of U+0080 to U+009F as Windows-1252, as Web browsers do.
func fixC1Controls(text string) string {
	return strings.Map(func(r rune) rune {
		if r >= 0x80 && r <= 0x9f {
			return windows1252().decode[r]
		}
		return r
	}, text)
}

// replaceCharacters takes apart Latin ligatures, makes half- and full-width forms ordinary and quotes straight.
func replaceCharacters(text string) string {
	if pytext.IsASCII(text) {
		return text
	}
	replaced := replacedSet()
	at := strings.IndexFunc(text, replaced.Contains)
	if at < 0 {
		return text
	}
	table := replacements()
	out := append(make([]byte, 0, len(text)), text[:at]...)
	for _, r := range text[at:] {
		if replaced.Contains(r) {
			out = append(out, table[r]...)
		} else {
			out = utf8.AppendRune(out, r)
		}
	}
	return string(out)
}

var lineBreaks = strings.NewReplacer("\r\n", "\n", "\r", "\n", "\u2028", "\n", "\u2029", "\n", "\u0085", "\n")

// fixLineBreaks makes every line break a line feed.
func fixLineBreaks(text string) string { return lineBreaks.Replace(text) }

// removeTerminalEscapes drops the sequences that colour text in a terminal: \x1b\[(\d|;)*[a-zA-Z].
func removeTerminalEscapes(text string) string {
	const open = "\x1b["
	at := strings.Index(text, open)
	if at < 0 {
		return text
	}
	var out strings.Builder
	for ; at >= 0; at = strings.Index(text, open) {
		out.WriteString(text[:at])
		text = text[at:]
		end := len(open)
		for end < len(text) {
			r, size := utf8.DecodeRuneInString(text[end:])
			if r != ';' && !pytext.IsDecimal(r) {
				break
			}
			end += size
		}
		if end < len(text) && text[end]|0x20 >= 'a' && text[end]|0x20 <= 'z' {
			text = text[end+1:]
			continue
		}
		out.WriteString(open)
		text = text[len(open):]
	}
	out.WriteString(text)
	return out.String()
}

// removeControls drops control characters that show nothing; tabs, line breaks, joiners and direction marks stay.
func removeControls(text string) string {
	controls := controlSet()
	return strings.Map(func(r rune) rune {
		if controls.Contains(r) {
			return -1
		}
		return r
	}, text)
}

var (
	controlSet = sync.OnceValue(func() *unitext.Set { return unitext.ParseSet(controlRunes) })
	// replacedSet has the keys of replacements: most characters are not in it, and it is faster than a map.
	replacedSet = sync.OnceValue(func() *unitext.Set {
		codes := make([]string, 0, 256)
		for code := range keyed(replacementList) {
			codes = append(codes, code)
		}
		return unitext.ParseSet(codes...)
	})
	upperEntities = sync.OnceValue(func() map[string]string {
		table := map[string]string{}
		for name, text := range keyed(upperEntityList) {
			table[name] = text
		}
		return table
	})
	replacements = sync.OnceValue(func() map[rune]string {
		table := map[rune]string{}
		for code, text := range keyed(replacementList) {
			table[unitext.ParseRune(code)] = text
		}
		return table
	})
)

// keyed goes through a list "key=hex,hex key=hex" of texts given by their code points.
func keyed(list string) func(yield func(key, text string) bool) {
	return func(yield func(key, text string) bool) {
		for _, field := range strings.Fields(list) {
			key, codes, _ := strings.Cut(field, "=")
			var text []rune
			for _, code := range strings.Split(codes, ",") {
				text = append(text, unitext.ParseRune(code))
			}
			if !yield(key, string(text)) {
				return
			}
		}
	}
}
