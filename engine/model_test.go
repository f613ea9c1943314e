package engine_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tia2-engine/tia2-engine/engine"
	"github.com/tia2-engine/tia2-engine/internal/instrumented"
)

// demoTexts speak of what the embedded model knows; they differ in length.
var demoTexts = []string{
	"a red circle", "three blue squares", "a photo of a green star to the left of a yellow triangle", "five white rings", "a black cross",
	"an image of two purple circles and a white square", "orange", "a drawing of a red star above a blue ring", "a red circle", "four green squares",
}

func openDemo(t testing.TB, opt engine.Options) *engine.Model {
	t.Helper()
	if opt.Backend == "" {
		opt.Backend = "cpu"
	}
	opt.CacheDir = demoCache
	m, err := engine.Open(context.Background(), "demo", opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

// disc is a PNG file with a disc of the given colour.
func disc(t testing.TB, c color.RGBA) engine.Image {
	t.Helper()
	const w, h, radius = 96, 80, 30
	img := image.NewRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			img.Set(x, y, color.White)
			if (x-w/2)*(x-w/2)+(y-h/2)*(y-h/2) < radius*radius {
				img.Set(x, y, c)
			}
		}
	}
	var file bytes.Buffer
	if err := png.Encode(&file, img); err != nil {
		t.Fatal(err)
	}
	return engine.Image{Name: "disc.png", Data: file.Bytes()}
}

// discs returns n of them, no two alike.
func discs(t testing.TB, n int) []engine.Image {
	t.Helper()
	images := make([]engine.Image, n)
	for i := range images {
		images[i] = disc(t, color.RGBA{uint8(37 * i), uint8(255 - 23*i), uint8(91 * i), 255})
	}
	return images
}

// maxDiff is the largest difference of two slices; NaN differs from everything.
func maxDiff(t testing.TB, a, b []float32) float64 {
	t.Helper()
	if len(a) != len(b) {
		t.Fatalf("%d values against %d", len(a), len(b))
	}
	var worst float64
	for i := range a {
		if d := math.Abs(float64(a[i]) - float64(b[i])); !(d <= worst) {
			worst = d
		}
	}
	return worst
}

// encode embeds pictures and texts, in reverse order where asked, and returns the rows in the usual order.
func encode(t *testing.T, m *engine.Model, images []engine.Image, texts []string, reverse bool) (imageRows, textRows engine.Embeddings) {
	t.Helper()
	ctx := context.Background()
	if reverse {
		images, texts = slices.Clone(images), slices.Clone(texts)
		slices.Reverse(images)
		slices.Reverse(texts)
	}
	i, err := m.EncodeImages(ctx, images)
	if err != nil {
		t.Fatal(err)
	}
	x, err := m.EncodeTexts(ctx, texts)
	if err != nil {
		t.Fatal(err)
	}
	if reverse {
		return reversed(i), reversed(x)
	}
	return i, x
}

func reversed(e engine.Embeddings) engine.Embeddings {
	out := engine.Embeddings{N: e.N, Dim: e.Dim}
	for i := e.N - 1; i >= 0; i-- {
		out.Data = append(out.Data, e.Row(i)...)
	}
	return out
}

// checkInvariance opens a model with several batch sizes and thread counts and compares what it gives.
func checkInvariance(t *testing.T, images []engine.Image, texts []string, open func(batch, threads int) *engine.Model) {
	allowed := allowedDifference()
	base := open(32, 1)
	wantImages, wantTexts := encode(t, base, images, texts, false)
	wantScores := base.Similarity(wantImages, wantTexts)
	for _, c := range []struct {
		batch, threads int
		reverse        bool
	}{{1, 1, false}, {1, 4, true}, {2, 2, false}, {2, 1, true}, {5, 4, false}, {5, 2, true}, {32, 2, false}, {32, 4, true}} {
		m := open(c.batch, c.threads)
		gotImages, gotTexts := encode(t, m, images, texts, c.reverse)
		scores := m.Similarity(gotImages, gotTexts)
		m.Close()
		di, dt := maxDiff(t, gotImages.Data, wantImages.Data), maxDiff(t, gotTexts.Data, wantTexts.Data)
		ds := maxDiff(t, scores.Scores, wantScores.Scores) / float64(m.Info().LogitScale) // as a cosine
		if !(di <= allowed && dt <= allowed && ds <= allowed) {
			t.Errorf("%+v: images differ by %.3g, texts by %.3g, cosines by %.3g from batch 32, 1 thread; allowed %g", c, di, dt, ds, allowed)
		}
	}
}

