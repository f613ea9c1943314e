package convert

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/tia2-engine/tia2-engine/engine/internal/tensorfile"
)

// The three layouts of CLIP. What is left over in them is the causal mask and the positions' numbers.
var (
	clipRewards   = []string{rewardCLIP, rewardPickScore, rewardHPSv2}
	clipTowers    = []string{"^visual.", "^text.", "^transformer.", "^vision_model.", "^text_model.", "^visual_projection", "^text_projection", "^positional_embedding", "^ln_final", "^logit_"}
	clipLeftovers = []string{"attn_mask", "position_ids"}

	openAICLIP = &family{
		name: "openai clip", arch: "clip", rewards: clipRewards, towers: clipTowers, leftovers: clipLeftovers,
		describe: (*model).describeOpenAI, plan: planOpenAI, tokenizer: clipTokenizer(tokenizerOpenCLIP),
	}
	openCLIP = &family{
		name: "open_clip", arch: "clip", rewards: clipRewards, towers: clipTowers, leftovers: clipLeftovers,
		describe: (*model).describeOpenCLIP, plan: planOpenAI, tokenizer: clipTokenizer(tokenizerOpenCLIP), reward: hpsv2ByName,
	}
	hfCLIP = &family{
		name: "hf clip", arch: "clip", rewards: clipRewards, towers: clipTowers, leftovers: clipLeftovers,
		describe: (*model).describeHFCLIP, tokenizer: clipTokenizer(tokenizerHFCLIP), reward: pickScoreByName,
		plan: func(s *Spec, f *tensorfile.File) []output { return planCLIP(s, hfNames, f) },
	}
)

// describeOpenAI: the architecture that the user names, else the shapes, with the constants of OpenAI's code.
func (m *model) describeOpenAI(opt Options) (err error) {
	if opt.Arch != "" {
		m.spec, err = findArch(opt.Arch)
	} else if m.spec, err = inferSpec(m.file, namesOf(m.file)); err == nil {
		m.spec.Vision.Heads, m.spec.Text.Heads = m.spec.Vision.Width/64, m.spec.Text.Width/64
	}
	if err != nil {
		return err
	}
	m.spec.Vision.Activation, m.spec.Text.Activation = quickGELU, quickGELU
	m.preprocess = &Preprocess{pipelineOpenAI, m.spec.ImageSize, openAIMean, openAIStd}
	return m.spec.check(m.file.Parts[0])
}

// describeOpenCLIP: the architecture that the user names, else open_clip_config.json, else the shapes and the name.
func (m *model) describeOpenCLIP(opt Options) (err error) {
	var notes []string
	switch {
	case opt.Arch != "":
		m.spec, err = findArch(opt.Arch)
	case m.source.openCLIP != "":
		m.spec, m.preprocess, notes, err = readOpenCLIP(m.source.openCLIP)
	default:
		m.spec, notes, err = specFromShapes(m.file, namesOf(m.file), m.source.label()+" "+opt.Reward)
	}
	if err != nil {
		return err
	}
	if m.preprocess == nil {
		m.preprocess = &Preprocess{pipelineOpenCLIP, m.spec.ImageSize, openAIMean, openAIStd}
	}
	m.notes = append(m.notes, notes...)
	return nil
}

// describeHFCLIP: the architecture that the user names, else config.json.
func (m *model) describeHFCLIP(opt Options) (err error) {
	switch {
	case opt.Arch != "":
		m.spec, err = findArch(opt.Arch)
	case m.source.hf == "":
		err = fmt.Errorf("%s: %w (or name the architecture)", m.source.weights, errNoConfig)
	default:
		m.spec, err = readHF(m.source.hf)
	}
	if err != nil {
		return err
	}
	return m.readHFPreprocess("CLIPImageProcessor")
}

// readHFPreprocess takes the preprocessing from beside the weights. processor: transformers' class for this model.
func (m *model) readHFPreprocess(processor string) error {
	p, notes, err := readHFPreprocess(filepath.Dir(m.source.weights), m.spec, processor)
	m.preprocess, m.notes = p, append(m.notes, notes...)
	return err
}

// hpsv2ByName tells HPSv2's checkpoints by their names (HPS_v2_compressed.pt, HPS_v2.1_compressed.pt).
func hpsv2ByName(_ *model, label string) string {
	if strings.Contains(label, "hps_v2") || strings.Contains(label, "hpsv2") {
		return rewardHPSv2
	}
	return ""
}

// pickScoreByName tells PickScore by its name, or by where its configuration says that it came from.
func pickScoreByName(m *model, label string) string {
	if m.source.hf != "" {
		if top, err := readFields(m.source.hf); err == nil {
			label += " " + strings.ToLower(top.text("_name_or_path", ""))
		}
	}
	if strings.Contains(label, "pickscore") {
		return rewardPickScore
	}
	return ""
}

