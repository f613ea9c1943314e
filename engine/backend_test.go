package engine_test

import (
	"context"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/tia2-engine/tia2-engine/engine"
)

// On Vulkan, Mesa's software device included, both the embedded model and a golden checkpoint give the CPU's and the
// reference's embeddings.
func TestVulkanAgrees(t *testing.T) {
	if !slices.ContainsFunc(engine.Devices(), func(d engine.Device) bool { return d.Backend == "vulkan" }) {
		t.Skip("no Vulkan device (Mesa's software device needs GGML_VK_VISIBLE_DEVICES=0)")
	}
	if testing.Short() {
		t.Skip("the first use compiles shaders")
	}
	images := discs(t, 3)
	for _, dtype := range []string{"f32", ""} {
		wantImages, wantTexts := encode(t, openDemo(t, engine.Options{DType: dtype}), images, demoTexts, false)
		m := openDemo(t, engine.Options{DType: dtype, Backend: "vulkan"})
		gotImages, gotTexts := encode(t, m, images, demoTexts, false)
		closeTo(t, "demo, images, dtype "+m.Info().DType, gotImages.Data, wantImages.Data, wantImages.Dim, 0.02, 0.9999)
		closeTo(t, "demo, texts, dtype "+m.Info().DType, gotTexts.Data, wantTexts.Data, wantTexts.Dim, 0.02, 0.9999)
		if m.Info().Backend != "vulkan" {
			t.Errorf("info %+v", m.Info())
		}
	}
	for _, g := range goldens(t) {
		if g.name != "hf_openai" {
			continue
		}
		for _, dtype := range []string{"f32", "f16"} {
			t.Run(g.name+" "+dtype, func(t *testing.T) {
				checkGolden(t, g, engine.Options{Backend: "vulkan", DType: dtype}, 0.02, 0.9999, 0.5)
			})
		}
	}
}

// Models of one call may be on different devices. Each gives what it gives alone, and about what it gives on the CPU.
func TestModelsOnDifferentDevices(t *testing.T) {
	if !slices.ContainsFunc(engine.Devices(), func(d engine.Device) bool { return d.Backend == "vulkan" }) {
		t.Skip("no Vulkan device (Mesa's software device needs GGML_VK_VISIBLE_DEVICES=0)")
	}
	if testing.Short() {
		t.Skip("the first use compiles shaders")
	}
	ctx, images := context.Background(), discs(t, 7)
	images[2] = engine.Image{Name: "broken"}
	score := func(models ...*engine.Model) []engine.Reward {
		rewards, err := engine.Score(ctx, models, images, crossTexts)
		if items, other := engine.SplitItemErrors(err); other != nil || len(items) != 1 {
			t.Fatal(err)
		}
		return rewards
	}
	there := func(reward string) *engine.Model {
		return newTinyCross(reward).open(t, engine.Options{Backend: "vulkan", Batch: 2})
	}
	demo, models := openDemo(t, engine.Options{Batch: 2}), []*engine.Model{there("blip"), there("blip2"), there("imagereward")}
	got := score(append([]*engine.Model{demo}, models...)...)
	here := severalModels(t, engine.Options{})
	for k, r := range score(here[:4]...) {
		for i, want := range r.Scores {
			if v := got[k].Scores[i]; !(math.Abs(float64(v-want)) <= 0.03*(1+math.Abs(float64(want)))) && (v == v || want == want) {
				t.Errorf("%s, score %d is %g, on the CPU %g", r.Name, i, v, want)
			}
		}
	}
	wantScores(t, "the CPU's model alone", score(demo), got[:1])
}

// The message says what there is, without the text of its kind.
func TestUnknownBackend(t *testing.T) {
	_, err := engine.Open(t.Context(), "demo", engine.Options{Backend: "abacus", CacheDir: engine.CacheOff})
	if !errors.Is(err, engine.ErrBackend) || !strings.Contains(err.Error(), `no device or backend "abacus": expected auto or one of CPU (cpu)`) ||
		strings.Contains(err.Error(), engine.ErrBackend.Error()) {
		t.Errorf("%v", err)
	}
}

// A full-size architecture without weights: what `bench --model random:NAME` measures.
func TestRandomModel(t *testing.T) {
	if testing.Short() {
		t.Skip("draws 150 million weights")
	}
	ctx := context.Background()
	for dtype, bytes := range map[string]float64{"f32": 605e6, "int8": 162e6} {
		m, err := engine.Open(ctx, "random:vit-b-32", engine.Options{Backend: "cpu", CacheDir: engine.CacheOff, DType: dtype})
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		i := m.Info()
		if i.EmbedDim != 512 || i.ImageSize != 224 || i.ImageTokens != 50 || i.DType != dtype || i.Rewards[0] != "clip" {
			t.Errorf("%s: info %+v", dtype, i)
		}
		if math.Abs(i.ImageFLOPs/8.30e9-1) > 0.01 {
			t.Errorf("%s: %g FLOPs an image, want about 8.30e9: 8.82e9 of the whole model less what the last layer saves", dtype, i.ImageFLOPs)
		}
		if math.Abs(float64(i.WeightsBytes)/bytes-1) > 0.02 {
			t.Errorf("%s: %d bytes of weights, want about %g", dtype, i.WeightsBytes, bytes)
		}
		e, err := m.EncodePixels(ctx, engine.Pixels{N: 1, U8: make([]uint8, 3*224*224)})
		if err != nil {
			t.Fatal(err)
		}
		var norm float64
		for _, v := range e.Data {
			norm += float64(v) * float64(v)
		}
		if !(math.Abs(norm-1) < 1e-5) {
			t.Errorf("%s: the squared norm of an embedding is %g, want 1", dtype, norm)
		}
	}
}
