package tokenizer

import (
	"fmt"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/tia2-engine/tia2-engine/engine/internal/pytext"
	"github.com/tia2-engine/tia2-engine/engine/internal/unitext"
)

// wordRunesMax is the longest word that BERT splits; a longer one is [UNK].
const wordRunesMax = 100

// wordPieces is BERT's uncased tokenizer.
type wordPieces struct {
	size          int
	cls, sep, unk int32
	first, inner  map[string]int32 // pieces that begin a word, and those inside one without their "##"
	longest       int              // bytes of the longest piece, to look for no longer ones
	specials      map[string]int32 // taken as they stand in a text
	words         *cache
	buffers       sync.Pool // of *[]byte, for words
}

func newWordPieces(v Vocabulary) (*wordPieces, error) {
	w := &wordPieces{size: len(v.WordPieces), first: make(map[string]int32, len(v.WordPieces)), inner: map[string]int32{},
		specials: map[string]int32{}, words: newCache()}
	w.buffers.New = func() any { return new([]byte) }
	for i, piece := range v.WordPieces {
		table, text := w.first, piece
		if inner, ok := strings.CutPrefix(piece, "##"); ok && inner != "" {
			table, text = w.inner, inner
		}
		if text == "" {
			return nil, fmt.Errorf("word piece %d is empty, expected some text", i)
		}
		if before, ok := table[text]; ok {
			return nil, fmt.Errorf("word piece %d: %.80q: the same as word piece %d, expected no repetition", i, piece, before)
		}
		table[text] = int32(i)
		w.longest = max(w.longest, len(text))
	}
	for _, special := range []struct {
		text string
		id   *int32 // nil: the vocabulary may do without it
	}{{"[CLS]", &w.cls}, {"[SEP]", &w.sep}, {"[UNK]", &w.unk}, {"[PAD]", nil}, {"[MASK]", nil}} {
		id, ok := w.first[special.text]
		if !ok && special.id != nil {
			return nil, fmt.Errorf("%d word pieces: %s is missing, expected [CLS], [SEP] and [UNK]", w.size, special.text)
		}
		if ok {
			w.specials[special.text] = id
		}
		if special.id != nil {
			*special.id = id
		}
	}
	return w, nil
}

// append adds the ids of text to dst, and stops once dst is longer than limit.
func (w *wordPieces) append(dst []int32, text string, limit int) []int32 {
	start := 0 // of the text since the last special token
	for i := 0; i < len(text) && len(dst) <= limit; i++ {
		if text[i] != '[' {
			continue
		}
		if id, size := w.special(text[i:]); size > 0 {
			dst = append(w.appendPlain(dst, text[start:i], limit), id)
			start = i + size
			i = start - 1
		}
	}
	return w.appendPlain(dst, text[start:], limit)
}

// special returns the id and the length of the special token that text begins with, or 0, 0.
func (w *wordPieces) special(text string) (int32, int) {
	end := strings.IndexByte(text[:min(len(text), len("[MASK]"))], ']') + 1
	if id, ok := w.specials[text[:end]]; ok {
		return id, end
	}
	return 0, 0
}

// Parts that BERT gives characters.
const (
	bertLetter = iota
	bertDrop
	bertSpace
	bertPunct
)

// bertASCII has the parts of the ASCII characters.
var bertASCII = func() (table [utf8.RuneSelf]uint8) {
	for c := range table {
		switch {
		case c == '\t' || c == '\n' || c == '\r' || c == ' ':
			table[c] = bertSpace
		case c < ' ' || c == 0x7f:
			table[c] = bertDrop
		case c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z':
			table[c] = bertLetter
		default:
			table[c] = bertPunct
		}
	}
	return table
}()

