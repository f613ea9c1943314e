package engine_test

import (
	"context"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"testing"

	"codeberg.org/sbinet/npyio/npz"

	"github.com/tia2-engine/tia2-engine/engine"
	"github.com/tia2-engine/tia2-engine/internal/sharedtest"
)

// golden is what a Python reference computed with one checkpoint; see golden/make_clip.py.
type golden struct {
	name, path string
	images     []engine.Image
	texts      []string
	reader     *npz.Reader
}

// goldens opens every checkpoint of golden/clip.
func goldens(t *testing.T) []golden {
	t.Helper()
	dir := sharedtest.Path(t, "golden", "clip")
	return goldensIn(t, dir)
}

func goldensIn(t *testing.T, dir string) []golden {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, "expect.json"))
	if err != nil {
		t.Fatal(err)
	}
	var index struct {
		Images, Texts []string
		Checkpoints   map[string]struct{ Path, Expected string }
	}
	if err := json.Unmarshal(data, &index); err != nil {
		t.Fatal(err)
	}
	var images []engine.Image
	for _, name := range index.Images {
		images = append(images, engine.File(filepath.Join(dir, name)))
	}
	var all []golden
	for name, c := range index.Checkpoints {
		r, err := npz.Open(filepath.Join(dir, c.Expected))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { r.Close() })
		all = append(all, golden{name, filepath.Join(dir, c.Path), images, index.Texts, r})
	}
	if len(all) == 0 {
		t.Fatal("no checkpoints")
	}
	return all
}

// f32 reads an array of the expected results.
func (g golden) f32(t *testing.T, name string) []float32 {
	t.Helper()
	var v []float32
	if err := g.reader.Read(name+".npy", &v); err != nil {
		t.Fatalf("%s: %s: %v", g.name, name, err)
	}
	return v
}

func (g golden) open(t *testing.T, opt engine.Options) *engine.Model {
	t.Helper()
	opt.CacheDir = t.TempDir()
	m, err := engine.Open(context.Background(), g.path, opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

// closeTo fails unless got is want to within maxAbs everywhere and each row's cosine is at least minCos.
func closeTo(t *testing.T, what string, got, want []float32, dim int, maxAbs, minCos float64) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d values, want %d", what, len(got), len(want))
	}
	var worst float64
	cos := 1.0
	for r := 0; r < len(want); r += dim {
		var ab, aa, bb float64
		for i := r; i < r+dim; i++ {
			a, b := float64(got[i]), float64(want[i])
			ab, aa, bb = ab+a*b, aa+a*a, bb+b*b
			worst = max(worst, math.Abs(a-b))
		}
		cos = math.Min(cos, ab/math.Sqrt(aa*bb)) // NaN stays NaN
	}
	t.Logf("%s: max abs diff %.3g, least row cosine %.9f", what, worst, cos)
	if !(worst <= maxAbs && cos >= minCos) {
		t.Errorf("%s: max abs diff %.3g (allowed %.3g), least row cosine %.9f (allowed %.9f)", what, worst, maxAbs, cos, minCos)
	}
}

// TestGoldenCLIP compares every container and model with its Python reference, from files and strings to logits.
func TestGoldenCLIP(t *testing.T) {
	for _, g := range goldens(t) {
		t.Run(g.name, func(t *testing.T) { checkGolden(t, g, engine.Options{Backend: "cpu"}, 2e-5, 0.999999, 1e-3) })
	}
}

// TestGoldenPlainGGML runs the plain ggml form of every op, which the fused forms of the CPU are measured by.
func TestGoldenPlainGGML(t *testing.T) {
	t.Setenv("TIA2_CPU", "ggml")
	for _, g := range goldens(t) {
		if g.name == "hf_openai" || g.name == "openclip_pt" { // quick_gelu and gelu; the containers do not matter here
			t.Run(g.name, func(t *testing.T) { checkGolden(t, g, engine.Options{Backend: "cpu"}, 2e-5, 0.999999, 1e-3) })
		}
	}
}

func checkGolden(t *testing.T, g golden, opt engine.Options, maxAbs, minCos, logits float64) {
	m := g.open(t, opt)
	ctx, dim := context.Background(), m.Info().EmbedDim
	images, err := m.EncodeImages(ctx, g.images)
	if err != nil {
		t.Fatal(err)
	}
	closeTo(t, "images", images.Data, g.f32(t, "image_embeds_norm"), dim, maxAbs, minCos)
	texts, err := m.EncodeTexts(ctx, g.texts)
	if err != nil {
		t.Fatal(err)
	}
	closeTo(t, "texts", texts.Data, g.f32(t, "text_embeds_norm"), dim, maxAbs, minCos)
	pixels, err := m.EncodePixels(ctx, engine.Pixels{N: len(g.images), F32: g.f32(t, "pixel_values")})
	if err != nil {
		t.Fatal(err)
	}
	closeTo(t, "images from the reference's pixels", pixels.Data, g.f32(t, "image_embeds_norm"), dim, maxAbs, minCos)
	rewards, err := m.Score(ctx, g.images, g.texts)
	if err != nil {
		t.Fatal(err)
	}
	want := g.f32(t, "logits_per_image")
	var worst float64
	for i, got := range rewards[0].Scores {
		d := math.Abs(float64(got - want[i]))
		worst = max(worst, d)
		if !(d <= logits) {
			t.Errorf("logit of image %d, text %d: %g, want %g", i/len(g.texts), i%len(g.texts), got, want[i])
		}
	}
	t.Logf("logits: max abs diff %.3g", worst)
}
