package serve

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"io"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/tia2-engine/tia2-engine/engine"
	"github.com/tia2-engine/tia2-engine/engine/internal/gguf"
)

// noise returns a PNG of random pixels, not square.
func noise(t *testing.T, seed uint64) engine.Image {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 1))
	img := image.NewNRGBA(image.Rect(0, 0, 40+int(seed%7), 30))
	for y := range img.Rect.Dy() {
		for x := range img.Rect.Dx() {
			img.Set(x, y, color.NRGBA{R: uint8(rng.Uint32()), G: uint8(3 * x), B: uint8(5 * y), A: 255})
		}
	}
	var out bytes.Buffer
	must(t, png.Encode(&out, img))
	return engine.Image{Name: fmt.Sprint("noise ", seed), Data: out.Bytes()}
}

// aestheticHead writes a head over embeddings of width dim and returns its path.
func aestheticHead(t *testing.T, dim int) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "head.gguf")
	w, err := gguf.Create(path, []gguf.KV{{Key: "general.architecture", Value: "aesthetic"}, {Key: "general.name", Value: "head"}, {Key: "tia2.format", Value: uint32(1)},
		{Key: "tia2.reward", Value: "aesthetic"}, {Key: "aesthetic.embed_dim", Value: uint32(dim)}},
		[]gguf.Tensor{{Name: "head.weight", Dims: []uint64{uint64(dim)}, Type: gguf.F32}, {Name: "head.bias", Dims: []uint64{1}, Type: gguf.F32}})
	must(t, err)
	defer w.Abort()
	for _, tensor := range w.Tensors() {
		must(t, w.WriteTensor(func(out io.Writer) error {
			for i := range tensor.Elements() {
				if err := binary.Write(out, binary.LittleEndian, float32(i%5)-1.5); err != nil {
					return err
				}
			}
			return nil
		}))
	}
	must(t, w.Commit())
	return path
}

// TestSameBitsAsOffline: what many clients get, in whatever batches, has the bits of engine.Score.
func TestSameBitsAsOffline(t *testing.T) {
	opt := engine.Options{Backend: "cpu", CacheDir: t.TempDir()}
	demo, err := engine.Open(t.Context(), "demo", opt)
	must(t, err)
	dim := demo.Info().EmbedDim
	must(t, demo.Close())
	specs := []string{"demo", aestheticHead(t, dim)}

	var imgs []engine.Image
	for i := range 12 {
		imgs = append(imgs, noise(t, uint64(i)))
	}
	imgs[5].Data = imgs[5].Data[:60] // damaged
	txts := []string{"a cat", "a dog on a red sofa", "two birds", "", "naïve café — 写真"}
	models := make([]*engine.Model, len(specs))
	for i, spec := range specs {
		models[i], err = engine.Open(t.Context(), spec, opt)
		must(t, err)
		defer models[i].Close()
	}
	want, err := engine.Score(t.Context(), models, imgs, txts)
	if items, err := engine.SplitItemErrors(err); err != nil || len(items) != 1 {
		t.Fatalf("offline: %v, %v", items, err)
	}

	b, err := OpenBackend(t.Context(), specs, opt)
	must(t, err)
	s := New(b, Options{MaxBatchImages: 3, MaxBatchPairs: 7})
	must(t, s.Ready(t.Context()))
	if got := fmt.Sprint(s.Rewards()); got != "[clip aesthetic]" {
		t.Fatalf("rewards %s", got)
	}
	var all sync.WaitGroup
	for client := range 6 {
		all.Go(func() {
			rng := rand.New(rand.NewPCG(7, uint64(client)))
			for range 4 {
				in := ScoreRequest{Client: fmt.Sprint(client), Images: imgs, Texts: txts, Rewards: [][]string{nil, {"clip"}, {"aesthetic"}, {"aesthetic", "clip"}}[rng.IntN(4)]}
				for range 20 {
					in.Pairs = append(in.Pairs, engine.Pair{Image: rng.IntN(len(imgs)), Text: rng.IntN(len(txts))})
				}
				out, err := s.Score(t.Context(), in)
				if well(t, err); err != nil {
					return
				}
				for r, reward := range out.Rewards {
					offline := want[slices.IndexFunc(want, func(w engine.Reward) bool { return w.Name == reward })]
					for i, p := range in.Pairs {
						got, want := out.Scores[r][i], offline.Scores[p.Image*offline.Texts+p.Text]
						if math.Float32bits(got) != math.Float32bits(want) {
							t.Errorf("%s of pair %v is %v: offline it is %v", reward, p, got, want)
						}
					}
				}
				asked := slices.ContainsFunc(in.Pairs, func(p engine.Pair) bool { return p.Image == 5 })
				if asked != (len(out.Errors) == 1 && out.Errors[0].Index == 5) {
					t.Errorf("errors %v: expected that of image 5 if it is asked for (%v)", out.Errors, asked)
				}
			}
		})
	}
	all.Wait()
	embeds, err := s.Embed(t.Context(), EmbedRequest{Images: imgs[:3], Texts: txts})
	must(t, err)
	offline, err := models[0].EncodeTexts(t.Context(), txts)
	must(t, err)
	if !slices.Equal(embeds.Texts.Data, offline.Data) || embeds.Images.N != 3 || embeds.Images.Dim != dim {
		t.Errorf("embeddings of texts differ from those offline, or %d x %d of images", embeds.Images.N, embeds.Images.Dim)
	}
	checkIdle(t, s)
}

