package engine

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"slices"

	"github.com/tia2-engine/tia2-engine/engine/internal/gguf"
)

// aestheticHead is LAION's predictor over the L2-normalised embedding of a picture by the CLIP that it was trained on.
type aestheticHead struct {
	weight []float32 // [EmbedDim]
	bias   float32
}

// score returns weight * embedding + bias, summed in f64.
func (h *aestheticHead) score(embedding []float32) float32 {
	sum := float64(h.bias)
	for i, w := range h.weight {
		sum += float64(w) * float64(embedding[i])
	}
	return float32(sum)
}

// readHead makes m the aesthetic head of a file.
func (m *Model) readHead(g *gguf.File) error {
	dim, ok := g.Value("aesthetic.embed_dim").(uint32)
	if !ok || dim < 1 || dim > 1<<16 {
		return fmt.Errorf("key aesthetic.embed_dim is %v: expected a number of 1 to %d", g.Value("aesthetic.embed_dim"), 1<<16)
	}
	h := &aestheticHead{}
	var err error
	if h.weight, err = readVector(g, "head.weight", uint64(dim)); err != nil {
		return err
	}
	bias, err := readVector(g, "head.bias", 1)
	if err != nil {
		return err
	}
	h.bias = bias[0]
	m.head = h
	m.info.Family, m.info.Device, m.info.Backend, m.info.DType = "aesthetic", "CPU", "cpu", "f32"
	m.info.EmbedDim, m.info.LogitScale, m.info.WeightsBytes = int(dim), 1, 4*(uint64(dim)+1)
	return nil
}

// readVector reads a tensor, f32 [n], all of whose values are finite.
func readVector(g *gguf.File, name string, n uint64) ([]float32, error) {
	t := g.Tensor(name)
	if t == nil || t.Type != gguf.F32 || len(t.Dims) != 1 || t.Dims[0] != n {
		return nil, fmt.Errorf("tensor %s: expected f32 [%d]", name, n)
	}
	r, err := g.Data(t)
	if err != nil {
		return nil, err
	}
	data := make([]byte, 4*n)
	if _, err := io.ReadFull(r, data); err != nil {
		return nil, fmt.Errorf("tensor %s: %w", name, err)
	}
	values := make([]float32, n)
	for i := range values {
		values[i] = math.Float32frombits(binary.LittleEndian.Uint32(data[4*i:]))
		if v := float64(values[i]); math.IsNaN(v) || math.IsInf(v, 0) {
			return nil, fmt.Errorf("tensor %s: value %d is %g: expected finite numbers", name, i, v)
		}
	}
	return values, nil
}

// embedderOf returns the CLIP among models whose embeddings an aesthetic head takes: the one of the head's width, or, of
// several, the one whose reward is "clip".
func embedderOf(head *Model, models []*Model) (*Model, error) {
	var fitting, plain []*Model
	for _, m := range models {
		if m.info.Family != "clip" || m.info.EmbedDim != head.info.EmbedDim || slices.Contains(fitting, m) {
			continue
		}
		fitting = append(fitting, m)
		if m.info.Rewards[0] == "clip" {
			plain = append(plain, m)
		}
	}
	switch {
	case len(fitting) == 1:
		return fitting[0], nil
	case len(plain) == 1:
		return plain[0], nil
	}
	among := "none of the models is one"
	if len(fitting) > 0 {
		among = fmt.Sprintf("%d of the models could be it", len(fitting))
	}
	return nil, ofKind(ErrInvalid, "tia2: %s, an aesthetic head, takes the image embeddings of the CLIP that it was trained on (LAION's V2: OpenAI's ViT-L/14): "+
		"expected one with embeddings of %d values among the models, %s", head.info.Spec, head.info.EmbedDim, among)
}
