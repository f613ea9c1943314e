package tokenizer

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/tia2-engine/tia2-engine/internal/sharedtest"
	"github.com/tia2-engine/tia2-engine/third_party/vocab"
)

// public makes a tokenizer with the embedded vocabularies, each once for all tests.
var public = func() func(t testing.TB, kind string) *Tokenizer {
	var made sync.Map
	return func(t testing.TB, kind string) *Tokenizer {
		t.Helper()
		if known, ok := made.Load(kind); ok {
			return known.(*Tokenizer)
		}
		tok, err := New(kind, Vocabulary{Merges: vocab.CLIPMerges(), WordPieces: vocab.BERTWordPieces()})
		if err != nil {
			t.Fatal(err)
		}
		made.Store(kind, tok)
		return tok
	}
}()

// lines reads a file of JSON objects, one a line, and calls check with each.
func lines[T any](t testing.TB, path string, check func(line int, v T)) int {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	scan := bufio.NewScanner(bytes.NewReader(data))
	scan.Buffer(nil, 1<<20)
	for scan.Scan() {
		n++
		var v T
		if err := json.Unmarshal(scan.Bytes(), &v); err != nil {
			t.Fatalf("%s: line %d: %v", path, n, err)
		}
		check(n, v)
	}
	if err := scan.Err(); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return n
}

// same fails the test unless the ids of text are those expected.
func same(t testing.TB, kind, text string, maxLength int, want []int32) {
	t.Helper()
	if got := public(t, kind).Encode(text, maxLength); !slices.Equal(got, want) {
		t.Errorf("%s: Encode(%+q, %d) = %v, expected %v", kind, text, maxLength, got, want)
	}
}

// TestVectors compares with the reference tokenizers; testdata/make_vectors.py wrote the file.
func TestVectors(t *testing.T) {
	path := filepath.Join("testdata", "vectors.jsonl")
	if folder := os.Getenv("TIA2_VECTORS"); folder != "" {
		path = filepath.Join(folder, "tokenizer", path)
	}
	type vector struct {
		Text        string
		CLIP        []int32 `json:"clip"`
		OpenAI      []int32 `json:"openai"`
		CLIPHF      []int32 `json:"clip-hf"`
		BERT        []int32 `json:"bert"`
		BLIPCaption []int32 `json:"blip-caption"`
	}
	n := lines(t, path, func(line int, v vector) {
		same(t, CLIP, v.Text, 77, v.CLIP)
		same(t, OpenAI, v.Text, 77, v.OpenAI)
		same(t, CLIPHF, v.Text, 77, v.CLIPHF)
		same(t, BERT, v.Text, 35, v.BERT)
		same(t, BLIPCaption, v.Text, 35, v.BLIPCaption)
	})
	if n < 400 {
		t.Errorf("%d vectors, expected 400 or more", n)
	}
}

// TestGolden compares with the golden token ids. The group new_unicode is for information there: what its letters are
// depends on the releases of Python and Rust; with those that make_tables.py was run with, it agrees as well.
func TestGolden(t *testing.T) {
	type golden struct {
		Text, Cat      string
		OpenCLIP       []int32 `json:"open_clip"`
		OpenCLIPN      int     `json:"open_clip_n"`
		HFCLIP         []int32 `json:"hf_clip"`
		BERT           []int32 `json:"bert"`
		BERTFull       []int32 `json:"bert_full"`
		BLIPCaption    string  `json:"blip_caption"`
		BLIPCaptionIDs []int32 `json:"blip_caption_ids"`
	}
	n := lines(t, sharedtest.Path(t, "golden", "tokens", "tokens.jsonl"), func(line int, v golden) {
		if v.Cat == "new_unicode" {
			return
		}
		same(t, CLIP, v.Text, 77, v.OpenCLIP)
		if got := len(public(t, CLIP).Encode(v.Text, 0)); got != v.OpenCLIPN {
			t.Errorf("clip: Encode(%+q, 0): %d ids, expected %d", v.Text, got, v.OpenCLIPN)
		}
		same(t, CLIPHF, v.Text, 77, v.HFCLIP)
		same(t, BERT, v.Text, 35, v.BERT)
		same(t, BERT, v.Text, 0, v.BERTFull)
		same(t, BLIPCaption, v.Text, 35, v.BLIPCaptionIDs)
		if got := cleanCaption(v.Text); got != v.BLIPCaption {
			t.Errorf("cleanCaption(%+q) = %+q, expected %+q", v.Text, got, v.BLIPCaption)
		}
	})
	if n < 500 {
		t.Errorf("%d golden lines, expected 500 or more", n)
	}
}

