package convert

import (
	"fmt"
	"slices"
	"strings"

	"github.com/tia2-engine/tia2-engine/engine/internal/tensorfile"
)

// family describes one layout of checkpoints: all that is special to it. clip.go, blip.go, blip2.go and aesthetic.go
// hold one description each or several; rules says how they are told apart.
type family struct {
	name      string   // as Inspection.Family tells it
	arch      string   // general.architecture
	rewards   []string // what its scores can be, the default first
	towers    []string // marks (see rule) of its weights: one that is not known would change the result
	leftovers []string // marks of what training left among them or beside, which no reference reads

	open      func(m *model) error                          // opens what the weights need beside them; may be nil
	describe  func(m *model, opt Options) error             // finds the spec and the preprocessing
	plan      func(s *Spec, f *tensorfile.File) []output    // tensors of the GGUF file; f nil: without the optional ones
	tokenizer func(dir string, s *Spec) (*Tokenizer, error) // dir may hold the vocabulary, "" does not; nil: no texts are read
	reward    func(m *model, label string) string           // one of rewards that a name tells, "": none; may be nil
}

// families are all layouts that can be run.
var families = []*family{openAICLIP, openCLIP, hfCLIP, blipOriginal, imageReward, blipHF, blip2LAVIS, blip2HF, aestheticHead}

// knownArch tells whether files of this general.architecture are written here.
func knownArch(arch string) bool {
	return slices.ContainsFunc(families, func(f *family) bool { return f.arch == arch })
}

// rule tells something by the names of the tensors. It fits when each mark of has is found and none of lacks. A mark is
// part of a name, or how it begins after a "^"; several stand in one text with spaces between.
type rule struct {
	has, lacks string
	family     *family // what it is
	problem    string  // or why it cannot be run
}

const (
	loraProblem    = "LoRA weights without the model that they change: merge them into it and convert that"
	resnetProblem  = "a CLIP with a ResNet image tower: only vision transformers (ViT) are supported"
	captionProblem = "a BLIP for captions or questions (text_decoder.*) without the matching head itm_head.*: expected a retrieval or ITM model"
	blip2Problem   = "a Q-Former of BLIP-2 without the matching head itm_head.*: expected blip2_pretrained.pth, a fine-tuned retrieval model or Blip2ForImageTextRetrieval"
	llmProblem     = "a BLIP-2 for captions and questions, with a language model or a projection to one and no matching head itm_head.*: expected blip2_pretrained.pth or Blip2ForImageTextRetrieval"
)

