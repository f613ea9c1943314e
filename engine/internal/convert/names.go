package convert

import (
	"fmt"
	"slices"
	"strings"

	"github.com/tia2-engine/tia2-engine/engine/internal/tensorfile"
)

// input is a tensor of the checkpoint.
type input struct {
	name      string
	shape     []int64 // expected, as PyTorch says it: outermost first
	transpose bool    // stored [in, out] instead of [out, in]
}

// output is a tensor of the GGUF file: its inputs one below the other.
type output struct {
	name   string
	rows   int64 // 0: a vector
	cols   int64 // the row, ggml's innermost dimension
	matrix bool  // takes the type asked for; the others stay f32
	inputs []input
}

// naming is how a family calls its tensors.
type naming struct {
	class, position, patch, preNorm, postNorm, proj string // vision
	token, textPosition, textNorm, textProj         string
	visionBlock, textBlock                          string // with %d for the layer
	norm1, norm2, attnOut, up, down                 string // within a block
	qkv                                             []string
	qkvWeight, qkvBias                              string // suffixes
	projSuffix                                      string
	projTransposed                                  bool
}

// hfNames are those of transformers' CLIPModel.
var hfNames = naming{
	class: "vision_model.embeddings.class_embedding", position: "vision_model.embeddings.position_embedding.weight",
	patch: "vision_model.embeddings.patch_embedding.weight", preNorm: "vision_model.pre_layrnorm", postNorm: "vision_model.post_layernorm",
	proj: "visual_projection", token: "text_model.embeddings.token_embedding.weight", textPosition: "text_model.embeddings.position_embedding.weight",
	textNorm: "text_model.final_layer_norm", textProj: "text_projection", visionBlock: "vision_model.encoder.layers.%d.",
	textBlock: "text_model.encoder.layers.%d.", norm1: "layer_norm1", norm2: "layer_norm2", attnOut: "self_attn.out_proj", up: "mlp.fc1", down: "mlp.fc2",
	qkv: []string{"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"}, qkvWeight: ".weight", qkvBias: ".bias", projSuffix: ".weight",
}

// openAINames are those of openai/CLIP and open_clip; text is the prefix of the text tower, "" or "text.".
func openAINames(text string) naming {
	return naming{
		class: "visual.class_embedding", position: "visual.positional_embedding", patch: "visual.conv1.weight", preNorm: "visual.ln_pre",
		postNorm: "visual.ln_post", proj: "visual.proj", token: text + "token_embedding.weight", textPosition: text + "positional_embedding",
		textNorm: text + "ln_final", textProj: text + "text_projection", visionBlock: "visual.transformer.resblocks.%d.",
		textBlock: text + "transformer.resblocks.%d.", norm1: "ln_1", norm2: "ln_2", attnOut: "attn.out_proj", up: "mlp.c_fc", down: "mlp.c_proj",
		qkv: []string{"attn.in_proj"}, qkvWeight: "_weight", qkvBias: "_bias", projTransposed: true,
	}
}

// namesOf returns the naming of a checkpoint.
func namesOf(fam family, f *tensorfile.File) naming {
	switch {
	case fam == familyHF:
		return hfNames
	case f.Tensor("text.token_embedding.weight") != nil:
		return openAINames("text.")
	}
	return openAINames("")
}

// plan lists the tensors of the GGUF file of a model.
func plan(s *Spec, n naming, f *tensorfile.File) []output {
	p := planner{n: n, f: f}
	w, t := int64(s.Vision.Width), int64(s.Text.Width)
	patch, side := 3*int64(s.PatchSize)*int64(s.PatchSize), int64(s.PatchSize)
	p.vector("v.class_embd", w, n.class)
	p.add("v.position_embd", int64(s.imageTokens()), w, false, input{name: n.position, shape: []int64{int64(s.imageTokens()), w}})
	p.add("v.patch_embd.weight", w, patch, true, input{name: n.patch, shape: []int64{w, 3, side, side}})
	p.norm("v.pre_ln", w, n.preNorm)
	p.tower("v", &s.Vision, n.visionBlock)
	p.norm("v.post_ln", w, n.postNorm)
	p.projection("v.proj", int64(s.EmbedDim), w, n.proj)
	p.add("t.token_embd.weight", int64(s.VocabSize), t, true, input{name: n.token, shape: []int64{int64(s.VocabSize), t}})
	p.add("t.position_embd", int64(s.Context), t, false, input{name: n.textPosition, shape: []int64{int64(s.Context), t}})
	p.tower("t", &s.Text, n.textBlock)
	p.norm("t.post_ln", t, n.textNorm)
	p.projection("t.proj", int64(s.EmbedDim), t, n.textProj)
	p.vector("logit_scale", 1, "logit_scale")
	return p.out
}

