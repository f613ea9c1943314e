package convert

import (
	"context"
	"fmt"
	"io"
	"math"
	"os"
	"reflect"

	"github.com/tia2-engine/tia2-engine/engine/internal/floats"
	"github.com/tia2-engine/tia2-engine/engine/internal/gguf"
	"github.com/tia2-engine/tia2-engine/engine/internal/tensorfile"
)

// Inspection says what a model file or folder holds.
type Inspection struct {
	Path       string         `json:"path"`
	Container  string         `json:"container"`         // "gguf", "safetensors", "torch zip", "torch legacy pickle", "torchscript"
	Family     string         `json:"family,omitempty"`  // empty when the model is not one that can be run
	Problem    string         `json:"problem,omitempty"` // why it cannot be run
	Name       string         `json:"name,omitempty"`
	Reward     string         `json:"reward,omitempty"`
	SHA256     string         `json:"sha256,omitempty"`        // of the file, or of the shards' sums
	SourceSum  string         `json:"source_sha256,omitempty"` // GGUF: of the checkpoint that it was made from
	Parts      []string       `json:"parts,omitempty"`         // the weight files of a checkpoint
	Parameters uint64         `json:"parameters"`
	Spec       *Spec          `json:"hyper_parameters,omitempty"`
	Preprocess *Preprocess    `json:"preprocess,omitempty"`
	Tokenizer  *Tokenizer     `json:"tokenizer,omitempty"`
	Metadata   map[string]any `json:"metadata,omitempty"` // GGUF keys; arrays of more than 16 entries as "N TYPE"
	Tensors    []TensorInfo   `json:"tensors"`
	Ignored    []string       `json:"ignored,omitempty"` // names of a checkpoint's tensors that are not read: momentum copies, queues, decoders
	Notes      []string       `json:"notes,omitempty"`
}

// TensorInfo is one tensor; the shape is PyTorch's, outermost dimension first.
type TensorInfo struct {
	Name  string  `json:"name"`
	DType string  `json:"dtype"`
	Shape []int64 `json:"shape"`
}

// Inspect describes a GGUF file or a checkpoint. A checkpoint of a family that cannot be run is described too, with
// Problem set.
func Inspect(ctx context.Context, path string, opt Options) (*Inspection, error) {
	if isGGUF(path) {
		return inspectGGUF(ctx, path, opt)
	}
	src, err := findSource(path)
	if err != nil {
		return nil, err
	}
	file, err := tensorfile.Open(src.weights)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	m := &model{source: src, file: file}
	in := &Inspection{Path: path, Container: string(file.Container)}
	if err := m.describe(opt); err != nil {
		in.Problem = err.Error()
	} else {
		in.Family, in.Name, in.Reward, in.Ignored = m.family.name, m.name, m.reward, m.ignored
		in.Spec, in.Preprocess, in.Tokenizer, in.Notes = m.spec, m.preprocess, m.tokenizer, m.notes
	}
	in.Parts = file.Parts // with those that the family opened
	for _, t := range file.Tensors {
		in.Parameters += uint64(t.Elements())
		in.Tensors = append(in.Tensors, TensorInfo{t.Name, string(t.DType), append([]int64{}, t.Shape...)})
	}
	job := newJob(ctx, opt, nil, 0)
	job.expect(file.Parts, nil)
	in.SHA256, err = job.hash(file.Parts)
	return in, err
}

// isGGUF looks at the first bytes.
func isGGUF(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	magic := make([]byte, 4)
	_, err = io.ReadFull(f, magic)
	return err == nil && string(magic) == "GGUF"
}

