package throughput

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image/jpeg"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tia2-engine/tia2-engine/engine"
)

const ms = time.Millisecond

// steady is a script with a tenth of a percent of noise.
var steady = []time.Duration{100*ms + 100*time.Microsecond, 100 * ms, 100*ms - 100*time.Microsecond}

func TestSampleStops(t *testing.T) {
	noisy := []time.Duration{50 * ms, 150 * ms, 80 * ms, 200 * ms}
	tests := []struct {
		name   string
		script []time.Duration
		opt    Options
		stop   string
		runs   int
	}{
		{"steady stops at the least runs", steady, Options{}, reasonSpread, 10},
		{"steady and short goes on until the least time", []time.Duration{1 * ms}, Options{}, reasonSpread, 500},
		{"noise runs until the time is up", noisy, Options{MaxTime: 6 * time.Second}, reasonTime, 50},
		{"a wide spread is enough when asked for", noisy, Options{Spread: 2}, reasonSpread, 10},
		{"at most MaxRuns", noisy, Options{MaxRuns: 25}, reasonRuns, 25},
		{"a slow call is made three times", []time.Duration{time.Minute}, Options{}, reasonTime, 3},
		{"a clock that stands still", []time.Duration{0}, Options{MaxRuns: 20}, reasonRuns, 20},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newFake(tt.script...)
			opt, err := tt.opt.withDefaults()
			if err != nil {
				t.Fatal(err)
			}
			got, err := sampler{opt: opt, now: f.now}.sample(t.Context(), f.step)
			if err != nil {
				t.Fatal(err)
			}
			most := tt.runs
			if tt.stop == reasonSpread { // which is not looked at after every call
				most += tt.runs / 9
			}
			if got.stop != tt.stop || len(got.ms) < tt.runs || len(got.ms) > most {
				t.Errorf("stopped for %q after %d runs, want %q after %d", got.stop, len(got.ms), tt.stop, tt.runs)
			}
		})
	}
}

func TestWarmUp(t *testing.T) {
	tests := []struct {
		name  string
		step  time.Duration
		calls int
	}{
		{"at least two", 200 * ms, 2},
		{"until the time is over", 10 * ms, 10},
		{"never more than a quarter of the time", 3 * time.Second, 1},
		{"a bound without a clock", 0, warmUpRunsMax},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newFake(tt.step)
			opt, _ := Options{MaxRuns: 3}.withDefaults()
			s, err := sampler{opt: opt, now: f.now}.sample(t.Context(), f.step)
			if err != nil {
				t.Fatal(err)
			}
			if got := f.calls - len(s.ms); got != tt.calls {
				t.Errorf("%d warm-up calls, want %d", got, tt.calls)
			}
		})
	}
}

func TestPercentiles(t *testing.T) {
	var hundred []float64
	for i := 100; i >= 1; i-- {
		hundred = append(hundred, float64(i))
	}
	tests := []struct {
		ms   []float64
		want Latency
	}{
		{[]float64{7}, Latency{7, 7, 7}},
		{[]float64{3, 1, 2}, Latency{2, 3, 3}},
		{[]float64{4, 1, 3, 2}, Latency{2.5, 4, 4}},
		{hundred, Latency{50.5, 90, 99}},
	}
	for _, tt := range tests {
		before := slices.Clone(tt.ms)
		if got := latency(tt.ms); got != tt.want {
			t.Errorf("latency(%d values) = %+v, want %+v", len(tt.ms), got, tt.want)
		}
		if !slices.Equal(before, tt.ms) {
			t.Errorf("latency changed the order of its argument")
		}
	}
}

func TestMedianSpread(t *testing.T) {
	if got := medianSpread([]float64{1, 2, 3, 4, 5}); got != spreadUnknown {
		t.Errorf("five values: %v, want unknown: no 95 %% interval exists", got)
	}
	// ten values: order statistics 2 and 9 make the interval (97.9 %; binomial, n = 10, p = 1/2)
	xs := []float64{91, 92, 93, 94, 100, 100, 106, 107, 108, 500}
	if got, want := medianSpread(xs), (108.0-92)/2/100; math.Abs(got-want) > 1e-12 {
		t.Errorf("ten values: %v, want %v", got, want)
	}
}

