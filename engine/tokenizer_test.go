package engine

import (
	"slices"
	"strings"
	"testing"
)

func TestTokenizer(t *testing.T) {
	const text = "A photo of naïve cats &amp; “dogs”"
	for name, want := range map[string][]int32{ // by the references
		"clip":         {49406, 320, 1125, 539, 1097, 35689, 563, 3989, 261, 257, 3255, 257, 49407},
		"openai":       {49406, 320, 1125, 539, 1097, 35689, 563, 3989, 261, 257, 3255, 257, 49407},
		"clip-hf":      {49406, 320, 1125, 539, 1097, 35689, 563, 3989, 261, 6259, 282, 728, 506, 3255, 728, 507, 49407},
		"bert":         {101, 1037, 6302, 1997, 15743, 8870, 1004, 23713, 1025, 1523, 6077, 1524, 102},
		"blip-caption": {101, 1037, 6302, 1997, 15743, 8870, 1004, 23713, 1523, 6077, 1524, 102},
	} {
		tok, err := NewTokenizer(name)
		if err != nil {
			t.Fatal(err)
		}
		if ids, err := tok.Encode(text, 0); err != nil || !slices.Equal(ids, want) {
			t.Errorf("%s: Encode(%q, 0) = %v, %v; expected %v", name, text, ids, err, want)
		}
		cut := append(slices.Clone(want[:4]), want[len(want)-1])
		if ids, err := tok.Encode(text, 5); err != nil || !slices.Equal(ids, cut) {
			t.Errorf("%s: Encode(%q, 5) = %v, %v; expected %v", name, text, ids, err, cut)
		}
		if size := tok.VocabularySize(); size <= int(want[len(want)-1]) {
			t.Errorf("%s: %d ids, expected more than %d", name, size, want[len(want)-1])
		}
	}
}

func TestTokenizerErrors(t *testing.T) {
	if _, err := NewTokenizer("gpt2"); err == nil || !strings.Contains(err.Error(), "tia2: tokenizer \"gpt2\": expected one of clip") {
		t.Errorf("NewTokenizer(gpt2): %v, expected the known names", err)
	}
	tok, err := NewTokenizer("bert")
	if err != nil {
		t.Fatal(err)
	}
	for _, maxLength := range []int{-1, 1} {
		if _, err := tok.Encode("a", maxLength); err == nil || !strings.Contains(err.Error(), "expected 0 or at least 2") {
			t.Errorf("Encode(a, %d): %v, expected an error", maxLength, err)
		}
	}
	if names := TokenizerNames(); !slices.Contains(names, "blip-caption") || len(names) != 5 {
		t.Errorf("TokenizerNames() = %v, expected five", names)
	}
}
