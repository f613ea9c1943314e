package convert

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/tia2-engine/tia2-engine/engine/internal/gguf"
)

// randomNames are the architectures that "random:NAME" offers, with the activation of the best-known weights.
var randomNames = map[string]string{
	"vit-b-32": quickGELU, "vit-b-16": quickGELU, "vit-l-14": quickGELU, "vit-l-14-336": quickGELU, "vit-h-14": gelu, "vit-g-14": gelu,
}

// blipNames are full-size models of the BLIP family.
var blipNames = []string{"blip-itm-base", "blip-itm-large", "imagereward", "blip2-itm"}

// RandomNames lists the architectures that Random knows, sorted.
func RandomNames() []string { return sortedKeys(randomNames) }

// Random writes the header-only GGUF file of a full-size architecture, whose weights the runtime draws from the seed:
// good for measuring speed, for nothing else.
func Random(name, dst string, seed uint64, opt Options) error {
	activation, ok := randomNames[name]
	if !ok {
		if slices.Contains(blipNames, name) {
			return fmt.Errorf("random:%s: this version has no BLIP encoders", name)
		}
		return fmt.Errorf("random:%s is not known: expected one of %s", name, strings.Join(RandomNames(), ", "))
	}
	dtype, err := parseDType(opt.DType)
	if err != nil {
		return err
	}
	spec, err := findArch(name)
	if err != nil {
		return err
	}
	spec.Vision.Activation, spec.Text.Activation = activation, activation
	pipeline := pipelineOpenAI
	if activation == gelu {
		pipeline = pipelineOpenCLIP
	}
	tokenizer, err := readTokenizer(tokenizerOpenCLIP, "", spec)
	if err != nil {
		return err
	}
	preprocess := &Preprocess{pipeline, spec.ImageSize, openAIMean, openAIStd}
	kvs := append(header("random:"+name, rewardCLIP), gguf.KV{Key: gguf.SeedKey, Value: seed})
	kvs = append(kvs, spec.metadata()...)
	kvs = append(kvs, tokenizer.metadata()...)
	kvs = append(kvs, preprocess.metadata()...)
	job := newJob(context.Background(), opt, plan(spec, openAINames(""), nil), dtype)
	w, err := gguf.Create(dst, kvs, job.tensors())
	if err != nil {
		return err
	}
	defer w.Abort()
	return w.Commit()
}
