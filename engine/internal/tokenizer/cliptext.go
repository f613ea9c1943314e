package tokenizer

import (
	"bytes"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/tia2-engine/tia2-engine/engine/internal/ftfy"
	"github.com/tia2-engine/tia2-engine/engine/internal/pytext"
	"github.com/tia2-engine/tia2-engine/engine/internal/unitext"
)

// runeClass says which part of the splitting pattern a character belongs to.
type runeClass uint8

const (
	classSpace  runeClass = iota // belongs to no word
	classLetter                  // words are runs of these,
	classNumber                  // these alone,
	classOther                   // and runs of these
)

// runeSets are the classes of characters beyond ASCII, for open_clip's regex module and for the tokenizers library.
type runeSets struct{ letters, numbers, spaces *unitext.Set }

var (
	pythonSets = sync.OnceValue(func() runeSets {
		return runeSets{
			letters: unitext.ParseSet(hfLetters, newerLetters),
			numbers: unitext.ParseSet(hfNumbers, newerNumbers),
			spaces:  unitext.ParseSet(spaceRunes, nowhereRunes),
		}
	})
	hfSets = sync.OnceValue(func() runeSets {
		return runeSets{letters: unitext.ParseSet(hfLetters), numbers: unitext.ParseSet(hfNumbers), spaces: unitext.ParseSet(spaceRunes)}
	})
	hfForms = sync.OnceValue(func() *unitext.Normalizer { return unitext.NewNormalizer(unitext.ParseSet(hfInert)) })
	hfLower = sync.OnceValue(func() *unitext.Mapping { return unitext.ParseMapping(pytext.LowerShifts, newerLower) })
)

// asciiClass has the classes of the ASCII characters.
var asciiClass = func() (table [utf8.RuneSelf]runeClass) {
	for c := range table {
		switch {
		case c == ' ' || c >= '\t' && c <= '\r':
			table[c] = classSpace
		case c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z':
			table[c] = classLetter
		case c >= '0' && c <= '9':
			table[c] = classNumber
		default:
			table[c] = classOther
		}
	}
	return table
}()

// clipText cleans a text for CLIP and splits it into words.
type clipText struct {
	bpe      *bpe
	clean    func(dst []byte, text string) []byte
	sets     func() runeSets
	specials [2]string // stand for bpe.sot and bpe.eot
	longS    bool      // the pattern ignores case, so a long s (ſ) counts as s: 'ſ is a contraction
	anywhere bool      // specials are looked for before the text is split, not only where a word begins
	buffers  sync.Pool // of *[]byte, for cleaned texts
}

func newCLIPText(kind string, b *bpe) *clipText {
	t := &clipText{bpe: b, clean: cleanOpenCLIP, sets: pythonSets, longS: true, specials: [2]string{"<|startoftext|>", "<|endoftext|>"}}
	t.buffers.New = func() any { return new([]byte) }
	switch kind {
	case CLIP:
		t.specials = [2]string{"<start_of_text>", "<end_of_text>"}
	case CLIPHF:
		t.clean, t.sets, t.longS, t.anywhere = cleanHF, hfSets, false, true
	}
	return t
}

// cleanOpenCLIP is what open_clip and openai/CLIP do to a text first.
func cleanOpenCLIP(dst []byte, text string) []byte {
	text = ftfy.FixText(text)
	return pytext.AppendClean(dst, pytext.Unescape(pytext.Unescape(text)))
}

