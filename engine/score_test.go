package engine_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tia2-engine/tia2-engine/engine"
	"github.com/tia2-engine/tia2-engine/engine/internal/demo"
	"github.com/tia2-engine/tia2-engine/engine/internal/gguf"
	"github.com/tia2-engine/tia2-engine/textnorm"
)

// openDemoWith opens a copy of the embedded model with other metadata.
func openDemoWith(t *testing.T, changed map[string]any) *engine.Model {
	t.Helper()
	src, err := gguf.Read(bytes.NewReader(demo.Model()), int64(len(demo.Model())), "demo")
	if err != nil {
		t.Fatal(err)
	}
	kvs := append([]gguf.KV(nil), src.KVs...)
	for i, kv := range kvs {
		if value, ok := changed[kv.Key]; ok {
			kvs[i].Value = value
		}
	}
	path := filepath.Join(t.TempDir(), "changed.gguf")
	dst, err := gguf.Create(path, kvs, src.Tensors)
	if err != nil {
		t.Fatal(err)
	}
	defer dst.Abort()
	for i := range src.Tensors {
		data, err := src.Data(&src.Tensors[i])
		if err != nil {
			t.Fatal(err)
		}
		if err := dst.WriteTensor(func(w io.Writer) error { _, err := io.Copy(w, data); return err }); err != nil {
			t.Fatal(err)
		}
	}
	if err := dst.Commit(); err != nil {
		t.Fatal(err)
	}
	m, err := engine.Open(context.Background(), path, engine.Options{Backend: "cpu", CacheDir: engine.CacheOff})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

// dot is the product of two rows in f64.
func dot(a, b []float32) (sum float64) {
	for i := range a {
		sum += float64(a[i]) * float64(b[i])
	}
	return sum
}

// The reward is the cosine, times the logit scale but for HPSv2.
func TestRewardScale(t *testing.T) {
	images := discs(t, 3)
	for _, reward := range []string{"clip", "pickscore", "hpsv2"} {
		changed := map[string]any{"tia2.reward": reward}
		if reward == "hpsv2" {
			changed["preprocess.pipeline"] = "hpsv2" // its float pixels take the other way into C
		}
		m := openDemoWith(t, changed)
		i, x := encode(t, m, images, demoTexts, false)
		scale := float64(m.Info().LogitScale)
		if reward == "hpsv2" {
			scale = 1
		}
		rewards, err := m.Score(context.Background(), images, demoTexts)
		if err != nil {
			t.Fatal(err)
		}
		r := rewards[0]
		if len(rewards) != 1 || r.Name != reward || m.Info().Rewards[0] != reward || r.Images != len(images) || r.Texts != len(demoTexts) {
			t.Fatalf("%s: rewards %+v, info %+v", reward, rewards, m.Info())
		}
		for k, got := range r.Scores {
			want := scale * dot(i.Row(k/r.Texts), x.Row(k%r.Texts))
			if !(math.Abs(float64(got)-want) <= 2e-6*scale) {
				t.Errorf("%s: image %d, text %d: %g, want %g", reward, k/r.Texts, k%r.Texts, got, want)
			}
		}
	}
}

func TestSimilarityOfNaNRows(t *testing.T) {
	m := openDemo(t, engine.Options{})
	i, x := encode(t, m, discs(t, 3), demoTexts[:2], false)
	want := m.Similarity(i, x)
	for k := range i.Row(1) {
		i.Row(1)[k] = float32(math.NaN())
	}
	got := m.Similarity(i, x)
	for k, v := range got.Scores {
		if bad := k/2 == 1; bad != math.IsNaN(float64(v)) || !bad && v != want.Scores[k] {
			t.Errorf("image %d, text %d: %g, want %g, or NaN for image 1", k/2, k%2, v, want.Scores[k])
		}
	}
}

func TestNoNormalize(t *testing.T) {
	m, unit := openDemo(t, engine.Options{NoNormalize: true}), openDemo(t, engine.Options{})
	raw, _ := encode(t, m, discs(t, 2), demoTexts[:1], false)
	want, _ := encode(t, unit, discs(t, 2), demoTexts[:1], false)
	for i := range raw.N {
		if norm := math.Sqrt(dot(raw.Row(i), raw.Row(i))); math.Abs(norm-1) < 1e-3 || math.Abs(dot(raw.Row(i), want.Row(i))/norm-1) > 1e-6 {
			t.Errorf("picture %d: norm %g, cosine with the normalised one %g", i, norm, dot(raw.Row(i), want.Row(i))/norm)
		}
	}
	if _, err := m.Score(context.Background(), discs(t, 1), demoTexts[:1]); !errors.Is(err, engine.ErrInvalid) {
		t.Errorf("Score: error %v, want ErrInvalid", err)
	}
	if _, err := m.TextNorm(context.Background(), []engine.PromptImages{{Texts: demoTexts[:2], Images: discs(t, 1)}}, textnorm.Options{}); !errors.Is(err, engine.ErrInvalid) {
		t.Errorf("TextNorm: error %v, want ErrInvalid", err)
	}
}

// The fused pass gives what textnorm.Calibrate gives on the rewards.
func TestTextNormIsCalibratedSimilarity(t *testing.T) {
	m := openDemo(t, engine.Options{Batch: 4})
	images, ctx := discs(t, 7), context.Background()
	var worst, worstRaw float64
	prompts := []engine.PromptImages{
		{Texts: demoTexts[:4], Images: images[:3]},
		{Texts: demoTexts[4:6], Images: images[3:4]},
		{Texts: demoTexts[5:7], Images: nil},
		{Texts: demoTexts[2:9], Images: images[2:]}, // pictures and texts may be in several sets
	}
	for _, opt := range []textnorm.Options{{}, {MinMax: textnorm.PerImage, Scale: 25}, {MinMax: textnorm.PerSet}} {
		scores, err := m.TextNorm(ctx, prompts, opt)
		if err != nil {
			t.Fatal(err)
		}
		for s, p := range prompts {
			i, x := encode(t, m, p.Images, p.Texts, false)
			r := m.Similarity(i, x)
			if len(scores[s].Raw) != len(p.Images) || len(scores[s].Confidence) != len(p.Images) {
				t.Fatalf("prompt %d has %d and %d scores for %d pictures", s, len(scores[s].Raw), len(scores[s].Confidence), len(p.Images))
			}
			if len(p.Images) == 0 {
				continue
			}
			rewards := make([][]float64, r.Images)
			for k := range rewards {
				for _, v := range r.Scores[k*r.Texts : (k+1)*r.Texts] {
					rewards[k] = append(rewards[k], float64(v))
				}
			}
			want, err := textnorm.Calibrate(rewards, opt)
			if err != nil {
				t.Fatal(err)
			}
			for k := range want {
				d, dRaw := math.Abs(float64(scores[s].Confidence[k])-want[k]), math.Abs(float64(scores[s].Raw[k])-rewards[k][0])
				worst, worstRaw = max(worst, d), max(worstRaw, dRaw)
				if !(d <= 1e-6) {
					t.Errorf("%+v, prompt %d, picture %d: confidence %g, want %g", opt, s, k, scores[s].Confidence[k], want[k])
				}
				if !(dRaw <= 1e-5) {
					t.Errorf("%+v, prompt %d, picture %d: raw %g, want %g", opt, s, k, scores[s].Raw[k], rewards[k][0])
				}
			}
		}
	}
	t.Logf("max abs diff: confidence %.3g, raw %.3g", worst, worstRaw)
}

func TestTextNormErrors(t *testing.T) {
	m := openDemo(t, engine.Options{})
	ctx, images := context.Background(), discs(t, 2)
	for name, opt := range map[string]textnorm.Options{"scale": {Scale: -1}, "NaN": {Scale: math.NaN()}, "mode": {MinMax: "median"}} {
		if _, err := m.TextNorm(ctx, []engine.PromptImages{{Texts: demoTexts[:3], Images: images}}, opt); err == nil {
			t.Errorf("%s: no error for %+v", name, opt)
		}
	}
	_, err := m.TextNorm(ctx, []engine.PromptImages{{Texts: demoTexts[:3]}, {Texts: demoTexts[:1], Images: images}}, textnorm.Options{})
	if !errors.Is(err, engine.ErrInvalid) || !strings.Contains(err.Error(), "prompt 1 has 1 texts") {
		t.Errorf("a prompt without contrastive ones: error %v", err)
	}
	if scores, err := m.TextNorm(ctx, nil, textnorm.Options{}); err != nil || len(scores) != 0 {
		t.Errorf("no prompts: %v, %v", scores, err)
	}
	// A picture that cannot be read is counted over all prompts and leaves the others alone.
	scores, err := m.TextNorm(ctx, []engine.PromptImages{
		{Texts: demoTexts[:3], Images: images},
		{Texts: demoTexts[3:6], Images: []engine.Image{{Name: "broken"}, images[0]}},
	}, textnorm.Options{})
	items, other := engine.SplitItemErrors(err)
	if other != nil || len(items) != 1 || items[0].Index != 2 || items[0].Name != "broken" {
		t.Fatalf("error %v, want item 2 alone", err)
	}
	isNaN := func(v float32) bool { return math.IsNaN(float64(v)) }
	if !isNaN(scores[1].Raw[0]) || !isNaN(scores[1].Confidence[0]) || isNaN(scores[1].Raw[1]) || isNaN(scores[1].Confidence[1]) || isNaN(scores[0].Confidence[1]) {
		t.Errorf("scores %+v, want NaN for the broken picture alone", scores)
	}
}
