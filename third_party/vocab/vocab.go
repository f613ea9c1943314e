// Package vocab holds the two public vocabularies that the tokenizers need: the merges of CLIP's byte-pair encoding and
// the word pieces of BERT (bert-base-uncased). README.md says where they come from and what licences they have.
//
// They are embedded compressed, and unpacked once, when they are first asked for.
package vocab

import (
	_ "embed" // for the two lists
	"fmt"
	"strings"
	"sync"

	"github.com/klauspost/compress/zstd"
)

//go:generate go run generate.go

//go:embed clip_merges.txt.zst
var clipMerges []byte

//go:embed bert_word_pieces.txt.zst
var bertWordPieces []byte

// CLIPMergeCount and BERTWordPieceCount are the lengths of the lists.
const (
	CLIPMergeCount     = 48894
	BERTWordPieceCount = 30522
)

// CLIPMerges returns the 48,894 merges that CLIP uses, in order, each as "left right" in the byte alphabet of GPT-2.
// The slice is shared: do not change it.
func CLIPMerges() []string { return unpackedMerges() }

// BERTWordPieces returns the 30,522 word pieces of bert-base-uncased in the order of their ids. The slice is shared: do
// not change it.
func BERTWordPieces() []string { return unpackedPieces() }

var (
	unpackedMerges = sync.OnceValue(func() []string { return unpack("CLIP merges", clipMerges, CLIPMergeCount) })
	unpackedPieces = sync.OnceValue(func() []string { return unpack("BERT word pieces", bertWordPieces, BERTWordPieceCount) })
)

// unpack returns the lines of an embedded list. The lists are part of the program, so damage is a panic.
func unpack(what string, packed []byte, lines int) []string {
	decoder, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1))
	if err != nil {
		panic(fmt.Sprintf("vocab: %s: %v", what, err))
	}
	defer decoder.Close()
	text, err := decoder.DecodeAll(packed, nil)
	if err != nil {
		panic(fmt.Sprintf("vocab: %s: %v", what, err))
	}
	list := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	if len(list) != lines {
		panic(fmt.Sprintf("vocab: %s: %d lines, expected %d", what, len(list), lines))
	}
	return list
}
