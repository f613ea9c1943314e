package convert

import (
	"fmt"
	"math"

	"github.com/tia2-engine/tia2-engine/engine/internal/gguf"
)

// Activations of the MLPs.
const (
	gelu      = "gelu"       // exact, with erf
	quickGELU = "quick_gelu" // x * sigmoid(1.702 x)
)

// Pipelines of the preprocessing, as kernels/image knows them.
const (
	pipelineOpenAI         = "openai"
	pipelineOpenCLIP       = "open_clip"
	pipelineHFCLIP         = "hf_clip"
	pipelineBLIPSquash     = "blip_squash"
	pipelineHPSv2          = "hpsv2"
	pipelineOpenCLIPSquash = "open_clip_squash"
)

// Rewards: what a score of the model is.
const (
	rewardCLIP        = "clip"        // exp(logit_scale) * cos
	rewardPickScore   = "pickscore"   // the same, of the model fine-tuned on preferences
	rewardHPSv2       = "hpsv2"       // cos alone
	rewardBLIP        = "blip"        // both cos (ITC) and the matching head (ITM)
	rewardBLIP2       = "blip2"       // the same
	rewardImageReward = "imagereward" // the head of pairs
	rewardAesthetic   = "aesthetic"   // of the picture alone
)

// Tower holds the hyper-parameters of one transformer.
type Tower struct {
	Width      int     `json:"width"`
	Layers     int     `json:"layers"`
	Heads      int     `json:"heads"`
	MLPWidth   int     `json:"mlp_width"`
	NormEps    float32 `json:"layer_norm_eps"`
	Activation string  `json:"activation"`
}

// Spec holds the hyper-parameters of a model. What it does not have is 0: an aesthetic head has EmbedDim alone.
type Spec struct {
	EmbedDim  int   `json:"embed_dim"` // 0: no embeddings (ImageReward)
	ImageSize int   `json:"image_size"`
	PatchSize int   `json:"patch_size"`
	Vision    Tower `json:"vision"`
	Context   int   `json:"context"`
	VocabSize int   `json:"vocab_size"`
	Text      Tower `json:"text"`
	Pair      Pair  `json:"pair,omitzero"`
}

// Pair holds what a model of the BLIP family has beside the towers, whose text tower reads image and text together.
type Pair struct {
	Outputs    int     `json:"outputs"`                // values of a pair: 2 logits (no match, match), or 1 reward
	OutputEps  float32 `json:"vision_output_norm_eps"` // of the norm after the image tower
	CrossEvery int     `json:"cross_attention_every"`  // layers of text 0, CrossEvery, 2 CrossEvery, ... see the image
	Queries    int     `json:"queries,omitempty"`      // BLIP-2
}

// Preprocess says what is done to a picture before the model sees it.
type Preprocess struct {
	Pipeline string     `json:"pipeline"`
	Size     int        `json:"size"`
	Mean     [3]float32 `json:"mean"`
	Std      [3]float32 `json:"std"`
}

// openAIMean and openAIStd normalise the pictures of every family unless a configuration says otherwise.
var (
	openAIMean = [3]float32{0.48145466, 0.4578275, 0.40821073}
	openAIStd  = [3]float32{0.26862954, 0.26130258, 0.27577711}
)

// Limits on what a configuration may say, far above any model: sizes are multiplied later.
const (
	maxWidth   = 1 << 15
	maxLayers  = 1 << 9
	maxSide    = 1 << 13
	maxContext = 1 << 16
	maxVocab   = 1 << 22
)

// bound is what a number must lie within.
type bound struct {
	name     string
	value    int
	low, top int
}

func checkBounds(where string, bounds []bound) error {
	for _, b := range bounds {
		if b.value < b.low || b.value > b.top {
			return fmt.Errorf("%s: %s is %d: expected %d to %d", where, b.name, b.value, b.low, b.top)
		}
	}
	return nil
}

func (s *Spec) checkEmbedDim(where string) error {
	return checkBounds(where, []bound{{"embed_dim", s.EmbedDim, 1, maxWidth}})
}

// check refuses hyper-parameters that no model of two towers can have. where stands before the message.
func (s *Spec) check(where string) error {
	if s.Pair.Outputs != 1 { // ImageReward has no embeddings
		if err := s.checkEmbedDim(where); err != nil {
			return err
		}
	}
	err := checkBounds(where, []bound{
		{"image_size", s.ImageSize, 1, maxSide}, {"patch_size", s.PatchSize, 1, maxSide},
		{"vision width", s.Vision.Width, 1, maxWidth}, {"vision layers", s.Vision.Layers, 1, maxLayers},
		{"vision heads", s.Vision.Heads, 1, maxWidth}, {"vision MLP width", s.Vision.MLPWidth, 1, 8 * maxWidth},
		{"context", s.Context, 2, maxContext}, {"vocab_size", s.VocabSize, 3, maxVocab},
		{"text width", s.Text.Width, 1, maxWidth}, {"text layers", s.Text.Layers, 1, maxLayers},
		{"text heads", s.Text.Heads, 1, maxWidth}, {"text MLP width", s.Text.MLPWidth, 1, 8 * maxWidth},
	})
	if err != nil {
		return err
	}
	if s.PatchSize > s.ImageSize {
		return fmt.Errorf("%s: patch_size %d is larger than image_size %d", where, s.PatchSize, s.ImageSize)
	}
	if err := s.Vision.check(where, "vision"); err != nil {
		return err
	}
	if err := s.Text.check(where, "text"); err != nil {
		return err
	}
	return s.checkPair(where)
}

