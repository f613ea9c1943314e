package convert

import (
	"fmt"
	"math"
	"slices"

	"github.com/tia2-engine/tia2-engine/engine/internal/tensorfile"
)

// Constants of the original code, which its checkpoints do not hold. BLIP's and ImageReward's tokenizers add [DEC] and
// [ENC] to BERT's vocabulary.
const (
	blipVisionEps  = 1e-6 // BLIP models/vit.py, LAVIS eva_vit.py
	bertEps        = 1e-12
	bertContext    = 512
	blipVocab      = 30524
	blipHeadWidth  = 64
	blipTextLength = 35 // BLIP models/blip_itm.py, ImageReward.py: tokenizer(..., truncation=True, max_length=35)
)

// The layouts of BLIP: of its own code (and LAVIS's), with ImageReward's head, and of transformers.
var (
	blipOriginal = &family{
		name: "blip", arch: "blip", rewards: []string{rewardBLIP},
		towers: []string{"^visual_encoder.", "^text_encoder.", "^vision_proj.", "^text_proj.", "^itm_head."},
		leftovers: []string{"position_ids", "^visual_encoder_m.", "^text_encoder_m.", "^vision_proj_m.", "^text_proj_m.", "^text_decoder.",
			"^image_queue", "^text_queue", "^idx_queue", "^ptr_queue", "^queue_ptr", "^temp"},
		describe: (*model).describeBLIP, tokenizer: bertTokenizer{maxLength: blipTextLength, enc: true}.read,
		plan: func(s *Spec, _ *tensorfile.File) []output { return planBLIP(s, &blipOriginalNames) },
	}
	imageReward = &family{
		name: "imagereward", arch: "blip", rewards: []string{rewardImageReward},
		towers:    []string{"^blip.visual_encoder.", "^blip.text_encoder.", "^mlp."},
		leftovers: []string{"position_ids", "^blip.vision_proj.", "^blip.text_proj.", "^blip.text_decoder."},
		describe:  (*model).describeImageReward, tokenizer: bertTokenizer{maxLength: blipTextLength}.read,
		plan: func(s *Spec, _ *tensorfile.File) []output { return planBLIP(s, &imageRewardNames) },
	}
	blipHF = &family{
		name: "hf blip", arch: "blip", rewards: []string{rewardBLIP},
		towers:    []string{"^vision_model.", "^text_encoder.", "^vision_proj.", "^text_proj.", "^itm_head."},
		leftovers: []string{"position_ids", "^text_decoder.", "^logit_scale"},
		describe:  (*model).describeBLIPHF, tokenizer: bertTokenizer{enc: true}.read,
		plan: func(s *Spec, _ *tensorfile.File) []output { return planBLIP(s, &blipHFNames) },
	}
)

// describeBLIP: the shapes, med_config.json beside the weights, the constants of BLIP's code.
func (m *model) describeBLIP(Options) error { return m.describeOriginal(&blipOriginalNames) }

// describeImageReward: as BLIP, with pictures as OpenAI's CLIP has them.
func (m *model) describeImageReward(Options) error {
	if err := m.describeOriginal(&imageRewardNames); err != nil {
		return err
	}
	m.preprocess.Pipeline = pipelineOpenAI
	return nil
}

func (m *model) describeOriginal(n *blipNames) (err error) {
	if m.spec, err = n.inferSpec(m.file); err != nil {
		return err
	}
	s := m.spec
	s.Vision.Heads, s.Text.Heads = s.Vision.Width/blipHeadWidth, s.Text.Width/blipHeadWidth
	if m.source.med != "" {
		err = readMedConfig(m.source.med, &s.Text)
	} else if s.Text.Width != 768 { // BERT base is what every published checkpoint has
		m.notes = append(m.notes, fmt.Sprintf("no med_config.json: %d heads of the text encoder were assumed, one for each %d values", s.Text.Heads, blipHeadWidth))
	}
	if err != nil {
		return err
	}
	m.preprocess = &Preprocess{pipelineBLIPSquash, s.ImageSize, openAIMean, openAIStd}
	return s.check(m.file.Parts[0])
}

