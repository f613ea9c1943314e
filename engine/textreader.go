package engine

import (
	"errors"
	"fmt"
	"sync"

	"github.com/tia2-engine/tia2-engine/engine/internal/gguf"
	"github.com/tia2-engine/tia2-engine/engine/internal/tokenizer"
)

// textReader turns a model's texts into ids.
type textReader struct {
	tokenizer *tokenizer.Tokenizer
	bert      bool
	limit     int   // most ids of a text; 0: the context, which C knows
	enc       int32 // [ENC], which may be the first token of a pair; 0: the model has none
	pairToken int32 // the first token of a pair; 0: as the tokenizer has it
	cut       *cutTexts
}

// cutTexts names the texts that were longer than the limit, each once and only the first few of them.
type cutTexts struct {
	reward string // of the model, as its file calls it
	note   func(format string, args ...any)
	sync.Mutex
	names map[string]bool
}

// cutTextsNamed is how many texts are named that were cut.
const cutTextsNamed = 8

// add notes that a text was cut to so many tokens.
func (c *cutTexts) add(text string, limit int) {
	c.Lock()
	defer c.Unlock()
	if len(c.names) > cutTextsNamed || c.names[text] {
		return
	}
	c.names[text] = true
	if len(c.names) > cutTextsNamed {
		c.note("%s: more texts are longer than %d tokens, and were cut; they are not named", c.reward, limit)
		return
	}
	c.note("%s: text %s is longer than %d tokens: the rest was cut off", c.reward, shortened(text), limit)
}

// shortened quotes a text, or its beginning.
func shortened(text string) string {
	if r := []rune(text); len(r) > 60 {
		return fmt.Sprintf("%q...", string(r[:60]))
	}
	return fmt.Sprintf("%q", text)
}

// newTextReader reads the tokenizer.* keys of a file, and what the options change of it.
func newTextReader(g *gguf.File, opt Options) (textReader, error) {
	r := textReader{cut: &cutTexts{reward: g.Str("tia2.reward"), note: opt.logf, names: map[string]bool{}}}
	var err error
	switch kind := g.Str("tokenizer.kind"); kind {
	case "open_clip", "openai", "hf_clip":
		merges, ok := g.Value("tokenizer.merges").([]string)
		if !ok {
			return r, errors.New("key tokenizer.merges: expected an array of strings")
		}
		r.tokenizer, err = tokenizer.New(kind, tokenizer.Vocabulary{Merges: merges})
	case "bert":
		r.bert = true
		err = r.readBERT(g, opt)
	default:
		err = fmt.Errorf("key tokenizer.kind is %q: expected open_clip, openai, hf_clip or bert", kind)
	}
	r.apply(opt)
	return r, err
}

// readBERT reads the keys of BERT's tokenizer.
func (r *textReader) readBERT(g *gguf.File, opt Options) error {
	words, ok := g.Value("tokenizer.words").([]string)
	if !ok {
		return errors.New("key tokenizer.words: expected an array of strings")
	}
	cleaning := g.Str("tokenizer.cleaning")
	if opt.TextCleaning != "" {
		cleaning = opt.TextCleaning
	}
	kind := tokenizer.BERT
	switch cleaning {
	case "", "none":
	case "blip_caption":
		kind = tokenizer.BLIPCaption
	default:
		return fmt.Errorf("key tokenizer.cleaning is %q: expected nothing or blip_caption", cleaning)
	}
	limit, _ := g.Value("tokenizer.max_length").(uint32) // without it nothing is cut
	enc, _ := g.Value("tokenizer.enc").(uint32)
	if limit == 1 || limit > 1<<20 || enc > 1<<30 {
		return fmt.Errorf("keys tokenizer.max_length and .enc are %d and %d: expected a length of 0 or at least 2, and an id", limit, enc)
	}
	r.limit, r.enc = int(limit), int32(enc)
	var err error
	r.tokenizer, err = tokenizer.New(kind, tokenizer.Vocabulary{WordPieces: words})
	return err
}

// apply obeys the options of texts and pairs.
func (r *textReader) apply(opt Options) {
	switch {
	case opt.MaxLength > 0 && r.bert:
		r.limit = opt.MaxLength
	case opt.MaxLength < 0:
		r.limit = 0
	}
	if opt.ITMToken == "enc" {
		r.pairToken = r.enc
	}
}

// fit sets the limit by the model's context.
func (r *textReader) fit(context int) {
	if r.limit == 0 || r.limit > context {
		r.limit = context
	}
}

// end is the id that a text is cut after where it stands in it: CLIP's texts are pooled at the first end-of-text token. -1:
// BERT's are never cut.
func (r *textReader) end() int32 {
	if r.bert {
		return -1
	}
	return r.tokenizer.EOT()
}

// read returns the ids of texts, from the first special token to the last. Equal texts share theirs.
func (r *textReader) read(texts []string) [][]int32 {
	seen := make(map[string][]int32, len(texts))
	ids := make([][]int32, len(texts))
	for i, text := range texts {
		known, ok := seen[text]
		if !ok {
			var cut bool
			if known, cut = r.tokenizer.EncodeCut(text, r.limit); cut {
				r.cut.add(text, r.limit)
			}
			seen[text] = known
		}
		ids[i] = known
	}
	return ids
}
