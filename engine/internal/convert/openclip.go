package convert

import (
	"fmt"
	"math"
	"strings"

	"github.com/tia2-engine/tia2-engine/engine/internal/tensorfile"
)

// readOpenCLIP returns what open_clip_config.json says: the architecture under model_cfg (or at the top level, as
// open_clip's own model_configs have it) and the preprocessing under preprocess_cfg.
//
// Source: open_clip/model.py CLIPVisionCfg and CLIPTextCfg, open_clip/transform.py PreprocessCfg.
func readOpenCLIP(path string) (*Spec, *Preprocess, []string, error) {
	top, err := readFields(path)
	if err != nil {
		return nil, nil, nil, err
	}
	model := top
	if top.has("model_cfg") {
		model = top.object("model_cfg")
	}
	s := &Spec{EmbedDim: model.integer("embed_dim", 0)}
	activation := gelu
	if model.boolean("quick_gelu", false) {
		activation = quickGELU
	}
	model.onlyDefault(map[string]string{"multimodal_cfg": "null", "init_logit_bias": "null"})
	vision, text := model.object("vision_cfg"), model.object("text_cfg")
	readOpenCLIPVision(vision, s, activation)
	readOpenCLIPText(text, s, activation)
	p := readOpenCLIPPreprocess(top.object("preprocess_cfg"), s)
	if *top.err != nil {
		return nil, nil, nil, *top.err
	}
	notes := notesOfUnknown(path, "vision_cfg", vision.unknown("patch_dropout", "output_tokens", "attn_pooler_queries", "attn_pooler_heads",
		"timm_model_pretrained", "timm_pool", "timm_proj", "timm_proj_bias", "timm_drop", "timm_drop_path"))
	notes = append(notes, notesOfUnknown(path, "text_cfg", text.unknown("pad_id", "eos_id", "output_tokens", "hf_model_pretrained", "hf_proj_type", "hf_pooler_type"))...)
	return s, p, notes, s.check(path)
}

// blockDefaults are the fields of both towers that must not be used.
var blockDefaults = map[string]string{"ls_init_value": "null", "act_kwargs": "null", "block_type": "null", "qk_norm": "false",
	"scaled_cosine_attn": "false", "scale_heads": "false", "scale_attn_inner": "false", "scale_attn": "false", "scale_fc": "false", "final_ln_after_pool": "false"}

func readOpenCLIPVision(f *fields, s *Spec, activation string) {
	f.onlyDefault(blockDefaults)
	f.onlyDefault(map[string]string{"timm_model_name": "null", "attentional_pool": "false", "no_ln_pre": "false", "pos_embed_type": `"learnable"`,
		"pool_type": `"tok"`, "input_patchnorm": "false", "global_average_pool": "false"})
	if f.has("layers") && strings.HasPrefix(string(f.raw["layers"]), "[") {
		f.fail("layers", "a list is a ResNet, which is not supported: expected a vision transformer")
	}
	s.ImageSize = squareSide(f, "image_size", 224)
	s.PatchSize = squareSide(f, "patch_size", 16)
	s.Vision = Tower{Width: f.integer("width", 768), Layers: f.integer("layers", 12), NormEps: readNormEps(f), Activation: activation}
	headWidth := f.integer("head_width", 64)
	if headWidth < 1 || headWidth > s.Vision.Width {
		f.fail("head_width", "%d: expected 1 to the width, %d", headWidth, s.Vision.Width)
		return
	}
	s.Vision.Heads = s.Vision.Width / headWidth
	s.Vision.MLPWidth = scaled(s.Vision.Width, f.float("mlp_ratio", 4))
}

func readOpenCLIPText(f *fields, s *Spec, activation string) {
	f.onlyDefault(blockDefaults)
	f.onlyDefault(map[string]string{"hf_model_name": "null", "hf_tokenizer_name": "null", "tokenizer_mode": "null", "tokenizer_kwargs": "null",
		"embed_cls": "false", "no_causal_mask": "false", "pool_type": `"argmax"`, "proj_type": `"linear"`})
	f.boolean("proj_bias", false) // seen in the tensors
	s.Context, s.VocabSize = f.integer("context_length", clipContext), f.integer("vocab_size", clipVocab)
	s.Text = Tower{Width: f.integer("width", 512), Layers: f.integer("layers", 12), Heads: f.integer("heads", 8), NormEps: readNormEps(f), Activation: activation}
	s.Text.MLPWidth = scaled(s.Text.Width, f.float("mlp_ratio", 4))
}

// scaled is Python's int(width * ratio), 0 where that is no sensible number.
func scaled(width int, ratio float64) int {
	if x := float64(width) * ratio; x >= 1 && x < 8*maxWidth {
		return int(x)
	}
	return 0
}

func readNormEps(f *fields) float32 {
	norm := f.object("norm_kwargs")
	eps := float32(norm.float("eps", normEps))
	for _, name := range norm.unknown() {
		norm.fail(name, "is not supported")
	}
	return eps
}