// cleanHF is the normaliser of the fast CLIPTokenizer: NFC, spaces, lower case letter by letter.
func cleanHF(dst []byte, text string) []byte {
	ascii := pytext.IsASCII(text)
	var spaces *unitext.Set
	var lower *unitext.Mapping
	if !ascii {
		text, spaces, lower = hfForms().NFC(text), hfSets().spaces, hfLower()
	}
	space := false
	for _, r := range text {
		if r < utf8.RuneSelf && asciiClass[r] == classSpace || r >= utf8.RuneSelf && spaces.Contains(r) {
			if !space {
				dst = append(dst, ' ')
			}
			space = true
			continue
		}
		space = false
		switch {
		case r >= 'A' && r <= 'Z':
			dst = append(dst, byte(r)+'a'-'A')
		case r < utf8.RuneSelf:
			dst = append(dst, byte(r))
		case r == 0x130:
			dst = append(dst, "i\u0307"...)
		default:
			dst = utf8.AppendRune(dst, lower.Map(r))
		}
	}
	return dst
}

// append adds the ids of text to dst, and stops once dst is longer than limit.
func (t *clipText) append(dst []int32, text string, limit int) []int32 {
	buffer := t.buffers.Get().(*[]byte)
	defer t.buffers.Put(buffer)
	*buffer = t.clean((*buffer)[:0], text)
	clean := *buffer
	if cap(clean) > 1<<20 { // do not keep the memory of one huge text
		*buffer = nil
	}
	for len(clean) > 0 && len(dst) <= limit {
		if clean[0] == '<' {
			if id, size := t.special(clean); size > 0 {
				dst = append(dst, id)
				clean = clean[size:]
				continue
			}
		}
		size, isWord := t.word(clean)
		if isWord {
			dst = t.bpe.append(dst, clean[:size])
		}
		clean = clean[size:]
	}
	return dst
}

// special returns the id and the length of the special token that text begins with, or 0, 0.
func (t *clipText) special(text []byte) (int32, int) {
	for i, id := range [2]int32{t.bpe.sot, t.bpe.eot} {
		if s := t.specials[i]; len(text) >= len(s) && string(text[:len(s)]) == s {
			return id, len(s)
		}
	}
	return 0, 0
}

// word returns the length of the word that text begins with, or of the one character that belongs to no word.
//
// The pattern: 's|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+
func (t *clipText) word(text []byte) (size int, isWord bool) {
	if text[0] == '\'' {
		if n := t.contraction(text[1:]); n > 0 {
			return 1 + n, true
		}
	}
	if t.longS && text[0] == '<' { // matched as a special, but without its id: one word
		if long := strings.Replace(t.specials[0], "s", "ſ", 1); bytes.HasPrefix(text, []byte(long)) {
			return len(long), true
		}
	}
	class, size := t.classOf(text)
	if class == classSpace {
		return size, false
	}
	if class == classNumber {
		return size, true
	}
	return t.run(text, class, size), true
}

// run returns the end of the run of one class that text begins with; size is the length of its first character.
func (t *clipText) run(text []byte, class runeClass, size int) int {
	for size < len(text) {
		if t.anywhere && text[size] == '<' {
			if _, n := t.special(text[size:]); n > 0 {
				break
			}
		}
		next, n := t.classOf(text[size:])
		if next != class {
			break
		}
		size += n
	}
	return size
}

// contraction returns the length of the contraction that follows an apostrophe, 0 if none does.
func (t *clipText) contraction(text []byte) int {
	if len(text) == 0 {
		return 0
	}
	switch text[0] {
	case 's', 't', 'm', 'd':
		return 1
	}
	for _, two := range [...]string{"re", "ve", "ll"} {
		if len(text) >= 2 && string(text[:2]) == two {
			return 2
		}
	}
	if t.longS && bytes.HasPrefix(text, []byte("ſ")) {
		return len("ſ")
	}
	return 0
}

// classOf returns the class of the character that text begins with, and its length.
func (t *clipText) classOf(text []byte) (runeClass, int) {
	if text[0] < utf8.RuneSelf {
		return asciiClass[text[0]], 1
	}
	r, size := utf8.DecodeRune(text)
	switch sets := t.sets(); {
	case sets.letters.Contains(r):
		return classLetter, size
	case sets.numbers.Contains(r):
		return classNumber, size
	case sets.spaces.Contains(r):
		return classSpace, size
	}
	return classOther, size
}