// appendPlain is append for a text without special tokens.
func (w *wordPieces) appendPlain(dst []int32, text string, limit int) []int32 {
	if !pytext.IsASCII(text) {
		return w.appendWords(dst, normalizeBERT(text), limit)
	}
	buffer := w.buffers.Get().(*[]byte)
	defer w.buffers.Put(buffer)
	word := (*buffer)[:0]
	for i := 0; i < len(text) && len(dst) <= limit; i++ {
		c := text[i]
		switch bertASCII[c] {
		case bertLetter:
			if c >= 'A' && c <= 'Z' {
				c += 'a' - 'A'
			}
			word = append(word, c)
		case bertSpace:
			dst, word = w.appendWord(dst, word), word[:0]
		case bertPunct:
			dst = w.appendWord(dst, word)
			dst, word = w.appendWord(dst, append(word[:0], c)), word[:0]
		}
	}
	dst = w.appendWord(dst, word)
	if cap(word) <= 1<<16 { // do not keep the memory of one huge word
		*buffer = word
	}
	return dst
}

// bertTables are the parts of characters beyond ASCII.
var bertTables = sync.OnceValue(func() (t struct{ dropped, spaces, ideographs, marks, separators, punctuation *unitext.Set }) {
	t.dropped = unitext.ParseSet(bertDropped)
	t.spaces = unitext.ParseSet(bertSpaces)
	t.ideographs = unitext.ParseSet(bertIdeographs)
	t.marks = unitext.ParseSet(bertMarks)
	t.separators = unitext.ParseSet(bertSeparators)
	t.punctuation = unitext.ParseSet(bertPunctuation)
	return t
})

// normalizeBERT drops control characters, puts spaces around ideographs, drops accents and makes letters small.
func normalizeBERT(text string) []rune {
	t, lower := bertTables(), hfLower()
	clean := make([]byte, 0, len(text)+16)
	for _, r := range text {
		switch {
		case t.dropped.Contains(r):
		case t.spaces.Contains(r):
			clean = append(clean, ' ')
		case t.ideographs.Contains(r):
			clean = append(utf8.AppendRune(append(clean, ' '), r), ' ')
		default:
			clean = utf8.AppendRune(clean, r)
		}
	}
	runes := hfForms().NFD(string(clean))
	kept := runes[:0]
	for _, r := range runes {
		if !t.marks.Contains(r) {
			kept = append(kept, lower.Map(r))
		}
	}
	return kept
}

// appendWords splits a normalised text at spaces and punctuation.
func (w *wordPieces) appendWords(dst []int32, text []rune, limit int) []int32 {
	t := bertTables()
	var word []byte
	for _, r := range text {
		if len(dst) > limit {
			break
		}
		switch {
		case t.separators.Contains(r):
			dst, word = w.appendWord(dst, word), word[:0]
		case t.punctuation.Contains(r):
			dst = w.appendWord(dst, word)
			dst, word = w.appendWord(dst, utf8.AppendRune(word[:0], r)), word[:0]
		default:
			word = utf8.AppendRune(word, r)
		}
	}
	return w.appendWord(dst, word)
}

// appendWord adds the pieces of one word, none for the empty one.
func (w *wordPieces) appendWord(dst []int32, word []byte) []int32 {
	if len(word) == 0 {
		return dst
	}
	if ids, ok := w.words.get(word); ok {
		return append(dst, ids...)
	}
	start := len(dst)
	dst = w.split(dst, word)
	w.words.put(word, dst[start:])
	return dst
}

// split takes the longest piece from the front of word, again and again; [UNK] if that does not come out even.
func (w *wordPieces) split(dst []int32, word []byte) []int32 {
	if len(word) > wordRunesMax && utf8.RuneCount(word) > wordRunesMax {
		return append(dst, w.unk)
	}
	start := len(dst)
	table := w.first
	for len(word) > 0 {
		end := min(len(word), w.longest)
		for end > 0 {
			if end == len(word) || utf8.RuneStart(word[end]) {
				if id, ok := table[string(word[:end])]; ok {
					dst = append(dst, id)
					break
				}
			}
			end--
		}
		if end == 0 {
			return append(dst[:start], w.unk)
		}
		word, table = word[end:], w.inner
	}
	return dst
}