func (t *Tower) check(where, name string) error {
	if t.Width%t.Heads != 0 {
		return fmt.Errorf("%s: %s width %d is no multiple of its %d heads", where, name, t.Width, t.Heads)
	}
	if t.Activation != gelu && t.Activation != quickGELU {
		return fmt.Errorf("%s: %s activation %q is not supported: expected gelu or quick_gelu", where, name, t.Activation)
	}
	return checkEps(where, name+" layer norm", t.NormEps)
}

func checkEps(where, name string, eps float32) error {
	if e := float64(eps); !(e > 0) || math.IsInf(e, 0) {
		return fmt.Errorf("%s: %s epsilon %g: expected more than 0", where, name, eps)
	}
	return nil
}

// checkPair is the part of check for the BLIP family.
func (s *Spec) checkPair(where string) error {
	if s.Pair == (Pair{}) {
		return nil
	}
	if s.Vision.Activation != gelu || s.Text.Activation != gelu {
		return fmt.Errorf("%s: activations %q and %q are not supported: expected gelu", where, s.Vision.Activation, s.Text.Activation)
	}
	if err := checkEps(where, "vision output norm", s.Pair.OutputEps); err != nil {
		return err
	}
	return checkBounds(where, []bound{{"pair outputs", s.Pair.Outputs, 1, 2}, {"cross-attention frequency", s.Pair.CrossEvery, 1, maxLayers},
		{"number of queries", s.Pair.Queries, 0, maxContext}})
}

// imageTokens returns the rows of the vision tower: one a patch, and the class token.
func (s *Spec) imageTokens() int {
	grid := s.ImageSize / s.PatchSize
	return grid*grid + 1
}

// metadata returns the hyper-parameters as GGUF keys, which begin with the architecture.
func (s *Spec) metadata(arch string) []gguf.KV {
	kvs := []gguf.KV{{Key: arch + ".embed_dim", Value: uint32(s.EmbedDim)}}
	if s.Vision.Width == 0 {
		return kvs
	}
	kvs = append(kvs, gguf.KV{Key: arch + ".vision.image_size", Value: uint32(s.ImageSize)}, gguf.KV{Key: arch + ".vision.patch_size", Value: uint32(s.PatchSize)})
	kvs = append(kvs, s.Vision.metadata(arch+".vision.")...)
	kvs = append(kvs, gguf.KV{Key: arch + ".text.context", Value: uint32(s.Context)}, gguf.KV{Key: arch + ".text.vocab_size", Value: uint32(s.VocabSize)})
	kvs = append(kvs, s.Text.metadata(arch+".text.")...)
	if s.Pair.Outputs > 0 {
		kvs = append(kvs, gguf.KV{Key: arch + ".vision.output_norm_eps", Value: s.Pair.OutputEps}, gguf.KV{Key: arch + ".pair_outputs", Value: uint32(s.Pair.Outputs)})
	}
	if s.Pair.Queries > 0 {
		kvs = append(kvs, gguf.KV{Key: arch + ".queries", Value: uint32(s.Pair.Queries)}, gguf.KV{Key: arch + ".cross_attention_every", Value: uint32(s.Pair.CrossEvery)})
	}
	return kvs
}

func (t *Tower) metadata(prefix string) []gguf.KV {
	return []gguf.KV{
		{Key: prefix + "width", Value: uint32(t.Width)},
		{Key: prefix + "layers", Value: uint32(t.Layers)},
		{Key: prefix + "heads", Value: uint32(t.Heads)},
		{Key: prefix + "mlp_width", Value: uint32(t.MLPWidth)},
		{Key: prefix + "layer_norm_eps", Value: t.NormEps},
		{Key: prefix + "activation", Value: t.Activation},
	}
}

// metadata returns the preprocessing as GGUF keys.
func (p *Preprocess) metadata() []gguf.KV {
	return []gguf.KV{
		{Key: "preprocess.pipeline", Value: p.Pipeline},
		{Key: "preprocess.size", Value: uint32(p.Size)},
		{Key: "preprocess.mean", Value: p.Mean[:]},
		{Key: "preprocess.std", Value: p.Std[:]},
	}
}
