package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/tia2-engine/tia2-engine/cgo"
	"github.com/tia2-engine/tia2-engine/engine/internal/convert"
	"github.com/tia2-engine/tia2-engine/engine/internal/demo"
	"github.com/tia2-engine/tia2-engine/engine/internal/gguf"
	"github.com/tia2-engine/tia2-engine/engine/internal/tokenizer"
)

// CacheOff as Options.CacheDir keeps nothing: what must be on disk to be mapped is written to a temporary folder that
// Close removes.
const CacheOff = "off"

// randomSeed is what the weights of random:NAME are drawn from.
const randomSeed = 1

// Options say where and how a model runs. The zero value is a good choice.
type Options struct {
	Backend string // "auto" (also ""): the first of Devices, so a GPU if there is one; "cpu", "vulkan", "cuda", "metal" or a device's name
	DType   string // type of the matrices: "f32", "f16", "bf16", "int8"; "": as a GGUF file has them, else "f32"
	Threads int    // CPU threads; 0: one for each CPU this process may use
	// Batch is the most images in one call into C, and of texts the tokens of as many full ones (Batch x context, at most
	// 16384; on a GPU 512), counting what texts begin with alike once. 0: 32.
	Batch    int
	CacheDir string // of converted checkpoints; "": tia2-engine in the user's cache folder; CacheOff: none
	Arch     string // architecture of a checkpoint that does not tell it itself, such as "ViT-B-32"
	Limits   ImageLimits

	// EmbeddingCache is a folder where the embeddings of pictures and texts are kept, so that what was encoded once, with
	// the same weights on the same kind of device, need not be again; EmbeddingCacheAuto; "" or CacheOff: nothing is kept.
	// Models and processes may share it. A cache that fails costs time only, and Note is told.
	EmbeddingCache      string
	EmbeddingCacheBytes int64 // bound of the folder; 0: 4 GiB. Of models that are open at once the first one's holds

	NoNormalize bool // leave embeddings at their own length; such a model does not score

	// Progress is told how many items of a stage ("images", "texts", "convert", "download") are done. It is called from
	// one goroutine at a time. May be nil.
	Progress func(stage string, done, total int)
	// Note is told what had to be assumed of a checkpoint, and what went wrong and is tried again or done without, one
	// sentence each. With an embedding cache it is called from any goroutine. May be nil.
	Note func(text string)
}

func (o Options) withDefaults() (Options, error) {
	if o.Backend == "" {
		o.Backend = "auto"
	}
	if o.Threads == 0 {
		o.Threads = runtime.NumCPU()
	}
	if o.Batch == 0 {
		o.Batch = 32
	}
	if o.Threads < 0 || o.Batch < 0 {
		return o, errors.New("threads and batch: expected numbers of at least 1")
	}
	if o.EmbeddingCacheBytes < 0 {
		return o, errors.New("embedding cache: expected a size of at least 0")
	}
	if o.CacheDir == "" {
		dir, err := os.UserCacheDir()
		if err != nil {
			return o, fmt.Errorf("%w: name a cache folder, or %q", err, CacheOff)
		}
		o.CacheDir = filepath.Join(dir, "tia2-engine")
	}
	switch {
	case o.EmbeddingCache == CacheOff, o.EmbeddingCache == EmbeddingCacheAuto && o.CacheDir == CacheOff:
		o.EmbeddingCache = ""
	case o.EmbeddingCache == EmbeddingCacheAuto:
		o.EmbeddingCache = filepath.Join(o.CacheDir, "embeddings")
	}
	if o.Progress == nil {
		o.Progress = func(string, int, int) {}
	}
	return o, nil
}

// logf tells Note.
func (o Options) logf(format string, args ...any) {
	if o.Note != nil {
		o.Note(fmt.Sprintf(format, args...))
	}
}

// weightType returns the options' type as GGUF names it.
func (o Options) weightType() string {
	if o.DType == "int8" {
		return "q8_0"
	}
	return o.DType
}

// Open opens the model that spec names:
//
//	demo                the small model that is part of the program
//	FILE.gguf           as `tia2-engine convert` writes it
//	FOLDER, FILE        a checkpoint of the CLIP family in any container that Convert reads; converted into the cache
//	hf:OWNER/REPO       the same, downloaded first (hf:OWNER/REPO@REVISION)
//	random:NAME         a full-size architecture with random weights, for measuring speed
//
// Close the model. Errors name the file and what was expected; errors.Is tells their kind (ErrModel, ErrBackend, ...).
func Open(ctx context.Context, spec string, opt Options) (*Model, error) {
	m, err := open(ctx, spec, opt)
	if err != nil {
		return nil, fmt.Errorf("tia2: open %s: %w", spec, err)
	}
	return m, nil
}

