package convert

import (
	"fmt"
	"strings"

	"github.com/tia2-engine/tia2-engine/engine/internal/tensorfile"
)

// family tells how a checkpoint names its tensors and which reference it belongs to.
type family string

const (
	familyOpenAI   family = "openai clip"
	familyOpenCLIP family = "open_clip"
	familyHF       family = "hf clip"
)

// foreign are families that are known but not supported, by a tensor whose name contains the mark. Order matters.
var foreign = []struct{ mark, what string }{
	{"visual.layer1.0.conv1.weight", "a CLIP with a ResNet image tower: only vision transformers (ViT) are supported"},
	{"blip.visual_encoder.", "ImageReward: this version has no BLIP encoders"},
	{"Qformer.", "BLIP-2: this version has no BLIP encoders"},
	{"qformer.", "BLIP-2: this version has no BLIP encoders"},
	{"visual_encoder.blocks.", "BLIP: this version has no BLIP encoders"},
	{"text_encoder.encoder.layer.", "BLIP: this version has no BLIP encoders"},
	{"text_decoder.", "CoCa or BLIP with a text decoder, which is not supported"},
	{"vision_model.head.", "SigLIP (attention pooling), which is not supported"},
	{"visual.trunk.", "an open_clip model with a timm image tower (SigLIP, EVA, ConvNeXt, ...), which is not supported"},
	{"logit_bias", "a SigLIP-trained model (logit_bias), which is not supported"},
	{"text.transformer.embeddings.", "an open_clip model with a Hugging Face text tower, which is not supported"},
	{"text_model.roberta.", "AltCLIP, which is not supported"},
	{"bert.embeddings.", "a model with a BERT text tower (Chinese-CLIP and others), which is not supported"},
	{"visual.attnpool.", "a CLIP with a ResNet image tower: only vision transformers (ViT) are supported"},
	{"visual.attn_pool.", "an open_clip model with attention pooling, which is not supported"},
	{"image_encoder.", "MobileCLIP or a relative of it, which is not supported"},
}

// detect returns the family of a checkpoint, or an error that names what was found.
func detect(f *tensorfile.File) (family, error) {
	for _, other := range foreign {
		for _, t := range f.Tensors {
			if strings.Contains(t.Name, other.mark) {
				return "", fmt.Errorf("%s: this is %s (found tensor %s)", f.Parts[0], other.what, t.Name)
			}
		}
	}
	has := func(name string) bool { return f.Tensor(name) != nil }
	switch {
	case has("visual.conv1.weight") && (has("token_embedding.weight") || has("text.token_embedding.weight")):
		// OpenAI's own files carry three integers that open_clip's do not.
		if f.Container == tensorfile.TorchScript || has("input_resolution") && has("context_length") && has("vocab_size") {
			return familyOpenAI, nil
		}
		return familyOpenCLIP, nil
	case has("vision_model.embeddings.class_embedding") && has("text_model.embeddings.token_embedding.weight"):
		return familyHF, nil
	case has("vision_model.embeddings.class_embedding"):
		return "", fmt.Errorf("%s: only the image tower of a CLIP: the text tower is missing", f.Parts[0])
	case has("text_model.embeddings.token_embedding.weight"):
		return "", fmt.Errorf("%s: only the text tower of a CLIP: the image tower is missing", f.Parts[0])
	case has("layers.0.weight") && has("layers.7.weight"), has("weight") && has("bias") && len(f.Tensors) == 2:
		return "", fmt.Errorf("%s: this looks like an aesthetic head over CLIP embeddings, not like a CLIP", f.Parts[0])
	}
	first := "none"
	if len(f.Tensors) > 0 {
		first = f.Tensors[0].Name
	}
	return "", fmt.Errorf("%s: not a CLIP model: its %d tensors are named otherwise (the first is %.80s)", f.Parts[0], len(f.Tensors), first)
}