// readMedConfig reads what the shapes do not tell of BLIP's text encoder. Sizes that are no others than the tensors' stay.
//
// Source: BLIP configs/med_config.json, transformers BertConfig.
func readMedConfig(path string, t *Tower) error {
	f, err := readFields(path)
	if err != nil {
		return err
	}
	t.Heads = f.integer("num_attention_heads", 12)
	t.NormEps, t.Activation = float32(f.float("layer_norm_eps", bertEps)), f.text("hidden_act", gelu)
	f.onlyDefault(map[string]string{"position_embedding_type": `"absolute"`, "add_cross_attention": "true", "add_type_embeddings": "false"})
	for _, size := range []struct {
		name string
		is   int
	}{{"hidden_size", t.Width}, {"num_hidden_layers", t.Layers}, {"intermediate_size", t.MLPWidth}} {
		if says := f.integer(size.name, size.is); says != size.is {
			f.fail(size.name, "%d: the checkpoint's tensors say %d", says, size.is)
		}
	}
	return *f.err
}

// describeBLIPHF: config.json and preprocessor_config.json.
func (m *model) describeBLIPHF(Options) (err error) {
	if m.source.hf == "" {
		return fmt.Errorf("%s: %w", m.source.weights, errNoConfig)
	}
	if m.spec, err = readBLIPConfig(m.source.hf); err != nil {
		return err
	}
	return m.readHFPreprocess("BlipImageProcessor")
}

// blipBase is BLIP with ViT-B/16 and BERT base, as transformers' BlipConfig has it when nothing is said, but for the heads
// of the text encoder, which are 8 there.
var blipBase = Spec{
	EmbedDim: 256, ImageSize: 384, PatchSize: 16, Vision: Tower{768, 12, 12, 3072, blipVisionEps, gelu},
	Context: bertContext, VocabSize: blipVocab, Text: Tower{768, 12, 12, 3072, bertEps, gelu},
	Pair: Pair{Outputs: 2, OutputEps: blipVisionEps, CrossEvery: 1},
}

// readBLIPConfig returns the hyper-parameters of a transformers BlipConfig.
//
// Source: transformers/models/blip/configuration_blip.py.
func readBLIPConfig(path string) (*Spec, error) {
	top, err := readModelConfig(path, "blip")
	if err != nil {
		return nil, err
	}
	s := blipBase
	s.Vision.NormEps, s.Text.Heads = 1e-5, 8
	s.EmbedDim = top.integer("image_text_hidden_size", s.EmbedDim)
	readBLIPVision(top.object("vision_config"), &s)
	text := top.object("text_config")
	text.onlyDefault(map[string]string{"is_decoder": "true", "position_embedding_type": `"absolute"`})
	readBERT(text, &s)
	if *top.err != nil {
		return nil, *top.err
	}
	return &s, s.check(path)
}

// readBLIPVision reads the vision_config of BLIP or BLIP-2; what it leaves out stays in s.
func readBLIPVision(f *fields, s *Spec) {
	s.Vision = readTower(f, s.Vision)
	s.ImageSize, s.PatchSize = f.integer("image_size", s.ImageSize), f.integer("patch_size", s.PatchSize)
	s.Pair.OutputEps = s.Vision.NormEps
	f.onlyDefault(map[string]string{"num_channels": "3", "qkv_bias": "true"})
}

// readBERT reads the configuration of a BERT; what it leaves out stays in s.
func readBERT(f *fields, s *Spec) {
	s.Text = readTower(f, s.Text)
	s.VocabSize, s.Context = f.integer("vocab_size", s.VocabSize), f.integer("max_position_embeddings", s.Context)
}

// blipNames is how a layout of the BLIP family calls its tensors.
type blipNames struct {
	class, position, patch, postNorm        string // vision
	visionBlock                             string // with %d for the layer
	norm1, norm2, qkv, visionOut, up, down  string // within a block
	halfBias                                bool   // EVA: biases of q and v alone, called q_bias and v_bias
	embeddings, textNorm                    string
	textBlock                               string // with %d
	self                                    string // of the attention's q, k and v: "self." or "attention."
	queryTokens, visionProj, textProj, head string // "": it has none
	mlp                                     string // of ImageReward's head
}

// withViT has the names of timm's ViT, as BLIP and LAVIS build it, under a prefix.
func (n blipNames) withViT(prefix string) blipNames {
	n.class, n.position, n.patch = prefix+"cls_token", prefix+"pos_embed", prefix+"patch_embed.proj"
	n.visionBlock, n.norm1, n.norm2, n.qkv, n.visionOut, n.up, n.down = prefix+"blocks.%d.", "norm1", "norm2", "attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2"
	if n.postNorm == "" {
		n.postNorm = prefix + "norm"
	}
	return n
}