func open(ctx context.Context, spec string, opt Options) (*Model, error) {
	opt, err := opt.withDefaults()
	if err != nil {
		return nil, err
	}
	m := &Model{opt: opt}
	if opt.CacheDir == CacheOff {
		if m.tempDir, err = os.MkdirTemp("", "tia2-engine-"); err != nil {
			return nil, err
		}
		m.opt.CacheDir = m.tempDir
	}
	if err := m.load(ctx, spec); err != nil {
		m.removeTemp()
		return nil, err
	}
	return m, nil
}

// load finds the GGUF file of spec, reads what Go needs of it and opens it in C.
func (m *Model) load(ctx context.Context, spec string) error {
	path, err := ggufPath(ctx, spec, m.opt)
	if err != nil {
		return err
	}
	if err := m.readMetadata(path); err != nil {
		return err
	}
	device, err := findDevice(m.opt.Backend)
	if err != nil {
		return err
	}
	m.exec = executorFor(device.Name)
	err = m.exec.do(ctx, func() (err error) {
		m.native, err = cgo.OpenModel(path, device.Name, m.opt.Threads)
		return err
	})
	if err != nil {
		return err
	}
	m.fillInfo(spec, device)
	if err := m.checkAgreement(path); err != nil {
		return err
	}
	m.cached.open(m, path, device)
	return nil
}

// ggufPath returns a GGUF file with the model of spec, its matrices in the type the options ask for.
func ggufPath(ctx context.Context, spec string, opt Options) (string, error) {
	kind, name, _ := strings.Cut(spec, ":")
	copt := convert.Options{DType: opt.weightType(), Arch: opt.Arch, Note: opt.Note,
		Progress: func(done, total int64) { opt.Progress("convert", int(done>>10), int(total>>10)) }}
	switch {
	case spec == "demo":
		path, err := demo.File(opt.CacheDir)
		if err != nil {
			return "", err
		}
		return withType(ctx, path, opt.CacheDir, copt)
	case kind == "random":
		return convert.CachedRandom(ctx, name, randomSeed, opt.CacheDir, copt)
	case kind == "hf":
		dir, err := Pull(ctx, name, PullOptions{CacheDir: opt.CacheDir, Log: opt.logf, Progress: func(_ string, done, total int64) {
			opt.Progress("download", int(done>>10), int(total>>10))
		}})
		if err != nil {
			return "", err
		}
		copt.Name = name
		return convert.Cached(ctx, dir, opt.CacheDir, copt)
	case isGGUF(spec):
		return withType(ctx, spec, opt.CacheDir, copt)
	}
	return convert.Cached(ctx, spec, opt.CacheDir, copt)
}

// withType returns path, or the cache's copy of it in another type where one was asked for.
func withType(ctx context.Context, path, cacheDir string, copt convert.Options) (string, error) {
	if copt.DType == "" {
		return path, nil
	}
	g, err := gguf.Open(path)
	if err != nil {
		return "", err
	}
	have := matrixType(g)
	g.Close()
	if have == copt.DType {
		return path, nil
	}
	return convert.CachedQuantize(ctx, path, cacheDir, copt)
}

// isGGUF tells by its first bytes whether a file is a GGUF file, whatever it is called.
func isGGUF(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	magic := make([]byte, 4)
	_, err = f.Read(magic)
	return err == nil && string(magic) == "GGUF"
}

// matrixType is the type of the matrices of a GGUF file, as GGUF names it.
func matrixType(g *gguf.File) string {
	if t := g.Tensor("v.blk.0.ffn_up.weight"); t != nil {
		return t.Type.String()
	}
	return ""
}