func TestEncode(t *testing.T) {
	const sot, eot = 49406, 49407
	for _, c := range []struct {
		name, kind, text string
		maxLength        int
		want             []int32
	}{
		{"empty", CLIP, "", 0, []int32{sot, eot}},
		{"empty bert", BERT, "", 0, []int32{101, 102}},
		{"words", CLIP, "A photo of  a CAT", 77, []int32{sot, 320, 1125, 539, 320, 2368, eot}},
		{"cut", CLIP, "a photo of a cat", 4, []int32{sot, 320, 1125, eot}},
		{"cut hf", CLIPHF, "a photo of a cat", 4, []int32{sot, 320, 1125, eot}},
		{"as long as allowed", CLIP, "a photo", 4, []int32{sot, 320, 1125, eot}},
		{"the least", CLIP, "a photo", 2, []int32{sot, eot}},
		{"less than the least", BERT, "a photo", 1, []int32{101, 102}},
		{"negative", BERT, "a photo", -7, []int32{101, 102}},
		{"special of open_clip", CLIP, "<END_of_text>", 0, []int32{sot, eot, eot}},
		{"special of openai", OpenAI, "<|endoftext|>", 0, []int32{sot, eot, eot}},
		{"special inside a run", CLIPHF, "!<|endoftext|>", 0, []int32{sot, 256, eot, eot}},
		{"specials of bert", BERT, "[SEP] [sep][MASK]", 0, []int32{101, 102, 1031, 19802, 1033, 103, 102}},
		{"not UTF-8", BERT, "a\xffb", 0, []int32{101, 11113, 102}},
		{"long word", BERT, strings.Repeat("a", 101) + " a", 0, []int32{101, 100, 1037, 102}},
	} {
		t.Run(c.name, func(t *testing.T) { same(t, c.kind, c.text, c.maxLength, c.want) })
	}
}

func TestNames(t *testing.T) {
	v := Vocabulary{Merges: vocab.CLIPMerges(), WordPieces: vocab.BERTWordPieces()}
	for name, want := range map[string]string{CLIP: CLIP, "open_clip": CLIP, "hf_clip": CLIPHF, BLIPCaption: BLIPCaption} {
		tok, err := New(name, v)
		if err != nil || tok.Kind() != want {
			t.Errorf("New(%q): %v, expected kind %s", name, err, want)
		}
	}
	_, err := New("gpt2", v)
	if err == nil || !strings.Contains(err.Error(), "clip, clip-hf") {
		t.Errorf("New(gpt2): %v, expected the known kinds", err)
	}
	if tok := public(t, CLIP); tok.Size() != 49408 || tok.SOT() != 49406 || tok.EOT() != 49407 {
		t.Errorf("clip: size %d, specials %d and %d; expected 49408, 49406, 49407", tok.Size(), tok.SOT(), tok.EOT())
	}
	if tok := public(t, BERT); tok.Size() != 30522 || tok.SOT() != 101 || tok.EOT() != 102 {
		t.Errorf("bert: size %d, specials %d and %d; expected 30522, 101, 102", tok.Size(), tok.SOT(), tok.EOT())
	}
}

// TestConcurrent encodes from several goroutines, with more words than the cache holds.
func TestConcurrent(t *testing.T) {
	for _, kind := range []string{CLIP, BERT} {
		tok, err := New(kind, Vocabulary{Merges: vocab.CLIPMerges(), WordPieces: vocab.BERTWordPieces()})
		if err != nil {
			t.Fatal(err)
		}
		var group sync.WaitGroup
		for range 4 {
			group.Go(func() {
				for i := range 3 * cacheWordsMax {
					text := strings.Repeat("x", i%7) + "cat" + string(rune('a'+i%26)) + strings.Repeat("yz", i%11) + " dog"
					if ids := tok.Encode(text, 77); ids[0] != tok.SOT() || ids[len(ids)-1] != tok.EOT() {
						t.Errorf("%s: Encode(%q) = %v", kind, text, ids)
					}
				}
			})
		}
		group.Wait()
	}
}