// withHFVision has the names of transformers' BlipVisionModel.
func (n blipNames) withHFVision() blipNames {
	const at = "vision_model.embeddings."
	n.class, n.position, n.patch, n.postNorm = at+"class_embedding", at+"position_embedding", at+"patch_embedding", "vision_model.post_layernorm"
	n.visionBlock, n.norm1, n.norm2, n.qkv = "vision_model.encoder.layers.%d.", "layer_norm1", "layer_norm2", "self_attn.qkv"
	n.visionOut, n.up, n.down = "self_attn.projection", "mlp.fc1", "mlp.fc2"
	return n
}

// withBERT has the names of BERT's layers, which med.py, LAVIS and transformers share, under a prefix.
func (n blipNames) withBERT(prefix string) blipNames {
	n.textBlock = prefix + "encoder.layer.%d."
	if n.embeddings == "" {
		n.embeddings, n.textNorm = prefix+"embeddings.", prefix+"embeddings.LayerNorm"
	}
	if n.self == "" {
		n.self = "self."
	}
	return n
}

var (
	blipOriginalNames = blipNames{visionProj: "vision_proj", textProj: "text_proj", head: "itm_head"}.withViT("visual_encoder.").withBERT("text_encoder.")
	imageRewardNames  = blipNames{mlp: "mlp."}.withViT("blip.visual_encoder.").withBERT("blip.text_encoder.")
	blipHFNames       = blipNames{visionProj: "vision_proj", textProj: "text_proj", head: "itm_head"}.withHFVision().withBERT("text_encoder.")
)

// inferSpec tells the hyper-parameters from the shapes of the tensors. Heads do not show there: they stay 0. Epsilons are
// those of the original code.
func (n *blipNames) inferSpec(f *tensorfile.File) (*Spec, error) {
	var errs []error
	dim := func(name string, rank, i int) int {
		t := f.Tensor(name)
		switch {
		case t == nil:
			errs = append(errs, fmt.Errorf("%s: tensor %s is missing", someOf(f.Parts), name))
		case len(t.Shape) != rank:
			errs = append(errs, fmt.Errorf("%s has shape %v: expected %d dimensions", t, t.Shape, rank))
		case t.Shape[i] < 1:
			errs = append(errs, fmt.Errorf("%s has shape %v: expected no empty dimension", t, t.Shape))
		default:
			return int(min(t.Shape[i], math.MaxInt32))
		}
		return 0
	}
	s := &Spec{PatchSize: dim(n.patch+".weight", 4, 2), Pair: Pair{Outputs: 1, OutputEps: blipVisionEps, CrossEvery: 1}}
	s.ImageSize = sideOf(dim(n.position, 3, 1)) * s.PatchSize
	s.Vision = Tower{Width: dim(n.patch+".weight", 4, 0), Layers: countLayers(f, n.visionBlock+n.norm1),
		MLPWidth: dim(fmt.Sprintf(n.visionBlock, 0)+n.up+".weight", 2, 0), NormEps: blipVisionEps, Activation: gelu}
	s.VocabSize, s.Context = dim(n.embeddings+"word_embeddings.weight", 2, 0), dim(n.embeddings+"position_embeddings.weight", 2, 0)
	s.Text = Tower{Width: dim(n.embeddings+"word_embeddings.weight", 2, 1), Layers: countLayers(f, n.textBlock+"output.LayerNorm"),
		MLPWidth: dim(fmt.Sprintf(n.textBlock, 0)+"intermediate.dense.weight", 2, 0), NormEps: bertEps, Activation: gelu}
	if n.head != "" {
		s.EmbedDim, s.Pair.Outputs = dim(n.visionProj+".weight", 2, 0), 2
	}
	if n.queryTokens != "" {
		s.Pair.Queries, s.Pair.CrossEvery = dim(n.queryTokens, 3, 1), 2
	}
	if len(errs) > 0 {
		return nil, errs[0]
	}
	probe := *s // heads come later: check the rest
	probe.Vision.Heads, probe.Text.Heads = 1, 1
	return s, probe.check(f.Parts[0])
}

// sideOf returns the side of the grid of patches of a position embedding with a row for the class token.
func sideOf(rows int) int { return int(math.Sqrt(float64(max(0, rows-1)))) }

