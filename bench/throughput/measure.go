package throughput

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/blas32"

	"github.com/tia2-engine/tia2-engine/bench/profile"
	"github.com/tia2-engine/tia2-engine/engine"
)

// Model is what the harness needs of an open model; *engine.Model is one.
type Model interface {
	Info() engine.Info
	EncodePixels(ctx context.Context, px engine.Pixels) (engine.Embeddings, error)
	EncodeTokens(ctx context.Context, ids [][]int32) (engine.Embeddings, error)
	EncodeImages(ctx context.Context, images []engine.Image) (engine.Embeddings, error)
	EncodeStatesInto(ctx context.Context, px engine.Pixels, dst, states []float32) error
	MatchInto(ctx context.Context, states []float32, images int, texts [][]int32, imageOf, textOf []int32, dst []float32) error
	MatchFLOPs(images int, texts [][]int32) float64
	Score(ctx context.Context, images []engine.Image, texts []string) ([]engine.Reward, error)
	SetProfile(on bool)
	Profile() []engine.OpSample
}

var _ Model = (*engine.Model)(nil)

// The towers that [Measure] knows.
const (
	TowerImage = "image"
	TowerText  = "text"
	TowerFile  = "file"
	TowerPair  = "pair"
	TowerE2E   = "e2e"
)

// Towers returns the names of all towers in the order in which they are best reported.
func Towers() []string { return []string{TowerImage, TowerText, TowerFile, TowerPair, TowerE2E} }

// DefaultTowers are those of a bench run that names none.
func DefaultTowers() []string { return []string{TowerImage, TowerText, TowerPair, TowerE2E} }

// Options say what [Measure] runs and for how long. The zero value of a field means its default.
type Options struct {
	Towers  []string       // default: DefaultTowers
	Batches []int          // items a call, each >= 1; default 32
	Texts   []string       // default: Texts; repeated where a batch needs more
	Images  []engine.Image // of file and e2e; default: Pictures of 768 x 768; repeated where a batch needs more
	PerPair int            // texts a call of pair and e2e; default TextSetSize. Of a cross encoder the most of pair

	WarmUp  int           // calls before the timed ones, at least; default 2
	MinRuns int           // timed calls before the spread may end it; default 10
	MaxRuns int           // default 1000
	MinTime time.Duration // of the timed calls together before the spread may end it; default 0.5 s
	MaxTime time.Duration // of the timed calls of one tower; at least three calls are made; default 10 s
	Spread  float64       // half width of the median's 95 % interval, relative, that is small enough; default 0.02

	Threads int   // of the model, only reported
	Peak    Peaks // of this machine, for peak_fraction; zeros: unknown
	// Bandwidth of this machine in 1e9 bytes a second, for the roof of the ops.
	Bandwidth float64
	Ops       bool // profile a few more calls of every run
	OpsLayers bool // keep the ops of each layer apart, in the order in which they run

	// Progress, when set, is told before each run what it will be and how many of all are done.
	Progress func(stage string, done, total int)
	// Note, when set, is told which towers are left out and why.
	Note func(text string)
}

// PictureSide is the side in pixels of the pictures of file and e2e, that of the images of TIA2.
const PictureSide = 768