func TestMeasureFigures(t *testing.T) {
	f := newFake(steady...)
	f.info.EmbedDim, f.info.ImageFLOPs = 4096, 1e6 // so that the similarities weigh enough to be seen
	opt := Options{
		Towers: Towers(), Batches: []int{4}, PerPair: 3, Texts: []string{"one", "two words"}, Threads: 2,
		Images: []engine.Image{{Name: "x", Data: []byte("x")}}, Peak: Peaks{F32: 160},
	}
	runs, err := measure(t.Context(), f, opt, f.now)
	if err != nil {
		t.Fatal(err)
	}
	// "one" is 3 tokens, "two words" 4; a text of T tokens costs T*1e6 + T*T*1e3 + 10
	one, two := 3e6+9e3+10, 4e6+16e3+10
	texts := one + two - (1e6 + 1e3) // each once, and the start token that they share once
	similarity := 2.0 * 4 * 3 * 4096
	want := []struct {
		tower, item string
		items       float64
		texts       int
		flops       float64 // of a call
		seconds     float64
	}{
		{TowerImage, "image", 4, 0, 4 * 1e6, 0.1},
		{TowerText, "text", 4, 0, texts, 0.1},
		{TowerFile, "image", 4, 0, 4 * 1e6, 0.1},
		{TowerPair, "pair", 12, 3, 4*1e6 + texts + similarity, 0.2}, // two calls of the model
		{TowerE2E, "image", 4, 3, 4*1e6 + texts + similarity, 0.1},
	}
	if len(runs) != len(want) {
		t.Fatalf("%d runs, want %d", len(runs), len(want))
	}
	for i, w := range want {
		r := runs[i]
		if r.Tower != w.tower || r.Item != w.item || r.Texts != w.texts || r.Batch != 4 || r.Threads != 2 || r.Model != "random:tiny" {
			t.Errorf("run %d is %+v, want %+v", i, r, w)
		}
		near(t, w.tower+" items/s", r.ItemsPS, w.items/w.seconds)
		near(t, w.tower+" GFLOP/item", r.GFLOPPerItem, w.flops/w.items/1e9)
		near(t, w.tower+" GFLOP/s", r.GFLOPS, w.flops/w.seconds/1e9)
		if r.PeakFraction == nil {
			t.Fatalf("%s: no peak fraction", w.tower)
		}
		near(t, w.tower+" peak fraction", *r.PeakFraction, w.flops/w.seconds/1e9/160)
	}
	if len(f.seen.images) != 4 || !slices.Equal(f.seen.texts, []string{"one", "two words", "one"}) {
		t.Errorf("e2e got %d images and texts %q", len(f.seen.images), f.seen.texts)
	}
	if f.seen.pixels.N != 4 || len(f.seen.pixels.U8) != 4*16*16*3 {
		t.Errorf("pixels: %d pictures in %d bytes", f.seen.pixels.N, len(f.seen.pixels.U8))
	}
}

