package tokenizer

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// Vocabulary is what a tokenizer knows of its words.
type Vocabulary struct {
	// Merges of CLIP's byte-pair encoding, in order, each "left right" in the byte alphabet of GPT-2. Ids: 256 bytes,
	// the same at the end of a word, one for each merge, the two specials.
	Merges []string
	// Size is the number of ids of a CLIP vocabulary; 0 is as many as there are.
	Size int
	// SOT and EOT are the special ids of a CLIP vocabulary; both 0 stand for the two that follow the merges.
	SOT, EOT int32
	// WordPieces of BERT in the order of their ids; pieces inside a word begin with "##".
	WordPieces []string
}

// wordEnd marks the symbols that end a word.
const wordEnd = "</w>"

// byteSymbols is the number of symbols before the first merge: the bytes, and the bytes that end a word.
const byteSymbols = 512

// ParseMerges reads the lines of a merges file ("left right" each; a first line "#version: …" or in quotes is skipped).
// Errors name the line, counted from 1.
func ParseMerges(data []byte) ([]string, error) {
	if !utf8.Valid(data) {
		return nil, errors.New("merges: expected UTF-8 text")
	}
	var merges []string
	line := 0
	for text := range bytes.Lines(data) {
		line++
		entry := strings.TrimRight(string(text), "\r\n")
		if line == 1 && (strings.Contains(entry, "#version") || entry == "") {
			continue
		}
		if _, _, err := splitMerge(entry); err != nil {
			return nil, fmt.Errorf("merges: line %d: %w", line, err)
		}
		merges = append(merges, entry)
	}
	return merges, nil
}

// ParseWordPieces reads a vocab.txt of BERT: one piece a line. Errors name the line, counted from 1.
func ParseWordPieces(data []byte) ([]string, error) {
	if !utf8.Valid(data) {
		return nil, errors.New("word pieces: expected UTF-8 text")
	}
	var pieces []string
	for text := range bytes.Lines(data) {
		piece := strings.TrimRight(string(text), "\r\n")
		if piece == "" {
			return nil, fmt.Errorf("word pieces: line %d is empty, expected a piece", len(pieces)+1)
		}
		pieces = append(pieces, piece)
	}
	return pieces, nil
}

// splitMerge takes "left right" apart.
func splitMerge(entry string) (left, right string, err error) {
	left, right, ok := strings.Cut(entry, " ")
	if !ok || left == "" || right == "" || strings.ContainsAny(right, " \t") {
		return "", "", fmt.Errorf("%.80q: expected two symbols with one space between them", entry)
	}
	return left, right, nil
}

// byteAlphabet returns the printable characters that stand for the 256 bytes in merges, in the order of their ids, and
// the bytes themselves: the printable ones of Latin-1 stand for themselves, the rest are U+0100 and up.
//
// Source: openai/CLIP simple_tokenizer.py, bytes_to_unicode.
func byteAlphabet() (symbols []string, order []byte) {
	printable := func(b int) bool {
		return b >= '!' && b <= '~' || b >= 0xa1 && b <= 0xac || b >= 0xae
	}
	for b := range 256 {
		if printable(b) {
			symbols, order = append(symbols, string(rune(b))), append(order, byte(b))
		}
	}
	for b := range 256 {
		if !printable(b) {
			symbols, order = append(symbols, string(rune(len(order)-188+0x100))), append(order, byte(b))
		}
	}
	return symbols, order
}
