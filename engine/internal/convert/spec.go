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
	rewardCLIP      = "clip"      // exp(logit_scale) * cos
	rewardPickScore = "pickscore" // the same, of the model fine-tuned on preferences
	rewardHPSv2     = "hpsv2"     // cos alone
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

// Spec holds the hyper-parameters of a CLIP model.
type Spec struct {
	EmbedDim  int   `json:"embed_dim"`
	ImageSize int   `json:"image_size"`
	PatchSize int   `json:"patch_size"`
	Vision    Tower `json:"vision"`
	Context   int   `json:"context"`
	VocabSize int   `json:"vocab_size"`
	Text      Tower `json:"text"`
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

// check refuses hyper-parameters that no model can have. where stands before the message.
func (s *Spec) check(where string) error {
	for _, f := range []struct {
		name     string
		value    int
		low, top int
	}{
		{"embed_dim", s.EmbedDim, 1, maxWidth}, {"image_size", s.ImageSize, 1, maxSide}, {"patch_size", s.PatchSize, 1, maxSide},
		{"vision width", s.Vision.Width, 1, maxWidth}, {"vision layers", s.Vision.Layers, 1, maxLayers},
		{"vision heads", s.Vision.Heads, 1, maxWidth}, {"vision MLP width", s.Vision.MLPWidth, 1, 8 * maxWidth},
		{"context", s.Context, 2, maxContext}, {"vocab_size", s.VocabSize, 3, maxVocab},
		{"text width", s.Text.Width, 1, maxWidth}, {"text layers", s.Text.Layers, 1, maxLayers},
		{"text heads", s.Text.Heads, 1, maxWidth}, {"text MLP width", s.Text.MLPWidth, 1, 8 * maxWidth},
	} {
		if f.value < f.low || f.value > f.top {
			return fmt.Errorf("%s: %s is %d: expected %d to %d", where, f.name, f.value, f.low, f.top)
		}
	}
	if s.PatchSize > s.ImageSize {
		return fmt.Errorf("%s: patch_size %d is larger than image_size %d", where, s.PatchSize, s.ImageSize)
	}
	for i, t := range []*Tower{&s.Vision, &s.Text} {
		name := []string{"vision", "text"}[i]
		if t.Width%t.Heads != 0 {
			return fmt.Errorf("%s: %s width %d is no multiple of its %d heads", where, name, t.Width, t.Heads)
		}
		if t.Activation != gelu && t.Activation != quickGELU {
			return fmt.Errorf("%s: %s activation %q is not supported: expected gelu or quick_gelu", where, name, t.Activation)
		}
		if eps := float64(t.NormEps); !(eps > 0) || math.IsInf(eps, 0) {
			return fmt.Errorf("%s: %s layer norm epsilon %g: expected more than 0", where, name, t.NormEps)
		}
	}
	return nil
}

// imageTokens returns the rows of the vision tower: one a patch, and the class token.
func (s *Spec) imageTokens() int {
	grid := s.ImageSize / s.PatchSize
	return grid*grid + 1
}

// metadata returns the hyper-parameters as GGUF keys.
func (s *Spec) metadata() []gguf.KV {
	kvs := []gguf.KV{
		{Key: "clip.embed_dim", Value: uint32(s.EmbedDim)},
		{Key: "clip.vision.image_size", Value: uint32(s.ImageSize)},
		{Key: "clip.vision.patch_size", Value: uint32(s.PatchSize)},
	}
	kvs = append(kvs, s.Vision.metadata("clip.vision.")...)
	kvs = append(kvs, gguf.KV{Key: "clip.text.context", Value: uint32(s.Context)}, gguf.KV{Key: "clip.text.vocab_size", Value: uint32(s.VocabSize)})
	return append(kvs, s.Text.metadata("clip.text.")...)
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
