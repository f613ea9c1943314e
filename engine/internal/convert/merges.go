package convert

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/tia2-engine/tia2-engine/engine/internal/tensorfile"
	"github.com/tia2-engine/tia2-engine/third_party/vocab"
)

// clipTokenizer returns the family's function that takes the merges from the tokenizer files of dir, else the embedded ones.
func clipTokenizer(kind string) func(dir string, s *Spec) (*Tokenizer, error) {
	return func(dir string, s *Spec) (*Tokenizer, error) { return readTokenizer(kind, dir, s) }
}

// readTokenizer takes the merges from the tokenizer files of dir ("": none), else the embedded ones.
func readTokenizer(kind, dir string, spec *Spec) (*Tokenizer, error) {
	merges, from, err := findMerges(dir)
	if err != nil {
		return nil, err
	}
	if merges == nil {
		merges, from = vocab.CLIPMerges(), embedded
	}
	t := &Tokenizer{Kind: kind, Merges: merges, VocabSize: 512 + len(merges) + 2, Source: from}
	t.SOT, t.EOT = t.VocabSize-2, t.VocabSize-1
	if t.VocabSize != spec.VocabSize {
		return nil, fmt.Errorf("the model has %d tokens, the tokenizer (%s) %d: put the model's own tokenizer.json or merges.txt beside it", spec.VocabSize, from, t.VocabSize)
	}
	return t, nil
}

// findMerges reads tokenizer.json, merges.txt (checked against vocab.json) or OpenAI's list, the first that is there.
func findMerges(dir string) (merges []string, from string, err error) {
	if dir == "" {
		return nil, "", nil
	}
	for _, c := range []struct {
		name string
		read func(path string) ([]string, error)
	}{{"tokenizer.json", readTokenizerJSON}, {"merges.txt", readMergesText}, {"bpe_simple_vocab_16e6.txt.gz", readMergesText}} {
		path := filepath.Join(dir, c.name)
		if !isFile(path) {
			continue
		}
		merges, err := c.read(path)
		if err == nil {
			err = checkMerges(merges)
		}
		if err != nil {
			return nil, "", fmt.Errorf("%s: %w", path, err)
		}
		return merges, c.name, nil
	}
	return nil, "", nil
}

// readTokenizerJSON reads the merges of a tokenizers file and checks that its ids are those of CLIP's scheme.
func readTokenizerJSON(path string) ([]string, error) {
	b, err := tensorfile.ReadSmall(path)
	if err != nil {
		return nil, err
	}
	var file struct {
		Model struct {
			Type   string            `json:"type"`
			Suffix string            `json:"end_of_word_suffix"`
			Vocab  map[string]int    `json:"vocab"`
			Merges []json.RawMessage `json:"merges"`
		} `json:"model"`
	}
	if err := json.Unmarshal(b, &file); err != nil {
		return nil, err
	}
	if m := &file.Model; m.Type != "BPE" && m.Type != "" || m.Suffix != "</w>" {
		return nil, fmt.Errorf("model %q with end_of_word_suffix %q: expected BPE with </w>, as CLIP has it", m.Type, m.Suffix)
	}
	var merges []string
	for _, raw := range file.Model.Merges { // "a b", or since 2024 ["a", "b"]
		var pair []string
		var line string
		if json.Unmarshal(raw, &pair) == nil && len(pair) == 2 {
			line = pair[0] + " " + pair[1]
		} else if err := json.Unmarshal(raw, &line); err != nil {
			return nil, fmt.Errorf("merge %s: expected a text or two", short(raw))
		}
		merges = append(merges, line)
	}
	return merges, checkVocab(file.Model.Vocab, merges)
}

// readMergesText reads one merge a line after a head line; OpenAI's gzipped list is longer than what CLIP uses.
func readMergesText(path string) ([]string, error) {
	b, err := tensorfile.ReadSmall(path)
	if err != nil {
		return nil, err
	}
	if strings.HasSuffix(path, ".gz") {
		z, err := gzip.NewReader(bytes.NewReader(b))
		if err != nil {
			return nil, err
		}
		if b, err = io.ReadAll(io.LimitReader(z, 64<<20)); err != nil {
			return nil, err
		}
	}
	lines := strings.Split(strings.TrimRight(string(b), "\n"), "\n")
	if len(lines) > 0 && (strings.HasPrefix(lines[0], "#version") || strings.Contains(lines[0], "bpe_simple_vocab")) {
		lines = lines[1:]
	}
	if strings.HasSuffix(path, ".gz") && len(lines) > vocab.CLIPMergeCount {
		lines = lines[:vocab.CLIPMergeCount]
	}
	for i := range lines {
		lines[i] = strings.TrimSuffix(lines[i], "\r")
	}
	ids := filepath.Join(filepath.Dir(path), "vocab.json")
	if !isFile(ids) {
		return lines, nil
	}
	if b, err = tensorfile.ReadSmall(ids); err != nil {
		return nil, err
	}
	var table map[string]int
	if err := json.Unmarshal(b, &table); err != nil {
		return nil, fmt.Errorf("vocab.json: %w", err)
	}
	return lines, checkVocab(table, lines)
}

// checkMerges refuses lines that are no pair.
func checkMerges(merges []string) error {
	if len(merges) == 0 || len(merges) > maxVocab {
		return fmt.Errorf("%d merges", len(merges))
	}
	for i, m := range merges {
		a, b, ok := strings.Cut(m, " ")
		if !ok || a == "" || b == "" || strings.Contains(b, " ") {
			return fmt.Errorf("merge %d is %.60q: expected two pieces with a space between", i, m)
		}
	}
	return nil
}

// checkVocab demands that the ids are those that CLIP's scheme gives.
func checkVocab(table map[string]int, merges []string) error {
	if len(table) == 0 {
		return errors.New("no vocabulary")
	}
	next := 0
	check := func(piece string) error {
		if id, ok := table[piece]; !ok || id != next {
			return fmt.Errorf("token %.60q has id %d: expected %d, as in CLIP's scheme", piece, id, next)
		}
		next++
		return nil
	}
	for _, end := range []string{"", "</w>"} {
		for _, r := range byteAlphabet() {
			if err := check(string(r) + end); err != nil {
				return err
			}
		}
	}
	for _, m := range merges {
		if err := check(strings.Replace(m, " ", "", 1)); err != nil {
			return err
		}
	}
	return nil
}

// byteAlphabet returns GPT-2's characters for the 256 bytes, in the order in which CLIP numbers them: printable ones
// stand for themselves and come first.
func byteAlphabet() []rune {
	printable := func(b int) bool { return b >= '!' && b <= '~' || b >= 0xa1 && b <= 0xac || b >= 0xae }
	var first, rest []rune
	for b := range 256 {
		if printable(b) {
			first = append(first, rune(b))
		} else {
			rest = append(rest, rune(256+len(rest)))
		}
	}
	return append(first, rest...)
}
