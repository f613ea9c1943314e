package convert

import (
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/tia2-engine/tia2-engine/engine/internal/tensorfile"
)

// aestheticHead is the head of LAION's aesthetic predictors over the L2-normalised image embedding of a CLIP.
//
// Source: improved-aesthetic-predictor simple_inference.py (V2), LAION-AI/aesthetic-predictor README (V1).
var aestheticHead = &family{
	name: "aesthetic head", arch: "aesthetic", rewards: []string{rewardAesthetic},
	describe: (*model).describeAesthetic, plan: planAesthetic,
}

// headLayers are where ImageReward's and LAION's V2 heads have their Linear layers, with dropouts between; headWidths
// what these give, one after the other. There is no activation, so that all are one affine map.
var (
	headLayers = []int{0, 2, 4, 6, 7}
	headWidths = []int64{1024, 128, 64, 16, 1}
)

// head is where a checkpoint has its aesthetic head.
type head struct {
	prefix string // before layers.0.weight, or before weight
	layers []int  // of V2; nil: V1, one Linear
}

var headName = regexp.MustCompile(`^(.*?)layers\.(\d{1,4})\.(?:weight|bias)$`)

// findHead returns the head that a checkpoint holds and nothing else, nil where it is no head.
func findHead(f *tensorfile.File) *head {
	if len(f.Tensors) == 2 {
		for _, t := range f.Tensors {
			prefix, ok := strings.CutSuffix(t.Name, "weight")
			if ok && !strings.Contains(prefix, "layers.") && f.Tensor(prefix+"bias") != nil && len(t.Shape) == 2 && t.Shape[0] == 1 {
				return &head{prefix: prefix}
			}
		}
	}
	h := &head{}
	for i, t := range f.Tensors {
		parts := headName.FindStringSubmatch(t.Name)
		if parts == nil || i > 0 && parts[1] != h.prefix {
			return nil
		}
		h.prefix = parts[1]
		if n, err := strconv.Atoi(parts[2]); err == nil && !slices.Contains(h.layers, n) {
			h.layers = append(h.layers, n)
		}
	}
	if h.layers == nil {
		return nil
	}
	slices.Sort(h.layers)
	return h
}

// describeAesthetic: the width of the first layer. A head with activations is no affine map.
func (m *model) describeAesthetic(Options) error {
	where := m.file.Parts[0]
	h := findHead(m.file)
	switch {
	case strings.Contains(strings.ToLower(filepath.Base(where)), "relu"):
		return fmt.Errorf("%s: by its name an aesthetic head with ReLU between its layers, which is no affine map: expected the linearMSE variant", where)
	case h.layers != nil && !slices.Equal(h.layers, headLayers):
		return fmt.Errorf("%s: an aesthetic head with Linear layers %v: expected %v, as without activations between them (linearMSE)", where, h.layers, headLayers)
	}
	name := h.prefix + "weight"
	if h.layers != nil {
		name = h.prefix + "layers.0.weight"
	}
	t := m.file.Tensor(name)
	if t == nil || len(t.Shape) != 2 {
		return fmt.Errorf("%s: tensor %s is missing or no matrix", where, name)
	}
	m.spec = &Spec{EmbedDim: int(min(t.Shape[1], maxWidth+1))}
	return m.spec.checkEmbedDim(where)
}

func planAesthetic(s *Spec, f *tensorfile.File) []output {
	h := &head{layers: headLayers}
	if f != nil {
		h = findHead(f)
	}
	d := int64(s.EmbedDim)
	inputs := headInputs(h.prefix+"layers.", d)
	if h.layers == nil {
		inputs = []input{{h.prefix + "weight", []int64{1, d}}, {h.prefix + "bias", []int64{1}}}
	}
	return []output{
		{name: "head.weight", cols: d, inputs: inputs, compute: func(v [][]float32) []float32 { return round(foldWeight(v, 1)) }},
		{name: "head.bias", cols: 1, inputs: inputs, compute: func(v [][]float32) []float32 { return round(foldBias(v, 0, 1)) }},
	}
}

// ImageReward's rewards are standardised.
//
// Source: ImageReward/ImageReward.py.
const (
	imageRewardMean = 0.16717362830052426
	imageRewardStd  = 1.0333394966054072
)

// imageRewardHead plans ImageReward's MLP, whose tensors begin with prefix, over BERT states of the given width.
func imageRewardHead(p *planner, prefix string, width int64) {
	inputs := headInputs(prefix+"layers.", width)
	p.add(output{name: "pair_head.weight", rows: 1, cols: width, inputs: inputs,
		compute: func(v [][]float32) []float32 { return round(foldWeight(v, imageRewardStd)) }})
	p.add(output{name: "pair_head.bias", cols: 1, inputs: inputs,
		compute: func(v [][]float32) []float32 { return round(foldBias(v, imageRewardMean, imageRewardStd)) }})
}

// headInputs are weight and bias of each of headLayers over `in` values.
func headInputs(prefix string, in int64) (inputs []input) {
	for i, layer := range headLayers {
		name := prefix + strconv.Itoa(layer)
		inputs = append(inputs, input{name + ".weight", []int64{headWidths[i], in}}, input{name + ".bias", []int64{headWidths[i]}})
		in = headWidths[i]
	}
	return inputs
}

// foldWeight returns the row [in] that a chain of Linear layers with one output is, divided by std. values are weight
// [out, in] and bias [out] of each layer, from the first to the last.
func foldWeight(values [][]float32, std float64) []float64 {
	row := []float64{1 / std}
	for i := len(values) - 2; i >= 0; i -= 2 {
		row = times(row, values[i])
	}
	return row
}

// foldBias returns the bias of the same map, less mean and divided by std.
func foldBias(values [][]float32, mean, std float64) []float64 {
	sum, row := -mean/std, []float64{1 / std}
	for i := len(values) - 2; i >= 0; i -= 2 {
		for o, b := range values[i+1] {
			sum += row[o] * float64(b)
		}
		row = times(row, values[i])
	}
	return []float64{sum}
}

// times is the product [in] of a row [out] and a matrix [out, in].
func times(row []float64, matrix []float32) []float64 {
	product := make([]float64, len(matrix)/len(row))
	for o, r := range row {
		for i, w := range matrix[o*len(product) : (o+1)*len(product)] {
			product[i] += r * float64(w)
		}
	}
	return product
}

func round(x []float64) []float32 {
	out := make([]float32, len(x))
	for i, v := range x {
		out[i] = float32(v)
	}
	return out
}
