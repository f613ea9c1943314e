package demo

import (
	"context"
	"io/fs"
	"math"
	"os"
	"testing"

	"github.com/tia2-engine/tia2-engine/engine"
)

type reference struct {
	Texts []struct {
		Text      string    `json:"text"`
		IDs       []int32   `json:"ids"`
		Embedding []float32 `json:"embedding"`
	} `json:"texts"`
	Images []struct {
		Image     string    `json:"image"`
		Embedding []float32 `json:"embedding"`
	} `json:"images"`
}

func equalRows(t *testing.T, name string, got, want []float32) {
	t.Helper()
	const tolerance = 2e-5 // of float32, other summation order
	if len(got) != len(want) {
		t.Fatalf("%s: embedding of width %d, want %d", name, len(got), len(want))
	}
	for i := range want {
		if d := math.Abs(float64(got[i] - want[i])); !(d <= tolerance) {
			t.Errorf("%s: element %d is %g, the reference's %g", name, i, got[i], want[i])
			return
		}
	}
}

// The embedded model in the engine gives what transformers and PIL give with the folder that it was converted from.
func TestEngineEqualsReference(t *testing.T) {
	data, err := os.ReadFile("testdata/reference.json")
	want := decode[reference](t, data, err)
	ctx := context.Background()
	m, err := engine.Open(ctx, "demo", engine.Options{Backend: "cpu", DType: "f32", CacheDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	var texts []string
	var ids [][]int32
	for _, w := range want.Texts {
		texts, ids = append(texts, w.Text), append(ids, w.IDs)
	}
	fromTexts, err := m.EncodeTexts(ctx, texts)
	if err != nil {
		t.Fatal(err)
	}
	fromTokens, err := m.EncodeTokens(ctx, ids)
	if err != nil {
		t.Fatal(err)
	}
	var images []engine.Image
	for _, w := range want.Images {
		data, err := fs.ReadFile(Set(), "images/demo/"+w.Image)
		if err != nil {
			t.Fatal(err)
		}
		images = append(images, engine.Image{Name: w.Image, Data: data})
	}
	fromImages, err := m.EncodeImages(ctx, images)
	if err != nil {
		t.Fatal(err)
	}
	for i, w := range want.Texts {
		equalRows(t, w.Text, fromTexts.Row(i), w.Embedding)
		equalRows(t, "ids of "+w.Text, fromTokens.Row(i), w.Embedding)
	}
	for i, w := range want.Images {
		equalRows(t, w.Image, fromImages.Row(i), w.Embedding)
	}
}
