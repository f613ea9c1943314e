package tokenizer

import (
	"slices"
	"strings"
	"testing"
)

func TestOwnMerges(t *testing.T) {
	merges := []string{"a b", "ab c</w>", "c a", "ca b"}
	for _, c := range []struct {
		name, kind string
		v          Vocabulary
		text       string
		want       []int32
	}{
		// Ids: a 64, b 65, c 66, b</w> 321, c</w> 322; merges from 512; specials after them.
		{"merges", CLIP, Vocabulary{Merges: merges}, "abc", []int32{516, 513, 517}},
		{"lowest rank first", CLIP, Vocabulary{Merges: merges}, "cabb", []int32{516, 66, 512, 321, 517}},
		{"every pair", CLIP, Vocabulary{Merges: []string{"a a"}}, "aaaaa", []int32{513, 512, 512, 320, 514}},
		{"no merges", CLIPHF, Vocabulary{}, "ab", []int32{512, 64, 321, 513}},
		{"larger size", CLIP, Vocabulary{Merges: merges, Size: 600, SOT: 598, EOT: 599}, "c", []int32{598, 322, 599}},
		{"a symbol made twice", CLIPHF, Vocabulary{Merges: []string{"a b", "b a", "ab a", "a ba"}}, "aba", []int32{515, 512, 320, 516}},
	} {
		t.Run(c.name, func(t *testing.T) {
			tok, err := New(c.kind, c.v)
			if err != nil {
				t.Fatal(err)
			}
			if got := tok.Encode(c.text, 0); !slices.Equal(got, c.want) {
				t.Errorf("Encode(%q) = %v, expected %v", c.text, got, c.want)
			}
		})
	}
}

func TestDamagedVocabulary(t *testing.T) {
	pieces := []string{"[PAD]", "[UNK]", "[CLS]", "[SEP]", "a"}
	for _, c := range []struct {
		name, kind string
		v          Vocabulary
		want       string
	}{
		{"one symbol", CLIP, Vocabulary{Merges: []string{"a b", "ab"}}, `merge 2: "ab": expected two symbols`},
		{"three symbols", CLIP, Vocabulary{Merges: []string{"a b c"}}, `merge 1: "a b c": expected two symbols`},
		{"unknown symbol", CLIP, Vocabulary{Merges: []string{"a b", "th e"}}, `merge 2: "th e": expected "th" to be a byte or made by an earlier merge`},
		{"out of order", CLIPHF, Vocabulary{Merges: []string{"ab c", "a b"}}, `merge 1: "ab c": expected "ab"`},
		{"repeated", CLIP, Vocabulary{Merges: []string{"a b", "a b"}}, `merge 2: "a b": the same as merge 1`},
		{"same symbol", CLIP, Vocabulary{Merges: []string{"a b", "b a", "ab a", "a ba"}}, `merge 4: "a ba": its symbol has the id 514 already`},
		{"size too small", CLIP, Vocabulary{Merges: []string{"a b"}, Size: 514}, "special ids 513 and 514 of 514"},
		{"special among symbols", CLIP, Vocabulary{Merges: []string{"a b"}, SOT: 512, EOT: 513}, "expected them after the 513 symbols"},
		{"same specials", CLIP, Vocabulary{SOT: 512, EOT: 512}, "expected two different ones"},
		{"negative special", CLIP, Vocabulary{SOT: -1, EOT: 512}, "special ids -1 and 512"},
		{"no word pieces", BERT, Vocabulary{}, "0 word pieces: [CLS] is missing"},
		{"missing special", BERT, Vocabulary{WordPieces: pieces[:3]}, "[SEP] is missing"},
		{"empty piece", BLIPCaption, Vocabulary{WordPieces: append(slices.Clone(pieces), "")}, "word piece 5 is empty"},
		{"repeated piece", BERT, Vocabulary{WordPieces: append(slices.Clone(pieces), "a")}, `word piece 5: "a": the same as word piece 4`},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := New(c.kind, c.v)
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), c.kind) {
				t.Errorf("error %v, expected %q and the kind", err, c.want)
			}
		})
	}
}

func TestParseMerges(t *testing.T) {
	for _, c := range []struct {
		name, data string
		want       []string
		err        string
	}{
		{"with a head line", "#version: 0.2\na b\nab c</w>\n", []string{"a b", "ab c</w>"}, ""},
		{"with the head line of OpenAI", "\"bpe_simple_vocab_16e6.txt#version: 0.2\na b", []string{"a b"}, ""},
		{"without", "a b\r\nb c\r\n", []string{"a b", "b c"}, ""},
		{"a merge of #", "# #\n", []string{"# #"}, ""},
		{"empty", "", nil, ""},
		{"empty line", "a b\n\nb c\n", nil, "merges: line 2: \"\": expected two symbols"},
		{"one symbol", "#version: 0.2\na b\nab\n", nil, "merges: line 3: \"ab\": expected two symbols"},
		{"binary", "a \xff\n", nil, "merges: expected UTF-8"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := ParseMerges([]byte(c.data))
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Errorf("error %v, expected %q", err, c.err)
				}
				return
			}
			if err != nil || !slices.Equal(got, c.want) {
				t.Errorf("%q, %v; expected %q", got, err, c.want)
			}
		})
	}
}