// clipNames is how a layout of CLIP calls its tensors.
type clipNames struct {
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
var hfNames = clipNames{
	class: "vision_model.embeddings.class_embedding", position: "vision_model.embeddings.position_embedding.weight",
	patch: "vision_model.embeddings.patch_embedding.weight", preNorm: "vision_model.pre_layrnorm", postNorm: "vision_model.post_layernorm",
	proj: "visual_projection", token: "text_model.embeddings.token_embedding.weight", textPosition: "text_model.embeddings.position_embedding.weight",
	textNorm: "text_model.final_layer_norm", textProj: "text_projection", visionBlock: "vision_model.encoder.layers.%d.",
	textBlock: "text_model.encoder.layers.%d.", norm1: "layer_norm1", norm2: "layer_norm2", attnOut: "self_attn.out_proj", up: "mlp.fc1", down: "mlp.fc2",
	qkv: []string{"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"}, qkvWeight: ".weight", qkvBias: ".bias", projSuffix: ".weight",
}

// openAINames are those of openai/CLIP and open_clip; text is the prefix of the text tower, "" or "text.".
func openAINames(text string) clipNames {
	return clipNames{
		class: "visual.class_embedding", position: "visual.positional_embedding", patch: "visual.conv1.weight", preNorm: "visual.ln_pre",
		postNorm: "visual.ln_post", proj: "visual.proj", token: text + "token_embedding.weight", textPosition: text + "positional_embedding",
		textNorm: text + "ln_final", textProj: text + "text_projection", visionBlock: "visual.transformer.resblocks.%d.",
		textBlock: text + "transformer.resblocks.%d.", norm1: "ln_1", norm2: "ln_2", attnOut: "attn.out_proj", up: "mlp.c_fc", down: "mlp.c_proj",
		qkv: []string{"attn.in_proj"}, qkvWeight: "_weight", qkvBias: "_bias", projTransposed: true,
	}
}

// namesOf returns the names of an OpenAI or open_clip checkpoint; f may be nil.
func namesOf(f *tensorfile.File) clipNames {
	if f != nil && f.Tensor("text.token_embedding.weight") != nil {
		return openAINames("text.")
	}
	return openAINames("")
}

func planOpenAI(s *Spec, f *tensorfile.File) []output { return planCLIP(s, namesOf(f), f) }

// planCLIP lists the tensors of the GGUF file of a CLIP. f may be nil: then optional tensors are left out.
func planCLIP(s *Spec, n clipNames, f *tensorfile.File) []output {
	p := clipPlanner{n: n, f: f}
	w, t := int64(s.Vision.Width), int64(s.Text.Width)
	side := int64(s.PatchSize)
	p.vector("v.class_embd", w, n.class)
	p.matrix("v.position_embd", n.position, int64(s.imageTokens()), w)
	p.matrix("v.patch_embd.weight", n.patch, w, 3, side, side)
	p.norm("v.pre_ln", w, n.preNorm)
	p.tower("v", &s.Vision, n.visionBlock)
	p.norm("v.post_ln", w, n.postNorm)
	p.projection("v.proj", int64(s.EmbedDim), w, n.proj)
	p.matrix("t.token_embd.weight", n.token, int64(s.VocabSize), t)
	p.matrix("t.position_embd", n.textPosition, int64(s.Context), t)
	p.tower("t", &s.Text, n.textBlock)
	p.norm("t.post_ln", t, n.textNorm)
	p.projection("t.proj", int64(s.EmbedDim), t, n.textProj)
	p.vector("logit_scale", 1, "logit_scale")
	return p.out
}

type clipPlanner struct {
	planner
	n clipNames
	f *tensorfile.File
}

func (p *clipPlanner) tower(name string, t *Tower, block string) {
	w := int64(t.Width)
	for i := range t.Layers {
		from, to := fmt.Sprintf(block, i), fmt.Sprintf("%s.blk.%d.", name, i)
		p.norm(to+"ln1", w, from+p.n.norm1)
		var weights []input
		var biases []string
		for _, q := range p.n.qkv {
			weights = append(weights, input{from + q + p.n.qkvWeight, []int64{3 * w / int64(len(p.n.qkv)), w}})
			biases = append(biases, from+q+p.n.qkvBias)
		}
		p.add(output{name: to + "attn_qkv.weight", rows: 3 * w, cols: w, inputs: weights})
		p.vector(to+"attn_qkv.bias", 3*w, biases...)
		p.linear(to+"attn_out", w, w, from+p.n.attnOut)
		p.norm(to+"ln2", w, from+p.n.norm2)
		p.linear(to+"ffn_up", int64(t.MLPWidth), w, from+p.n.up)
		p.linear(to+"ffn_down", w, int64(t.MLPWidth), from+p.n.down)
	}
}

// projection is a bare matrix [width, embed] or, in newer open_clip models and HF, a Linear, perhaps with a bias.
func (p *clipPlanner) projection(name string, embed, width int64, from string) {
	o := output{name: name + ".weight", rows: embed, cols: width, inputs: []input{{from + p.n.projSuffix, []int64{embed, width}}}}
	if p.n.projTransposed {
		if p.f != nil && p.f.Tensor(from) == nil && p.f.Tensor(from+".weight") != nil {
			o.inputs[0].name = from + ".weight"
		} else {
			o.inputs[0].shape = []int64{width, embed}
			o.compute = transposed(int(width), int(embed))
		}
	}
	p.add(o)
	if p.f != nil && p.f.Tensor(from+".bias") != nil {
		p.vector(name+".bias", embed, from+".bias")
	}
}
