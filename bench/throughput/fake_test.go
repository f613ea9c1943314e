package throughput

import (
	"context"
	"errors"
	"time"

	"github.com/tia2-engine/tia2-engine/engine"
)

// fakeModel takes the times of its script, one a call, on a clock of its own; after the last it starts over.
type fakeModel struct {
	clock  time.Time
	script []time.Duration
	calls  int
	fail   int                // this call fails, counted from 1; 0: none
	cancel context.CancelFunc // called in call cancelAt
	when   int

	info      engine.Info
	profiling bool
	profiled  int // calls while profiling
	seen      seen
}

// seen is the last input of each kind.
type seen struct {
	pixels engine.Pixels
	ids    [][]int32
	images []engine.Image
	texts  []string
	states stateSizes
	pairs  [2][]int32 // imageOf, textOf
}

// stateSizes are the lengths of what the calls of a cross encoder were given.
type stateSizes struct{ embeddings, states, images, outputs int }

var errFake = errors.New("device lost")

func newFake(script ...time.Duration) *fakeModel {
	return &fakeModel{
		clock: time.Unix(1700000000, 0), script: script,
		info: engine.Info{
			Spec: "random:tiny", Device: "CPU", Backend: "cpu", DType: "f32", EmbedDim: 8, ImageSize: 16, Context: 77,
			VocabSize: 1000, LogitScale: 100, WeightsBytes: 5e6, ImageFLOPs: 2e9, TextFLOPsPerToken: 1e6,
			TextFLOPsAttention: 1e3, TextFLOPsPooled: 10,
		},
	}
}

// newCrossEncoder returns a fake that reads picture and text together: 5 states of width 6, 2 outputs a pair. With
// embeddings it has 3 of them a picture, as BLIP-2 has several.
func newCrossEncoder(embeddings bool, script ...time.Duration) *fakeModel {
	f := newFake(script...)
	f.info.Family, f.info.ImageTokens, f.info.StateWidth, f.info.PairOutputs, f.info.ImageVectors = "blip", 5, 6, 2, 3
	if !embeddings {
		f.info.EmbedDim, f.info.ImageVectors = 0, 0
		f.info.TextFLOPsPerToken, f.info.TextFLOPsAttention, f.info.TextFLOPsPooled = 0, 0, 0
	}
	return f
}

func (f *fakeModel) now() time.Time { return f.clock }

func (f *fakeModel) step(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	f.clock = f.clock.Add(f.script[f.calls%len(f.script)])
	f.calls++
	if f.profiling {
		f.profiled++
	}
	if f.cancel != nil && f.calls == f.when {
		f.cancel()
	}
	if f.calls == f.fail {
		return errFake
	}
	return nil
}

func (f *fakeModel) embeddings(n int) engine.Embeddings {
	return engine.Embeddings{N: n, Dim: f.info.EmbedDim, Data: make([]float32, n*f.info.EmbedDim)}
}

func (f *fakeModel) Info() engine.Info { return f.info }

func (f *fakeModel) EncodePixels(ctx context.Context, px engine.Pixels) (engine.Embeddings, error) {
	f.seen.pixels = px
	return f.embeddings(px.N), f.step(ctx)
}

func (f *fakeModel) EncodeTokens(ctx context.Context, ids [][]int32) (engine.Embeddings, error) {
	f.seen.ids = ids
	return f.embeddings(len(ids)), f.step(ctx)
}

func (f *fakeModel) EncodeImages(ctx context.Context, images []engine.Image) (engine.Embeddings, error) {
	f.seen.images = images
	return f.embeddings(len(images)), f.step(ctx)
}

func (f *fakeModel) EncodeStatesInto(ctx context.Context, px engine.Pixels, dst, states []float32) error {
	f.seen.pixels, f.seen.states.embeddings, f.seen.states.states = px, len(dst), len(states)
	return f.step(ctx)
}

func (f *fakeModel) MatchInto(ctx context.Context, states []float32, images int, texts [][]int32, imageOf, textOf []int32, dst []float32) error {
	f.seen.ids, f.seen.pairs = texts, [2][]int32{imageOf, textOf}
	f.seen.states.images, f.seen.states.outputs = images, len(dst)
	return f.step(ctx)
}

// MatchFLOPs is 1e9 a picture, 1e6 a pair.
func (f *fakeModel) MatchFLOPs(images int, texts [][]int32) float64 {
	return float64(images)*1e9 + float64(images*len(texts))*1e6
}

func (f *fakeModel) Score(ctx context.Context, images []engine.Image, texts []string) ([]engine.Reward, error) {
	f.seen.images, f.seen.texts = images, texts
	return []engine.Reward{{Name: "clip", Images: len(images), Texts: len(texts)}}, f.step(ctx)
}

func (f *fakeModel) SetProfile(on bool) { f.profiling = on }

func (f *fakeModel) Profile() []engine.OpSample {
	return []engine.OpSample{
		{Name: "image/blk.0/attn/qkv", Shape: "64x8x24 f32", Count: 1, Time: 3 * time.Millisecond, FLOPs: 3e8, Bytes: 1e6},
		{Name: "image/blk.1/attn/qkv", Shape: "64x8x24 f32", Count: 1, Time: 1 * time.Millisecond, FLOPs: 3e8, Bytes: 1e6},
	}
}

// wordModel has a tokenizer: one id a byte.
type wordModel struct{ *fakeModel }

func (w wordModel) Tokenize(texts []string) ([][]int32, error) {
	ids := make([][]int32, len(texts))
	for i, text := range texts {
		ids[i] = make([]int32, len(text))
	}
	return ids, nil
}
