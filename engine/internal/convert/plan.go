package convert

import (
	"fmt"
	"slices"
	"strings"

	"github.com/tia2-engine/tia2-engine/engine/internal/tensorfile"
)

// input is a tensor of the checkpoint, of the shape that is expected, as PyTorch says it: outermost first.
type input struct {
	name  string
	shape []int64
}

// output is a tensor of the GGUF file: its inputs one below the other, or what compute makes of them.
type output struct {
	name    string
	rows    int64 // 0: a vector
	cols    int64 // the row, ggml's innermost dimension
	inputs  []input
	compute func(values [][]float32) []float32 // from the inputs' values to rows x cols; nil: as they are
}

// matrix tells whether the tensor takes the type asked for; the others stay f32.
func (o *output) matrix() bool { return o.rows > 0 && isMatrix(o.name) }

// isMatrix tells by its name whether a tensor of two dimensions is a matrix that is multiplied with, or looked up in. The
// head of pairs is one too, but so small that no type is worth its rounding.
func isMatrix(name string) bool {
	return strings.HasSuffix(name, ".weight") && name != "pair_head.weight"
}

// planner collects the outputs.
type planner struct{ out []output }

func (p *planner) add(o output) { p.out = append(p.out, o) }

// matrix takes a tensor as it is; shape is the checkpoint's, of which the first dimension becomes the rows.
func (p *planner) matrix(name, from string, shape ...int64) {
	cols := int64(1)
	for _, d := range shape[1:] {
		cols *= d
	}
	p.add(output{name: name, rows: shape[0], cols: cols, inputs: []input{{from, shape}}})
}

// vector puts one vector below the other, of n values together.
func (p *planner) vector(name string, n int64, from ...string) {
	o := output{name: name, cols: n}
	for _, f := range from {
		o.inputs = append(o.inputs, input{f, []int64{n / int64(len(from))}})
	}
	p.add(o)
}

func (p *planner) norm(name string, n int64, from string) {
	p.vector(name+".weight", n, from+".weight")
	p.vector(name+".bias", n, from+".bias")
}

func (p *planner) linear(name string, out, in int64, from string) {
	p.matrix(name+".weight", from+".weight", out, in)
	p.vector(name+".bias", out, from+".bias")
}

// stacked puts Linear layers of the same shape one below the other: [out, in] all together.
func (p *planner) stacked(name string, out, in int64, from ...string) {
	o := output{name: name + ".weight", rows: out, cols: in}
	var biases []string
	for _, f := range from {
		o.inputs = append(o.inputs, input{f + ".weight", []int64{out / int64(len(from)), in}})
		biases = append(biases, f+".bias")
	}
	p.add(o)
	p.vector(name+".bias", out, biases...)
}

// transposed is an output's compute: the [cols, rows] matrix of a [rows, cols] one.
func transposed(rows, cols int) func([][]float32) []float32 {
	return func(values [][]float32) []float32 {
		x := values[0]
		out := make([]float32, len(x))
		for r := range rows {
			for c := range cols {
				out[c*rows+r] = x[r*cols+c]
			}
		}
		return out
	}
}

// checkTensors compares the plan with the checkpoint: every tensor there, of a float type and the right shape, and no
// other weights in the towers. What is left over is listed, and noted where no reference is known to leave it.
func (m *model) checkTensors() error {
	wanted := map[string]bool{}
	for _, o := range m.outputs {
		for _, in := range o.inputs {
			wanted[in.name] = true
			if err := checkTensor(m.file, in); err != nil {
				return err
			}
		}
	}
	var unknown []string
	for _, t := range m.file.Tensors {
		if wanted[t.Name] {
			continue
		}
		m.ignored = append(m.ignored, t.Name)
		if !t.DType.IsFloat() && t.DType != tensorfile.Other || marked(t.Name, m.family.leftovers...) || marked(t.Name, m.leftovers...) {
			continue
		}
		if marked(t.Name, m.family.towers...) {
			return fmt.Errorf("%s is not part of this model (%s) as supported here", t, m.family.name)
		}
		unknown = append(unknown, t.Name)
	}
	if len(unknown) > 0 {
		m.notes = append(m.notes, fmt.Sprintf("%d tensors are no part of this model (%s) and were ignored: %s", len(unknown), m.family.name, someOf(unknown)))
	}
	return nil
}

func checkTensor(f *tensorfile.File, in input) error {
	t := f.Tensor(in.name)
	switch {
	case t == nil:
		return fmt.Errorf("%s: tensor %s is missing", someOf(f.Parts), in.name)
	case t.DType == tensorfile.Other:
		return fmt.Errorf("%s is sparse or quantised: expected a plain tensor", t)
	case !t.DType.IsFloat():
		return fmt.Errorf("%s holds %s values: expected a float type", t, t.DType)
	case !slices.Equal(t.Shape, in.shape) && !(in.name == "logit_scale" && t.Elements() == 1):
		return fmt.Errorf("%s has shape %v: expected %v", t, t.Shape, in.shape)
	}
	return nil
}

// someOf lists up to eight names.
func someOf(names []string) string {
	if len(names) > 8 {
		names = append(slices.Clone(names[:8]), "...")
	}
	return strings.Join(names, ", ")
}
