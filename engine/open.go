package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/tia2-engine/tia2-engine/cgo"
	"github.com/tia2-engine/tia2-engine/engine/internal/convert"
	"github.com/tia2-engine/tia2-engine/engine/internal/demo"
	"github.com/tia2-engine/tia2-engine/engine/internal/gguf"
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
	// Batch is the most images in one call into C, and of texts the tokens of as many full ones (Batch x context, counted as
	// 77 tokens at most; at most 16384, on a GPU 512). What CLIP's texts begin with alike counts once. 0: 32.
	Batch    int
	CacheDir string // of converted checkpoints; "": tia2-engine in the user's cache folder; CacheOff: none
	Arch     string // architecture of a checkpoint that does not tell it itself, such as "ViT-B-32"
	Limits   ImageLimits

	// EmbeddingCache is a folder where the embeddings of pictures and texts are kept, so that what was encoded once, with
	// the same weights on the same kind of device, need not be again; EmbeddingCacheAuto; "" or CacheOff: nothing is kept.
	// Models and processes may share it. A cache that fails costs time only, and Note is told.
	EmbeddingCache      string
	EmbeddingCacheBytes int64 // bound of the folder; 0: 4 GiB. Of models that are open at once the first one's holds

	// What follows is of BLIP, BLIP-2 and ImageReward. A model that has no use for what is set refuses it (ErrInvalid).

	ITMToken     string // first token of a pair of BLIP: "cls" (also ""), as in BLIP's demo and transformers, or "enc", as in LAVIS
	ITMOutput    string // what blip_itm and blip2_itm are: "probability" (also ""), or "logit", that of a match
	MaxLength    int    // most tokens of a text, the two special ones included; 0: as the checkpoint's reference cuts; -1: the model's context
	TextCleaning string // "": as the checkpoint's reference does, "none", "blip_caption" (LAVIS's text processor)
	ImageSize    int    // side of pictures, for which the position embedding of a checkpoint is interpolated; 0: its own

	// Shared says that several models are opened with these options: one that has no use for an option of BLIP's ignores it.
	// ImageSize is refused all the same where it cannot be had.
	Shared bool

	NoNormalize bool // leave embeddings at their own length; such a model does not score

	// Progress is told how many items of a stage ("images", "texts", "convert", "download") are done. It is called from
	// one goroutine at a time. A call of several models tells the first one's: of texts each model counts its own, of pictures
	// each does a share. May be nil.
	Progress func(stage string, done, total int)
	// Note is told what had to be assumed of a checkpoint, which texts were cut (the first few), and what went wrong and is tried
	// again or done without, one sentence each. It is called from any goroutine. May be nil.
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
	if err := o.checkText(); err != nil {
		return o, err
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

// checkText refuses values that the options of texts and pairs cannot have, whatever the model.
func (o Options) checkText() error {
	for _, c := range []struct {
		what, value string
		allowed     []string
	}{
		{"ITM token", o.ITMToken, []string{"cls", "enc"}}, {"ITM output", o.ITMOutput, []string{"probability", "logit"}},
		{"text cleaning", o.TextCleaning, []string{"none", "blip_caption"}},
	} {
		if c.value != "" && !slices.Contains(c.allowed, c.value) {
			return ofKind(ErrInvalid, "%s %q: expected %s", c.what, c.value, strings.Join(c.allowed, " or "))
		}
	}
	if o.MaxLength < -1 || o.MaxLength == 1 {
		return ofKind(ErrInvalid, "maximal length of texts %d: expected at least 2, for the special tokens, -1 or 0", o.MaxLength)
	}
	if o.ImageSize < 0 {
		return ofKind(ErrInvalid, "image size %d: expected a number of pixels", o.ImageSize)
	}
	return nil
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
//	FOLDER, FILE        a checkpoint in any container that Convert reads; converted into the cache
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
	g, err := gguf.Open(path)
	if err != nil {
		return err
	}
	err = m.readMetadata(g)
	g.Close()
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	m.info.Spec = spec
	if m.head != nil {
		return nil // Go computes it
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
	m.fillInfo(device)
	if err := m.checkAgreement(); err != nil {
		m.native.Close()
		return fmt.Errorf("%s: %w", path, err)
	}
	m.cached.open(m, path, device)
	return nil
}

// ggufPath returns a GGUF file with the model of spec, its matrices in the type the options ask for.
func ggufPath(ctx context.Context, spec string, opt Options) (string, error) {
	kind, name, _ := strings.Cut(spec, ":")
	copt := convert.Options{DType: opt.weightType(), Arch: opt.Arch, ImageSize: opt.ImageSize, Note: opt.Note,
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
	if have == copt.DType || have == "" { // an aesthetic head has no matrices
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

// readMetadata reads what Go computes with: names, preprocessing and the tokenizer, or a whole aesthetic head.
func (m *Model) readMetadata(g *gguf.File) error {
	m.info = Info{Name: g.Str("general.name"), SourceSHA256: g.Str("tia2.source.sha256"), DType: matrixType(g)}
	if m.info.DType == "q8_0" {
		m.info.DType = "int8"
	}
	arch := g.Str("general.architecture")
	var err error
	if m.info.Rewards, err = findRewards(arch, g.Str("tia2.reward")); err != nil {
		return err
	}
	if arch == "aesthetic" {
		err = m.readHead(g)
	} else if err = m.readPreprocess(g); err == nil {
		m.texts, err = newTextReader(g, m.opt)
	}
	if err != nil {
		return err
	}
	return m.checkOptions()
}

// readPreprocess reads the preprocess.* keys of a file.
func (m *Model) readPreprocess(g *gguf.File) error {
	p := Preprocess{Pipeline: g.Str("preprocess.pipeline"), Limits: m.opt.Limits}
	for key, dst := range map[string]*[3]float32{"preprocess.mean": &p.Mean, "preprocess.std": &p.Std} {
		values, ok := g.Value(key).([]float32)
		if !ok || len(values) != 3 {
			return fmt.Errorf("key %s: expected an array of 3 floats", key)
		}
		copy(dst[:], values)
	}
	size, ok := g.Value("preprocess.size").(uint32)
	if !ok {
		return errors.New("key preprocess.size: expected a number")
	}
	p.Size = int(size)
	if _, err := p.spec(); err != nil {
		return fmt.Errorf("preprocess: %w", err)
	}
	m.preprocess = p
	m.info.Pipeline, m.info.Mean, m.info.Std = p.Pipeline, p.Mean, p.Std
	return nil
}

// checkOptions refuses options that the model has no use for.
func (m *Model) checkOptions() error {
	itm := slices.ContainsFunc(m.info.Rewards, func(r string) bool { return strings.HasSuffix(r, "_itm") })
	what, opt := strings.Join(m.info.Rewards, ", "), m.opt
	switch {
	case opt.ImageSize != 0 && opt.ImageSize != m.preprocess.Size:
		return ofKind(ErrInvalid, "image size %d: the model (%s) has %d: expected that, or the checkpoint of a BLIP, which is converted for another size",
			opt.ImageSize, what, m.preprocess.Size)
	case opt.Shared:
	case opt.ITMToken == "enc" && m.texts.enc == 0:
		return ofKind(ErrInvalid, "ITM token enc: the model (%s) has no [ENC], as BLIP has it: expected cls", what)
	case opt.ITMOutput == "logit" && !itm:
		return ofKind(ErrInvalid, "ITM output logit: the model (%s) has no such output: expected a BLIP or BLIP-2", what)
	case opt.MaxLength != 0 && !m.texts.bert:
		return ofKind(ErrInvalid, "maximal length of texts %d: the model (%s) has no such choice: expected a BLIP, BLIP-2 or ImageReward", opt.MaxLength, what)
	case opt.TextCleaning != "" && !m.texts.bert:
		return ofKind(ErrInvalid, "text cleaning %s: the model (%s) has no such choice: expected a BLIP, BLIP-2 or ImageReward", opt.TextCleaning, what)
	}
	return nil
}

// fillInfo adds what C knows about the open model.
func (m *Model) fillInfo(device Device) {
	n := m.native.Info()
	i := &m.info
	i.Family, i.Device, i.Backend = n.Family, device.Name, device.Backend
	i.EmbedDim, i.ImageVectors, i.StateWidth, i.PairOutputs = n.EmbedDim, n.ImageVectors, n.StateWidth, n.PairOutputs
	i.ImageSize, i.Context, i.VocabSize, i.ImageTokens = n.ImageSize, n.Context, n.VocabSize, n.ImageTokens
	i.LogitScale, i.WeightsBytes = n.LogitScale, n.WeightsBytes
	i.ImageFLOPs, i.TextFLOPsPerToken, i.TextFLOPsAttention, i.TextFLOPsPooled =
		n.ImageFLOPs, n.TextFLOPsPerToken, n.TextFLOPsAttention, n.TextFLOPsPooled
	m.texts.fit(n.Context)
}

// checkAgreement refuses a file whose tokenizer, preprocessing or reward does not fit its encoders.
func (m *Model) checkAgreement() error {
	i, family := &m.info, m.info.Family
	outputs := 0
	for _, r := range i.Rewards {
		switch {
		case kindOf(r) == ofEmbeddings && i.EmbedDim == 0:
			return fmt.Errorf("key %s.embed_dim is 0: expected embeddings, for %s", family, r)
		case r == "imagereward":
			outputs = 1
		case kindOf(r) == ofPairs:
			outputs = 2
		}
	}
	switch {
	case m.preprocess.Size != i.ImageSize:
		return fmt.Errorf("key preprocess.size is %d: expected %d, as %s.vision.image_size", m.preprocess.Size, i.ImageSize, family)
	case m.texts.tokenizer.Size() > i.VocabSize:
		return fmt.Errorf("the tokenizer has %d tokens: expected at most %d, as %s.text.vocab_size", m.texts.tokenizer.Size(), i.VocabSize, family)
	case int(m.texts.enc) >= i.VocabSize:
		return fmt.Errorf("key tokenizer.enc is %d: expected less than %d, as %s.text.vocab_size", m.texts.enc, i.VocabSize, family)
	case i.PairOutputs != outputs:
		return fmt.Errorf("key %s.pair_outputs is %d: expected %d, for %s", family, i.PairOutputs, outputs, strings.Join(i.Rewards, ", "))
	case m.texts.bert != !i.causal():
		return fmt.Errorf("key tokenizer.kind: the tokenizer does not fit a %s", family)
	}
	return nil
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