// allowedDifference is how much an item's numbers may depend on its batch: not at all where our own kernels compute, a
// little where every op is ggml's.
func allowedDifference() float64 {
	if os.Getenv("TIA2_CPU") == "ggml" || engine.NativeVersions().ISA == "scalar" {
		return 2e-6
	}
	return 0
}

func TestDemoDoesNotDependOnBatchOrThreads(t *testing.T) {
	for _, dtype := range []string{"", "f32", "bf16", "int8"} {
		t.Run("dtype "+dtype, func(t *testing.T) {
			checkInvariance(t, discs(t, 9), demoTexts, func(batch, threads int) *engine.Model {
				return openDemo(t, engine.Options{Batch: batch, Threads: threads, DType: dtype})
			})
		})
	}
}

func TestGoldenDoesNotDependOnBatchOrThreads(t *testing.T) {
	for _, g := range goldens(t) {
		if testing.Short() && g.name != "hf_openai" {
			continue
		}
		t.Run(g.name, func(t *testing.T) {
			cache := t.TempDir()
			checkInvariance(t, g.images, g.texts, func(batch, threads int) *engine.Model {
				m, err := engine.Open(context.Background(), g.path, engine.Options{Backend: "cpu", CacheDir: cache, Batch: batch, Threads: threads})
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { m.Close() })
				return m
			})
		})
	}
}

// Equal pictures get equal rows wherever they stand, and so do equal texts.
func TestEqualItemsGetEqualRows(t *testing.T) {
	m := openDemo(t, engine.Options{Batch: 4})
	images := discs(t, 3)
	i, x := encode(t, m, []engine.Image{images[0], images[1], images[0], images[2], images[0]}, []string{"a red circle", "a blue ring", "a red circle"}, false)
	if maxDiff(t, i.Row(0), i.Row(2)) > allowedDifference() || maxDiff(t, i.Row(0), i.Row(4)) > allowedDifference() || maxDiff(t, x.Row(0), x.Row(2)) != 0 {
		t.Error("equal items have different embeddings")
	}
	if maxDiff(t, i.Row(0), i.Row(1)) < 1e-4 || maxDiff(t, x.Row(0), x.Row(1)) < 1e-4 {
		t.Error("different items have equal embeddings")
	}
}

// What cannot be read fails alone, by index and name; the numbers of the others stay as they are without it.
func TestBadPicturesFailAlone(t *testing.T) {
	dir := t.TempDir()
	file := func(name, content string) engine.Image {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o666); err != nil {
			t.Fatal(err)
		}
		return engine.File(path)
	}
	good := discs(t, 4)
	missing := engine.File(filepath.Join(dir, "missing.png"))
	cut := good[0].Data[:len(good[0].Data)/2]
	mixed := []engine.Image{
		good[0], file("empty.png", ""), missing, good[1], file("text.png", "no picture at all"), // a batch of 3 with one good, ...
		{Name: "cut.png", Data: cut}, file("good.png", string(good[2].Data)), {Name: "nothing"}, engine.File(dir), good[3],
	}
	for _, opt := range []engine.Options{{Batch: 3, Threads: 2}, {Batch: 1, Threads: 1}, {Batch: 5, Threads: 1}, {Batch: 32, Threads: 8}} {
		t.Run(fmt.Sprintf("batch %d, %d threads", opt.Batch, opt.Threads), func(t *testing.T) {
			checkBadPictures(t, openDemo(t, opt), good, mixed)
		})
	}
}