// planner collects the outputs. f may be nil: then optional tensors are left out.
type planner struct {
	n   naming
	f   *tensorfile.File
	out []output
}

func (p *planner) add(name string, rows, cols int64, matrix bool, inputs ...input) {
	p.out = append(p.out, output{name, rows, cols, matrix, inputs})
}

func (p *planner) vector(name string, n int64, from ...string) {
	o := output{name: name, cols: n}
	for _, f := range from {
		o.inputs = append(o.inputs, input{name: f, shape: []int64{n / int64(len(from))}})
	}
	p.out = append(p.out, o)
}

func (p *planner) norm(name string, n int64, from string) {
	p.vector(name+".weight", n, from+".weight")
	p.vector(name+".bias", n, from+".bias")
}

func (p *planner) linear(name string, out, in int64, from string) {
	p.add(name+".weight", out, in, true, input{name: from + ".weight", shape: []int64{out, in}})
	p.vector(name+".bias", out, from+".bias")
}

func (p *planner) tower(name string, t *Tower, block string) {
	w := int64(t.Width)
	for i := range t.Layers {
		from, to := fmt.Sprintf(block, i), fmt.Sprintf("%s.blk.%d.", name, i)
		p.norm(to+"ln1", w, from+p.n.norm1)
		var weights []input
		var biases []string
		for _, q := range p.n.qkv {
			weights = append(weights, input{name: from + q + p.n.qkvWeight, shape: []int64{3 * w / int64(len(p.n.qkv)), w}})
			biases = append(biases, from+q+p.n.qkvBias)
		}
		p.add(to+"attn_qkv.weight", 3*w, w, true, weights...)
		p.vector(to+"attn_qkv.bias", 3*w, biases...)
		p.linear(to+"attn_out", w, w, from+p.n.attnOut)
		p.norm(to+"ln2", w, from+p.n.norm2)
		p.linear(to+"ffn_up", int64(t.MLPWidth), w, from+p.n.up)
		p.linear(to+"ffn_down", w, int64(t.MLPWidth), from+p.n.down)
	}
}

// projection is a bare matrix [width, embed] or, in newer open_clip models and HF, a Linear, perhaps with a bias.
func (p *planner) projection(name string, embed, width int64, from string) {
	in := input{name: from + p.n.projSuffix, shape: []int64{embed, width}}
	if p.n.projTransposed {
		if p.f != nil && p.f.Tensor(from) == nil && p.f.Tensor(from+".weight") != nil {
			in.name = from + ".weight"
		} else {
			in.shape, in.transpose = []int64{width, embed}, true
		}
	}
	p.add(name+".weight", embed, width, true, in)
	if p.f != nil && p.f.Tensor(from+".bias") != nil {
		p.vector(name+".bias", embed, from+".bias")
	}
}

// checkTensors compares the plan with the checkpoint: every tensor there, of a float type and the right shape, and no
// other weights in the towers, which would change the result.
func checkTensors(outs []output, f *tensorfile.File) error {
	wanted := map[string]bool{}
	for _, o := range outs {
		for _, in := range o.inputs {
			wanted[in.name] = true
			t := f.Tensor(in.name)
			switch {
			case t == nil:
				return fmt.Errorf("%s: tensor %s is missing", f.Parts[0], in.name)
			case t.DType == tensorfile.Other:
				return fmt.Errorf("%s is sparse or quantised: expected a plain tensor", t)
			case !t.DType.IsFloat():
				return fmt.Errorf("%s holds %s values: expected a float type", t, t.DType)
			case !slices.Equal(t.Shape, in.shape) && !(in.name == "logit_scale" && t.Elements() == 1):
				return fmt.Errorf("%s has shape %v: expected %v", t, t.Shape, in.shape)
			}
		}
	}
	for _, t := range f.Tensors {
		if !wanted[t.Name] && (t.DType.IsFloat() || t.DType == tensorfile.Other) && inTower(t.Name) {
			return fmt.Errorf("%s is not part of a CLIP model as supported here", t)
		}
	}
	return nil
}

// inTower tells whether a tensor belongs to the model and not to what training left beside it.
func inTower(name string) bool {
	if strings.HasSuffix(name, "attn_mask") || strings.HasSuffix(name, "position_ids") {
		return false
	}
	for _, prefix := range []string{"visual.", "text.", "transformer.", "vision_model.", "text_model.", "visual_projection", "text_projection",
		"positional_embedding", "ln_final", "logit_"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}
