package engine

import (
	"context"
	"errors"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/tia2-engine/tia2-engine/engine/internal/embedcache"
	"github.com/tia2-engine/tia2-engine/engine/internal/gguf"
)

// cacheTexts are more than one batch of the demo model where a batch is one text; two are equal.
var cacheTexts = []string{"a red circle", "two blue squares", "a red circle", "a green star above a yellow ring", "", "five black crosses"}

// embedAll embeds pictures and texts and counts the calls into C.
func embedAll(t *testing.T, m *Model, images []Image, texts []string) (i, x Embeddings, calls int64) {
	t.Helper()
	before := runtime.NumCgoCall()
	i, err := m.EncodeImages(context.Background(), images)
	if _, err := SplitItemErrors(err); err != nil {
		t.Fatal(err)
	}
	x, err = m.EncodeTexts(context.Background(), texts)
	if err != nil {
		t.Fatal(err)
	}
	return i, x, runtime.NumCgoCall() - before
}

// sameBits tells whether two results are equal to the last bit, or nearly so where every op is ggml's and an item's bits
// depend on its batch. Rows of NaN are equal.
func sameBits(a, b []float32) bool {
	allowed := 0.0
	if os.Getenv("TIA2_CPU") == "ggml" || NativeVersions().ISA == "scalar" {
		allowed = 2e-6
	}
	return slices.EqualFunc(a, b, func(x, y float32) bool {
		return math.Float32bits(x) == math.Float32bits(y) || x != x && y != y || math.Abs(float64(x)-float64(y)) <= allowed
	})
}

// found checks what a model found in its cache so far.
func found(t *testing.T, m *Model, images, texts EmbeddingCacheCounts) {
	t.Helper()
	if s := m.EmbeddingCacheStats(); s.Images != images || s.Texts != texts {
		t.Errorf("found %+v and %+v, want %+v and %+v", s.Images, s.Texts, images, texts)
	}
}

// What a cache gives has the bits of what is computed without one; what is there is neither decoded nor encoded.
func TestEmbeddingCacheKeepsBits(t *testing.T) {
	images := testPictures(t, 7)
	images = append(images, Image{Name: "missing", Path: filepath.Join(t.TempDir(), "missing")}, images[2])
	for _, tt := range []struct {
		name      string
		opt       Options
		elsewhere bool
	}{
		{"batch 2", Options{Batch: 2, Threads: 1}, false}, {"batch 32", Options{Threads: 1}, false},
		{"beside batches", Options{Batch: 2, Threads: 2}, true}, {"int8", Options{DType: "int8", Batch: 3, Threads: 1}, false},
		{"not normalised", Options{NoNormalize: true, Threads: 1}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			plain := openTestModel(t, tt.opt, tt.elsewhere)
			wantImages, wantTexts, _ := embedAll(t, plain, images, cacheTexts)
			if s := plain.EmbeddingCacheStats(); s != (EmbeddingCacheStats{}) {
				t.Errorf("without a cache: %+v", s)
			}
			opt := tt.opt
			opt.EmbeddingCache = t.TempDir()
			opt.Note = func(text string) { t.Errorf("note: %s", text) }
			for run := range 2 { // the second by another process, as far as the cache is concerned
				m := openTestModel(t, opt, tt.elsewhere)
				for again := range 2 {
					gotImages, gotTexts, calls := embedAll(t, m, images, cacheTexts)
					if !sameBits(gotImages.Data, wantImages.Data) || !sameBits(gotTexts.Data, wantTexts.Data) {
						t.Errorf("run %d, call %d: the bits are not those without a cache", run, again)
					}
					if warm := run+again > 0; warm != (calls == 0) {
						t.Errorf("run %d, call %d: %d calls into C", run, again, calls)
					}
				}
				// One of the eight pictures is there twice: seen in time or not, as the batches fall.
				s := m.EmbeddingCacheStats()
				if first := s.Images.Found - 8; run == 0 && first > 1 || run == 1 && s.Images.Found != 16 || s.Images.Asked != 16 {
					t.Errorf("run %d: pictures %+v", run, s.Images)
				}
				if s.Texts != (EmbeddingCacheCounts{10, uint64(5 * (run + 1))}) || s.Dir != opt.EmbeddingCache || s.MaxBytes != 4<<30 {
					t.Errorf("run %d: %+v", run, s)
				}
				if err := m.Close(); err != nil {
					t.Fatal(err)
				}
				if s := m.EmbeddingCacheStats(); s.Bytes < 1000 || s.DroppedRows+s.EvictedBytes+s.DamagedFiles != 0 {
					t.Errorf("run %d, after Close: %+v", run, s)
				}
			}
		})
	}
}

