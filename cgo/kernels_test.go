package cgo

import (
	"errors"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/tia2-engine/tia2-engine/textnorm"
)

// makeTextNorm draws a batch: sets prompt sets of P texts each, their images mixed. Some texts repeat the prompt (equal
// rewards), and the texts of set 0 are all the same.
func makeTextNorm(r *rand.Rand, images, sets, p, d int) TextNormArgs {
	a := TextNormArgs{D: d, RewardScale: 100, Scale: 10}
	unit := func() []float32 {
		v, sum := make([]float32, d), 0.0
		for i := range v {
			v[i] = float32(r.NormFloat64())
			sum += float64(v[i]) * float64(v[i])
		}
		for i := range v {
			v[i] /= float32(math.Sqrt(sum))
		}
		return v
	}
	for range images {
		a.Images = append(a.Images, unit()...)
		a.SetOf = append(a.SetOf, int32(r.IntN(sets)))
	}
	a.SetOffsets = []int32{0}
	for s := range sets {
		prompt := unit()
		for j := range p {
			if j == 0 || j%5 == 0 || s == 0 {
				a.Texts = append(a.Texts, prompt...)
			} else {
				a.Texts = append(a.Texts, unit()...)
			}
		}
		a.SetOffsets = append(a.SetOffsets, int32((s+1)*p))
	}
	return a
}

// rewardsOf returns the rewards, [images of the set][P], and which images they are of.
func rewardsOf(a TextNormArgs, set int) (rewards [][]float64, of []int) {
	for b, s := range a.SetOf {
		if int(s) != set {
			continue
		}
		image := a.Images[b*a.D : (b+1)*a.D]
		var row []float64
		for j := a.SetOffsets[set]; j < a.SetOffsets[set+1]; j++ {
			sum := 0.0
			for d, x := range a.Texts[int(j)*a.D : (int(j)+1)*a.D] {
				sum += float64(x) * float64(image[d])
			}
			row = append(row, float64(a.RewardScale)*sum)
		}
		rewards, of = append(rewards, row), append(of, b)
	}
	return rewards, of
}

func TestTextNormMatchesGo(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	type shape struct{ images, sets, p, d int }
	for _, shape := range []shape{{1, 1, 2, 1}, {7, 2, 5, 3}, {40, 3, 33, 512}, {60, 4, 61, 65}} {
		for native, pure := range map[MinMax]textnorm.MinMax{MinMaxImage: textnorm.PerImage, MinMaxSet: textnorm.PerSet} {
			a := makeTextNorm(r, shape.images, shape.sets, shape.p, shape.d)
			a.MinMax = native
			raw, norm := make([]float32, shape.images), make([]float32, shape.images)
			if err := TextNorm(raw, norm, a); err != nil {
				t.Fatal(err)
			}
			for s := range shape.sets {
				rewards, of := rewardsOf(a, s)
				if len(of) == 0 {
					continue
				}
				want, err := textnorm.Calibrate(rewards, textnorm.Options{Scale: float64(a.Scale), MinMax: pure})
				if err != nil {
					t.Fatal(err)
				}
				for i, b := range of {
					if d := math.Abs(float64(norm[b]) - want[i]); !(d <= 1e-6) {
						t.Errorf("%+v %s: set %d image %d: norm %g, want %g", shape, pure, s, b, norm[b], want[i])
					}
					if d := math.Abs(float64(raw[b]) - rewards[i][0]); !(d <= 1e-5) {
						t.Errorf("%+v %s: set %d image %d: raw %g, want %g", shape, pure, s, b, raw[b], rewards[i][0])
					}
				}
			}
		}
	}
}

