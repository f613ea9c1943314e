package engine

import (
	"fmt"

	"github.com/tia2-engine/tia2-engine/engine/internal/tokenizer"
	"github.com/tia2-engine/tia2-engine/third_party/vocab"
)

// TokenizerNames are the names that NewTokenizer takes.
func TokenizerNames() []string { return append([]string(nil), tokenizer.Kinds...) }

// Tokenizer turns texts into the token ids that the reference tokenizers give, id for id. It may be used from many
// goroutines.
type Tokenizer struct {
	t *tokenizer.Tokenizer
}

// NewTokenizer returns a tokenizer with the public vocabulary, which is part of the program:
//
//	clip          open_clip 3.3's SimpleTokenizer (ftfy, HTML entities, lower case, byte pairs)
//	openai        openai/CLIP's: the same, with other literal special tokens
//	clip-hf       Hugging Face's fast CLIPTokenizer (no ftfy, no entities)
//	bert          Hugging Face's fast BertTokenizer, uncased
//	blip-caption  LAVIS's blip_caption text processor, then bert
//
// Making one takes 20 ms for CLIP, so keep it. A model's own tokenizer, which it uses for its texts, may have another
// vocabulary.
func NewTokenizer(name string) (*Tokenizer, error) {
	var v tokenizer.Vocabulary
	switch name {
	case tokenizer.BERT, tokenizer.BLIPCaption:
		v.WordPieces = vocab.BERTWordPieces()
	default: // New refuses names that it does not know
		v.Merges = vocab.CLIPMerges()
	}
	t, err := tokenizer.New(name, v)
	if err != nil {
		return nil, fmt.Errorf("tia2: %w", err)
	}
	return &Tokenizer{t: t}, nil
}

// Encode returns the token ids of text from the first special token to the last, without padding.
//
// maxLength is the most ids to return, the two specials included: 77 for CLIP, 35 for BLIP and ImageReward; 0 cuts
// nothing. What is too much is cut off before the last special. Bytes of text that are not UTF-8 count as U+FFFD. It is
// an error if maxLength is negative or 1, since two specials do not fit.
func (t *Tokenizer) Encode(text string, maxLength int) ([]int32, error) {
	if maxLength < 0 || maxLength == 1 {
		return nil, fmt.Errorf("tia2: tokenizer %s: maximal length %d, expected 0 or at least 2", t.t.Kind(), maxLength)
	}
	return t.t.Encode(text, maxLength), nil
}

// VocabularySize returns the number of ids: all that Encode returns are in [0, VocabularySize).
func (t *Tokenizer) VocabularySize() int { return t.t.Size() }
