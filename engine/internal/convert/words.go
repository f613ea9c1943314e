package convert

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/tia2-engine/tia2-engine/engine/internal/tensorfile"
	"github.com/tia2-engine/tia2-engine/engine/internal/tokenizer"
	"github.com/tia2-engine/tia2-engine/third_party/vocab"
)

// bertTokenizer is how a layout's reference uses BERT's tokenizer.
type bertTokenizer struct {
	maxLength int
	cleaning  string
	enc       bool // [ENC] may stand for [CLS]
}

// read takes the words from vocab.txt or tokenizer.json in dir ("": none), else the embedded ones of bert-base-uncased.
func (b bertTokenizer) read(dir string, s *Spec) (*Tokenizer, error) {
	words, from, err := findWords(dir)
	if err != nil {
		return nil, err
	}
	if words == nil {
		words, from = vocab.BERTWordPieces(), embedded
	}
	t := &Tokenizer{Kind: tokenizerBERT, Words: words, VocabSize: len(words), MaxLength: b.maxLength, Cleaning: b.cleaning, Source: from}
	if b.enc && len(words)+1 < s.VocabSize { // [DEC] is the id before
		t.ENC = len(words) + 1
	}
	if len(words) > s.VocabSize {
		return nil, fmt.Errorf("the model has %d tokens, the tokenizer (%s) %d: put the model's own vocab.txt beside it", s.VocabSize, from, len(words))
	}
	return t, nil
}

// findWords reads vocab.txt or tokenizer.json, the first that is there, without the tokens that BLIP adds.
func findWords(dir string) (words []string, from string, err error) {
	if dir == "" {
		return nil, "", nil
	}
	if err := checkUncased(filepath.Join(dir, "tokenizer_config.json")); err != nil {
		return nil, "", err
	}
	for _, c := range []struct {
		name string
		read func(path string) ([]string, error)
	}{{"vocab.txt", readWordsText}, {"tokenizer.json", readWordsJSON}} {
		path := filepath.Join(dir, c.name)
		if !isFile(path) {
			continue
		}
		if words, err = c.read(path); err != nil {
			return nil, "", fmt.Errorf("%s: %w", path, err)
		}
		for n := len(words); n > 0 && (words[n-1] == "[DEC]" || words[n-1] == "[ENC]"); n = len(words) {
			words = words[:n-1]
		}
		if len(words) == 0 || !slices.Contains(words, "[CLS]") || !slices.Contains(words, "[SEP]") || !slices.Contains(words, "[UNK]") {
			return nil, "", fmt.Errorf("%s: %d words: expected a vocabulary of BERT, with [CLS], [SEP] and [UNK]", path, len(words))
		}
		return words, c.name, nil
	}
	return nil, "", nil
}

// checkUncased refuses what tokenizer_config.json may say against BERT's uncased tokenizer.
func checkUncased(path string) error {
	if !isFile(path) {
		return nil
	}
	f, err := readFields(path)
	if err != nil {
		return err
	}
	f.onlyDefault(map[string]string{"do_lower_case": "true", "do_basic_tokenize": "true", "tokenize_chinese_chars": "true"})
	if !f.boolean("strip_accents", true) {
		f.fail("strip_accents", "false is not supported: expected true or null")
	}
	return *f.err
}

// readWordsText reads a word a line.
func readWordsText(path string) ([]string, error) {
	b, err := tensorfile.ReadSmall(path)
	if err != nil {
		return nil, err
	}
	return tokenizer.ParseWordPieces(b)
}

// readWordsJSON reads the words of a tokenizers file in the order of their ids, which must be 0, 1, 2, ...
func readWordsJSON(path string) ([]string, error) {
	b, err := tensorfile.ReadSmall(path)
	if err != nil {
		return nil, err
	}
	var file struct {
		Model struct {
			Type  string         `json:"type"`
			Vocab map[string]int `json:"vocab"`
		} `json:"model"`
		Normalizer struct {
			Lowercase *bool `json:"lowercase"`
		} `json:"normalizer"`
	}
	if err := json.Unmarshal(b, &file); err != nil {
		return nil, err
	}
	if file.Model.Type != "WordPiece" {
		return nil, fmt.Errorf("model %q: expected WordPiece, as BERT has it", file.Model.Type)
	}
	if l := file.Normalizer.Lowercase; l != nil && !*l {
		return nil, errors.New("normalizer.lowercase is false: expected BERT's uncased tokenizer")
	}
	words := make([]string, len(file.Model.Vocab))
	for word, id := range file.Model.Vocab {
		if id < 0 || id >= len(words) || words[id] != "" || word == "" || strings.ContainsAny(word, "\r\n") {
			return nil, fmt.Errorf("word %.60q has id %d: expected ids 0 to %d, each once", word, id, len(words)-1)
		}
		words[id] = word
	}
	return words, nil
}