// A cross encoder is measured with several numbers of texts an image, each run with the encoding of the images.
func TestMeasureCrossEncoder(t *testing.T) {
	for _, c := range []struct {
		embeddings bool
		towers     []string
		perPair    int
		want       string   // tower and texts an image of the runs
		notes      []string // what is left out
	}{
		{true, Towers(), 0, "image text file pair/1 pair/8 pair/33 e2e", nil},
		{true, []string{TowerPair}, 8, "pair/1 pair/8", nil},
		{true, []string{TowerPair}, 3, "pair/1 pair/3", nil},
		{true, []string{TowerPair}, 1, "pair/1", nil},
		{false, Towers(), 0, "image pair/1 pair/8 pair/33 e2e", []string{
			"random:tiny has no tower text: it has no embeddings, it reads picture and text together",
			"random:tiny has no tower file: it has no embeddings, it reads picture and text together"}},
	} {
		f := newCrossEncoder(c.embeddings, steady...)
		var notes, got []string
		opt := Options{Towers: c.towers, Batches: []int{4}, PerPair: c.perPair, Note: func(text string) { notes = append(notes, text) }}
		runs, err := measure(t.Context(), f, opt, f.now)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range runs {
			name := r.Tower
			if r.PromptsPerImage > 0 {
				name = fmt.Sprintf("%s/%d", r.Tower, r.PromptsPerImage)
			}
			got = append(got, name)
			if r.Tower == TowerPair {
				checkPairRun(t, r)
			}
		}
		if strings.Join(got, " ") != c.want || !slices.Equal(notes, c.notes) {
			t.Errorf("towers %v, at most %d texts: runs %v, notes %q; want %s, %q", c.towers, c.perPair, got, notes, c.want, c.notes)
		}
		last := runs[len(runs)-1]
		if last.Tower == TowerPair {
			texts := last.Texts
			images, textOf := f.seen.pairs[0], f.seen.pairs[1]
			if len(images) != 4*texts || images[texts-1] != 0 || images[len(images)-1] != 3 || int(textOf[texts-1]) != texts-1 || textOf[0] != 0 {
				t.Errorf("pairs of images %v with texts %v, want image by image", images, textOf)
			}
			if want := (stateSizes{4 * 3 * 8, 4 * 5 * 6, 4, 4 * texts * 2}); f.seen.states != want {
				t.Errorf("lengths %+v, want %+v", f.seen.states, want)
			}
			continue
		}
		// e2e: image, the texts' embeddings where there are any, similarities, pairs
		ids, _ := tokenIDs(f, f.info, Texts(33))
		flops := 4*2e9 + f.info.TextFLOPs(ids) + 2*4*33*float64(f.info.ImageVectors*f.info.EmbedDim) + f.MatchFLOPs(4, ids)
		near(t, "e2e GFLOP/item", last.GFLOPPerItem, flops/4/1e9)
	}
}

// checkPairRun compares a run of 4 images by the fake cross encoder with what two calls of 0.1 s make it.
func checkPairRun(t *testing.T, r Run) {
	t.Helper()
	n := float64(r.Texts)
	if r.Texts != r.PromptsPerImage || r.Item != "pair" || r.Batch != 4 {
		t.Errorf("%+v", r)
	}
	near(t, "pairs/s", r.ItemsPS, 4*n/0.2)
	near(t, "GFLOP/pair", r.GFLOPPerItem, (4*2e9+4e9+4*n*1e6)/(4*n)/1e9)
}

func TestMeasureOfAnAestheticHead(t *testing.T) {
	f := newFake(steady...)
	f.info.Family = "aesthetic"
	var notes []string
	runs, err := measure(t.Context(), f, Options{Note: func(text string) { notes = append(notes, text) }}, f.now)
	if err != nil || len(runs) > 0 || f.calls > 0 || len(notes) != 4 || !strings.Contains(notes[0], "no tower image: it is a head on the embeddings of a CLIP") {
		t.Errorf("%d runs, %d calls, %v, notes %q", len(runs), f.calls, err, notes)
	}
}