func TestCacheIsBounded(t *testing.T) {
	c := newCache()
	word := make([]byte, 3)
	for i := range 3 * cacheShards * cacheWordsMax {
		word[0], word[1], word[2] = byte(i), byte(i>>8), byte(i>>16)
		c.put(word, []int32{int32(i)})
		if ids, ok := c.get(word); !ok || !slices.Equal(ids, []int32{int32(i)}) {
			t.Fatalf("word %d: %v %v, expected what was put", i, ids, ok)
		}
	}
	for i := range c.shards {
		if n := len(c.shards[i].words); n > cacheWordsMax {
			t.Errorf("shard %d: %d words, expected at most %d", i, n, cacheWordsMax)
		}
	}
	long := make([]byte, cacheWordBytes+1)
	c.put(long, []int32{1})
	if _, ok := c.get(long); ok {
		t.Errorf("a word of %d bytes was kept, expected at most %d", len(long), cacheWordBytes)
	}
}

// tia2Texts are the prompts and contrastive prompts of TIA2.
func tia2Texts(t testing.TB) []string {
	t.Helper()
	seen := map[string]bool{}
	var texts []string
	for _, name := range []string{"composition", "comprehensive", "counting"} {
		data, err := os.ReadFile(sharedtest.Path(t, "tia2", "prompts", "prompt_set_"+name+".json"))
		if err != nil {
			t.Fatal(err)
		}
		var set map[string][]string
		if err := json.Unmarshal(data, &set); err != nil {
			t.Fatalf("prompt_set_%s.json: %v", name, err)
		}
		for prompt, others := range set {
			for _, text := range append([]string{prompt}, others...) {
				if !seen[text] {
					seen[text] = true
					texts = append(texts, text)
				}
			}
		}
	}
	slices.Sort(texts)
	return texts
}

// TestTIA2 compares the ids of all of TIA2's texts with those of the references, by their SHA-256: the texts sorted,
// a line of decimal ids for each. CLIP's three tokenizers agree on them.
func TestTIA2(t *testing.T) {
	const clip = "1eea175d485df55918580bc1607ddc7fce2493d533cfb75e3cf4922b9b158fab"
	texts := tia2Texts(t)
	if len(texts) != 7830 {
		t.Errorf("%d texts, expected 7830", len(texts))
	}
	for kind, want := range map[string]string{
		CLIP:        clip,
		OpenAI:      clip,
		CLIPHF:      clip,
		BERT:        "bbc2d1b03f447d6abb9981418e2a6f20d8d18fea78329d5080abc90d5635014b",
		BLIPCaption: "b3f492b6d7930bd459155aa350fec478cac32bfbb7c21ace563077dfa6f6b371",
	} {
		sum := sha256.New()
		for _, text := range texts {
			ids := fmt.Sprint(public(t, kind).Encode(text, 0))
			fmt.Fprintln(sum, strings.Trim(ids, "[]"))
		}
		if got := fmt.Sprintf("%x", sum.Sum(nil)); got != want {
			t.Errorf("%s: SHA-256 %s of the ids, expected %s", kind, got, want)
		}
	}
}

// BenchmarkEncode encodes TIA2's 7,830 texts an iteration.
func BenchmarkEncode(b *testing.B) {
	texts := tia2Texts(b)
	for _, kind := range Kinds {
		tok := public(b, kind)
		b.Run(kind, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				for _, text := range texts {
					tok.Encode(text, 77)
				}
			}
			b.ReportMetric(float64(b.N*len(texts))/b.Elapsed().Seconds(), "texts/s")
		})
	}
}

// BenchmarkMerge is the byte-pair encoding without its cache.
func BenchmarkMerge(b *testing.B) {
	v, err := newBPE(Vocabulary{Merges: vocab.CLIPMerges()}, false)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		v.merge(nil, []byte("supercalifragilistic"))
	}
}

// BenchmarkNew is the making of a tokenizer, the unpacking of the vocabulary left out.
func BenchmarkNew(b *testing.B) {
	v := Vocabulary{Merges: vocab.CLIPMerges(), WordPieces: vocab.BERTWordPieces()}
	for _, kind := range []string{CLIP, BERT} {
		b.Run(kind, func(b *testing.B) {
			for b.Loop() {
				if _, err := New(kind, v); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
