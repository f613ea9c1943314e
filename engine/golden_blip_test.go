package engine_test

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"codeberg.org/sbinet/npyio/npz"

	"github.com/tia2-engine/tia2-engine/engine"
	"github.com/tia2-engine/tia2-engine/internal/sharedtest"
)

// blipGolden is a case of golden/blip: a checkpoint, how it is opened, and the names of the arrays that its reference
// computed so, "" where it did not. See golden/make_blip.py.
type blipGolden struct {
	name                 string // of the case: its folder, then what is other than usual
	path                 string
	opt                  engine.Options
	ids                  string // in expect.json
	pixels, states       string
	images, texts        string // embeddings
	itc, outputs, reward string // products of these, outputs of the cross encoder, and what becomes of them; of ImageReward nothing but rewards
}

var blipGoldens = []blipGolden{
	{"blip_pth", "model.pth", engine.Options{}, "token_ids", "pixel_values", "image_embeds", "image_feats", "text_feats", "itc", "itm_logits_cls", "itm_prob_cls"},
	{"blip_pth enc", "model.pth", engine.Options{ITMToken: "enc"}, "token_ids", "pixel_values", "", "image_feats", "text_feats", "itc", "itm_logits_enc", "itm_prob_enc"},
	{"blip_pth caption", "model.pth", engine.Options{ITMToken: "enc", TextCleaning: "blip_caption"}, "", "pixel_values", "", "image_feats", "", "itc_caption", "itm_logits_enc_caption", ""},
	{"blip_pth resized", "model.pth", engine.Options{}, "token_ids", "resized_pixel_values", "", "resized_image_feats", "text_feats", "resized_itc", "resized_itm_logits_cls", ""},
	{"blip_pth resized enc", "model.pth", engine.Options{ITMToken: "enc"}, "", "resized_pixel_values", "", "resized_image_feats", "", "resized_itc", "resized_itm_logits_enc", ""},
	{"blip_hf", "", engine.Options{MaxLength: 35}, "token_ids", "pixel_values", "image_embeds", "image_feats", "text_feats", "itc", "itm_logits_cls", "itm_prob_cls"},
	{"blip_hf enc", "", engine.Options{MaxLength: 35, ITMToken: "enc"}, "token_ids", "pixel_values", "", "image_feats", "", "itc", "itm_logits_enc", "itm_prob_enc"},
	{"blip_hf whole", "", engine.Options{}, "token_ids_notrunc", "pixel_values", "", "image_feats", "", "itc_notrunc", "itm_logits_cls_notrunc", ""},
	{"blip2_hf", "", engine.Options{MaxLength: 32}, "token_ids", "pixel_values", "image_embeds", "image_feats", "text_feats", "itc", "itm_logits", "itm_prob"},
	{"blip2_hf whole", "", engine.Options{MaxLength: -1}, "token_ids_notrunc", "pixel_values", "", "image_feats", "", "itc_notrunc", "itm_logits_notrunc", ""},
	{"blip2_lavis", "", engine.Options{TextCleaning: "none"}, "token_ids", "pixel_values", "image_embeds", "image_feats", "text_feats", "itc", "itm_logits", "itm_prob"},
	{"blip2_lavis caption", "", engine.Options{MaxLength: -1}, "", "pixel_values", "", "image_feats", "text_feats_caption", "itc_caption", "", ""},
	{"blip2_lavis logit", "", engine.Options{TextCleaning: "none", MaxLength: 35, ITMOutput: "logit"}, "", "pixel_values", "", "image_feats", "", "", "", "itm_logit1_pad35"},
	{"imagereward", "ImageReward.pt", engine.Options{}, "token_ids", "pixel_values", "image_embeds", "", "", "", "rewards", "rewards"},
	{"imagereward one by one", "ImageReward.pt", engine.Options{Batch: 1, Threads: 1}, "", "pixel_values", "", "", "", "", "rewards_prompt_list", "rewards_prompt_list"},
}

// blipIndex is expect.json.
type blipIndex struct {
	Images []struct{ File string }
	Texts  []string
	Models map[string]map[string]json.RawMessage
}