func TestTextNormRefuses(t *testing.T) {
	for _, c := range []struct {
		name, message string
		spoil         func(*TextNormArgs)
	}{
		{"width", "D is 0", func(a *TextNormArgs) { a.D = 0 }},
		{"images", "images has 23 values; expected 24", func(a *TextNormArgs) { a.Images = a.Images[:23] }},
		{"texts", "texts has 39 values", func(a *TextNormArgs) { a.Texts = a.Texts[:39] }},
		{"fewer texts", "within 0 to 8", func(a *TextNormArgs) { a.Texts = a.Texts[:32] }},
		{"offsets", "set offsets are empty", func(a *TextNormArgs) { a.SetOffsets = nil }},
		{"set", "prompt set 9", func(a *TextNormArgs) { a.SetOf[2] = 9 }},
		{"scale", "scale is -1", func(a *TextNormArgs) { a.Scale = -1 }},
		{"mode", "minmax is 7", func(a *TextNormArgs) { a.MinMax = 7 }},
	} {
		a := makeTextNorm(rand.New(rand.NewPCG(1, 1)), 6, 2, 5, 4)
		c.spoil(&a)
		err := TextNorm(nil, make([]float32, 6), a)
		if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), c.message) {
			t.Errorf("%s: error %v, want ErrInvalid with %q", c.name, err, c.message)
		}
	}
	a := makeTextNorm(rand.New(rand.NewPCG(1, 1)), 6, 2, 5, 4)
	if err := TextNorm(nil, make([]float32, 5), a); !errors.Is(err, ErrInvalid) {
		t.Errorf("short norm: %v", err)
	}
	if err := TextNorm(make([]float32, 5), make([]float32, 6), a); !errors.Is(err, ErrInvalid) {
		t.Errorf("short raw: %v", err)
	}
	if err := TextNorm(nil, nil, TextNormArgs{D: 1, SetOffsets: []int32{0}, Scale: 1}); err != nil {
		t.Errorf("an empty batch: %v", err)
	}
}

func TestTextNormAllocatesNothing(t *testing.T) {
	a := makeTextNorm(rand.New(rand.NewPCG(1, 2)), 20, 2, 9, 32)
	raw, norm := make([]float32, 20), make([]float32, 20)
	if n := testing.AllocsPerRun(50, func() {
		if err := TextNorm(raw, norm, a); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%g allocations a call, want 0", n)
	}
}

func TestSetISA(t *testing.T) {
	defer SetISA("auto")
	a := makeTextNorm(rand.New(rand.NewPCG(1, 2)), 20, 2, 9, 32)
	first := make([]float32, 20)
	for _, level := range []string{"scalar", "avx2", "avx512", "avx512vnni", "avx512bf16", "neon", "auto"} {
		if err := SetISA(level); err != nil {
			if level == "scalar" || level == "auto" || !strings.Contains(err.Error(), level) {
				t.Errorf("%s: %v", level, err)
			}
			continue
		}
		norm := make([]float32, 20)
		if err := TextNorm(nil, norm, a); err != nil {
			t.Fatal(err)
		}
		if level == "scalar" {
			copy(first, norm)
		}
		for i := range norm {
			if math.Abs(float64(norm[i]-first[i])) > 1e-6 {
				t.Errorf("%s: image %d is %g, scalar gives %g", level, i, norm[i], first[i])
			}
		}
	}
	if err := SetISA("sse9"); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "sse9") {
		t.Errorf("sse9: %v", err)
	}
}

func TestPeakMeasure(t *testing.T) {
	p, err := PeakMeasure(1)
	if err != nil {
		t.Fatal(err)
	}
	if !(p.F32GFLOPS > 0 && p.BandwidthGBs > 0) {
		t.Errorf("peak %+v", p)
	}
	if _, err := PeakMeasure(0); !errors.Is(err, ErrInvalid) {
		t.Errorf("0 threads: %v", err)
	}
}

// A level forced by the environment that cannot be had is an error of the calls, not a crash and not another level;
// choosing one that can be had settles it. The library reads the variable once, so this runs in a process of its own.
func TestEnvironmentLevel(t *testing.T) {
	a := makeTextNorm(rand.New(rand.NewPCG(1, 2)), 4, 1, 3, 8)
	norm := make([]float32, 4)
	if os.Getenv("TIA2_TEST_CHILD") != "" {
		err := TextNorm(nil, norm, a)
		if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "TIA2_CPU=warp9") {
			t.Errorf("textnorm: %v", err)
		}
		if _, err := PeakMeasure(1); !errors.Is(err, ErrInvalid) {
			t.Errorf("peak: %v", err)
		}
		if err := SetISA("scalar"); err != nil {
			t.Error(err)
		}
		if err := TextNorm(nil, norm, a); err != nil {
			t.Errorf("after a valid choice: %v", err)
		}
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestEnvironmentLevel$", "-test.v")
	cmd.Env = append(os.Environ(), "TIA2_CPU=warp9", "TIA2_TEST_CHILD=1")
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "PASS") {
		t.Errorf("%v\n%s", err, out)
	}
}
