package cgo

import (
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// Tiny cross encoders (testdata/cross/make.py): pictures of 24 x 24, 10 tokens, texts of at most 40 of 60 ids.
var crossModels = []string{"testdata/cross/blip.gguf", "testdata/cross/blip2.gguf"}

func openModel(t *testing.T, path string) *Model {
	t.Helper()
	m, err := OpenModel(path, "cpu", 2)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

// somePairs returns pictures' states, texts of all lengths, and every pair of both.
func somePairs(t *testing.T, m *Model, images, texts int) Pairs {
	t.Helper()
	info := m.Info()
	p := Pairs{States: make([]float32, images*info.ImageTokens*info.StateWidth), Images: images, Offsets: []int32{0}}
	if err := m.EncodeImagesU8(nil, p.States, pictures(m, images), images, true); err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range texts {
		for range 1 + random.IntN(info.Context) {
			p.IDs = append(p.IDs, int32(random.IntN(info.VocabSize)))
		}
		p.Offsets = append(p.Offsets, int32(len(p.IDs)))
	}
	for i := range images {
		for k := range texts {
			p.ImageOf, p.TextOf = append(p.ImageOf, int32(i)), append(p.TextOf, int32(k))
		}
	}
	return p
}

func match(t *testing.T, m *Model, p Pairs) []float32 {
	t.Helper()
	dst := make([]float32, len(p.ImageOf)*m.Info().PairOutputs)
	if err := m.Match(dst, &p); err != nil {
		t.Fatal(err)
	}
	return dst
}

// A pair has the same bits whatever else is in the call, in whatever order, and so has an embedding beside states.
func TestMatchDoesNotDependOnOtherPairs(t *testing.T) {
	for _, path := range crossModels {
		m := openModel(t, path)
		all := somePairs(t, m, 7, 40)
		want := match(t, m, all)
		for p := 0; p < len(all.ImageOf); p += 9 {
			k := all.TextOf[p]
			size := m.Info().ImageTokens * m.Info().StateWidth
			image := int(all.ImageOf[p])
			one := Pairs{States: all.States[image*size : (image+1)*size], Images: 1, ImageOf: []int32{0}, TextOf: []int32{0},
				IDs: all.IDs[all.Offsets[k]:all.Offsets[k+1]], Offsets: []int32{0, all.Offsets[k+1] - all.Offsets[k]}}
			if got := match(t, m, one); !slices.Equal(got, want[2*p:2*p+2]) {
				t.Fatalf("%s: pair %d alone is %v, among others %v", path, p, got, want[2*p:2*p+2])
			}
		}
		shuffled := all
		shuffled.ImageOf, shuffled.TextOf = slices.Clone(all.ImageOf), slices.Clone(all.TextOf)
		order := rand.New(rand.NewPCG(3, 4)).Perm(len(all.ImageOf))
		for to, from := range order {
			shuffled.ImageOf[to], shuffled.TextOf[to] = all.ImageOf[from], all.TextOf[from]
		}
		got := match(t, m, shuffled)
		for to, from := range order {
			if !slices.Equal(got[2*to:2*to+2], want[2*from:2*from+2]) {
				t.Fatalf("%s: pair %d has other bits in another order", path, from)
			}
		}
	}
}

func TestEmbeddingsBesideStates(t *testing.T) {
	for _, path := range crossModels {
		m := openModel(t, path)
		info, px := m.Info(), pictures(m, 5)
		width, size := info.ImageVectors*info.EmbedDim, info.ImageTokens*info.StateWidth
		alone, beside, states, only := make([]float32, 5*width), make([]float32, 5*width), make([]float32, 5*size), make([]float32, 5*size)
		if err := errors.Join(m.EncodeImagesU8(alone, nil, px, 5, true), m.EncodeImagesU8(beside, states, px, 5, true), m.EncodeImagesU8(nil, only, px, 5, true)); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(alone, beside) || !slices.Equal(states, only) {
			t.Errorf("%s: other bits where both are asked for", path)
		}
		for v := range 5 * info.ImageVectors {
			var sum float64
			for _, x := range beside[v*info.EmbedDim : (v+1)*info.EmbedDim] {
				sum += float64(x) * float64(x)
			}
			if math.Abs(sum-1) > 1e-6 {
				t.Errorf("%s: vector %d has length %g", path, v, math.Sqrt(sum))
			}
		}
	}
}

// The fused kernels agree with ggml's own ops.
func TestMatchAgainstPlainOps(t *testing.T) {
	for _, path := range crossModels {
		fused := openModel(t, path)
		p := somePairs(t, fused, 3, 9)
		want := match(t, fused, p)
		t.Setenv("TIA2_CPU", "ggml")
		plain := openModel(t, path)
		t.Setenv("TIA2_CPU", "")
		got := match(t, plain, p)
		for i := range want {
			if math.Abs(float64(got[i]-want[i])) > 2e-5*(1+math.Abs(float64(want[i]))) {
				t.Fatalf("%s: output %d is %g, by plain ops %g", path, i, want[i], got[i])
			}
		}
	}
}

func TestMatchRefuses(t *testing.T) {
	m := openModel(t, crossModels[0])
	good := somePairs(t, m, 2, 2)
	before := match(t, m, good)
	for _, tt := range []struct {
		name    string
		change  func(p *Pairs)
		dst     int
		message string
	}{
		{"states missing", func(p *Pairs) { p.States = nil }, 8, "states do not hold the images"},
		{"more images", func(p *Pairs) { p.Images = 3 }, 8, "states do not hold the images"},
		{"negative images", func(p *Pairs) { p.Images = -1 }, 8, "states do not hold the images"},
		{"an image beyond", func(p *Pairs) { p.ImageOf[1] = 2 }, 8, "pair 1 has image 2, expected 0 to 1"},
		{"a negative image", func(p *Pairs) { p.ImageOf[0] = -1 }, 8, "pair 0 has image -1"},
		{"a text beyond", func(p *Pairs) { p.TextOf[3] = 2 }, 8, "pair 3 has text 2, expected 0 to 1"},
		{"fewer texts than images", func(p *Pairs) { p.TextOf = p.TextOf[:3] }, 8, "an image and a text for every pair"},
		{"no offsets", func(p *Pairs) { p.Offsets = nil }, 8, "offsets do not end where the ids end"},
		{"an empty text", func(p *Pairs) { p.Offsets[1] = 0 }, 8, "text 0 has 0 tokens"},
		{"an unknown id", func(p *Pairs) { p.IDs[0] = 60 }, 8, "text 0 has token id 60, expected 0 to 59"},
		{"a short dst", func(*Pairs) {}, 7, "dst holds 7 floats, expected 8"},
		{"no dst", func(*Pairs) {}, 0, "dst holds 0 floats, expected 8"},
	} {
		p := good
		p.ImageOf, p.TextOf, p.IDs, p.Offsets = slices.Clone(p.ImageOf), slices.Clone(p.TextOf), slices.Clone(p.IDs), slices.Clone(p.Offsets)
		tt.change(&p)
		if err := m.Match(make([]float32, tt.dst), &p); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), tt.message) {
			t.Errorf("%s: error %v, want ErrInvalid with %q", tt.name, err, tt.message)
		}
	}
	if after := match(t, m, good); !slices.Equal(before, after) {
		t.Error("the model gives other numbers after errors")
	}
	none := good
	none.ImageOf, none.TextOf = nil, nil
	if err := m.Match(nil, &none); err != nil {
		t.Errorf("no pairs: %v", err)
	}
	if err := openDemo(t).Match(make([]float32, 1), &Pairs{Offsets: []int32{0, 1}, IDs: []int32{1}, ImageOf: []int32{0}, TextOf: []int32{0}}); !errors.Is(err, ErrInvalid) {
		t.Errorf("a dual encoder matches: error %v, want ErrInvalid", err)
	}
	if err := m.EncodeImagesU8(nil, nil, pictures(m, 1), 1, true); !errors.Is(err, ErrInvalid) {
		t.Errorf("neither embeddings nor states: error %v, want ErrInvalid", err)
	}
	if err := errors.Join(m.Close(), m.Match(before, &good)); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: error %v, want ErrClosed", err)
	}
}

// The cost of pairs is that of what was computed.
func TestMatchFLOPs(t *testing.T) {
	for _, path := range crossModels {
		m := openModel(t, path)
		p := somePairs(t, m, 4, 6)
		m.SetProfile(true)
		match(t, m, p)
		var flops float64
		for _, s := range m.Profile() {
			flops += s.FLOPs
		}
		if want := m.MatchFLOPs(4, p.Offsets); math.Abs(flops/want-1) > 1e-9 {
			t.Errorf("%s: %g FLOPs computed, MatchFLOPs is %g", path, flops, want)
		}
		// What a pair adds: less than one more image's, more than none.
		one, two := m.MatchFLOPs(1, p.Offsets[:2]), m.MatchFLOPs(1, p.Offsets[:3])
		if !(two > one && two < 2*one+m.MatchFLOPs(1, []int32{0, p.Offsets[2] - p.Offsets[1]})) {
			t.Errorf("%s: one text %g FLOPs, two %g", path, one, two)
		}
	}
	if flops := openDemo(t).MatchFLOPs(1, []int32{0, 3}); flops != 0 {
		t.Errorf("a dual encoder's pairs cost %g FLOPs, want 0", flops)
	}
}
