package engine_test

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"path/filepath"
	"strings"
	"testing"

	"codeberg.org/sbinet/npyio/npz"

	"github.com/tia2-engine/tia2-engine/engine"
	"github.com/tia2-engine/tia2-engine/engine/internal/gguf"
)

// TestGoldenBLIPLayers compares hidden states layer by layer. A model that is cut after layer k must give what its own last
// norm, projection or head makes of the state that the reference has there.
func TestGoldenBLIPLayers(t *testing.T) {
	dir, index := readBLIPIndex(t)
	for layout, file := range map[string]string{"blip_pth": "model.pth", "blip_hf": "", "blip2_hf": "", "blip2_lavis": "", "imagereward": "ImageReward.pt"} {
		t.Run(layout, func(t *testing.T) {
			whole := filepath.Join(t.TempDir(), "whole.gguf")
			if err := engine.Convert(context.Background(), filepath.Join(dir, layout, file), whole, engine.ConvertOptions{}); err != nil {
				t.Fatal(err)
			}
			g, err := gguf.Open(whole)
			if err != nil {
				t.Fatal(err)
			}
			defer g.Close()
			l := layeredGolden{File: g, arch: g.Str("general.architecture"), states: readNPZ(t, filepath.Join(dir, layout, "layers.npz"))}
			l.pixels = readNPZ(t, filepath.Join(dir, layout, "expect.npz"))("pixel_values")
			var ids [][]int32
			if err := json.Unmarshal(index.Models[layout]["token_ids"], &ids); err != nil {
				t.Fatal(err)
			}
			l.ids = ids[0] // layers.npz is of picture 0 and text 0
			for k := range l.number("vision.layers") {
				l.checkVision(t, k)
			}
			for k := range l.number("text.layers") {
				l.checkText(t, k)
			}
		})
	}
}

// readNPZ returns a reader of a file's arrays, all of f32.
func readNPZ(t *testing.T, path string) func(name string) []float32 {
	t.Helper()
	r, err := npz.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return func(name string) []float32 {
		t.Helper()
		var v []float32
		if err := r.Read(name+".npy", &v); err != nil {
			t.Fatalf("%s: %s: %v", path, name, err)
		}
		return v
	}
}

// layeredGolden is a converted model and the hidden states of its reference.
type layeredGolden struct {
	*gguf.File
	arch   string
	states func(name string) []float32
	pixels []float32 // of all pictures
	ids    []int32
}

func (l layeredGolden) number(key string) int {
	n, _ := l.Value(l.arch + "." + key).(uint32)
	return int(n)
}

// tensor returns the values of an f32 tensor.
func (l layeredGolden) tensor(t *testing.T, name string) []float64 {
	t.Helper()
	r, err := l.Data(l.Tensor(name))
	if err != nil {
		t.Fatal(err)
	}
	raw, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	values := make([]float64, len(raw)/4)
	for i := range values {
		values[i] = float64(math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:])))
	}
	return values
}

// linear returns a Linear layer of the model over rows.
func (l layeredGolden) linear(t *testing.T, name string, rows []float32) []float64 {
	t.Helper()
	weight, bias := l.tensor(t, name+".weight"), l.tensor(t, name+".bias")
	in := len(weight) / len(bias)
	var out []float64
	for ; len(rows) > 0; rows = rows[in:] {
		for o, sum := range bias {
			for i, x := range rows[:in] {
				sum += weight[o*in+i] * float64(x)
			}
			out = append(out, sum)
		}
	}
	return out
}