func near(t *testing.T, what string, got, want float64) {
	t.Helper()
	if !(math.Abs(got-want) <= 1e-5*math.Abs(want)+1e-12) {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

func TestPeakFraction(t *testing.T) {
	peak := Peaks{F32: 100, BF16: 200, Int8: 400}
	for _, tt := range []struct {
		backend, dtype string
		want           float64
	}{
		{"cpu", "f32", 100}, {"cpu", "bf16", 200}, {"cpu", "int8", 400}, {"cpu", "f16", 100}, {"cpu", "q4_0", 0}, {"vulkan", "f16", 0}, {"vulkan", "f32", 0},
	} {
		h := harness{info: engine.Info{Backend: tt.backend, DType: tt.dtype}, opt: Options{Peak: peak}}
		if got := h.peak(); got != tt.want {
			t.Errorf("%s %s: peak %v, want %v", tt.backend, tt.dtype, got, tt.want)
		}
	}
}

func TestMeasureProfiles(t *testing.T) {
	opt := Options{Towers: []string{TowerImage}, Ops: true, Peak: Peaks{F32: 300}, Bandwidth: 10}
	for _, tt := range []struct {
		layers bool
		step   time.Duration // of a call
		calls  int           // with the profile on
		op     string        // of the first row
		rows   int
	}{
		{false, 100 * ms, 7, "image/blk.*/attn/qkv", 2},
		{true, 100 * ms, 7, "image/blk.0/attn/qkv", 3},
		{false, 2 * time.Second, 3, "image/blk.*/attn/qkv", 2}, // until 5 s, half of the most time, are over
		{false, time.Minute, 1, "image/blk.*/attn/qkv", 2},
	} {
		f := newFake(tt.step)
		opt.OpsLayers = tt.layers
		runs, err := measure(t.Context(), f, opt, f.now)
		if err != nil {
			t.Fatal(err)
		}
		if f.profiled != tt.calls || f.profiling {
			t.Errorf("%v a call: %d profiled calls, still on: %v; want %d, off", tt.step, f.profiled, f.profiling, tt.calls)
		}
		ops := runs[0].Ops
		total := ops[len(ops)-1]
		// 6e8 FLOPs in 4 ms are 150 of 300 GFLOP/s
		if len(ops) != tt.rows || ops[0].Op != tt.op || total.Count != 2 || total.TimeMS != 4 || total.GFLOPS != 150 || *total.RoofFraction != 0.5 {
			t.Errorf("ops %+v", ops)
		}
		report := Report{Runs: runs}
		if recs := report.Recordings(); len(recs) != 1 || len(recs[0].Samples) != 2 || recs[0].Labels["batch"] != "32" {
			t.Errorf("recordings %+v", recs)
		}
	}
}

func TestMedianCall(t *testing.T) {
	call := func(name string, a, b time.Duration) []engine.OpSample {
		return []engine.OpSample{{Name: name, Count: 1, Time: a}, {Name: "y", Count: 1, Time: b}}
	}
	// The first call had another op, the last two took 1 and 9, 4 and 2.
	got := medianCall([][]engine.OpSample{call("first", 100, 100), call("x", 1, 4), call("x", 9, 2)})
	if diff := cmp.Diff(call("x", 5, 3), got); diff != "" {
		t.Error(diff)
	}
}

func TestMeasureKeepsFinishedRuns(t *testing.T) {
	t.Run("failure", func(t *testing.T) {
		f := newFake(steady...)
		f.fail = 15 // in the second tower: the first takes 12 calls
		runs, err := measure(t.Context(), f, Options{Towers: []string{TowerImage, TowerText}}, f.now)
		if len(runs) != 1 || !errors.Is(err, errFake) || !strings.Contains(err.Error(), "text of random:tiny, batch 32") {
			t.Errorf("%d runs, error %v", len(runs), err)
		}
	})
	t.Run("cancel", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		f := newFake(steady...)
		f.cancel, f.when = cancel, 15
		runs, err := measure(ctx, f, Options{Towers: []string{TowerImage, TowerText}}, f.now)
		if len(runs) != 1 || !errors.Is(err, context.Canceled) {
			t.Errorf("%d runs, error %v", len(runs), err)
		}
	})
}

func TestMeasureRefuses(t *testing.T) {
	for _, opt := range []Options{{Towers: []string{"audio"}}, {Batches: []int{0}}, {Batches: []int{8, -1}}, {MaxTime: -1}, {Spread: -0.1}} {
		f := newFake(steady...)
		if runs, err := measure(t.Context(), f, opt, f.now); err == nil || f.calls > 0 {
			t.Errorf("%+v: %d runs, want an error before any call", opt, len(runs))
		}
	}
}

func TestProgress(t *testing.T) {
	var got []string
	f := newFake(steady...)
	opt := Options{Towers: []string{TowerImage}, Batches: []int{1, 8}, Progress: func(stage string, done, total int) {
		got = append(got, stage)
		if total != 2 || done != len(got)-1 {
			t.Errorf("done %d of %d", done, total)
		}
	}}
	if _, err := measure(t.Context(), f, opt, f.now); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"random:tiny image, batch 1", "random:tiny image, batch 8"}, got); diff != "" {
		t.Error(diff)
	}
	got = nil
	f = newCrossEncoder(true, steady...)
	opt = Options{Towers: []string{TowerPair}, PerPair: 8, Progress: func(stage string, _, _ int) { got = append(got, stage) }}
	if _, err := measure(t.Context(), f, opt, f.now); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"random:tiny pair, batch 32, 1 text an image", "random:tiny pair, batch 32, 8 texts an image"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestTexts(t *testing.T) {
	texts := Texts(100)
	if len(texts) != 100 || texts[0] != "a realistic photo of an airplane and an apple" ||
		texts[TextSetSize] != "a realistic photo of an airplane and a bicycle" {
		t.Errorf("%d texts, %q", len(texts), texts[:2])
	}
	unique := map[string]bool{}
	for _, text := range Texts(66 * TextSetSize) {
		unique[text] = true
	}
	// a thing alone is in the sets of every pair it is part of
	if want := 66*25 + 12*4; len(unique) != want {
		t.Errorf("%d distinct texts in 66 sets, want %d", len(unique), want)
	}
	if got := Texts(3000); got[66*TextSetSize] != got[0] {
		t.Errorf("text %d is %q, want the first again", 66*TextSetSize, got[66*TextSetSize])
	}
	if len(Texts(0)) != 0 {
		t.Error("Texts(0) is not empty")
	}
}