// Whatever changes an embedding is a miss: the item itself, and every option that bits depend on.
func TestEmbeddingCacheMisses(t *testing.T) {
	images := testPictures(t, 1)
	dir := t.TempDir()
	opt := Options{EmbeddingCache: dir, Threads: 1}
	first := openTestModel(t, opt, false)
	_, texts, _ := embedAll(t, first, images, []string{"a red circle"})

	changed := slices.Clone(images)
	changed[0] = testPictures(t, 2)[1]
	embedAll(t, first, changed, []string{"a red ring"})
	found(t, first, EmbeddingCacheCounts{2, 0}, EmbeddingCacheCounts{2, 0})

	for name, tt := range map[string]struct {
		change        func(*Options)
		image, text   uint64 // found
		env, envValue string
	}{
		"nothing":       {func(o *Options) {}, 1, 1, "", ""},
		"batch":         {func(o *Options) { o.Batch, o.Threads = 1, 2 }, 1, 1, "", ""},
		"dtype":         {func(o *Options) { o.DType = "int8" }, 0, 0, "", ""},
		"normalisation": {func(o *Options) { o.NoNormalize = true }, 0, 0, "", ""},
		"most pixels":   {func(o *Options) { o.Limits.PixelsMax = 1e6 }, 0, 1, "", ""},
		"most bytes":    {func(o *Options) { o.Limits.BytesMax = 1e6 }, 0, 1, "", ""},
		"default bytes": {func(o *Options) { o.Limits.BytesMax = 256 << 20 }, 1, 1, "", ""},
		"environment":   {func(o *Options) {}, 0, 0, "GGML_VK_DISABLE_F16", "1"},
	} {
		t.Run(name, func(t *testing.T) {
			if tt.env != "" {
				t.Setenv(tt.env, tt.envValue)
			}
			opt := opt
			tt.change(&opt)
			m := openTestModel(t, opt, false) // shares the open folder
			_, x, _ := embedAll(t, m, images, []string{"a red circle"})
			found(t, m, EmbeddingCacheCounts{1, tt.image}, EmbeddingCacheCounts{1, tt.text})
			if tt.text == 1 && !sameBits(x.Data, texts.Data) {
				t.Error("found another text's embedding")
			}
		})
	}
}

// Items that are there and items that are not, in any mixture: every row is right, and pictures that are encoded fill
// whole batches however far apart they stand.
func TestEmbeddingCacheMixtures(t *testing.T) {
	all := testPictures(t, 40)
	allTexts := make([]string, len(all)) // more than one batch where a batch is one text
	for i := range allTexts {
		allTexts[i] = []string{"a red ", "two blue ", "a photo of a green ", "an orange ", "three "}[i%5] +
			[]string{"circle", "square", "star", "ring"}[i/5%4] + []string{"", " above a cross"}[i/20]
	}
	plain := openTestModel(t, Options{DType: "f32", Threads: 1}, false)
	want, wantTexts, _ := embedAll(t, plain, all, allTexts)
	rng := rand.New(rand.NewPCG(5, 6))
	for _, elsewhere := range []bool{false, true} {
		for _, batch := range []int{1, 3} {
			m := openTestModel(t, Options{DType: "f32", Batch: batch, Threads: 1, EmbeddingCache: t.TempDir()}, elsewhere)
			known := make([]bool, len(all))
			for share := range 5 { // more are known from call to call
				var images []Image
				var texts []string
				var index []int
				missing := 0
				for _, i := range rng.Perm(len(all)) {
					if rng.IntN(5) > share {
						continue
					}
					images, texts, index = append(images, all[i]), append(texts, allTexts[i]), append(index, i)
					if !known[i] {
						known[i] = true
						missing++
					}
				}
				got, _, calls := embedAll(t, m, images, nil)
				_, gotTexts, textCalls := embedAll(t, m, nil, texts)
				for k, i := range index {
					if !sameBits(gotTexts.Row(k), wantTexts.Row(i)) {
						t.Fatalf("batch %d, call %d: row %d of %d is not that of text %d", batch, share, k, len(index), i)
					}
					if !sameBits(got.Row(k), want.Row(i)) {
						t.Fatalf("batch %d, beside batches %t, call %d: row %d of %d is not that of picture %d", batch, elsewhere, share, k, len(index), i)
					}
				}
				if (textCalls == 0) != (missing == 0) {
					t.Errorf("batch %d: %d calls into C for %d of %d texts", batch, textCalls, missing, len(index))
				}
				if want := missing + divideUp(missing, batch); calls != int64(want) {
					t.Errorf("batch %d, beside batches %t: %d calls into C for %d of %d pictures, want %d", batch, elsewhere, calls, missing, len(index), want)
				}
			}
		}
	}
}

