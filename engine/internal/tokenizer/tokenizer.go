package tokenizer

import (
	"fmt"
	"math"
	"strings"
	"unicode/utf8"
)

// Names of the tokenizers, see the package comment.
const (
	CLIP        = "clip"
	OpenAI      = "openai"
	CLIPHF      = "clip-hf"
	BERT        = "bert"
	BLIPCaption = "blip-caption"
)

// Kinds are the names that New takes.
var Kinds = []string{CLIP, CLIPHF, OpenAI, BERT, BLIPCaption}

// modelKinds are the names that a model file has for the kinds of CLIP tokenizers.
var modelKinds = map[string]string{"open_clip": CLIP, "hf_clip": CLIPHF}

// Tokenizer turns texts into token ids. It does not change but for a bounded cache of words; its methods may be called
// from many goroutines.
type Tokenizer struct {
	kind     string
	size     int
	sot, eot int32 // first and last id: SOT and EOT, or [CLS] and [SEP]
	// append adds the ids of a text, without the first and last, to dst. It may stop once dst is longer than limit.
	append func(dst []int32, text string, limit int) []int32
}

// New makes the tokenizer of a kind: one of Kinds, or "open_clip" and "hf_clip", as model files call them.
//
// CLIP kinds need v.Merges, the others v.WordPieces. Errors say which entry is damaged, and what was expected.
func New(kind string, v Vocabulary) (*Tokenizer, error) {
	if name, ok := modelKinds[kind]; ok {
		kind = name
	}
	t := &Tokenizer{kind: kind}
	switch kind {
	case CLIP, OpenAI, CLIPHF:
		b, err := newBPE(v, kind == CLIPHF)
		if err != nil {
			return nil, fmt.Errorf("vocabulary of tokenizer %s: %w", kind, err)
		}
		t.size, t.sot, t.eot = b.size, b.sot, b.eot
		t.append = newCLIPText(kind, b).append
	case BERT, BLIPCaption:
		w, err := newWordPieces(v)
		if err != nil {
			return nil, fmt.Errorf("vocabulary of tokenizer %s: %w", kind, err)
		}
		t.size, t.sot, t.eot = w.size, w.cls, w.sep
		t.append = w.append
		if kind == BLIPCaption {
			t.append = func(dst []int32, text string, limit int) []int32 { return w.append(dst, cleanCaption(text), limit) }
		}
	default:
		return nil, fmt.Errorf("tokenizer %q: expected one of %s", kind, strings.Join(Kinds, ", "))
	}
	return t, nil
}

// Kind returns the tokenizer's name, one of Kinds.
func (t *Tokenizer) Kind() string { return t.kind }

// Size returns the number of ids: all ids are in [0, Size).
func (t *Tokenizer) Size() int { return t.size }

// SOT and EOT return the first and the last id of every encoded text.
func (t *Tokenizer) SOT() int32 { return t.sot }

// EOT is the last id, see SOT.
func (t *Tokenizer) EOT() int32 { return t.eot }

// Encode returns the ids of text from the first special token to the last, without padding.
//
// maxLength is the most ids to return, both specials included: what is too much is cut off before the last one. 0 is no
// limit; less than 2 counts as 2. Bytes that are not UTF-8 count as U+FFFD. The slice is the caller's.
func (t *Tokenizer) Encode(text string, maxLength int) []int32 {
	ids, _ := t.EncodeCut(text, maxLength)
	return ids
}

// EncodeCut does the same and tells whether anything was cut off.
func (t *Tokenizer) EncodeCut(text string, maxLength int) (ids []int32, cut bool) {
	limit := math.MaxInt
	if maxLength != 0 {
		limit = max(maxLength, 2) - 1
	}
	if !utf8.ValidString(text) {
		text = strings.ToValidUTF8(text, string(utf8.RuneError))
	}
	ids = make([]int32, 1, min(limit-1, 14+len(text)/5)+2)
	ids[0] = t.sot
	ids = t.append(ids, text, limit)
	if cut = len(ids) > limit; cut {
		ids = ids[:limit]
	}
	return append(ids, t.eot), cut
}