// planBLIP lists the tensors of the GGUF file of a BLIP, ImageReward or BLIP-2.
func planBLIP(s *Spec, n *blipNames) []output {
	p := blipPlanner{n: n, s: s}
	w, t, side, d := int64(s.Vision.Width), int64(s.Text.Width), int64(s.PatchSize), int64(s.EmbedDim)
	tokens := int64(s.imageTokens())
	p.add(output{name: "v.class_embd", cols: w, inputs: []input{{n.class, []int64{1, 1, w}}}})
	p.add(output{name: "v.position_embd", rows: tokens, cols: w, inputs: []input{{n.position, []int64{1, tokens, w}}}})
	p.matrix("v.patch_embd.weight", n.patch+".weight", w, 3, side, side)
	p.vector("v.patch_embd.bias", w, n.patch+".bias")
	for i := range s.Vision.Layers {
		p.visionBlock(fmt.Sprintf("v.blk.%d.", i), fmt.Sprintf(n.visionBlock, i))
	}
	p.norm("v.post_ln", w, n.postNorm)
	p.matrix("t.token_embd.weight", n.embeddings+"word_embeddings.weight", int64(s.VocabSize), t)
	p.matrix("t.position_embd", n.embeddings+"position_embeddings.weight", int64(s.Context), t)
	p.norm("t.embd_ln", t, n.textNorm)
	if q := int64(s.Pair.Queries); q > 0 {
		p.add(output{name: "t.query_embd", rows: q, cols: t, inputs: []input{{n.queryTokens, []int64{1, q, t}}}})
	}
	for i := range s.Text.Layers {
		p.textBlock(fmt.Sprintf("t.blk.%d.", i), fmt.Sprintf(n.textBlock, i), i%s.Pair.CrossEvery == 0)
	}
	if d > 0 {
		from := w // BLIP-2 projects its queries
		if s.Pair.Queries > 0 {
			from = t
		}
		p.linear("v.proj", d, from, n.visionProj)
		p.linear("t.proj", d, t, n.textProj)
	}
	if n.head != "" {
		p.linear("pair_head", int64(s.Pair.Outputs), t, n.head)
	} else {
		imageRewardHead(&p.planner, n.mlp, t)
	}
	return p.out
}

type blipPlanner struct {
	planner
	n *blipNames
	s *Spec
}

func (p *blipPlanner) visionBlock(to, from string) {
	w, mlp, n := int64(p.s.Vision.Width), int64(p.s.Vision.MLPWidth), p.n
	p.norm(to+"ln1", w, from+n.norm1)
	if n.halfBias {
		p.matrix(to+"attn_qkv.weight", from+n.qkv+".weight", 3*w, w)
		p.add(output{name: to + "attn_qkv.bias", cols: 3 * w, inputs: []input{{from + "attn.q_bias", []int64{w}}, {from + "attn.v_bias", []int64{w}}},
			compute: func(v [][]float32) []float32 { return slices.Concat(v[0], make([]float32, w), v[1]) }}) // keys have none
	} else {
		p.linear(to+"attn_qkv", 3*w, w, from+n.qkv)
	}
	p.linear(to+"attn_out", w, w, from+n.visionOut)
	p.norm(to+"ln2", w, from+n.norm2)
	p.linear(to+"ffn_up", mlp, w, from+n.up)
	p.linear(to+"ffn_down", w, mlp, from+n.down)
}

func (p *blipPlanner) textBlock(to, from string, crosses bool) {
	w, state := int64(p.s.Text.Width), int64(p.s.Vision.Width)
	self, cross := from+"attention."+p.n.self, from+"crossattention."+p.n.self
	p.stacked(to+"attn_qkv", 3*w, w, self+"query", self+"key", self+"value")
	p.joined(to+"attn", w, w, from+"attention.output.")
	if crosses {
		p.linear(to+"cross_q", w, w, cross+"query")
		p.stacked(to+"cross_kv", 2*w, state, cross+"key", cross+"value")
		p.joined(to+"cross", w, w, from+"crossattention.output.")
	}
	p.feedForward(to, from, "")
	if p.s.Pair.Queries > 0 {
		p.feedForward(to+"query_", from, "_query")
	}
}

func (p *blipPlanner) feedForward(to, from, suffix string) {
	w, mlp := int64(p.s.Text.Width), int64(p.s.Text.MLPWidth)
	p.linear(to+"ffn_up", mlp, w, from+"intermediate"+suffix+".dense")
	p.linear(to+"ffn_down", w, mlp, from+"output"+suffix+".dense")
	p.norm(to+"ffn_ln", w, from+"output"+suffix+".LayerNorm")
}

// joined is a product back to the residual stream and the norm after it.
func (p *blipPlanner) joined(to string, out, in int64, from string) {
	p.linear(to+"_out", out, in, from+"dense")
	p.norm(to+"_ln", out, from+"LayerNorm")
}