// What is found is told of as done, and not only at the end.
func TestEmbeddingCacheProgress(t *testing.T) {
	seen := map[string][]int{}
	m := openTestModel(t, Options{Batch: 1, Threads: 1, EmbeddingCache: t.TempDir(), Progress: func(stage string, done, _ int) {
		seen[stage] = append(seen[stage], done)
	}}, false)
	pictures := testPictures(t, 2)
	embedAll(t, m, pictures[:1], cacheTexts[:3])
	clear(seen)
	images := slices.Repeat(pictures[:1], 300) // a window has 4, and goes through 64 times as many
	images[298] = pictures[1]
	embedAll(t, m, images, cacheTexts)
	if got, want := seen["images"], []int{0, 256, 300}; !slices.Equal(got, want) {
		t.Errorf("progress of pictures %v, want %v", got, want)
	}
	if got := seen["texts"]; len(got) < 2 || got[0] != 3 || got[len(got)-1] != 6 || !slices.IsSorted(got) {
		t.Errorf("progress of texts %v, want 3 up to 6", got)
	}
}

// A damaged folder costs the time to compute again, and nothing else.
func TestEmbeddingCacheDamaged(t *testing.T) {
	images := testPictures(t, 5)
	notes := 0
	var mu sync.Mutex
	opt := Options{EmbeddingCache: t.TempDir(), Note: func(string) { mu.Lock(); notes++; mu.Unlock() }}
	m := openTestModel(t, opt, false)
	wantImages, wantTexts, _ := embedAll(t, m, images, cacheTexts)
	m.Close()
	files, err := filepath.Glob(filepath.Join(opt.EmbeddingCache, "*.emb1"))
	if err != nil || len(files) != 2 {
		t.Fatalf("files %v (%v), want one for pictures and one for texts", files, err)
	}
	for _, path := range files {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		data[20] ^= 1 // in the first block
		if err := os.WriteFile(path, data, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	m = openTestModel(t, opt, false)
	gotImages, gotTexts, calls := embedAll(t, m, images, cacheTexts)
	if !sameBits(gotImages.Data, wantImages.Data) || !sameBits(gotTexts.Data, wantTexts.Data) || calls == 0 {
		t.Errorf("other bits than before, or %d calls into C", calls)
	}
	found(t, m, EmbeddingCacheCounts{5, 0}, EmbeddingCacheCounts{5, 0})
	if s := m.EmbeddingCacheStats(); s.DamagedFiles != 2 || notes == 0 {
		t.Errorf("%d damaged files, %d notes", s.DamagedFiles, notes)
	}
	if _, _, calls := embedAll(t, m, images, cacheTexts); calls != 0 {
		t.Errorf("%d calls into C after everything was stored again", calls)
	}
}

// A folder that cannot be used is remarked upon.
func TestEmbeddingCacheUnusable(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	var notes []string
	m := openTestModel(t, Options{EmbeddingCache: file, Note: func(text string) { notes = append(notes, text) }}, false)
	embedAll(t, m, testPictures(t, 1), cacheTexts)
	if s := m.EmbeddingCacheStats(); s != (EmbeddingCacheStats{}) || len(notes) != 1 || !strings.Contains(notes[0], file) {
		t.Errorf("%+v, notes %q", s, notes)
	}
}

// Models share an open folder, which is closed with the last of them. One that is closed is closed, whatever is known.
func TestEmbeddingCacheShared(t *testing.T) {
	images, ctx := testPictures(t, 3), context.Background()
	opt := Options{EmbeddingCache: t.TempDir(), EmbeddingCacheBytes: 1 << 20}
	a, b := openTestModel(t, opt, false), openTestModel(t, opt, false)
	embedAll(t, a, images, cacheTexts)
	if _, _, calls := embedAll(t, b, images, cacheTexts); calls != 0 {
		t.Errorf("%d calls into C for what the other model has stored", calls)
	}
	found(t, b, EmbeddingCacheCounts{3, 3}, EmbeddingCacheCounts{5, 5})
	if s := b.EmbeddingCacheStats(); s.MaxBytes != 1<<20 {
		t.Errorf("a bound of %d bytes, want %d", s.MaxBytes, 1<<20)
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	_, err1 := b.EncodeImages(ended, images)
	_, err2 := b.EncodeTexts(ended, cacheTexts)
	if !errors.Is(err1, context.Canceled) || !errors.Is(err2, context.Canceled) {
		t.Errorf("errors %v and %v, want context.Canceled", err1, err2)
	}
	if err := errors.Join(a.Close(), a.Close()); err != nil {
		t.Fatal(err)
	}
	_, err1 = a.EncodeImages(ctx, images)
	_, err2 = a.EncodeTexts(ctx, cacheTexts)
	if !errors.Is(err1, ErrClosed) || !errors.Is(err2, ErrClosed) {
		t.Errorf("errors %v and %v, want ErrClosed", err1, err2)
	}
	if _, _, calls := embedAll(t, b, images, cacheTexts); calls != 0 {
		t.Errorf("%d calls into C after the other model was closed", calls)
	}
	b.Close()
	embeddingFolders.Lock()
	defer embeddingFolders.Unlock()
	if f := embeddingFolders.byDir[opt.EmbeddingCache]; f != nil {
		t.Errorf("the folder is open for %d models that are closed", f.users)
	}
}

// Two models of different types and many goroutines, cold and warm at once.
func TestEmbeddingCacheManyGoroutines(t *testing.T) {
	images := testPictures(t, 9)
	dir := t.TempDir()
	var group sync.WaitGroup
	for _, dtype := range []string{"f32", "int8"} {
		plain := openTestModel(t, Options{DType: dtype, Threads: 1}, false)
		wantImages, wantTexts, _ := embedAll(t, plain, images, cacheTexts)
		m := openTestModel(t, Options{DType: dtype, Batch: 2, Threads: 1, EmbeddingCache: dir}, false)
		for worker := range 4 {
			group.Go(func() {
				for range 3 {
					i, err1 := m.EncodeImages(context.Background(), images[worker:])
					x, err2 := m.EncodeTexts(context.Background(), cacheTexts[worker:])
					m.EmbeddingCacheStats()
					if err := errors.Join(err1, err2); err != nil {
						t.Error(err)
						return
					}
					if !sameBits(i.Data, wantImages.Data[worker*i.Dim:]) || !sameBits(x.Data, wantTexts.Data[worker*x.Dim:]) {
						t.Errorf("%s, from item %d on: other bits than without a cache", dtype, worker)
					}
				}
			})
		}
	}
	group.Wait()
}

// Rows that are not finite are not kept.
func TestEmbeddingCacheKeepsFiniteRows(t *testing.T) {
	cache, err := embedcache.Open(t.TempDir(), embedcache.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer cache.Close()
	var table embeddingTable
	if table.rows, err = cache.Table(2, "test"); err != nil {
		t.Fatal(err)
	}
	nan, inf := float32(math.NaN()), float32(math.Inf(-1))
	rows := []float32{nan, 1, 2, 3, 4, inf, 5, nan, 6, 7, 8, 9, nan, nan}
	keys := make([]embedcache.Key, len(rows)/2)
	for i := range keys {
		keys[i] = textKey([]int32{int32(i)})
	}
	table.put(keys, rows)
	table.put(nil, nil)
	got, hit := make([]float32, len(rows)), make([]bool, len(keys))
	if n := table.get(keys, got, hit); n != 3 || !slices.Equal(hit, []bool{false, true, false, false, true, true, false}) {
		t.Errorf("%d rows, %v", n, hit)
	}
	if !slices.Equal(got[8:12], rows[8:12]) || !slices.Equal(got[2:4], rows[2:4]) {
		t.Errorf("rows %v", got)
	}
}

// Where embeddings are kept, from the options.
func TestEmbeddingCacheFolder(t *testing.T) {
	for _, tt := range []struct{ cache, embeddings, want string }{
		{"/c", "", ""}, {"/c", CacheOff, ""}, {"/c", EmbeddingCacheAuto, "/c/embeddings"}, {CacheOff, EmbeddingCacheAuto, ""},
		{CacheOff, "/e", "/e"}, {"/c", "/e", "/e"},
	} {
		opt, err := Options{CacheDir: tt.cache, EmbeddingCache: tt.embeddings}.withDefaults()
		if err != nil || opt.EmbeddingCache != filepath.FromSlash(tt.want) {
			t.Errorf("cache %q, embeddings %q: %q (%v), want %q", tt.cache, tt.embeddings, opt.EmbeddingCache, err, tt.want)
		}
	}
	if _, err := (Options{EmbeddingCacheBytes: -1}).withDefaults(); err == nil {
		t.Error("no error of a negative size")
	}
}

// The hash of a file tells its weights apart: all of them, or those at the start of each tensor where the source is known.
func TestWeightsHash(t *testing.T) {
	hash := func(source, name string, first, last byte) string {
		t.Helper()
		path := filepath.Join(t.TempDir(), "x.gguf")
		kvs := []gguf.KV{{Key: "general.name", Value: name}}
		if source != "" {
			kvs = append(kvs, gguf.KV{Key: "tia2.source.sha256", Value: source})
		}
		w, err := gguf.Create(path, kvs, []gguf.Tensor{{Name: "a", Dims: []uint64{4096}, Type: gguf.F32}, {Name: "b", Dims: []uint64{8}, Type: gguf.F32}})
		if err != nil {
			t.Fatal(err)
		}
		defer w.Abort()
		for _, data := range [][]byte{make([]byte, 4*4096), append(make([]byte, 31), last)} {
			data[5] = first
			if err := w.WriteTensor(func(out io.Writer) error { _, err := out.Write(data); return err }); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Commit(); err != nil {
			t.Fatal(err)
		}
		sum, err := weightsHash(path)
		if err != nil {
			t.Fatal(err)
		}
		return sum
	}
	for _, source := range []string{"", "abc"} {
		base := hash(source, "m", 1, 2)
		if again := hash(source, "m", 1, 2); again != base {
			t.Errorf("source %q: equal files have the hashes %s and %s", source, base, again)
		}
		for what, other := range map[string]string{"source": hash(source+"d", "m", 1, 2), "name": hash(source, "n", 1, 2),
			"first tensor": hash(source, "m", 3, 2), "last byte": hash(source, "m", 1, 3)} {
			if other == base {
				t.Errorf("source %q: a file with another %s has the same hash", source, what)
			}
		}
	}
	if _, err := weightsHash(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("no error of a missing file")
	}
}

// A plan without some of its texts is that of the others.
func TestTextPlanDrop(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	var p, q textPlan
	for round := range 400 {
		ids := randomTexts(rng, rng.IntN(60))
		p.reset(ids, testEOT)
		marked := make([]bool, p.distinct())
		gone := map[int]bool{}
		for k := range marked {
			if marked[k] = rng.IntN(4) < round%5; marked[k] {
				for _, item := range p.items(k) {
					gone[item] = true
				}
			}
		}
		p.drop(marked)
		var rest [][]int32
		var index []int
		for i, text := range ids {
			if !gone[i] {
				rest, index = append(rest, text), append(index, i)
			}
		}
		q.reset(rest, testEOT)
		for i, item := range q.order {
			q.order[i] = index[item]
		}
		if !slices.Equal(p.order, q.order) || !slices.Equal(p.start, q.start) || !slices.Equal(p.lcp, q.lcp) || !slices.Equal(p.fresh, q.fresh) {
			t.Fatalf("round %d: %v %v %v %v, want %v %v %v %v", round, p.order, p.start, p.lcp, p.fresh, q.order, q.start, q.lcp, q.fresh)
		}
	}
}