func TestTokenIDs(t *testing.T) {
	info := engine.Info{Spec: "m", VocabSize: 100, Context: 6}
	ids, err := tokenIDs(newFake(), info, []string{"a b a", "one two three four five six", ""})
	if err != nil {
		t.Fatal(err)
	}
	if got := []int{len(ids[0]), len(ids[1]), len(ids[2])}; !slices.Equal(got, []int{5, 6, 2}) {
		t.Errorf("lengths %v, want 5, 6 (the context), 2", got)
	}
	for _, row := range ids {
		for i, id := range row {
			if last := i == len(row)-1; (id == 98) != (i == 0) || (id == 99) != last || id < 0 {
				t.Errorf("row %v: start 98 first, end 99 last, words below", row)
			}
		}
	}
	if ids[0][1] != ids[0][3] || ids[0][1] == ids[0][2] {
		t.Errorf("row %v: the same word must have the same id", ids[0])
	}
	own, err := tokenIDs(wordModel{newFake()}, info, []string{"four"})
	if err != nil || len(own[0]) != 4 {
		t.Errorf("the model's tokenizer was not used: %v, %v", own, err)
	}
	if _, err := tokenIDs(newFake(), engine.Info{Spec: "m"}, []string{"x"}); err == nil {
		t.Error("no vocabulary: want an error")
	}
}

func TestPictures(t *testing.T) {
	a, err := Pictures(2, 96)
	if err != nil {
		t.Fatal(err)
	}
	b, _ := Pictures(2, 96)
	if !bytes.Equal(a[1].Data, b[1].Data) || bytes.Equal(a[0].Data, a[1].Data) || a[0].Name == a[1].Name {
		t.Error("pictures must be the same every time and differ from each other")
	}
	img, err := jpeg.Decode(bytes.NewReader(a[0].Data))
	if err != nil || img.Bounds().Dx() != 96 || img.Bounds().Dy() != 96 {
		t.Errorf("picture: %v", err)
	}
}

func TestSimilarities(t *testing.T) {
	images := engine.Embeddings{N: 2, Dim: 2, Data: []float32{1, 0, 0, 1}}
	texts := engine.Embeddings{N: 3, Dim: 2, Data: []float32{1, 2, 3, 4, 5, 6}}
	scores := make([]float32, 6)
	similarities(scores, images, texts, 10)
	if want := []float32{10, 30, 50, 20, 40, 60}; !slices.Equal(scores, want) {
		t.Errorf("%v, want %v", scores, want)
	}
}

func TestRSSPeak(t *testing.T) {
	resetRSSPeak()
	if got := rssPeakBytes(); got != 0 && (got < 1<<20 || got > 1<<40) {
		t.Errorf("%d bytes resident", got)
	}
}