func inspectGGUF(ctx context.Context, path string, opt Options) (*Inspection, error) {
	g, err := gguf.Open(path)
	if err != nil {
		return nil, err
	}
	defer g.Close()
	in := &Inspection{Path: path, Container: "gguf", Name: g.Str("general.name"), Reward: g.Str("tia2.reward"),
		SourceSum: g.Str("tia2.source.sha256"), Metadata: map[string]any{}}
	for _, kv := range g.KVs {
		in.Metadata[kv.Key] = shortValue(kv.Value)
	}
	for i := range g.Tensors {
		t := &g.Tensors[i]
		in.Parameters += t.Elements()
		info := TensorInfo{Name: t.Name, DType: t.Type.String()}
		for d := len(t.Dims) - 1; d >= 0; d-- {
			info.Shape = append(info.Shape, int64(t.Dims[d]))
		}
		in.Tensors = append(in.Tensors, info)
	}
	if isOurs(g) {
		in.Family = g.Str("general.architecture")
		in.Spec, in.Preprocess, in.Tokenizer = specOf(g), preprocessOf(g), tokenizerOf(g)
	} else {
		in.Problem = fmt.Sprintf("architecture %q, not written by this engine", g.Str("general.architecture"))
	}
	job := newJob(ctx, opt, nil, 0)
	job.expect([]string{path}, nil)
	in.SHA256, err = job.hash([]string{path})
	return in, err
}

// shortValue replaces long arrays by what they are, and numbers that JSON has no form for by texts.
func shortValue(v any) any {
	switch x := v.(type) {
	case float32:
		return finite(float64(x), v)
	case float64:
		return finite(x, v)
	case []float32:
		if len(x) <= 16 && floats.NonFinite(x) > 0 {
			return fmt.Sprint(x)
		}
	case []float64:
		return fmt.Sprint(x)
	}
	if r := reflect.ValueOf(v); r.Kind() == reflect.Slice && r.Len() > 16 {
		return fmt.Sprintf("%d %s", r.Len(), r.Type().Elem())
	}
	return v
}

// finite returns v, or its text when x is NaN or infinite.
func finite(x float64, v any) any {
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return fmt.Sprint(x)
	}
	return v
}

func number(g *gguf.File, key string) int {
	v, _ := g.Value(key).(uint32)
	return int(v)
}

// specOf is what Spec.metadata wrote.
func specOf(g *gguf.File) *Spec {
	arch := g.Str("general.architecture") + "."
	float := func(key string) float32 {
		v, _ := g.Value(key).(float32)
		return v
	}
	tower := func(prefix string) Tower {
		return Tower{number(g, prefix+"width"), number(g, prefix+"layers"), number(g, prefix+"heads"), number(g, prefix+"mlp_width"), float(prefix + "layer_norm_eps"), g.Str(prefix + "activation")}
	}
	s := &Spec{EmbedDim: number(g, arch+"embed_dim"), ImageSize: number(g, arch+"vision.image_size"), PatchSize: number(g, arch+"vision.patch_size"),
		Vision: tower(arch + "vision."), Context: number(g, arch+"text.context"), VocabSize: number(g, arch+"text.vocab_size"), Text: tower(arch + "text.")}
	if outputs := number(g, arch+"pair_outputs"); outputs > 0 {
		s.Pair = Pair{outputs, float(arch + "vision.output_norm_eps"), max(1, number(g, arch+"cross_attention_every")), number(g, arch+"queries")}
	}
	return s
}

// preprocessOf is what Preprocess.metadata wrote, nil where the model sees no pictures.
func preprocessOf(g *gguf.File) *Preprocess {
	if g.Value("preprocess.pipeline") == nil {
		return nil
	}
	p := &Preprocess{Pipeline: g.Str("preprocess.pipeline"), Size: number(g, "preprocess.size")}
	mean, _ := g.Value("preprocess.mean").([]float32)
	std, _ := g.Value("preprocess.std").([]float32)
	copy(p.Mean[:], mean)
	copy(p.Std[:], std)
	return p
}

// tokenizerOf is what Tokenizer.metadata wrote, nil where the model reads no texts.
func tokenizerOf(g *gguf.File) *Tokenizer {
	if g.Value("tokenizer.kind") == nil {
		return nil
	}
	merges, _ := g.Value("tokenizer.merges").([]string)
	words, _ := g.Value("tokenizer.words").([]string)
	return &Tokenizer{Kind: g.Str("tokenizer.kind"), Merges: merges, Words: words, VocabSize: number(g, "tokenizer.vocab_size"),
		SOT: number(g, "tokenizer.sot"), EOT: number(g, "tokenizer.eot"), MaxLength: number(g, "tokenizer.max_length"),
		Cleaning: g.Str("tokenizer.cleaning"), ENC: number(g, "tokenizer.enc"), Source: "the file"}
}