func TestParseWordPieces(t *testing.T) {
	got, err := ParseWordPieces([]byte("[PAD]\r\na\n##b"))
	if err != nil || !slices.Equal(got, []string{"[PAD]", "a", "##b"}) {
		t.Errorf("%q, %v; expected three pieces", got, err)
	}
	for data, want := range map[string]string{"a\n\nb\n": "word pieces: line 2 is empty", "a\n\xff": "word pieces: expected UTF-8"} {
		if _, err := ParseWordPieces([]byte(data)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("ParseWordPieces(%q): %v, expected %q", data, err, want)
		}
	}
}

func TestByteAlphabet(t *testing.T) {
	symbols, order := byteAlphabet()
	sorted := slices.Clone(order)
	slices.Sort(sorted)
	if len(symbols) != 256 || len(slices.Compact(sorted)) != 256 {
		t.Fatalf("%d symbols of %d bytes, expected 256 different ones", len(symbols), len(order))
	}
	for i, want := range map[int]string{0: "!", 93: "~", 94: "¡", 187: "ÿ", 188: "Ā", 220: "Ġ", 255: "Ń"} {
		if symbols[i] != want {
			t.Errorf("symbol %d is %q, expected %q", i, symbols[i], want)
		}
	}
}

// fuzzEncode checks that a tokenizer neither panics nor returns ids out of range, and is deterministic.
func fuzzEncode(f *testing.F, kind string) {
	tok := public(f, kind)
	for _, seed := range []string{"a cat", "", "it's", "âœ” &amp; <|endoftext|>", "[SEP] naïve 日本", "\xff\x00", "İΣ'ſ", "!<end_of_text>"} {
		f.Add(seed, 77)
	}
	f.Fuzz(func(t *testing.T, text string, maxLength int) {
		full := tok.Encode(text, 0)
		for _, id := range full {
			if id < 0 || int(id) >= tok.Size() {
				t.Errorf("id %d, expected below %d", id, tok.Size())
			}
		}
		if full[0] != tok.SOT() || full[len(full)-1] != tok.EOT() {
			t.Errorf("%v: expected %d first and %d last", full, tok.SOT(), tok.EOT())
		}
		cut := tok.Encode(text, maxLength)
		want := full
		if limit := max(maxLength, 2); maxLength != 0 && len(full) > limit {
			want = append(slices.Clone(full[:limit-1]), tok.EOT())
		}
		if !slices.Equal(cut, want) {
			t.Errorf("Encode(%q, %d) = %v, expected %v", text, maxLength, cut, want)
		}
	})
}

func FuzzEncodeCLIP(f *testing.F)        { fuzzEncode(f, CLIP) }
func FuzzEncodeOpenAI(f *testing.F)      { fuzzEncode(f, OpenAI) }
func FuzzEncodeCLIPHF(f *testing.F)      { fuzzEncode(f, CLIPHF) }
func FuzzEncodeBERT(f *testing.F)        { fuzzEncode(f, BERT) }
func FuzzEncodeBLIPCaption(f *testing.F) { fuzzEncode(f, BLIPCaption) }

func FuzzParseMerges(f *testing.F) {
	for _, seed := range []string{"#version: 0.2\na b\nab c</w>\n", "a b\na b\n", "a\n", "Ġ a\n", "\xff"} {
		f.Add([]byte(seed), 0, int32(0), int32(0))
	}
	f.Fuzz(func(t *testing.T, data []byte, size int, sot, eot int32) {
		merges, err := ParseMerges(data)
		if err != nil {
			return
		}
		for _, kind := range []string{CLIP, CLIPHF} {
			tok, err := New(kind, Vocabulary{Merges: merges, Size: size, SOT: sot, EOT: eot})
			if err != nil {
				continue
			}
			for _, id := range tok.Encode("a b ab abc "+string(data), 0) {
				if id < 0 || int(id) >= tok.Size() {
					t.Errorf("%s: id %d, expected below %d", kind, id, tok.Size())
				}
			}
		}
	})
}

func FuzzParseWordPieces(f *testing.F) {
	f.Add([]byte("[PAD]\n[UNK]\n[CLS]\n[SEP]\na\n##b\n"))
	f.Add([]byte("\xff\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		pieces, err := ParseWordPieces(data)
		if err != nil {
			return
		}
		tok, err := New(BERT, Vocabulary{WordPieces: pieces})
		if err != nil {
			return
		}
		for _, id := range tok.Encode("ab a "+string(data), 0) {
			if id < 0 || int(id) >= tok.Size() {
				t.Errorf("id %d, expected below %d", id, tok.Size())
			}
		}
	})
}