// TestTwiceTheSameReward: models that give one reward keep apart, and each answers for itself.
func TestTwiceTheSameReward(t *testing.T) {
	opt := engine.Options{Backend: "cpu", CacheDir: t.TempDir()}
	b, err := OpenBackend(t.Context(), []string{"demo", "demo"}, opt)
	must(t, err)
	s := New(b, Options{})
	rewards, infos := s.Rewards(), s.Models()
	if len(rewards) != 2 || !strings.HasPrefix(rewards[0], "clip_") || rewards[1] != rewards[0]+"_2" || infos[1].Name != infos[0].Name+"_2" || infos[1].Rewards[0] != rewards[1] {
		t.Fatalf("rewards %v, models %s and %s", rewards, infos[0].Name, infos[1].Name)
	}
	out, err := s.Score(t.Context(), ScoreRequest{Images: []engine.Image{noise(t, 1)}, Texts: []string{"a"}, Rewards: []string{rewards[1], rewards[0]}})
	must(t, err)
	if out.Scores[0][0] != out.Scores[1][0] || math.IsNaN(float64(out.Scores[0][0])) {
		t.Errorf("scores %v: expected the same of the same weights", out.Scores)
	}
	if _, err := s.Embed(t.Context(), EmbedRequest{Texts: []string{"a"}}); !errors.Is(err, ErrBadRequest) {
		t.Errorf("no model named, and two that fit: got %v", err)
	}
	_, err = s.Embed(t.Context(), EmbedRequest{Model: infos[1].Name, Texts: []string{"a"}})
	must(t, err)
	checkIdle(t, s)
}

// TestOpenBackendFails: what can never be scored is found at once, and nothing stays open.
func TestOpenBackendFails(t *testing.T) {
	opt := engine.Options{Backend: "cpu", CacheDir: t.TempDir()}
	for name, c := range map[string]struct {
		specs []string
		opt   func(*engine.Options)
		text  string
	}{
		"no such file":       {[]string{"demo", filepath.Join(t.TempDir(), "none.gguf")}, func(*engine.Options) {}, "none.gguf"},
		"a head alone":       {[]string{aestheticHead(t, 7)}, func(*engine.Options) {}, "aesthetic"},
		"embeddings as such": {[]string{"demo"}, func(o *engine.Options) { o.NoNormalize = true }, "NoNormalize"},
	} {
		t.Run(name, func(t *testing.T) {
			opt := opt
			c.opt(&opt)
			if _, err := OpenBackend(t.Context(), c.specs, opt); err == nil || !strings.Contains(err.Error(), c.text) {
				t.Errorf("got %v: expected %q", err, c.text)
			}
		})
	}
}

func TestServeNames(t *testing.T) {
	names := func(infos []engine.Info) string {
		var out []string
		for _, i := range infos {
			out = append(out, i.Name+fmt.Sprint(i.Rewards))
		}
		return strings.Join(out, " ")
	}
	in := []engine.Info{
		{Name: "ViT-B/32", Rewards: []string{"clip"}}, {Name: "big model", Rewards: []string{"clip"}}, {Name: "big model", Rewards: []string{"clip"}},
		{Spec: "x/blip.gguf", Rewards: []string{"blip_itc", "blip_itm"}},
	}
	before := names(in)
	want := "ViT-B/32[clip_ViT-B-32] big model[clip_big-model] big model_2[clip_big-model_2] blip[blip_itc blip_itm]"
	if got := names(serveNames(in)); got != want {
		t.Errorf("got %s: expected %s", got, want)
	}
	if names(in) != before {
		t.Error("the arguments were changed")
	}
}
