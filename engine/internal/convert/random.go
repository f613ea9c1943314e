package convert

import (
	"context"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"strings"

	"github.com/tia2-engine/tia2-engine/engine/internal/gguf"
)

// randomModel is a full-size model that "random:NAME" offers.
type randomModel struct {
	family     *family
	reward     string
	pipeline   string // "": sees no pictures
	arch       string // of CLIP, with
	activation string // what the best-known weights have
	spec       Spec   // of the others
}

var randomModels = map[string]randomModel{
	"vit-b-32":     {family: openCLIP, reward: rewardCLIP, pipeline: pipelineOpenAI, arch: "vit-b-32", activation: quickGELU},
	"vit-b-16":     {family: openCLIP, reward: rewardCLIP, pipeline: pipelineOpenAI, arch: "vit-b-16", activation: quickGELU},
	"vit-l-14":     {family: openCLIP, reward: rewardCLIP, pipeline: pipelineOpenAI, arch: "vit-l-14", activation: quickGELU},
	"vit-l-14-336": {family: openCLIP, reward: rewardCLIP, pipeline: pipelineOpenAI, arch: "vit-l-14-336", activation: quickGELU},
	"vit-h-14":     {family: openCLIP, reward: rewardCLIP, pipeline: pipelineOpenCLIP, arch: "vit-h-14", activation: gelu},
	"vit-g-14":     {family: openCLIP, reward: rewardCLIP, pipeline: pipelineOpenCLIP, arch: "vit-g-14", activation: gelu},
	"pickscore":    {family: hfCLIP, reward: rewardPickScore, pipeline: pipelineHFCLIP, arch: "vit-h-14", activation: gelu},
	"hpsv2":        {family: openCLIP, reward: rewardHPSv2, pipeline: pipelineHPSv2, arch: "vit-h-14", activation: gelu},

	"blip-itm-base":  {family: blipOriginal, reward: rewardBLIP, pipeline: pipelineBLIPSquash, spec: blipBase},
	"blip-itm-large": {family: blipOriginal, reward: rewardBLIP, pipeline: pipelineBLIPSquash, spec: large(blipBase)},
	"imagereward":    {family: imageReward, reward: rewardImageReward, pipeline: pipelineOpenAI, spec: imageRewardSpec()},
	"blip2-itm":      {family: blip2LAVIS, reward: rewardBLIP2, pipeline: pipelineBLIPSquash, spec: blip2LAVISSpec()},
	"aesthetic":      {family: aestheticHead, reward: rewardAesthetic, spec: Spec{EmbedDim: 768}},
}

// large has ViT-L/16 for ViT-B/16.
func large(s Spec) Spec {
	s.Vision = Tower{1024, 24, 16, 4096, s.Vision.NormEps, gelu}
	return s
}

func imageRewardSpec() Spec {
	s := large(blipBase)
	s.EmbedDim, s.ImageSize, s.Pair.Outputs = 0, 224, 1
	return s
}

func blip2LAVISSpec() Spec {
	s := blip2Base
	s.Pair.OutputEps = lnVisionEps
	return s
}

// RandomNames lists the models that Random knows, sorted.
func RandomNames() []string { return sortedKeys(randomModels) }

// Random writes the GGUF file of a full-size architecture with random weights: good for measuring speed, for nothing else.
// It has no more than a header, and the runtime draws the weights from the seed; only an aesthetic head, which is small,
// holds its weights.
func Random(name, dst string, seed uint64, opt Options) error {
	r, ok := randomModels[name]
	if !ok {
		return fmt.Errorf("random:%s is not known: expected one of %s", name, strings.Join(RandomNames(), ", "))
	}
	dtype, err := parseDType(opt.DType)
	if err != nil {
		return err
	}
	m, err := r.model("random:" + name)
	if err != nil {
		return err
	}
	if err := m.resize(opt.ImageSize); err != nil {
		return err
	}
	job := newJob(context.Background(), opt, m.outputs, dtype)
	if m.family == aestheticHead {
		return randomHead(dst, m, job, seed)
	}
	w, err := gguf.Create(dst, m.metadata(gguf.KV{Key: gguf.SeedKey, Value: seed}), job.tensors())
	if err != nil {
		return err
	}
	defer w.Abort()
	return w.Commit()
}

// model returns all that Convert would find in a checkpoint of this model.
func (r *randomModel) model(name string) (*model, error) {
	m := &model{family: r.family, reward: r.reward, name: name, spec: &r.spec, source: &source{path: name}}
	var err error
	if r.arch != "" {
		if m.spec, err = findArch(r.arch); err != nil {
			return nil, err
		}
		m.spec.Vision.Activation, m.spec.Text.Activation = r.activation, r.activation
	}
	if r.pipeline != "" {
		m.preprocess = &Preprocess{r.pipeline, m.spec.ImageSize, openAIMean, openAIStd}
	}
	if m.family.tokenizer != nil {
		m.tokenizer, err = m.family.tokenizer("", m.spec)
	}
	m.outputs = m.family.plan(m.spec, nil)
	return m, err
}

// randomHead writes an aesthetic head whose scores spread by 1 around 5, as LAION's do.
func randomHead(dst string, m *model, job *job, seed uint64) error {
	w, err := gguf.Create(dst, m.metadata(), job.tensors())
	if err != nil {
		return err
	}
	defer w.Abort()
	r := rand.New(rand.NewPCG(seed, 0))
	for i := range m.outputs {
		o := &m.outputs[i]
		values := []float32{5}
		if o.name == "head.weight" {
			values = make([]float32, o.cols)
			for k := range values {
				values[k] = float32(math.Sqrt(3) * (2*r.Float64() - 1)) // embeddings have length 1
			}
		}
		e := encoder{job: job, dtype: gguf.F32, source: m.name}
		if err := w.WriteTensor(func(out io.Writer) error { e.w = out; return e.values(values) }); err != nil {
			return err
		}
	}
	return w.Commit()
}
