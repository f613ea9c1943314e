package demo

import (
	"bytes"
	"slices"
	"testing"

	"github.com/tia2-engine/tia2-engine/engine/internal/gguf"
	"github.com/tia2-engine/tia2-engine/engine/internal/tokenizer"
)

// The binary carries the model, so its size is part of the contract.
func TestModelIsSmall(t *testing.T) {
	const bytesMax = 6e6
	if n := len(Model()); n == 0 || n > bytesMax {
		t.Errorf("the embedded model has %d bytes, want 1 to %.0f", n, float64(bytesMax))
	}
}

func TestModelIsWholeCLIP(t *testing.T) {
	f := open(t)
	for key, want := range map[string]any{
		"general.architecture":     "clip",
		"tokenizer.kind":           "hf_clip",
		"preprocess.pipeline":      "hf_clip",
		"clip.vision.image_size":   uint32(64),
		"clip.text.context":        uint32(32),
		"clip.embed_dim":           uint32(128),
		"clip.vision.activation":   "gelu",
		"tia2.reward":              "clip",
		"clip.vision.heads":        uint32(4),
		"tokenizer.vocab_size":     uint32(632),
		"clip.text.vocab_size":     uint32(632),
		"clip.vision.patch_size":   uint32(8),
		"clip.text.layers":         uint32(3),
		"clip.vision.layers":       uint32(5),
		"clip.text.layer_norm_eps": float32(1e-5),
	} {
		if got := f.Value(key); got != want {
			t.Errorf("%s is %v (%T), want %v", key, got, got, want)
		}
	}
}

// The ids are those of transformers' CLIPTokenizer with the vocabulary that the model was trained with.
func TestTokenizerGivesTheIDsOfTraining(t *testing.T) {
	merges, ok := open(t).Value("tokenizer.merges").([]string)
	if !ok {
		t.Fatal("the embedded model has no tokenizer.merges")
	}
	tests := []struct {
		text string
		ids  []int32
	}{
		{"five blue circles", []int32{630, 616, 577, 609, 631}},
		{"an image of a blue star to the right of a green square", []int32{630, 522, 548, 512, 320, 577, 586, 613, 614, 612, 512, 320, 554, 590, 631}},
		{"a drawing of three white stars and a blue circle", []int32{630, 320, 568, 512, 544, 575, 599, 529, 320, 577, 584, 631}},
		{"a photo of 3 zebras!", []int32{630, 320, 79, 71, 78, 613, 512, 274, 89, 68, 65, 81, 64, 338, 256, 631}},
		{"it's an Orange ring", []int32{630, 72, 339, 6, 338, 522, 580, 582, 631}},
	}
	for _, kind := range []string{"hf_clip", "open_clip"} {
		tok, err := tokenizer.New(kind, tokenizer.Vocabulary{Merges: merges})
		if err != nil {
			t.Fatal(err)
		}
		for _, tt := range tests {
			if got := tok.Encode(tt.text, 32); !slices.Equal(got, tt.ids) {
				t.Errorf("%s: %q gives %v, want %v", kind, tt.text, got, tt.ids)
			}
		}
	}
}

func open(t *testing.T) *gguf.File {
	t.Helper()
	f, err := gguf.Read(bytes.NewReader(Model()), int64(len(Model())), "model.gguf")
	if err != nil {
		t.Fatal(err)
	}
	return f
}