// checkBadPictures embeds and scores the pictures of TestBadPicturesFailAlone.
func checkBadPictures(t *testing.T, m *engine.Model, good, mixed []engine.Image) {
	ctx := context.Background()
	want, err := m.EncodeImages(ctx, good)
	if err != nil {
		t.Fatal(err)
	}
	rewards, err := m.Score(ctx, mixed, demoTexts[:2])
	items, other := engine.SplitItemErrors(err)
	if other != nil || len(items) != 6 {
		t.Fatalf("error %v, want six failed items", err)
	}
	for k, index := range []int{1, 2, 4, 5, 7, 8} {
		if items[k].Index != index || items[k].Name != mixed[index].Name || !strings.HasPrefix(items[k].Error(), mixed[index].Name) {
			t.Errorf("failed item %d is %+v, want index %d, %s", k, items[k], index, mixed[index].Name)
		}
		for _, score := range rewards[0].Scores[index*2 : index*2+2] {
			if !math.IsNaN(float64(score)) {
				t.Errorf("item %d has the score %g, want NaN", index, score)
			}
		}
	}
	if !errors.Is(items[0], engine.ErrImage) || !errors.Is(items[1], fs.ErrNotExist) || !errors.Is(items[2], engine.ErrImage) || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("kinds of errors: %v", err)
	}
	got, err := m.EncodeImages(ctx, mixed)
	if _, other := engine.SplitItemErrors(err); other != nil || err == nil {
		t.Fatal(err)
	}
	for k, index := range []int{0, 3, 6, 9} {
		if d := maxDiff(t, got.Row(index), want.Row(k)); !(d <= 2e-6) {
			t.Errorf("good picture %d differs by %g among bad ones", k, d)
		}
	}
	missing := mixed[2]
	if e, err := m.EncodeImages(ctx, []engine.Image{missing}); err == nil || !math.IsNaN(float64(e.Data[0])) {
		t.Errorf("a batch of nothing but a missing file: error %v, embedding %g...", err, e.Data[0])
	}
}

// What is done is told after every batch, in rising numbers up to all; bad pictures and equal texts count.
func TestProgressCountsItems(t *testing.T) {
	seen := map[string][]int{}
	m := openDemo(t, engine.Options{Batch: 2, Threads: 1, Progress: func(stage string, done, total int) {
		seen[stage] = append(seen[stage], done)
		if want := map[string]int{"images": 6, "texts": 4}[stage]; total != want {
			t.Errorf("%s: %d of %d, want %d", stage, done, total, want)
		}
	}})
	images := discs(t, 6)
	images[1], images[5] = engine.Image{Name: "bad"}, engine.Image{Name: "bad"}
	if _, err := m.EncodeImages(context.Background(), images); err == nil {
		t.Error("no error of two bad pictures")
	}
	// A batch has 64 nodes. There are 67: each of the two texts that fill the context gets a batch, the equal ones as one.
	long := slices.Repeat([]int32{5}, 32)
	if _, err := m.EncodeTokens(context.Background(), [][]int32{{7, 8, 631}, slices.Repeat([]int32{6}, 32), long, long}); err != nil {
		t.Error(err)
	}
	// Pictures 0, 2 and 3 are the good ones of the four that one thread prepares at a time.
	for stage, want := range map[string][]int{"images": {0, 3, 4, 6}, "texts": {0, 2, 4}} {
		if !slices.Equal(seen[stage], want) {
			t.Errorf("%s: progress %v, want %v", stage, seen[stage], want)
		}
	}
}

