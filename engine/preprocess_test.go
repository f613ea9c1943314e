package engine_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"codeberg.org/sbinet/npyio/npz"

	"github.com/tia2-engine/tia2-engine/engine"
	"github.com/tia2-engine/tia2-engine/internal/sharedtest"
)

var (
	clipMean = [3]float32{0.48145466, 0.4578275, 0.40821073}
	clipStd  = [3]float32{0.26862954, 0.26130258, 0.27577711}
)

// pictures is where cgo keeps tiny pictures of every format; its make_pictures.py made them.
var pictures = filepath.Join("..", "cgo", "testdata", "pictures")

func preprocess(pipeline string, size int) engine.Preprocess {
	return engine.Preprocess{Pipeline: pipeline, Size: size, Mean: clipMean, Std: clipStd}
}

func readPicture(t testing.TB, path ...string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func wantSHA(t *testing.T, data []byte, pipeline string, size int, want string) {
	t.Helper()
	px, err := preprocess(pipeline, size).U8(data)
	if err != nil {
		t.Errorf("%s %d: %v", pipeline, size, err)
		return
	}
	if sum := sha256.Sum256(px); hex.EncodeToString(sum[:]) != want {
		t.Errorf("%s %d: the pixels differ from the reference's", pipeline, size)
	}
}

func wantF32(t *testing.T, data []byte, pipeline string, size int, want []float32, tolerance float64) {
	t.Helper()
	px, err := preprocess(pipeline, size).F32(data)
	if err != nil {
		t.Errorf("%s %d: %v", pipeline, size, err)
		return
	}
	if len(px) != len(want) || len(px) != 3*size*size {
		t.Fatalf("%s %d: %d values, the reference has %d", pipeline, size, len(px), len(want))
	}
	for i := range px {
		if d := math.Abs(float64(px[i] - want[i])); !(d <= tolerance) {
			t.Fatalf("%s %d: value %d is %g, the reference says %g", pipeline, size, i, px[i], want[i])
		}
	}
}

func TestPreprocessPictures(t *testing.T) {
	var expect struct {
		Files map[string]struct {
			OpenAI map[string]string    `json:"openai"`
			HFCLIP map[string]string    `json:"hf_clip"`
			BLIP   map[string]string    `json:"blip_squash"`
			HPSv2  map[string][]float32 `json:"hpsv2"`
		}
		Refused []string
	}
	if err := json.Unmarshal(readPicture(t, pictures, "expect.json"), &expect); err != nil {
		t.Fatal(err)
	}
	if len(expect.Files) == 0 || len(expect.Refused) == 0 {
		t.Fatal("no pictures")
	}
	for name, f := range expect.Files {
		t.Run(name, func(t *testing.T) {
			data := readPicture(t, pictures, name)
			for pipeline, sums := range map[string]map[string]string{"openai": f.OpenAI, "open_clip": f.OpenAI, "hf_clip": f.HFCLIP, "blip_squash": f.BLIP} {
				for size, sum := range sums {
					wantSHA(t, data, pipeline, atoi(t, size), sum)
				}
			}
			for size, values := range f.HPSv2 {
				wantF32(t, data, "hpsv2", atoi(t, size), values, 1e-4)
			}
		})
	}
	for _, name := range expect.Refused {
		for _, pipeline := range engine.Pipelines() {
			if _, err := preprocess(pipeline, 8).F32(readPicture(t, pictures, name)); !errors.Is(err, engine.ErrImage) {
				t.Errorf("%s, %s: got %v, want ErrImage", name, pipeline, err)
			}
		}
	}
}

func atoi(t *testing.T, s string) int {
	t.Helper()
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// pixelIndex is golden/pixels/index.json; its README says what is in it.
type pixelIndex struct {
	Sizes struct{ Big int }
	Files map[string]struct {
		Expect map[string]map[string]struct {
			Shape                  []int
			SHA256, NPZ, Exception string
			Message                string
		}
	}
	F32 struct {
		File         string
		NPZ          []string
		MaxTolerance float64 `json:"max_abs_tolerance"`
	}
	HPSv2 struct {
		MaxAbs float64 `json:"max_abs"`
	} `json:"hpsv2_tolerance"`
}

func TestPreprocessGolden(t *testing.T) {
	dir := sharedtest.Path(t, "golden", "pixels")
	var index pixelIndex
	if err := json.Unmarshal(readPicture(t, dir, "index.json"), &index); err != nil {
		t.Fatal(err)
	}
	if len(index.Files) == 0 {
		t.Fatal("no files")
	}
	for name, f := range index.Files {
		t.Run(name, func(t *testing.T) {
			data := readPicture(t, dir, "files", name)
			for pipeline, bySize := range f.Expect {
				for s, want := range bySize {
					size := atoi(t, s)
					switch {
					case want.Exception != "" || len(want.Shape) > 0 && want.Shape[len(want.Shape)-2] != want.Shape[1]:
						if _, err := preprocess(pipeline, size).F32(data); !errors.Is(err, engine.ErrImage) {
							t.Errorf("%s %d: got %v, the reference fails with %s", pipeline, size, err, want.Message)
						}
					case want.SHA256 != "":
						wantSHA(t, data, pipeline, size, want.SHA256)
					case want.NPZ != "":
						wantF32(t, data, pipeline, size, readArray(t, filepath.Join(dir, want.NPZ), name), index.HPSv2.MaxAbs)
					}
				}
			}
		})
	}
	data := readPicture(t, dir, "files", index.F32.File)
	for _, file := range index.F32.NPZ {
		pipeline := file[len("f32_") : len(file)-len("_"+strconv.Itoa(index.Sizes.Big)+".npz")]
		wantF32(t, data, pipeline, index.Sizes.Big, readArray(t, filepath.Join(dir, file), index.F32.File), index.F32.MaxTolerance)
	}
}

func readArray(t *testing.T, path, name string) []float32 {
	t.Helper()
	r, err := npz.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var values []float32
	if err := r.Read(name+".npy", &values); err != nil {
		t.Fatalf("%s, %s: %v", path, name, err)
	}
	return values
}

func TestPreprocessRefusesArguments(t *testing.T) {
	data := readPicture(t, pictures, "png_rgb.png")
	for _, c := range []struct {
		name string
		p    engine.Preprocess
	}{
		{"pipeline", preprocess("siglip", 8)},
		{"no size", preprocess("openai", 0)},
		{"size", preprocess("openai", 4097)},
		{"std", engine.Preprocess{Pipeline: "openai", Size: 8}},
		{"mean", engine.Preprocess{Pipeline: "openai", Size: 8, Mean: [3]float32{float32(math.NaN())}, Std: clipStd}},
	} {
		if _, err := c.p.F32(data); !errors.Is(err, engine.ErrInvalid) {
			t.Errorf("%s: got %v, want ErrInvalid", c.name, err)
		}
	}
	if _, err := preprocess("hpsv2", 8).U8(data); !errors.Is(err, engine.ErrInvalid) {
		t.Errorf("hpsv2 as bytes: got %v, want ErrInvalid", err)
	}
}

// FuzzPreprocess feeds damaged files: an error of the right kind or pixels, the same ones each time.
func FuzzPreprocess(f *testing.F) {
	entries, err := os.ReadDir(pictures)
	if err != nil {
		f.Fatal(err)
	}
	for i, e := range entries {
		f.Add(readPicture(f, pictures, e.Name()), uint8(i), uint8(9+i))
	}
	names := engine.Pipelines()
	f.Fuzz(func(t *testing.T, data []byte, pipeline, size uint8) {
		p := preprocess(names[int(pipeline)%len(names)], 1+int(size)%48)
		p.Limits = engine.ImageLimits{PixelsMax: 1 << 18}
		px, err := p.F32(data)
		if err != nil {
			if !errors.Is(err, engine.ErrImage) {
				t.Fatalf("got %v, want ErrImage", err)
			}
			return
		}
		for i, v := range px {
			if math.IsNaN(float64(v)) || math.Abs(float64(v)) > 100 {
				t.Fatalf("value %d is %g", i, v)
			}
		}
		if p.Pipeline == "hpsv2" {
			return
		}
		a, err := p.U8(data)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := p.U8(data); err != nil || !bytes.Equal(a, b) {
			t.Fatalf("the second run gives other pixels (%v)", err)
		}
	})
}
