package export

import (
	"bufio"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"codeberg.org/sbinet/npyio/npy"
	"codeberg.org/sbinet/npyio/npz"
	"github.com/google/go-cmp/cmp"
	"github.com/parquet-go/parquet-go"
)

var nan = float32(math.NaN())

func sample() Embeddings {
	return Embeddings{
		Images:     &Rows{Names: []string{"a.png", "bröken <1>.jpg", "c.png"}, Dim: 2, Data: []float32{0.6, -0.8, nan, nan, 1, 1e-9}},
		Texts:      &Rows{Names: []string{"a 🐱"}, Dim: 2, Data: []float32{3, 4}},
		LogitScale: 100,
	}
}

func TestWriteEmbeddingsNPZ(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.npz")
	if err := WriteEmbeddings(path, sample()); err != nil {
		t.Fatal(err)
	}
	r, err := npz.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if got := r.Header("image_embeds.npy").Descr.Shape; !cmp.Equal(got, []int{3, 2}) {
		t.Errorf("shape %v", got)
	}
	var images []float32
	if err := r.Read("image_embeds.npy", &images); err != nil {
		t.Fatal(err)
	}
	if images[1] != -0.8 || !isNaN(images[2]) || images[5] != 1e-9 {
		t.Errorf("images %v", images)
	}
	scale := make([]float32, 1)
	if err := r.Read("logit_scale.npy", &scale[0]); err != nil || scale[0] != 100 {
		t.Errorf("logit_scale %v, %v", scale, err)
	}
	if d := r.Header("image_names.npy").Descr; d.Type != "'<U14'" {
		t.Errorf("names are %s", d.Type)
	}
}

func TestWriteNPY(t *testing.T) {
	dir := t.TempDir()
	for name, a := range map[string]Array{
		"f32":    {Shape: []int{2, 3}, F32: []float32{1, 2, 3, 4, 5, 6}},
		"u8":     {Shape: []int{1, 2, 2}, U8: []uint8{1, 2, 3, 255}},
		"empty":  {Shape: []int{0, 512}, F32: []float32{}},
		"scalar": {F32: []float32{7}},
		"long":   {Shape: []int{1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1}, F32: []float32{7}},
	} {
		path := filepath.Join(dir, name+".npy")
		if err := WriteNPY(path, a); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		r, err := npy.NewReader(f)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if len(a.Shape) != len(r.Header.Descr.Shape) || len(a.Shape) > 0 && !cmp.Equal(r.Header.Descr.Shape, a.Shape) {
			t.Errorf("%s: shape %v, want %v", name, r.Header.Descr.Shape, a.Shape)
		}
		if at, _ := f.Seek(0, 1); at%64 != 0 {
			t.Errorf("%s: data begin at %d", name, at)
		}
		if a.U8 != nil {
			var got []uint8
			if err := r.Read(&got); err != nil || !cmp.Equal(got, a.U8) {
				t.Errorf("%s: %v, %v", name, got, err)
			}
		}
		f.Close()
	}
	if err := WriteNPY(filepath.Join(dir, "bad.npy"), Array{Shape: []int{2}, F32: []float32{1}}); err == nil {
		t.Error("an array of the wrong length was written")
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "bad*")); len(left) > 0 {
		t.Errorf("left after an error: %q", left)
	}
}

func TestWriteEmbeddingsJSONL(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.jsonl")
	if err := WriteEmbeddings(path, sample()); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var got []embedding
	for s := bufio.NewScanner(f); s.Scan(); {
		var e embedding
		if err := json.Unmarshal(s.Bytes(), &e); err != nil {
			t.Fatal(err)
		}
		got = append(got, e)
	}
	if d := cmp.Diff(whole(), got); d != "" {
		t.Error(d)
	}
}

func TestWriteEmbeddingsParquet(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.PARQUET")
	if err := WriteEmbeddings(path, sample()); err != nil {
		t.Fatal(err)
	}
	got, err := parquet.ReadFile[embedding](path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(whole(), got); d != "" {
		t.Error(d)
	}
}

// whole is the sample without the item that failed.
func whole() []embedding {
	return []embedding{
		{"image", "a.png", []float32{0.6, -0.8}},
		{"image", "c.png", []float32{1, 1e-9}},
		{"text", "a 🐱", []float32{3, 4}},
	}
}

func TestWriteEmbeddingsNPYHoldsOnePart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.npy")
	e := sample()
	if err := WriteEmbeddings(path, e); err == nil || !strings.Contains(err.Error(), "use .npz") {
		t.Errorf("both parts: %v", err)
	}
	e.Texts = nil
	if err := WriteEmbeddings(path, e); err != nil {
		t.Error(err)
	}
}

func TestWriteScores(t *testing.T) {
	s := Scores{Images: []string{"a", "b"}, Texts: []string{"x", "y", "z"}, Names: []string{"clip"},
		Rewards: [][]float32{{1, 2, 3.5, nan, nan, nan}}}
	path := filepath.Join(t.TempDir(), "s.json")
	if err := WriteScores(path, s); err != nil {
		t.Fatal(err)
	}
	got, _ := os.ReadFile(path)
	if want := `{"images":["a","b"],"texts":["x","y","z"],"rewards":{"clip":[[1,2,3.5],null]}}` + "\n"; string(got) != want {
		t.Errorf("%s, want %s", got, want)
	}
	path = filepath.Join(t.TempDir(), "s.npz")
	if err := WriteScores(path, s); err != nil {
		t.Fatal(err)
	}
	r, err := npz.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if shape := r.Header("clip.npy").Descr.Shape; !cmp.Equal(shape, []int{2, 3}) {
		t.Errorf("shape %v", shape)
	}
}

func TestUnknownExtension(t *testing.T) {
	if err := WriteEmbeddings("x.csv", sample()); err == nil || !strings.Contains(err.Error(), ".npz, .npy, .jsonl, .parquet") {
		t.Errorf("%v", err)
	}
	if err := WriteScores("x", Scores{}); err == nil {
		t.Error("a file without extension was accepted")
	}
}

func TestNPZNamesAreUnique(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.npz")
	a := Array{Name: "a", F32: []float32{1}}
	if err := WriteNPZ(path, []Array{a, a}); err == nil {
		t.Error("two arrays of one name were written")
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("a half file has its final name")
	}
}