func (o Options) withDefaults() (Options, error) {
	setDefault(&o.PerPair, TextSetSize)
	setDefault(&o.WarmUp, 2)
	setDefault(&o.MinRuns, 10)
	setDefault(&o.MaxRuns, 1000)
	setDefault(&o.MinTime, time.Second/2)
	setDefault(&o.MaxTime, 10*time.Second)
	setDefault(&o.Spread, 0.02)
	if len(o.Towers) == 0 {
		o.Towers = DefaultTowers()
	}
	if len(o.Batches) == 0 {
		o.Batches = []int{32}
	}
	for _, tower := range o.Towers {
		if !slices.Contains(Towers(), tower) {
			return o, fmt.Errorf("tower %q: expected one of %v", tower, Towers())
		}
	}
	for _, batch := range o.Batches {
		if batch < 1 {
			return o, fmt.Errorf("batch %d: expected at least 1", batch)
		}
	}
	if o.PerPair < 0 || o.WarmUp < 0 || o.MinRuns < 0 || o.MaxRuns < 0 || o.MinTime < 0 || o.MaxTime < 0 || o.Spread < 0 {
		return o, errors.New("run counts, times and the spread must not be negative")
	}
	return o, nil
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Measure runs each tower that the model has with each batch size and returns one Run for each, in that order; of a cross
// encoder's pair one for each number of texts. When a run fails or ctx is cancelled, the runs that were finished come with
// the error.
func Measure(ctx context.Context, m Model, opt Options) ([]Run, error) {
	return measure(ctx, m, opt, time.Now)
}

func measure(ctx context.Context, m Model, opt Options, now func() time.Time) ([]Run, error) {
	opt, err := opt.withDefaults()
	if err != nil {
		return nil, err
	}
	h := &harness{model: m, info: m.Info(), opt: opt, now: now}
	var runs []Run
	tasks := h.tasks()
	for _, t := range tasks {
		if opt.Progress != nil {
			opt.Progress(fmt.Sprintf("%s %s", h.info.Spec, t), len(runs), len(tasks))
		}
		run, err := h.run(ctx, t)
		if err != nil {
			return runs, fmt.Errorf("%s of %s, batch %d: %w", t.tower, h.info.Spec, t.batch, err)
		}
		runs = append(runs, run)
	}
	return runs, nil
}

// task is what one run measures.
type task struct {
	tower string
	batch int
	texts int // an image, of pair with a cross encoder; else 0
}

func (t task) String() string {
	if t.texts > 0 {
		return fmt.Sprintf("%s, batch %d, %s", t.tower, t.batch, perImage(t.texts))
	}
	return fmt.Sprintf("%s, batch %d", t.tower, t.batch)
}

// perImage says how many texts an image has.
func perImage(texts int) string {
	if texts == 1 {
		return "1 text an image"
	}
	return fmt.Sprintf("%d texts an image", texts)
}

// tasks lists the runs of the towers that the model has, and notes those that it has not.
func (h *harness) tasks() []task {
	var tasks []task
	for _, tower := range h.opt.Towers {
		if why := h.lacks(tower); why != "" {
			if h.opt.Note != nil {
				h.opt.Note(fmt.Sprintf("%s has no tower %s: %s", h.info.Spec, tower, why))
			}
			continue
		}
		for _, batch := range h.opt.Batches {
			if tower != TowerPair || !h.crossEncoder() {
				tasks = append(tasks, task{tower: tower, batch: batch})
				continue
			}
			for _, texts := range h.perImage() {
				tasks = append(tasks, task{tower, batch, texts})
			}
		}
	}
	return tasks
}

// lacks says why the model does not have a tower, "" if it does.
func (h *harness) lacks(tower string) string {
	switch {
	case h.info.Family == "aesthetic":
		return "it is a head on the embeddings of a CLIP, which can be measured"
	case h.info.EmbedDim == 0 && (tower == TowerText || tower == TowerFile):
		return "it has no embeddings, it reads picture and text together"
	}
	return ""
}

func (h *harness) crossEncoder() bool { return h.info.PairOutputs > 0 }

// perImage returns the numbers of texts an image that a cross encoder is measured with: one, a few, and a prompt set.
func (h *harness) perImage() []int {
	var numbers []int
	for _, n := range []int{1, 8} {
		if n < h.opt.PerPair {
			numbers = append(numbers, n)
		}
	}
	return append(numbers, h.opt.PerPair)
}

// harness measures one model.
type harness struct {
	model    Model
	info     engine.Info
	opt      Options
	now      func() time.Time
	pictures []engine.Image // made when first needed
}

// work is one tower with its inputs.
type work struct {
	call  func(context.Context) error
	items int     // of one call
	item  string  // what an item is
	texts int     // of one call of pair and e2e
	flops float64 // of one call
}

func (h *harness) run(ctx context.Context, t task) (Run, error) {
	w, err := h.work(t)
	if err != nil {
		return Run{}, err
	}
	resetRSSPeak()
	s, err := sampler{opt: h.opt, now: h.now}.sample(ctx, w.call)
	if err != nil {
		return Run{}, err
	}
	run := Run{
		Model: h.info.Spec, Tower: t.tower, Backend: h.info.Backend, DType: h.info.DType, Batch: t.batch, Threads: h.opt.Threads,
		Latency: latency(s.ms), RSSPeakMB: round(float64(rssPeakBytes()) / 1e6), PromptsPerImage: t.texts,
		Device: h.info.Device, Item: w.item, Texts: w.texts, WeightsMB: round(float64(h.info.WeightsBytes) / 1e6),
		Calls: len(s.ms), Stop: s.stop, TimeS: round(s.total.Seconds()), WarmUpS: round(s.warmUp.Seconds()),
	}
	seconds := median(s.ms) / 1e3
	perItem := w.flops / float64(w.items)
	run.ItemsPS = round(float64(w.items) / seconds)
	run.GFLOPPerItem = round(perItem / 1e9)
	run.GFLOPS = round(w.flops / seconds / 1e9)
	if peak := h.peak(); peak > 0 {
		fraction := round(w.flops / seconds / 1e9 / peak)
		run.PeakFraction = &fraction
	}
	if rel := medianSpread(s.ms); rel != spreadUnknown {
		rel = round(rel)
		run.Spread = &rel
	}
	for _, ms := range s.ms {
		run.SamplesMS = append(run.SamplesMS, round(ms))
	}
	if h.opt.Ops {
		return run, h.profileOps(ctx, &run, w)
	}
	return run, nil
}

const (
	profileCalls = 7   // calls with the op profile on, of which each op's median time counts
	profileShare = 0.5 // of MaxTime, after which there are no more of them
)

// profileOps makes some calls with the op profile on. They come after the timed calls, which they would slow.
func (h *harness) profileOps(ctx context.Context, run *Run, w work) error {
	defer h.model.SetProfile(false)
	var calls [][]engine.OpSample
	for start := h.now(); len(calls) < profileCalls && (len(calls) == 0 || h.now().Sub(start).Seconds() < profileShare*h.opt.MaxTime.Seconds()); {
		h.model.SetProfile(true) // which forgets the call before
		if err := runOnce(ctx, w.call); err != nil {
			return err
		}
		calls = append(calls, h.model.Profile())
	}
	run.OpSamples = medianCall(calls)
	run.Ops = profile.Rows(run.OpSamples, profile.Roof{
		F32GFLOPS: h.opt.Peak.F32, BF16GFLOPS: h.opt.Peak.BF16, Int8GOPS: h.opt.Peak.Int8,
		BandwidthGBs: h.opt.Bandwidth, DType: run.DType, CPU: run.Backend == "cpu",
	}, h.opt.OpsLayers)
	for i := range run.Ops {
		row := &run.Ops[i]
		for _, x := range []*float64{&row.TimeMS, &row.Share, &row.GFLOPS, &row.GBs, row.RoofFraction} {
			if x != nil {
				*x = round(*x)
			}
		}
	}
	return nil
}

// medianCall returns the samples of the last call, each with its median time in all calls that had the same ops.
func medianCall(calls [][]engine.OpSample) []engine.OpSample {
	samples := slices.Clone(calls[len(calls)-1])
	same := func(a, b engine.OpSample) bool { return a.Name == b.Name && a.Shape == b.Shape && a.Count == b.Count }
	calls = slices.DeleteFunc(calls, func(call []engine.OpSample) bool { return !slices.EqualFunc(call, samples, same) })
	for i := range samples {
		ns := make([]float64, len(calls))
		for k := range calls {
			ns[k] = float64(calls[k][i].Time)
		}
		samples[i].Time = time.Duration(median(ns))
	}
	return samples
}

// peak returns the measured peak of the type that the model computes in, 0 where none was: the machine's peaks are those
// of its CPU. The CPU has none of its own for f16: such weights are widened and computed in f32.
func (h *harness) peak() float64 {
	if h.info.Backend != "cpu" {
		return 0
	}
	switch h.info.DType {
	case "f32", "f16":
		return h.opt.Peak.F32
	case "bf16":
		return h.opt.Peak.BF16
	case "int8", "q8_0":
		return h.opt.Peak.Int8
	}
	return 0
}

func (h *harness) work(t task) (work, error) {
	batch := t.batch
	switch t.tower {
	case TowerImage:
		return h.imageWork(batch), nil
	case TowerText:
		ids, flops, err := h.tokens(batch)
		return work{items: batch, item: "text", flops: flops, call: func(ctx context.Context) error {
			_, err := h.model.EncodeTokens(ctx, ids)
			return err
		}}, err
	case TowerPair:
		if h.crossEncoder() {
			return h.matchWork(batch, t.texts)
		}
		return h.pairWork(batch)
	case TowerFile:
		images, err := h.images(batch)
		return work{items: batch, item: "image", flops: float64(batch) * h.info.ImageFLOPs, call: func(ctx context.Context) error {
			_, err := h.model.EncodeImages(ctx, images)
			return err
		}}, err
	}
	return h.endToEndWork(batch)
}

func (h *harness) imageWork(batch int) work {
	w := work{items: batch, item: "image", flops: float64(batch) * h.info.ImageFLOPs}
	if h.crossEncoder() {
		w.call, _ = h.encodeStates(batch)
		return w
	}
	px := noisePixels(batch, h.info.ImageSize)
	w.call = func(ctx context.Context) error {
		_, err := h.model.EncodePixels(ctx, px)
		return err
	}
	return w
}

// encodeStates returns a call that encodes batch images as Score of a cross encoder does, to embeddings, where the model
// has some, and to states [batch, ImageTokens, StateWidth]; and where it puts these.
func (h *harness) encodeStates(batch int) (call func(context.Context) error, states []float32) {
	px := noisePixels(batch, h.info.ImageSize)
	var embeddings []float32
	if h.info.EmbedDim > 0 {
		embeddings = make([]float32, batch*h.info.ImageVectors*h.info.EmbedDim)
	}
	states = make([]float32, batch*h.info.ImageTokens*h.info.StateWidth)
	return func(ctx context.Context) error { return h.model.EncodeStatesInto(ctx, px, embeddings, states) }, states
}

// matchWork encodes batch images and reads each together with every one of the texts. Its item is a pair.
func (h *harness) matchWork(batch, texts int) (work, error) {
	ids, _, err := h.tokens(texts)
	if err != nil {
		return work{}, err
	}
	encode, states := h.encodeStates(batch)
	var imageOf, textOf []int32
	for i := range batch {
		for t := range texts {
			imageOf, textOf = append(imageOf, int32(i)), append(textOf, int32(t))
		}
	}
	outputs := make([]float32, len(imageOf)*h.info.PairOutputs)
	return work{
		items: len(imageOf), item: "pair", texts: texts,
		flops: float64(batch)*h.info.ImageFLOPs + h.model.MatchFLOPs(batch, ids),
		call: func(ctx context.Context) error {
			if err := encode(ctx); err != nil {
				return err
			}
			return h.model.MatchInto(ctx, states, batch, ids, imageOf, textOf, outputs)
		},
	}, nil
}

// pairWork scores batch images against a prompt set, from pixels and token ids. Its item is a pair.
func (h *harness) pairWork(batch int) (work, error) {
	px := noisePixels(batch, h.info.ImageSize)
	ids, flops, err := h.tokens(h.opt.PerPair)
	if err != nil {
		return work{}, err
	}
	scores := make([]float32, batch*len(ids))
	return work{
		items: batch * len(ids), item: "pair", texts: len(ids),
		flops: float64(batch)*h.info.ImageFLOPs + flops + h.similarityFLOPs(batch, len(ids)),
		call: func(ctx context.Context) error {
			images, err := h.model.EncodePixels(ctx, px)
			if err != nil {
				return err
			}
			texts, err := h.model.EncodeTokens(ctx, ids)
			if err != nil {
				return err
			}
			similarities(scores, images, texts, h.info.LogitScale)
			return nil
		},
	}, nil
}

// endToEndWork scores batch encoded pictures against a prompt set. Its item is an image: what a user waits for.
func (h *harness) endToEndWork(batch int) (work, error) {
	images, err := h.images(batch)
	if err != nil {
		return work{}, err
	}
	texts := h.texts(h.opt.PerPair)
	ids, flops, err := h.tokens(h.opt.PerPair)
	if h.crossEncoder() && err == nil {
		flops += h.model.MatchFLOPs(batch, ids)
	}
	return work{
		items: batch, item: "image", texts: len(texts),
		flops: float64(batch)*h.info.ImageFLOPs + flops + h.similarityFLOPs(batch, len(texts)),
		call: func(ctx context.Context) error {
			_, err := h.model.Score(ctx, images, texts)
			return err
		},
	}, err
}

func (h *harness) similarityFLOPs(images, texts int) float64 {
	return 2 * float64(images) * float64(texts) * float64(max(1, h.info.ImageVectors)*h.info.EmbedDim)
}

// similarities writes scale * image . text to scores [images, texts].
func similarities(scores []float32, images, texts engine.Embeddings, scale float32) {
	matrix := func(rows, cols int, data []float32) blas32.General {
		return blas32.General{Rows: rows, Cols: cols, Stride: cols, Data: data}
	}
	blas32.Gemm(blas.NoTrans, blas.Trans, scale, matrix(images.N, images.Dim, images.Data),
		matrix(texts.N, texts.Dim, texts.Data), 0, matrix(images.N, texts.N, scores))
}

// texts returns n texts, repeated from the start where there are fewer.
func (h *harness) texts(n int) []string {
	if len(h.opt.Texts) == 0 {
		return Texts(n)
	}
	return repeat(h.opt.Texts, n)
}

// tokens returns the ids of n texts and the operations that their embeddings cost together, 0 of a model without any.
func (h *harness) tokens(n int) (ids [][]int32, flops float64, err error) {
	ids, err = tokenIDs(h.model, h.info, h.texts(n))
	return ids, h.info.TextFLOPs(ids), err
}

// images returns n encoded pictures.
func (h *harness) images(n int) ([]engine.Image, error) {
	if len(h.opt.Images) > 0 {
		return repeat(h.opt.Images, n), nil
	}
	if len(h.pictures) < n {
		pictures, err := Pictures(n, PictureSide)
		if err != nil {
			return nil, err
		}
		h.pictures = pictures
	}
	return h.pictures[:n], nil
}

func repeat[T any](list []T, n int) []T {
	out := make([]T, n)
	for i := range out {
		out[i] = list[i%len(list)]
	}
	return out
}