// readBLIPIndex reads expect.json of golden/blip, which is the folder dir.
func readBLIPIndex(t *testing.T) (dir string, index blipIndex) {
	t.Helper()
	dir = sharedtest.Path(t, "golden", "blip")
	data, err := os.ReadFile(filepath.Join(dir, "expect.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &index); err != nil {
		t.Fatal(err)
	}
	return dir, index
}

// TestGoldenBLIP compares the five layouts of BLIP, BLIP-2 and ImageReward with their references, from files and strings to
// rewards.
func TestGoldenBLIP(t *testing.T) {
	dir, index := readBLIPIndex(t)
	cache := t.TempDir()
	for _, c := range blipGoldens {
		t.Run(c.name, func(t *testing.T) {
			layout, _, _ := strings.Cut(c.name, " ")
			g := golden{name: c.name, path: filepath.Join(dir, layout, c.path), texts: index.Texts}
			for _, img := range index.Images {
				g.images = append(g.images, engine.File(filepath.Join(dir, "images", img.File)))
			}
			var err error
			if g.reader, err = npz.Open(filepath.Join(dir, layout, "expect.npz")); err != nil {
				t.Fatal(err)
			}
			defer g.reader.Close()
			c.opt.Backend, c.opt.CacheDir, c.opt.DType = "cpu", cache, "f32"
			if strings.HasPrefix(c.pixels, "resized_") {
				c.opt.ImageSize = resizedSize(t, index.Models[layout]["sizes"])
			}
			m, err := engine.Open(context.Background(), g.path, c.opt)
			if err != nil {
				t.Fatal(err)
			}
			defer m.Close()
			if c.ids != "" {
				checkGoldenIDs(t, m, g.texts, index.Models[layout][c.ids])
			}
			checkGoldenPixels(t, m, g, c.pixels)
			checkGoldenEmbeddings(t, m, g, c)
			checkGoldenPairs(t, m, g, c)
			checkGoldenRewards(t, m, g, c)
		})
	}
}

// resizedSize returns the second picture size of a layout.
func resizedSize(t *testing.T, sizes json.RawMessage) int {
	t.Helper()
	var s struct {
		Resized int `json:"resized_image_size"`
	}
	if err := json.Unmarshal(sizes, &s); err != nil || s.Resized == 0 {
		t.Fatalf("no resized_image_size in %s (%v)", sizes, err)
	}
	return s.Resized
}

func checkGoldenIDs(t *testing.T, m *engine.Model, texts []string, expected json.RawMessage) {
	t.Helper()
	var want [][]int32
	if err := json.Unmarshal(expected, &want); err != nil || len(want) != len(texts) {
		t.Fatalf("ids of %d texts (%v), want %d", len(want), err, len(texts))
	}
	got, err := m.Tokenize(texts)
	if err != nil {
		t.Fatal(err)
	}
	for i := range want {
		if !slices.Equal(got[i], want[i]) {
			t.Errorf("%q: ids %v, want %v", texts[i], got[i], want[i])
		}
	}
}

// checkGoldenPixels compares normalised pixels; the bytes that they come from are then equal.
func checkGoldenPixels(t *testing.T, m *engine.Model, g golden, array string) {
	t.Helper()
	i := m.Info()
	p := engine.Preprocess{Pipeline: i.Pipeline, Size: i.ImageSize, Mean: i.Mean, Std: i.Std}
	var got []float32
	for _, img := range g.images {
		data, err := os.ReadFile(img.Path)
		if err != nil {
			t.Fatal(err)
		}
		pixels, err := p.F32(data)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, pixels...)
	}
	if d := maxDiff(t, got, g.f32(t, array)); !(d <= 2e-6) { // a step of 1 of 255 is 0.014
		t.Errorf("pixels: max abs diff %.3g", d)
	}
}