// readMetadata reads what Go computes with: names, preprocessing and the tokenizer.
func (m *Model) readMetadata(path string) error {
	g, err := gguf.Open(path)
	if err != nil {
		return err
	}
	defer g.Close()
	m.info = Info{
		Name: g.Str("general.name"), Reward: g.Str("tia2.reward"), SourceSHA256: g.Str("tia2.source.sha256"),
		DType: matrixType(g), Pipeline: g.Str("preprocess.pipeline"),
	}
	if m.info.DType == "q8_0" {
		m.info.DType = "int8"
	}
	m.preprocess = Preprocess{Pipeline: m.info.Pipeline, Limits: m.opt.Limits}
	for key, dst := range map[string]*[3]float32{"preprocess.mean": &m.preprocess.Mean, "preprocess.std": &m.preprocess.Std} {
		values, ok := g.Value(key).([]float32)
		if !ok || len(values) != 3 {
			return fmt.Errorf("%s: key %s: expected an array of 3 floats", path, key)
		}
		copy(dst[:], values)
	}
	size, ok := g.Value("preprocess.size").(uint32)
	if !ok {
		return fmt.Errorf("%s: key preprocess.size: expected a number", path)
	}
	m.preprocess.Size = int(size)
	m.info.Mean, m.info.Std = m.preprocess.Mean, m.preprocess.Std
	if _, err := m.preprocess.spec(); err != nil {
		return fmt.Errorf("%s: preprocess: %w", path, err)
	}

	if m.tokenizer, err = fileTokenizer(g); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return checkReward(path, m.info.Reward)
}

// fileTokenizer makes the tokenizer that a GGUF file describes.
func fileTokenizer(g *gguf.File) (*tokenizer.Tokenizer, error) {
	kinds := map[string]string{"open_clip": "clip", "openai": "openai", "hf_clip": "clip-hf"}
	kind, ok := kinds[g.Str("tokenizer.kind")]
	if !ok {
		return nil, fmt.Errorf("key tokenizer.kind is %q: expected open_clip, openai or hf_clip", g.Str("tokenizer.kind"))
	}
	merges, ok := g.Value("tokenizer.merges").([]string)
	if !ok {
		return nil, errors.New("key tokenizer.merges: expected an array of strings")
	}
	return tokenizer.New(kind, tokenizer.Vocabulary{Merges: merges})
}

func checkReward(path, reward string) error {
	switch reward {
	case "clip", "pickscore", "hpsv2":
		return nil
	}
	return fmt.Errorf("%s: key tia2.reward is %q: expected clip, pickscore or hpsv2", path, reward)
}

// fillInfo adds what C knows about the open model.
func (m *Model) fillInfo(spec string, device Device) {
	n := m.native.Info()
	i := &m.info
	i.Spec, i.Family, i.Device, i.Backend = spec, n.Family, device.Name, device.Backend
	i.EmbedDim, i.ImageSize, i.Context, i.VocabSize, i.ImageTokens = n.EmbedDim, n.ImageSize, n.Context, n.VocabSize, n.ImageTokens
	i.LogitScale, i.WeightsBytes = n.LogitScale, n.WeightsBytes
	i.ImageFLOPs, i.TextFLOPsPerToken, i.TextFLOPsAttention, i.TextFLOPsPooled =
		n.ImageFLOPs, n.TextFLOPsPerToken, n.TextFLOPsAttention, n.TextFLOPsPooled
}

// checkAgreement refuses a file whose tokenizer or preprocessing does not fit its encoders.
func (m *Model) checkAgreement(path string) error {
	var err error
	switch {
	case m.preprocess.Size != m.info.ImageSize:
		err = fmt.Errorf("%s: key preprocess.size is %d: expected %d, as clip.vision.image_size", path, m.preprocess.Size, m.info.ImageSize)
	case m.tokenizer.Size() > m.info.VocabSize:
		err = fmt.Errorf("%s: the tokenizer has %d tokens: expected at most %d, as clip.text.vocab_size", path, m.tokenizer.Size(), m.info.VocabSize)
	}
	if err != nil {
		m.native.Close()
	}
	return err
}

// findDevice resolves Options.Backend.
func findDevice(name string) (Device, error) {
	devices := Devices()
	for _, matches := range []func(Device) bool{
		func(d Device) bool { return strings.EqualFold(d.Name, name) },
		func(d Device) bool { return strings.EqualFold(d.Backend, name) },
		func(d Device) bool { return name == "auto" },
	} {
		for _, d := range devices {
			if matches(d) {
				return d, nil
			}
		}
	}
	have := make([]string, len(devices))
	for i, d := range devices {
		have[i] = d.Name + " (" + d.Backend + ")"
	}
	return Device{}, ofKind(ErrBackend, "no device or backend %q: expected auto or one of %s", name, strings.Join(have, ", "))
}
