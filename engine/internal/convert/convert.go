package convert

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/tia2-engine/tia2-engine/engine/internal/gguf"
	"github.com/tia2-engine/tia2-engine/engine/internal/tensorfile"
)

// Version is that of the converter; the cache keeps files of different versions apart. Raise it when the same
// checkpoint would give another file.
const Version = 1

// Options overrides what the checkpoint says. The zero value takes everything from the checkpoint, in f32.
type Options struct {
	DType    string // of the matrices: "f32" (also ""), "f16", "bf16" or "q8_0"
	Arch     string // a known architecture of CLIP, for files that lie without configuration
	Reward   string // "clip", "pickscore" or "hpsv2"; other families have one that is theirs
	Pipeline string // "openai", "open_clip", "hf_clip", "open_clip_squash", "blip_squash" or "hpsv2"
	Name     string // general.name

	// ImageSize is the picture side of a model of the BLIP family, 0: the checkpoint's. For another than that the position
	// embedding is interpolated as BLIP's own loader does.
	ImageSize int

	Progress func(done, total int64) // bytes read for the hash and written; may be nil
	Note     func(text string)       // what was assumed or looks odd, one sentence each; may be nil
}

// model is everything about a checkpoint but its tensors' values.
type model struct {
	source     *source
	file       *tensorfile.File
	family     *family
	spec       *Spec
	preprocess *Preprocess // nil: sees no pictures
	tokenizer  *Tokenizer  // nil: reads no texts
	reward     string
	name       string
	outputs    []output
	ignored    []string // tensors of the checkpoint that nothing reads
	leftovers  []string // marks of such tensors beside the family's
	notes      []string
}

// Convert writes the GGUF file dst from the checkpoint src (a folder or file). It appears whole or not at all.
func Convert(ctx context.Context, src, dst string, opt Options) error {
	dtype, err := parseDType(opt.DType)
	if err != nil {
		return err
	}
	m, err := load(src, opt)
	if err != nil {
		return err
	}
	defer m.file.Close()
	if err := refuseOverwrite(dst, m.file.Parts); err != nil {
		return err
	}
	job := newJob(ctx, opt, m.outputs, dtype)
	job.expect(m.file.Parts, job.tensors())
	for _, n := range m.notes {
		job.note("%s", n)
	}
	sum, err := job.hash(m.file.Parts)
	if err != nil {
		return err
	}
	w, err := gguf.Create(dst, m.metadata(m.origin(sum)...), job.tensors())
	if err != nil {
		return err
	}
	defer w.Abort()
	for i := range m.outputs {
		if err := w.WriteTensor(func(out io.Writer) error { return job.write(out, i, m.file) }); err != nil {
			return err
		}
	}
	return w.Commit()
}

// parseDType is gguf.ParseType with f32 as the default.
func parseDType(name string) (gguf.Type, error) {
	if name == "" {
		name = "f32"
	}
	return gguf.ParseType(name)
}

// refuseOverwrite keeps a conversion from replacing its own source.
func refuseOverwrite(dst string, parts []string) error {
	a, err := os.Stat(dst)
	if err != nil {
		return nil // nothing there yet
	}
	if a.IsDir() {
		return fmt.Errorf("%s is a folder: expected the name of a file to write", dst)
	}
	for _, p := range parts {
		if b, err := os.Stat(p); err == nil && os.SameFile(a, b) {
			return fmt.Errorf("%s is the checkpoint itself", dst)
		}
	}
	return nil
}

// load opens a checkpoint and finds out all about it. The caller closes its file.
func load(path string, opt Options) (*model, error) {
	src, err := findSource(path)
	if err != nil {
		return nil, err
	}
	file, err := tensorfile.Open(src.weights)
	if err != nil {
		return nil, err
	}
	m := &model{source: src, file: file, name: opt.Name}
	if err := m.describe(opt); err != nil {
		file.Close()
		return nil, err
	}
	return m, nil
}

// describe fills in everything but the file.
func (m *model) describe(opt Options) (err error) {
	if m.family, err = detect(m.file); err != nil {
		return err
	}
	if m.family.open != nil {
		if err := m.family.open(m); err != nil {
			return err
		}
	}
	if err := m.family.describe(m, opt); err != nil {
		return err
	}
	if err := m.applyOptions(opt); err != nil {
		return err
	}
	m.outputs = m.family.plan(m.spec, m.file)
	if err := m.checkTensors(); err != nil {
		return err
	}
	if err := m.resize(opt.ImageSize); err != nil {
		return err
	}
	if m.family.tokenizer != nil {
		if m.tokenizer, err = m.family.tokenizer(m.source.ownFolder(), m.spec); err != nil {
			return fmt.Errorf("%s: %w", m.source.path, err)
		}
	}
	if m.name == "" {
		m.name = m.source.modelName()
	}
	return nil
}