func checkGoldenEmbeddings(t *testing.T, m *engine.Model, g golden, c blipGolden) {
	t.Helper()
	if c.images == "" {
		return
	}
	ctx, dim := context.Background(), m.Info().EmbedDim
	images, err := m.EncodeImages(ctx, g.images)
	if err != nil {
		t.Fatal(err)
	}
	closeTo(t, "images", images.Data, g.f32(t, c.images), dim, 2e-6, 0.999999)
	pixels, err := m.EncodePixels(ctx, engine.Pixels{N: len(g.images), F32: g.f32(t, c.pixels)})
	if err != nil {
		t.Fatal(err)
	}
	closeTo(t, "images from the reference's pixels", pixels.Data, g.f32(t, c.images), dim, 2e-6, 0.999999)
	texts, err := m.EncodeTexts(ctx, g.texts)
	if err != nil {
		t.Fatal(err)
	}
	if c.texts != "" {
		closeTo(t, "texts", texts.Data, g.f32(t, c.texts), dim, 2e-6, 0.999999)
	}
	if c.itc != "" {
		closeTo(t, "similarity", m.Similarity(images, texts).Scores, g.f32(t, c.itc), len(g.texts), 2e-6, 0.999999)
	}
}

// checkGoldenPairs computes states and all pairs of both, last picture first, by the Into forms.
func checkGoldenPairs(t *testing.T, m *engine.Model, g golden, c blipGolden) {
	t.Helper()
	i, ctx, n := m.Info(), context.Background(), len(g.images)
	states := make([]float32, n*i.ImageTokens*i.StateWidth)
	if err := m.EncodeStatesInto(ctx, engine.Pixels{N: n, F32: g.f32(t, c.pixels)}, nil, states); err != nil {
		t.Fatal(err)
	}
	if c.states != "" {
		closeTo(t, "states", states, g.f32(t, c.states), i.StateWidth, 1e-5, 0.999999)
	}
	if c.outputs == "" {
		return
	}
	ids, err := m.Tokenize(g.texts)
	if err != nil {
		t.Fatal(err)
	}
	var imageOf, textOf []int32
	for image := range n {
		for text := range ids {
			imageOf, textOf = append(imageOf, int32(n-1-image)), append(textOf, int32(text))
		}
	}
	dst := make([]float32, len(imageOf)*i.PairOutputs)
	if err := m.MatchInto(ctx, states, n, ids, imageOf, textOf, dst); err != nil {
		t.Fatal(err)
	}
	var got []float32
	for image := range n {
		row := len(ids) * i.PairOutputs
		got = append(got, dst[(n-1-image)*row:(n-image)*row]...)
	}
	closeTo(t, "outputs of pairs", got, g.f32(t, c.outputs), len(ids), 5e-5, 0.999999)
}

func checkGoldenRewards(t *testing.T, m *engine.Model, g golden, c blipGolden) {
	t.Helper()
	rewards, err := m.Score(context.Background(), g.images, g.texts)
	if err != nil {
		t.Fatal(err)
	}
	for k, name := range m.Info().Rewards {
		if rewards[k].Name != name {
			t.Fatalf("reward %d is %s, want %s", k, rewards[k].Name, name)
		}
		if array := map[bool]string{true: c.reward, false: c.itc}[k == len(m.Info().Rewards)-1]; array != "" {
			closeTo(t, name, rewards[k].Scores, g.f32(t, array), len(g.texts), map[bool]float64{true: 5e-5, false: 2e-6}[array == c.reward], 0.9999)
		}
	}
}

// TestGoldenAesthetic compares LAION's two heads on the CLIP that they belong to.
func TestGoldenAesthetic(t *testing.T) {
	dir := sharedtest.Path(t, "golden", "clip")
	reader, err := npz.Open(filepath.Join(dir, "expected", "aesthetic.npz"))
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	for _, g := range goldens(t) {
		if g.name != "openai_jit" {
			continue
		}
		clip := g.open(t, engine.Options{Backend: "cpu"})
		for array, file := range map[string]string{"aesthetic_v2": "aesthetic_v2.pth", "aesthetic_v1": "aesthetic_v1_linear.pth"} {
			head := golden{path: filepath.Join(dir, "checkpoints", "aesthetic", file)}.open(t, engine.Options{Backend: "cpu", DType: "int8"})
			rewards, err := engine.ScorePairs(context.Background(), []*engine.Model{head, clip}, g.images, []string{""},
				[]engine.Pair{{Image: 0}, {Image: 1}, {Image: 2}, {Image: 3}, {Image: 4}, {Image: 5}}, "aesthetic")
			if err != nil {
				t.Fatal(err)
			}
			closeTo(t, array, rewards[0].Scores, golden{reader: reader}.f32(t, array), 1, 2e-5, 1)
		}
	}
}
