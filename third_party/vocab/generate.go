//go:build ignore

// Command generate makes the compressed lists from the original files, whose SHA-256 it checks:
//
//	go run generate.go FOLDER
//
// FOLDER (by default ../../../shared/vocab) holds bpe_simple_vocab_16e6.txt.gz and bert-base-uncased-vocab.txt.
package main

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"

	"github.com/klauspost/compress/zstd"
)

const (
	mergesSHA256 = "924691ac288e54409236115652ad4aa250f48203de50a9e4722a6ecd48d6804a"
	piecesSHA256 = "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3"
	mergeCount   = 49152 - 256 - 2
)

func main() {
	log.SetFlags(0)
	folder := filepath.Join("..", "..", "..", "shared", "vocab")
	if len(os.Args) > 1 {
		folder = os.Args[1]
	}
	merges, err := usedMerges(read(filepath.Join(folder, "bpe_simple_vocab_16e6.txt.gz"), mergesSHA256))
	if err != nil {
		log.Fatal(err)
	}
	write("clip_merges.txt.zst", merges)
	write("bert_word_pieces.txt.zst", read(filepath.Join(folder, "bert-base-uncased-vocab.txt"), piecesSHA256))
}

// read returns a file whose SHA-256 must be the given one.
func read(path, want string) []byte {
	data, err := os.ReadFile(path)
	if err != nil {
		log.Fatal(err)
	}
	if got := fmt.Sprintf("%x", sha256.Sum256(data)); got != want {
		log.Fatalf("%s: SHA-256 %s, expected %s", path, got, want)
	}
	return data
}

// usedMerges unpacks the merges file and leaves out its head line and the merges that CLIP does not use.
func usedMerges(packed []byte) ([]byte, error) {
	unpacked, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(unpacked)
	if err != nil {
		return nil, err
	}
	lines := bytes.SplitAfter(text, []byte("\n"))
	return bytes.Join(lines[1:1+mergeCount], nil), nil
}

func write(name string, text []byte) {
	encoder, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedBestCompression), zstd.WithEncoderConcurrency(1))
	if err != nil {
		log.Fatal(err)
	}
	if err := os.WriteFile(name, encoder.EncodeAll(text, nil), 0o644); err != nil {
		log.Fatal(err)
	}
}
