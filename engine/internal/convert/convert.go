package convert

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/tia2-engine/tia2-engine/engine/internal/gguf"
	"github.com/tia2-engine/tia2-engine/engine/internal/tensorfile"
)

// Version is that of the converter; the cache keeps files of different versions apart. Raise it when the same
// checkpoint would give another file.
const Version = 1

// Options overrides what the checkpoint says. The zero value takes everything from the checkpoint, in f32.
type Options struct {
	DType    string // of the matrices: "f32" (also ""), "f16", "bf16" or "q8_0"
	Arch     string // a known architecture, for files that lie without configuration
	Reward   string // "clip", "pickscore" or "hpsv2"
	Pipeline string // "openai", "open_clip", "hf_clip", "open_clip_squash", "blip_squash" or "hpsv2"
	Name     string // general.name

	Progress func(done, total int64) // bytes read for the hash and written; may be nil
	Note     func(text string)       // what was assumed or looks odd, one sentence each; may be nil
}

// model is everything about a checkpoint but its tensors' values.
type model struct {
	source     *source
	file       *tensorfile.File
	family     family
	spec       *Spec
	preprocess *Preprocess
	tokenizer  *Tokenizer
	reward     string
	name       string
	outputs    []output
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
	w, err := gguf.Create(dst, m.metadata(sum), job.tensors())
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
	names := namesOf(m.family, m.file)
	if err := m.readSpec(opt, names); err != nil {
		return err
	}
	if err := m.applyOptions(opt); err != nil {
		return err
	}
	m.outputs = plan(m.spec, names, m.file)
	if err := checkTensors(m.outputs, m.file); err != nil {
		return err
	}
	kind, dir := tokenizerOpenCLIP, ""
	if m.family == familyHF {
		kind = tokenizerHFCLIP
	}
	// Only files that belong to the checkpoint count: a lone .pt in a folder of downloads has no tokenizer beside it.
	if m.source.folder || m.source.hf != "" || m.source.openCLIP != "" {
		dir = filepath.Dir(m.source.weights)
	}
	if m.tokenizer, err = readTokenizer(kind, dir, m.spec); err != nil {
		return fmt.Errorf("%s: %w", m.source.path, err)
	}
	if m.name == "" {
		m.name = m.source.modelName()
	}
	return nil
}

// readSpec finds the hyper-parameters and the preprocessing: the named architecture, else the configuration beside the
// weights, else the shapes.
func (m *model) readSpec(opt Options, names naming) error {
	var notes []string
	var err error
	dir := filepath.Dir(m.source.weights)
	switch {
	case opt.Arch != "":
		m.spec, err = findArch(opt.Arch)
		if m.family == familyOpenAI && err == nil {
			m.spec.Vision.Activation, m.spec.Text.Activation = quickGELU, quickGELU
		}
	case m.family == familyHF && m.source.hf == "":
		err = fmt.Errorf("%s: %w", m.source.weights, errNoConfig)
	case m.family == familyHF:
		m.spec, notes, err = readHF(m.source.hf)
	case m.family == familyOpenCLIP && m.source.openCLIP != "":
		m.spec, m.preprocess, notes, err = readOpenCLIP(m.source.openCLIP)
	default:
		m.spec, notes, err = specFromShapes(m.family, m.file, names, m.source.label())
	}
	if err != nil {
		return err
	}
	m.notes = append(m.notes, notes...)
	if m.preprocess != nil {
		return nil
	}
	switch m.family {
	case familyHF:
		m.preprocess, notes, err = readHFPreprocess(dir, m.spec)
		m.notes = append(m.notes, notes...)
		return err
	case familyOpenAI:
		m.preprocess = &Preprocess{pipelineOpenAI, m.spec.ImageSize, openAIMean, openAIStd}
	default:
		m.preprocess = &Preprocess{pipelineOpenCLIP, m.spec.ImageSize, openAIMean, openAIStd}
	}
	return nil
}

// applyOptions sets the reward and the pipeline: as asked, else by the names of PickScore and HPSv2.
func (m *model) applyOptions(opt Options) error {
	m.reward = opt.Reward
	if m.reward == "" {
		switch {
		case isHPSv2(m.source) && m.family == familyOpenCLIP:
			m.reward = rewardHPSv2
		case isPickScore(m.source) && m.family == familyHF:
			m.reward = rewardPickScore
		default:
			m.reward = rewardCLIP
		}
	}
	if !slices.Contains([]string{rewardCLIP, rewardPickScore, rewardHPSv2}, m.reward) {
		return fmt.Errorf("reward %q is not known: expected clip, pickscore or hpsv2", m.reward)
	}
	switch {
	case opt.Pipeline != "":
		if !slices.Contains([]string{pipelineOpenAI, pipelineOpenCLIP, pipelineHFCLIP, pipelineBLIPSquash, pipelineHPSv2, pipelineOpenCLIPSquash}, opt.Pipeline) {
			return fmt.Errorf("pipeline %q is not known: expected openai, open_clip, hf_clip, open_clip_squash, blip_squash or hpsv2", opt.Pipeline)
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

// metadata returns the keys of the GGUF file. sum is the SHA-256 of the source in hex.
func (m *model) metadata(sum string) []gguf.KV {
	kvs := append(header(m.name, m.reward), []gguf.KV{
		{Key: "tia2.source.file", Value: m.source.fileName()},
		{Key: "tia2.source.sha256", Value: sum},
		{Key: "tia2.source.container", Value: string(m.file.Container)},
	}...)
	kvs = append(kvs, m.spec.metadata()...)
	kvs = append(kvs, m.tokenizer.metadata()...)
	return append(kvs, m.preprocess.metadata()...)
}

// header returns the keys that every file of this engine starts with.
func header(name, reward string) []gguf.KV {
	return []gguf.KV{
		{Key: "general.architecture", Value: "clip"},
		{Key: "general.name", Value: name},
		{Key: "tia2.format", Value: uint32(1)},
		{Key: "tia2.reward", Value: reward},
	}
}

// hash returns the SHA-256 of a checkpoint: of its file, or, of shards, of the hex sums of the files, one a line.
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