// pipelines are those that a user may name.
var pipelines = []string{pipelineOpenAI, pipelineOpenCLIP, pipelineHFCLIP, pipelineOpenCLIPSquash, pipelineBLIPSquash, pipelineHPSv2}

// applyOptions sets the reward and the pipeline: as asked, else as names and the family tell.
func (m *model) applyOptions(opt Options) error {
	m.reward = opt.Reward
	if m.reward == "" && m.family.reward != nil {
		m.reward = m.family.reward(m, m.source.label()+" "+strings.ToLower(opt.Name))
	}
	if m.reward == "" {
		m.reward = m.family.rewards[0]
	}
	if !slices.Contains(m.family.rewards, m.reward) {
		return fmt.Errorf("%s: reward %q is none of this model (%s): expected %s", m.source.path, m.reward, m.family.name, alternatives(m.family.rewards))
	}
	if m.preprocess == nil {
		return nil
	}
	switch {
	case opt.Pipeline != "":
		if !slices.Contains(pipelines, opt.Pipeline) {
			return fmt.Errorf("pipeline %q is not known: expected %s", opt.Pipeline, alternatives(pipelines))
		}
		m.preprocess.Pipeline = opt.Pipeline
	case m.reward == rewardHPSv2: // HPSv2 always letterboxes, with OpenAI's mean and std
		m.preprocess = &Preprocess{pipelineHPSv2, m.spec.ImageSize, openAIMean, openAIStd}
	}
	if m.preprocess.Pipeline == pipelineHPSv2 {
		m.preprocess.Mean, m.preprocess.Std = openAIMean, openAIStd
	}
	for _, s := range m.preprocess.Std {
		if !(s > 0) {
			return fmt.Errorf("%s: the preprocessing's std is %v: expected three numbers above 0", m.source.path, m.preprocess.Std)
		}
	}
	return nil
}

// alternatives is "a, b or c".
func alternatives(names []string) string {
	last := len(names) - 1
	if last == 0 {
		return names[0]
	}
	return strings.Join(names[:last], ", ") + " or " + names[last]
}

// metadata returns the keys of the GGUF file. origin says where the weights come from.
func (m *model) metadata(origin ...gguf.KV) []gguf.KV {
	kvs := append([]gguf.KV{
		{Key: "general.architecture", Value: m.family.arch},
		{Key: "general.name", Value: m.name},
		{Key: "tia2.format", Value: uint32(1)},
		{Key: "tia2.reward", Value: m.reward},
	}, origin...)
	kvs = append(kvs, m.spec.metadata(m.family.arch)...)
	if m.tokenizer != nil {
		kvs = append(kvs, m.tokenizer.metadata()...)
	}
	if m.preprocess != nil {
		kvs = append(kvs, m.preprocess.metadata()...)
	}
	return kvs
}

// origin is what the file says of its source. sum is the SHA-256 of that in hex.
func (m *model) origin(sum string) []gguf.KV {
	return []gguf.KV{
		{Key: "tia2.source.file", Value: m.source.fileName()},
		{Key: "tia2.source.sha256", Value: sum},
		{Key: "tia2.source.container", Value: string(m.file.Container)},
	}
}

// hash returns the SHA-256 of a checkpoint: of its file, or, of several, of the hex sums of the files, one a line.
func (j *job) hash(parts []string) (string, error) {
	var sums []string
	for _, p := range parts {
		s, err := j.hashFile(p)
		if err != nil {
			return "", err
		}
		sums = append(sums, s)
	}
	if len(sums) == 1 {
		return sums[0], nil
	}
	all := sha256.New()
	for _, s := range sums {
		io.WriteString(all, s+"\n")
	}
	return hex.EncodeToString(all.Sum(nil)), nil
}

func (j *job) hashFile(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	buf := make([]byte, 1<<20)
	for {
		if err := j.ctx.Err(); err != nil {
			return "", err
		}
		n, err := f.Read(buf)
		h.Write(buf[:n])
		j.advance(int64(n))
		if err == io.EOF {
			return hex.EncodeToString(h.Sum(nil)), nil
		}
		if err != nil {
			return "", fmt.Errorf("%s: %w", path, err)
		}
	}
}