// squareSide reads a number or a list of two equal ones.
func squareSide(f *fields, name string, def int) int {
	f.used[name] = true
	if !f.has(name) || !strings.HasPrefix(string(f.raw[name]), "[") {
		return f.integer(name, def)
	}
	var sides []int
	f.get(name, &sides, "a number or two")
	if len(sides) != 2 || sides[0] != sides[1] {
		f.fail(name, "%v is not supported: expected a square", sides)
		return def
	}
	return sides[0]
}

// readOpenCLIPPreprocess reads preprocess_cfg.
func readOpenCLIPPreprocess(f *fields, s *Spec) *Preprocess {
	p := &Preprocess{Pipeline: pipelineOpenCLIP, Size: s.ImageSize, Mean: f.three("mean", openAIMean), Std: f.three("std", openAIStd)}
	f.onlyDefault(map[string]string{"mode": `"RGB"`})
	f.integer("fill_color", 0) // of letterboxes only
	if i := f.text("interpolation", "bicubic"); i != "bicubic" {
		f.fail("interpolation", "%q is not supported: expected bicubic", i)
	}
	switch mode := f.text("resize_mode", "shortest"); mode {
	case "shortest":
	case "squash":
		p.Pipeline = pipelineOpenCLIPSquash
	default:
		f.fail("resize_mode", "%q is not supported: expected shortest or squash", mode)
	}
	if size := squareSide(f, "size", s.ImageSize); size != s.ImageSize {
		f.fail("size", "pictures of %d pixels for a model of %d", size, s.ImageSize)
	}
	return p
}

// inferSpec tells the hyper-parameters of a model with OpenAI's names from the shapes of its tensors. Heads and
// activation do not show there; they stay unset.
func inferSpec(f *tensorfile.File, n clipNames) (*Spec, error) {
	shape := func(name string, rank int) []int64 {
		if t := f.Tensor(name); t != nil && len(t.Shape) == rank {
			return t.Shape
		}
		return make([]int64, rank)
	}
	conv, positions := shape(n.patch, 4), shape(n.position, 2)
	token, context := shape(n.token, 2), shape(n.textPosition, 2)
	up, textUp := shape(fmt.Sprintf(n.visionBlock, 0)+n.up+".weight", 2), shape(fmt.Sprintf(n.textBlock, 0)+n.up+".weight", 2)
	embed := shape(n.proj, 2)[1]
	if t := f.Tensor(n.proj + ".weight"); t != nil && len(t.Shape) == 2 {
		embed = t.Shape[0]
	}
	grid := int64(math.Sqrt(float64(max(0, positions[0]-1))))
	s := &Spec{
		EmbedDim: int(embed), ImageSize: int(grid * conv[2]), PatchSize: int(conv[2]), Context: int(context[0]), VocabSize: int(token[0]),
		Vision: Tower{int(conv[0]), countLayers(f, n.visionBlock+n.norm1), 0, int(up[0]), normEps, ""},
		Text:   Tower{int(token[1]), countLayers(f, n.textBlock+n.norm1), 0, int(textUp[0]), normEps, ""},
	}
	probe := *s // heads and activation come later: check the rest
	probe.Vision.Heads, probe.Text.Heads, probe.Vision.Activation, probe.Text.Activation = 1, 1, gelu, gelu
	return s, probe.check(f.Parts[0])
}

// countLayers counts the blocks 0, 1, ... that have their first norm.
func countLayers(f *tensorfile.File, norm string) (n int) {
	for f.Tensor(fmt.Sprintf(norm, n)+".weight") != nil {
		n++
	}
	return n
}

// specFromShapes returns the hyper-parameters of an open_clip file that lies without configuration. label is its name.
func specFromShapes(f *tensorfile.File, n clipNames, label string) (*Spec, []string, error) {
	s, err := inferSpec(f, n)
	if err != nil {
		return nil, nil, err
	}
	for i := range archs {
		if a := &archs[i]; a.matches(s) {
			s.Vision.Heads, s.Text.Heads = a.width/a.headWidth, a.textHeads
			activation, notes := activationByName(label, a)
			s.Vision.Activation, s.Text.Activation = activation, activation
			return s, notes, s.check(f.Parts[0])
		}
	}
	return nil, nil, fmt.Errorf("%s: the number of heads is not in the tensors and the shapes (vision %d wide, %d layers, patch %d) are no known architecture: "+
		"name it with --arch (the option Arch), or put its open_clip_config.json beside it", f.Parts[0], s.Vision.Width, s.Vision.Layers, s.PatchSize)
}

// activationByName applies open_clip's table of pretrained tags (pretrained.py): which of them were trained with
// QuickGELU. The weights do not tell.
func activationByName(label string, a *arch) (string, []string) {
	has := func(s string) bool { return strings.Contains(label, s) }
	switch {
	case has("quickgelu"), has("openai"), has("metaclip"), has("dfn5b"), has("dfn2b") && !has("s39b"), has("laion400m") && a.width == 768 && a.patch == 32:
		return quickGELU, nil
	case has("laion"), has("datacomp"), has("commonpool"), has("dfn2b"), has("hps_v2"), has("hpsv2"):
		return gelu, nil
	}
	return gelu, []string{"the activation is not in the file and its name does not tell: GELU was assumed (name the architecture as " + a.name + "-quickgelu for QuickGELU)"}
}
