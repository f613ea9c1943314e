package convert

import (
	"fmt"
	"path/filepath"

	"github.com/tia2-engine/tia2-engine/engine/internal/tensorfile"
)

// Constants of LAVIS's code. Its tokenizer adds [DEC] to BERT's vocabulary.
//
// Source: LAVIS lavis/models/eva_vit.py create_eva_vit_g, blip2_models/blip2.py, blip2_image_text_matching.py.
const (
	evaFile         = "eva_vit_g.pth"
	evaLayers       = 39
	evaHeadWidth    = 88
	lnVisionEps     = 1e-5
	blip2Vocab      = 30523
	blip2TextLength = 32
)

// The layouts of BLIP-2: of LAVIS, whose checkpoints leave the image tower in a file of its own, and of transformers.
var (
	blip2LAVIS = &family{
		name: "lavis blip-2", arch: "blip2", rewards: []string{rewardBLIP2},
		towers:    []string{"^visual_encoder.", "^ln_vision.", "^Qformer.bert.", "^query_tokens", "^vision_proj.", "^text_proj.", "^itm_head."},
		leftovers: []string{"position_ids", "^Qformer.cls.", "^temp", "^visual_encoder.norm.", "^visual_encoder.fc_norm.", "^visual_encoder.head.", "^visual_encoder.mask_token"},
		open:      openEVA, describe: (*model).describeLAVIS, tokenizer: bertTokenizer{maxLength: blip2TextLength, cleaning: "blip_caption"}.read,
		plan: func(s *Spec, _ *tensorfile.File) []output { return planBLIP(s, &lavisNames) },
	}
	blip2HF = &family{
		name: "hf blip-2", arch: "blip2", rewards: []string{rewardBLIP2},
		towers:    []string{"^vision_model.", "^qformer.", "^embeddings.", "^query_tokens", "^vision_projection.", "^text_projection.", "^itm_head."},
		leftovers: []string{"position_ids", "^language_model.", "^language_projection."},
		describe:  (*model).describeBLIP2HF, tokenizer: bertTokenizer{}.read,
		plan: func(s *Spec, _ *tensorfile.File) []output { return planBLIP(s, &blip2HFNames) },
	}

	lavisNames = blipNames{postNorm: "ln_vision", halfBias: true, queryTokens: "query_tokens", visionProj: "vision_proj", textProj: "text_proj",
		head: "itm_head"}.withViT("visual_encoder.").withBERT("Qformer.bert.")
	blip2HFNames = blipNames{embeddings: "embeddings.", textNorm: "qformer.layernorm", self: "attention.", queryTokens: "query_tokens",
		visionProj: "vision_projection", textProj: "text_projection", head: "itm_head"}.withHFVision().withBERT("qformer.")
)

// openEVA opens the image tower beside a checkpoint of LAVIS that does not hold it, as fine-tuned ones do.
func openEVA(m *model) error {
	if m.file.Tensor("visual_encoder.cls_token") != nil {
		return nil
	}
	path := filepath.Join(filepath.Dir(m.source.weights), evaFile)
	if t := m.file.Tensor("ln_vision.weight"); t != nil && t.Elements() == 1024 {
		return fmt.Errorf("%s has %d values: the image tower is CLIP's ViT-L/14, which is not supported with a Q-Former: expected that of EVA", t, t.Elements())
	}
	if !isFile(path) {
		return fmt.Errorf("%s: a Q-Former without its image tower (visual_encoder.*): expected %s beside it, at %s, which LAVIS downloads apart", m.file.Parts[0], evaFile, path)
	}
	eva, err := tensorfile.Open(path)
	if err != nil {
		return err
	}
	if eva.Tensor("blocks.0.attn.q_bias") == nil || eva.Tensor("cls_token") == nil {
		eva.Close()
		return fmt.Errorf("%s: expected EVA's image tower, with blocks.0.attn.q_bias and cls_token", path)
	}
	return m.file.Join(eva, "visual_encoder.")
}

// describeLAVIS: the shapes and the constants of LAVIS's code, which runs all blocks of EVA's file but the last: 39 of 40.
func (m *model) describeLAVIS(Options) (err error) {
	if m.spec, err = lavisNames.inferSpec(m.file); err != nil {
		return err
	}
	s := m.spec
	s.Vision.Heads, s.Text.Heads, s.Pair.OutputEps = s.Vision.Width/evaHeadWidth, s.Text.Width/blipHeadWidth, lnVisionEps
	cut := s.Vision.Width == blip2Base.Vision.Width && s.Vision.Layers == evaLayers // somebody took the last block off
	if fromFile := len(m.file.Parts) > 1; fromFile && !cut {
		s.Vision.Layers--
		m.leftovers = append(m.leftovers, fmt.Sprintf("^visual_encoder.blocks.%d.", s.Vision.Layers))
	}
	m.preprocess = &Preprocess{pipelineBLIPSquash, s.ImageSize, openAIMean, openAIStd}
	return s.check(m.file.Parts[0])
}

// describeBLIP2HF: config.json and preprocessor_config.json.
func (m *model) describeBLIP2HF(Options) (err error) {
	if m.source.hf == "" {
		return fmt.Errorf("%s: %w", m.source.weights, errNoConfig)
	}
	if m.spec, err = readBLIP2Config(m.source.hf); err != nil {
		return err
	}
	return m.readHFPreprocess("BlipImageProcessor")
}

// blip2Base is BLIP-2 with EVA's ViT-g/14 and BERT base, as transformers' Blip2Config has it when nothing is said, but for
// the vocabulary, which is BERT's there.
var blip2Base = Spec{
	EmbedDim: 256, ImageSize: 224, PatchSize: 14, Vision: Tower{1408, evaLayers, 16, 6144, blipVisionEps, gelu},
	Context: bertContext, VocabSize: blip2Vocab, Text: Tower{768, 12, 12, 3072, bertEps, gelu},
	Pair: Pair{Outputs: 2, OutputEps: blipVisionEps, CrossEvery: 2, Queries: 32},
}

// readBLIP2Config returns the hyper-parameters of a transformers Blip2Config.
//
// Source: transformers/models/blip_2/configuration_blip_2.py.
func readBLIP2Config(path string) (*Spec, error) {
	top, err := readModelConfig(path, "blip-2")
	if err != nil {
		return nil, err
	}
	s := blip2Base
	s.VocabSize = 30522
	s.EmbedDim, s.Pair.Queries = top.integer("image_text_hidden_size", s.EmbedDim), top.integer("num_query_tokens", s.Pair.Queries)
	readBLIPVision(top.object("vision_config"), &s)
	text := top.object("qformer_config")
	text.onlyDefault(map[string]string{"position_embedding_type": `"absolute"`})
	readBERT(text, &s)
	s.Pair.CrossEvery = text.integer("cross_attention_frequency", s.Pair.CrossEvery)
	if s.Pair.Queries < 1 {
		top.fail("num_query_tokens", "%d: expected at least 1", s.Pair.Queries)
	}
	if *top.err != nil {
		return nil, *top.err
	}
	return &s, s.check(path)
}