// open opens the model with its first layers only; prefix is "v" or "t", key that of their number.
func (l layeredGolden) open(t *testing.T, prefix, key string, layers int, opt engine.Options) *engine.Model {
	t.Helper()
	var kvs []gguf.KV
	for _, kv := range l.KVs {
		if kv.Key == l.arch+"."+key {
			kv.Value = uint32(layers)
		}
		kvs = append(kvs, kv)
	}
	var tensors []gguf.Tensor
	for _, tensor := range l.Tensors {
		var block int
		if n, _ := fmt.Sscanf(tensor.Name, prefix+".blk.%d.", &block); n == 0 || block < layers {
			tensors = append(tensors, tensor)
		}
	}
	path := filepath.Join(t.TempDir(), "cut.gguf")
	w, err := gguf.Create(path, kvs, tensors)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	for _, tensor := range tensors {
		if err := w.WriteTensor(func(out io.Writer) error {
			r, err := l.Data(l.Tensor(tensor.Name))
			if err != nil {
				return err
			}
			_, err = io.Copy(out, r)
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Commit(); err != nil {
		t.Fatal(err)
	}
	opt.Backend, opt.CacheDir, opt.NoNormalize = "cpu", t.TempDir(), true
	m, err := engine.Open(context.Background(), path, opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

// encode returns picture 0's embeddings and states, those that the model has.
func (l layeredGolden) encode(t *testing.T, m *engine.Model) (embeds, states []float32) {
	t.Helper()
	i := m.Info()
	px := engine.Pixels{N: 1, F32: l.pixels[:3*i.ImageSize*i.ImageSize]}
	embeds, states = make([]float32, i.ImageVectors*i.EmbedDim), make([]float32, i.ImageTokens*i.StateWidth)
	if i.EmbedDim == 0 {
		embeds = nil
	}
	if err := m.EncodeStatesInto(context.Background(), px, embeds, states); err != nil {
		t.Fatal(err)
	}
	return embeds, states
}

// checkVision compares the image tower after block k, which the model's last norm then normalises.
func (l layeredGolden) checkVision(t *testing.T, k int) {
	t.Helper()
	_, got := l.encode(t, l.open(t, "v", "vision.layers", k+1, engine.Options{}))
	eps, _ := l.Value(l.arch + ".vision.output_norm_eps").(float32)
	weight, bias := l.tensor(t, "v.post_ln.weight"), l.tensor(t, "v.post_ln.bias")
	var want []float64
	for rows := l.states(fmt.Sprintf("vision.block%02d", k)); len(rows) > 0; rows = rows[len(weight):] {
		var mean, square float64
		for _, x := range rows[:len(weight)] {
			mean += float64(x) / float64(len(weight))
		}
		for _, x := range rows[:len(weight)] {
			square += (float64(x) - mean) * (float64(x) - mean) / float64(len(weight))
		}
		for i, x := range rows[:len(weight)] {
			want = append(want, (float64(x)-mean)/math.Sqrt(square+float64(eps))*weight[i]+bias[i])
		}
	}
	checkState(t, fmt.Sprintf("image after block %d", k), got, want)
}

// checkText compares the passes of the text encoder after layer k: text alone, with the image, and BLIP-2's queries alone.
func (l layeredGolden) checkText(t *testing.T, k int) {
	t.Helper()
	ctx, width := context.Background(), l.number("text.width")
	queries := max(1, l.number("queries")) // rows that are pooled
	passes := map[string]engine.Options{"itm": {}}
	if l.Str("tia2.reward") == "blip" {
		passes = map[string]engine.Options{"itm_cls": {}, "itm_enc": {ITMToken: "enc"}}
	}
	for pass, opt := range passes {
		m := l.open(t, "t", "text.layers", k+1, opt)
		embeds, states := l.encode(t, m)
		got := make([]float32, m.Info().PairOutputs)
		if err := m.MatchInto(ctx, states, 1, [][]int32{l.ids}, []int32{0}, []int32{0}, got); err != nil {
			t.Fatal(err)
		}
		each := l.linear(t, "pair_head", l.states(fmt.Sprintf("%s.layer%02d.out", pass, k))[:queries*width])
		want := make([]float64, len(got))
		for i, v := range each {
			want[i%len(want)] += v / float64(queries)
		}
		checkState(t, fmt.Sprintf("%s after layer %d", pass, k), got, want)
		if m.Info().EmbedDim == 0 || strings.HasSuffix(pass, "enc") {
			continue
		}
		texts, err := m.EncodeTokens(ctx, [][]int32{l.ids})
		if err != nil {
			t.Fatal(err)
		}
		checkState(t, fmt.Sprintf("text after layer %d", k), texts.Data, l.linear(t, "t.proj", l.states(fmt.Sprintf("text.layer%02d.out", k))[:width]))
		if l.number("queries") > 0 {
			checkState(t, fmt.Sprintf("queries after layer %d", k), embeds, l.linear(t, "v.proj", l.states(fmt.Sprintf("query.layer%02d.out", k))))
		}
	}
}

// checkState fails unless got is want to within 1e-5, twice the noise of f32 that the references themselves have.
func checkState(t *testing.T, what string, got []float32, want []float64) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d values, want %d", what, len(got), len(want))
	}
	for i, v := range want {
		if d := math.Abs(float64(got[i]) - v); !(d <= 1e-5) {
			t.Fatalf("%s: value %d is %g, want %g", what, i, got[i], v)
		}
	}
}