// CacheOff keeps nothing: neither in the cache folder nor, once the model is closed, in the temporary one.
func TestCacheOff(t *testing.T) {
	temp, cache := t.TempDir(), t.TempDir()
	t.Setenv("TMPDIR", temp)
	t.Setenv("XDG_CACHE_HOME", cache)
	m, err := engine.Open(context.Background(), "demo", engine.Options{Backend: "cpu", CacheDir: engine.CacheOff, DType: "int8"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.EncodeTexts(context.Background(), demoTexts); err != nil {
		t.Error(err)
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
	for _, dir := range []string{temp, cache} {
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("%s holds %v (%v), want nothing", dir, left, err)
		}
	}
}

func TestEmptyBatches(t *testing.T) {
	m := openDemo(t, engine.Options{})
	ctx := context.Background()
	images, err1 := m.EncodeImages(ctx, nil)
	texts, err2 := m.EncodeTexts(ctx, nil)
	rewards, err3 := m.Score(ctx, nil, nil)
	if err := errors.Join(err1, err2, err3); err != nil || images.N != 0 || texts.N != 0 || len(rewards) != 1 || len(rewards[0].Scores) != 0 {
		t.Errorf("%v; %+v, %+v, %+v", err, images, texts, rewards)
	}
}

func TestEncodeRefuses(t *testing.T) {
	m := openDemo(t, engine.Options{})
	ctx := context.Background()
	size := 3 * 64 * 64
	for name, px := range map[string]engine.Pixels{
		"short": {N: 1, U8: make([]uint8, size-1)}, "both": {N: 2, U8: make([]uint8, size), F32: make([]float32, size)},
		"none": {N: 1}, "negative": {N: -1}, "a great many": {N: 1 << 40}, "more": {N: 1, F32: make([]float32, 2*size)},
	} {
		if _, err := m.EncodePixels(ctx, px); !errors.Is(err, engine.ErrInvalid) {
			t.Errorf("pixels, %s: error %v, want ErrInvalid", name, err)
		}
	}
	for name, ids := range map[string][][]int32{
		"empty text": {{630, 631}, {}}, "unknown id": {{630, 632}}, "negative id": {{-1}}, "too long": {make([]int32, 33)},
	} {
		if _, err := m.EncodeTokens(ctx, ids); !errors.Is(err, engine.ErrInvalid) {
			t.Errorf("tokens, %s: error %v, want ErrInvalid", name, err)
		}
	}
	if _, err := m.EncodeTexts(ctx, []string{""}); err != nil {
		t.Errorf("an empty string, which is two special tokens: %v", err)
	}
}

// fullTexts returns n texts that fill the demo model's context and share nothing.
func fullTexts(n int) [][]int32 {
	ids := make([][]int32, n)
	for i := range ids {
		ids[i] = append(slices.Repeat([]int32{int32(300 + i)}, 31), 631)
	}
	return ids
}

// One call into C for a batch, whatever it holds: of pictures Options.Batch, of texts the nodes of as many full ones.
func TestOneCrossingPerBatch(t *testing.T) {
	ctx := context.Background()
	crossings := func(f func() error) int64 {
		before := runtime.NumCgoCall()
		if err := f(); err != nil {
			t.Error(err)
		}
		return runtime.NumCgoCall() - before
	}
	for _, tt := range []struct {
		batch, items int
		calls        int64
	}{{1, 3, 3}, {2, 5, 3}, {5, 5, 1}, {32, 7, 1}} {
		m := openDemo(t, engine.Options{Batch: tt.batch})
		dst := make([]float32, tt.items*m.Info().EmbedDim)
		px := engine.Pixels{N: tt.items, U8: make([]uint8, tt.items*3*64*64)}
		if got := crossings(func() error { return m.EncodePixelsInto(ctx, px, dst) }); got != tt.calls {
			t.Errorf("%d pictures in batches of %d: %d calls, want %d", tt.items, tt.batch, got, tt.calls)
		}
		ids := fullTexts(tt.items)
		if got := crossings(func() error { return m.EncodeTokensInto(ctx, ids, dst) }); got != tt.calls {
			t.Errorf("%d full texts in batches of %d: %d calls, want %d", tt.items, tt.batch, got, tt.calls)
		}
		short := make([][]int32, tt.items)
		for i := range short {
			short[i] = append(slices.Repeat([]int32{320}, i+1), 631) // all of them have 2 * items nodes
		}
		if got := crossings(func() error { return m.EncodeTokensInto(ctx, short, dst) }); got != 1 {
			t.Errorf("%d short texts in batches of %d full ones: %d calls, want 1", tt.items, tt.batch, got)
		}
		m.Close()
	}
}

// What is encoded into the caller's memory allocates nothing, be it one batch or many.
func TestEncodeIntoAllocatesNothing(t *testing.T) {
	if instrumented.On {
		t.Skip("sync.Pool forgets on purpose under the race detector, and sanitizers allocate")
	}
	m := openDemo(t, engine.Options{Batch: 2})
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	for _, n := range []int{1, 2, 11} {
		dst := make([]float32, n*m.Info().EmbedDim)
		ids := fullTexts(n)
		u8 := engine.Pixels{N: n, U8: make([]uint8, n*3*64*64)}
		f32 := engine.Pixels{N: n, F32: make([]float32, n*3*64*64)}
		for name, f := range map[string]func() error{
			"u8 pictures":  func() error { return m.EncodePixelsInto(ctx, u8, dst) },
			"f32 pictures": func() error { return m.EncodePixelsInto(ctx, f32, dst) },
			"texts":        func() error { return m.EncodeTokensInto(ctx, ids, dst) },
		} {
			if got := testing.AllocsPerRun(5, func() {
				if err := f(); err != nil {
					t.Fatal(err)
				}
			}); got != 0 {
				t.Errorf("%d %s in batches of 2: %g allocations a call, want 0", n, name, got)
			}
		}
	}
}

// The Into forms give the same numbers and want room for exactly these.
func TestEncodeInto(t *testing.T) {
	m := openDemo(t, engine.Options{Batch: 2})
	ctx, dim := context.Background(), m.Info().EmbedDim
	px, ids := engine.Pixels{N: 3, U8: make([]uint8, 3*3*64*64)}, fullTexts(3)
	for i := range px.U8 {
		px.U8[i] = uint8(i * i >> 3)
	}
	wantImages, err1 := m.EncodePixels(ctx, px)
	wantTexts, err2 := m.EncodeTokens(ctx, ids)
	images, texts := make([]float32, 3*dim), make([]float32, 3*dim)
	if err := errors.Join(err1, err2, m.EncodePixelsInto(ctx, px, images), m.EncodeTokensInto(ctx, ids, texts)); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(images, wantImages.Data) || !slices.Equal(texts, wantTexts.Data) {
		t.Error("the Into forms give other numbers")
	}
	f32 := make([]float32, len(px.U8))
	if err := m.EncodePixelsInto(ctx, engine.Pixels{N: 3, U8: []uint8{}, F32: f32}, images); err != nil {
		t.Errorf("f32 pixels beside an empty u8 slice: %v", err)
	}
	for _, n := range []int{0, 3*dim - 1, 3*dim + 1} {
		dst := make([]float32, n)
		for name, err := range map[string]error{"pixels": m.EncodePixelsInto(ctx, px, dst), "tokens": m.EncodeTokensInto(ctx, ids, dst)} {
			if !errors.Is(err, engine.ErrInvalid) {
				t.Errorf("%s to %d values: error %v, want ErrInvalid", name, n, err)
			}
		}
	}
}

// Two models, many goroutines, every kind of call at once: all get the numbers that they get alone.
func TestManyGoroutines(t *testing.T) {
	models := []*engine.Model{openDemo(t, engine.Options{Batch: 2, Threads: 2}), openDemo(t, engine.Options{Batch: 3, Threads: 1, DType: "int8"})}
	images, ctx := discs(t, 4), context.Background()
	want := make([][]float32, len(models))
	for i, m := range models {
		rewards, err := m.Score(ctx, images, demoTexts)
		if err != nil {
			t.Fatal(err)
		}
		want[i] = rewards[0].Scores
	}
	var group sync.WaitGroup
	for worker := range 8 {
		group.Go(func() {
			i := worker % len(models)
			m := models[i]
			for range 3 {
				rewards, err := m.Score(ctx, images, demoTexts)
				if err != nil {
					t.Error(err)
					return
				}
				if !slices.Equal(rewards[0].Scores, want[i]) {
					t.Errorf("worker %d: the scores differ from those of a single caller", worker)
				}
				if _, err := m.Tokenize(demoTexts); err != nil {
					t.Error(err)
				}
				_, _ = m.Info(), m.Profile()
			}
		})
	}
	group.Wait()
}

func TestCloseWhileEncoding(t *testing.T) {
	m := openDemo(t, engine.Options{Batch: 1})
	images, ctx := discs(t, 4), context.Background()
	started := make(chan struct{}, 8)
	var group sync.WaitGroup
	for worker := range 8 {
		group.Go(func() {
			for {
				var err error
				if worker%2 == 0 {
					_, err = m.EncodeImages(ctx, images)
				} else {
					_, err = m.EncodeTexts(ctx, demoTexts)
				}
				if errors.Is(err, engine.ErrClosed) {
					return
				}
				if err != nil {
					t.Error(err)
					return
				}
				select {
				case started <- struct{}{}:
				default:
				}
			}
		})
	}
	<-started
	if err := errors.Join(m.Close(), m.Close()); err != nil {
		t.Error(err)
	}
	group.Wait()
	if _, err := m.Score(ctx, images, demoTexts); !errors.Is(err, engine.ErrClosed) {
		t.Errorf("error %v, want ErrClosed", err)
	}
}

// A context that ends during a call stops it between two batches; the model goes on working, and no goroutine stays.
func TestCancelBetweenBatches(t *testing.T) {
	var stop func(done int)
	m := openDemo(t, engine.Options{Batch: 1, Threads: 2, Progress: func(_ string, done, _ int) {
		if stop != nil {
			stop(done)
		}
	}})
	images, ids := discs(t, 20), fullTexts(20) // windows of 8 pictures
	for name, call := range map[string]func(context.Context) error{
		"images": func(ctx context.Context) error { _, err := m.EncodeImages(ctx, images); return err },
		"tokens": func(ctx context.Context) error { _, err := m.EncodeTokens(ctx, ids); return err },
		"scores": func(ctx context.Context) error { _, err := m.Score(ctx, images, demoTexts[:1]); return err },
	} {
		for _, end := range []int{2, 8, 9} { // within the first window, at its end, in the second
			ctx, cancel := context.WithCancel(context.Background())
			reached, before := 0, runtime.NumGoroutine()
			stop = func(done int) {
				reached = max(reached, done)
				if done == end {
					cancel()
				}
			}
			if err := call(ctx); !errors.Is(err, context.Canceled) {
				t.Errorf("%s: error %v, want context.Canceled", name, err)
			}
			for wait := time.Millisecond; runtime.NumGoroutine() > before && wait < time.Second; wait *= 2 {
				time.Sleep(wait) // what the call waited for may not have returned yet
			}
			if after := runtime.NumGoroutine(); after > before {
				t.Errorf("%s: %d goroutines after a cancelled call, %d before", name, after, before)
			}
			if reached > end {
				t.Errorf("%s: went on to item %d after the context had ended at %d", name, reached, end)
			}
			if err := call(ctx); !errors.Is(err, context.Canceled) {
				t.Errorf("%s with a context that has ended: error %v", name, err)
			}
		}
		stop = nil
		if err := call(context.Background()); err != nil {
			t.Errorf("%s after a cancelled call: %v", name, err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if m, err := engine.Open(ctx, "demo", engine.Options{Backend: "cpu", CacheDir: engine.CacheOff}); err == nil {
		m.Close()
		t.Error("a model opens with a context that has ended")
	}
}