// rules are tried in order; the first that fits counts.
var rules = []rule{
	{has: "lora_A", problem: loraProblem},
	{has: "lora_up", problem: loraProblem},
	{has: "lora.up.", problem: loraProblem},
	{has: "visual.layer1.0.conv1.weight", problem: resnetProblem},

	{has: "^blip.visual_encoder. ^mlp.layers.", family: imageReward},
	{has: "^blip.visual_encoder.", problem: "an ImageReward without its head mlp.layers.*"},

	{has: "^query_tokens ^language_", lacks: "^itm_head.", problem: llmProblem},
	{has: "^query_tokens _proj.", lacks: "^itm_head. ^text_proj.", problem: llmProblem}, // opt_proj, t5_proj, llm_proj
	{has: "^Qformer.bert. ^itm_head.", family: blip2LAVIS},
	{has: "^qformer.encoder. ^itm_head.", family: blip2HF},
	{has: "^Qformer.", problem: blip2Problem},
	{has: "^qformer.", problem: blip2Problem},
	{has: "^blocks.0.attn.q_bias", problem: "EVA's image tower alone, one half of LAVIS's BLIP-2: name blip2_pretrained.pth, which looks for " + evaFile + " beside it"},

	{has: "^visual_encoder.blocks. ^text_encoder.encoder.layer. ^itm_head.", family: blipOriginal},
	{has: "^visual_encoder.blocks. ^text_decoder.", problem: captionProblem},
	{has: "^visual_encoder.blocks.", problem: "a BLIP or a relative of it without text_encoder.encoder.layer.* or itm_head.*, which matching needs"},
	{has: "^vision_model. ^text_encoder.encoder.layer. ^itm_head.", family: blipHF},
	{has: "^vision_model. ^text_decoder.", problem: captionProblem},
	{has: "^vision_model.encoder.layers.0.self_attn.qkv.", problem: "a BLIP without text_encoder.* or itm_head.*: expected BlipForImageTextRetrieval"},
	{has: "^text_encoder.encoder.layer.", problem: "a BLIP without its image tower"},

	{has: "text_decoder.", problem: "CoCa or BLIP with a text decoder, which is not supported"},
	{has: "vision_model.head.", problem: "SigLIP (attention pooling), which is not supported"},
	{has: "visual.trunk.", problem: "an open_clip model with a timm image tower (SigLIP, EVA, ConvNeXt, ...), which is not supported"},
	{has: "logit_bias", problem: "a SigLIP-trained model (logit_bias), which is not supported"},
	{has: "text.transformer.embeddings.", problem: "an open_clip model with a Hugging Face text tower, which is not supported"},
	{has: "text_model.roberta.", problem: "AltCLIP, which is not supported"},
	{has: "bert.embeddings.", problem: "a model with a BERT text tower (Chinese-CLIP and others), which is not supported"},
	{has: "visual.attnpool.", problem: resnetProblem},
	{has: "visual.attn_pool.", problem: "an open_clip model with attention pooling, which is not supported"},
	{has: "image_encoder.", problem: "MobileCLIP or a relative of it, which is not supported"},

	// OpenAI's own files carry three integers that open_clip's do not.
	{has: "^visual.conv1.weight ^token_embedding.weight ^input_resolution ^context_length ^vocab_size", family: openAICLIP},
	{has: "^visual.conv1.weight ^token_embedding.weight", family: openCLIP},
	{has: "^visual.conv1.weight ^text.token_embedding.weight", family: openCLIP},
	{has: "^vision_model.embeddings.class_embedding ^text_model.embeddings.token_embedding.weight", family: hfCLIP},
	{has: "^vision_model.embeddings.class_embedding", problem: "only the image tower of a CLIP: the text tower is missing"},
	{has: "^text_model.embeddings.token_embedding.weight", problem: "only the text tower of a CLIP: the image tower is missing"},
}

// detect returns the family of a checkpoint, or an error that names what was found.
func detect(f *tensorfile.File) (*family, error) {
	for _, r := range rules {
		found := r.fits(f)
		switch {
		case found == nil:
		case r.family == nil:
			return nil, fmt.Errorf("%s: this is %s (found tensor %s)", f.Parts[0], r.problem, found.Name)
		case r.family == openCLIP && f.Container == tensorfile.TorchScript:
			return openAICLIP, nil
		default:
			return r.family, nil
		}
	}
	if h := findHead(f); h != nil {
		return aestheticHead, nil
	}
	first := "none"
	if len(f.Tensors) > 0 {
		first = f.Tensors[0].Name
	}
	return nil, fmt.Errorf("%s: no model that is known here: expected CLIP, BLIP, BLIP-2, ImageReward or an aesthetic head, but the %d tensors are named otherwise (the first is %.80s)",
		f.Parts[0], len(f.Tensors), first)
}

// fits returns the first tensor with the rule's first mark when the rule fits, else nil.
func (r *rule) fits(f *tensorfile.File) (found *tensorfile.Tensor) {
	for _, mark := range strings.Fields(r.lacks) {
		if findMark(f, mark) != nil {
			return nil
		}
	}
	for _, mark := range strings.Fields(r.has) {
		t := findMark(f, mark)
		if t == nil {
			return nil
		}
		if found == nil {
			found = t
		}
	}
	return found
}

func findMark(f *tensorfile.File, mark string) *tensorfile.Tensor {
	for _, t := range f.Tensors {
		if marked(t.Name, mark) {
			return t
		}
	}
	return nil
}

// marked tells whether a name has one of the marks.
func marked(name string, marks ...string) bool {
	return slices.ContainsFunc(marks, func(mark string) bool {
		if start, ok := strings.CutPrefix(mark, "^"); ok {
			return strings.HasPrefix(name, start)
		}
		return strings.Contains(name, mark)
	})
}
