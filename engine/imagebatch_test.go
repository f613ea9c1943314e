package engine

import (
	"bytes"
	"context"
	"errors"
	"image"
	"image/color"
	"image/png"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
)

// Every number is taken once, whatever the threads; f's word or the context's end stops it, and what it returns was not
// taken.
func TestParallel(t *testing.T) {
	for _, threads := range []int{1, 2, 7} {
		for _, n := range []int{0, 1, 5, 100} {
			for _, stopAt := range []int{-1, 3} {
				var mu sync.Mutex
				var taken []int
				to := parallel(context.Background(), threads, 2, 2+n, func(i int) bool {
					mu.Lock()
					defer mu.Unlock()
					taken = append(taken, i)
					return i != stopAt
				})
				slices.Sort(taken)
				for k, i := range taken {
					if i != 2+k {
						t.Fatalf("%d threads took %v", threads, taken)
					}
				}
				if to != 2+len(taken) {
					t.Errorf("%d threads took %d numbers from 2 on and returned %d", threads, len(taken), to)
				}
				if stopAt < 0 && len(taken) != n || stopAt >= 0 && n > 50 && len(taken) > 50 {
					t.Errorf("%d threads, stopped at %d: took %d of %d", threads, stopAt, len(taken), n)
				}
			}
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if to := parallel(ctx, 2, 3, 9, func(int) bool { t.Error("called"); return true }); to != 3 {
		t.Errorf("an ended context: %d, want 3", to)
	}
}

// Each tower gets the pixels of the pictures that it lacks and that its preprocessing could make, in order and without
// holes; a picture that cannot be read fails in the towers that lack it, with one error.
func TestWindowBatches(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	inputs := []imageInput{{Preprocess: Preprocess{Pipeline: "openai", Size: 1}}, {Preprocess: Preprocess{Pipeline: "hpsv2", Size: 1}}}
	var w imageWindow
	for range 300 {
		n := 1 + rng.IntN(9)
		var towers []*tower
		for range 1 + rng.IntN(4) {
			tw := &tower{input: rng.IntN(2)}
			if rng.IntN(3) > 0 {
				tw.out = newEmbeddings(2*n, 2)
			}
			towers = append(towers, tw)
		}
		w.reset(inputs, len(towers), n)
		for i := range n {
			w.pictures = append(w.pictures, picture{index: 2 * i, lacks: rng.Uint64()})
			if rng.IntN(6) == 0 {
				w.pictures[i].err = ErrImage
			}
			for k := range inputs {
				if rng.IntN(5) == 0 {
					w.pixels[k].errs[i] = ErrImage
				}
			}
			for c := range 3 {
				w.pixels[0].u8[3*i+c], w.pixels[1].f32[3*i+c] = uint8(10*i+c), float32(10*i+c)
			}
		}
		w.sort(towers)
		failures := map[int]bool{}
		for k, tw := range towers {
			var want []int
			for i := range n {
				lacks, bad := w.pictures[i].lacks>>k&1 == 1, w.err(i, tw.input) != nil
				if lacks && !bad {
					want = append(want, i)
				}
				if lacks && bad {
					failures[2*i] = true
				}
			}
			if !slices.Equal(w.places[k], want) {
				t.Fatalf("tower %d gets the pictures %v, want %v", k, w.places[k], want)
			}
			for from := range want {
				px := w.batch(tw.input, want[from:])
				values := px.F32
				for _, v := range px.U8 {
					values = append(values, float32(v))
				}
				if px.N != len(want)-from || len(values) != 3*px.N || (tw.input == 1) != (px.F32 != nil) {
					t.Fatalf("%d pictures of %v: %+v", from, want, px)
				}
				for j, i := range want[from:] {
					if values[3*j] != float32(10*i) || values[3*j+2] != float32(10*i+2) {
						t.Fatalf("picture %d has the pixels %v", i, values[3*j:3*j+3])
					}
				}
			}
		}
		items := w.appendFailed(nil, towers)
		for _, item := range items {
			if !failures[item.Index] {
				t.Fatalf("picture %d failed, or did so twice; want %v once each", item.Index, failures)
			}
			delete(failures, item.Index)
		}
		if len(failures) > 0 {
			t.Fatalf("pictures %v did not fail", failures)
		}
		for k, tw := range towers {
			for i := 0; i < n && tw.out.Dim > 0; i++ {
				bad := w.pictures[i].lacks>>k&1 == 1 && w.err(i, tw.input) != nil
				if row, beside := tw.out.Row(2*i), tw.out.Row(2*i+1); (row[0] != row[0]) != bad || (row[1] != row[1]) != bad || beside[0] != 0 || beside[1] != 0 {
					t.Fatalf("picture %d of tower %d has the row %v, bad: %t; beside it is %v", i, k, row, bad, beside)
				}
			}
		}
	}
}

// Models share the pixels of their pictures where they are the same.
func TestPipeSharesPixels(t *testing.T) {
	a := Preprocess{Pipeline: "openai", Size: 224, Mean: [3]float32{1, 2, 3}, Std: [3]float32{1, 1, 1}}
	mean, float, size, limits, alias := a, a, a, a, a
	mean.Mean[0] = 9
	float.Pipeline, size.Size, limits.Limits.PixelsMax, alias.Pipeline = "hpsv2", 384, 1, "open_clip"
	floatMean := float
	floatMean.Mean[0] = 9
	var towers []*tower
	for _, p := range []Preprocess{a, mean, float, size, limits, alias, floatMean, float} {
		towers = append(towers, &tower{m: &Model{preprocess: p, opt: Options{Threads: 1, Batch: 8}}})
	}
	p, err := newImagePipe(nil, towers)
	if err != nil {
		t.Fatal(err)
	}
	var got []int
	for _, tw := range towers {
		got = append(got, tw.input)
	}
	if want := []int{0, 0, 1, 2, 3, 0, 4, 1}; !slices.Equal(got, want) || p.inputs[0].towers != 1|2|32 {
		t.Errorf("inputs %v, want %v; the first one's towers are %b", got, want, p.inputs[0].towers)
	}
	if _, err := newImagePipe(nil, make([]*tower, towersMax+1)); !errors.Is(err, ErrInvalid) {
		t.Errorf("too many models: error %v, want ErrInvalid", err)
	}
}

// testPictures returns n PNG files, no two alike.
func testPictures(t *testing.T, n int) []Image {
	t.Helper()
	images := make([]Image, n)
	for i := range images {
		img := image.NewRGBA(image.Rect(0, 0, 70+i, 90))
		for j := range 70 * 90 {
			img.Set(j%70, j/70, color.RGBA{uint8(j * (i + 1)), uint8(j >> 3), uint8(40 * i), 255})
		}
		var file bytes.Buffer
		if err := png.Encode(&file, img); err != nil {
			t.Fatal(err)
		}
		images[i] = Image{Name: "picture", Data: file.Bytes()}
	}
	return images
}

// openTestModel opens the demo model; as another device's, it prepares pictures while it encodes.
func openTestModel(t *testing.T, opt Options, elsewhere bool) *Model {
	t.Helper()
	opt.Backend, opt.CacheDir = "cpu", t.TempDir()
	m, err := Open(context.Background(), "demo", opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	if elsewhere {
		m.info.Backend = "elsewhere"
	}
	return m
}

// Pictures get the same rows whether they are decoded between batches or beside them, and the call leaves nothing of
// them behind: neither goroutines nor windows that keep their bytes.
func TestEncodeImagesBetweenAndBesideBatches(t *testing.T) {
	images := testPictures(t, 11)
	images[4] = Image{Name: "missing", Path: filepath.Join(t.TempDir(), "missing.png")}
	var want Embeddings
	for _, elsewhere := range []bool{false, true} {
		for _, opt := range []Options{{Batch: 4, Threads: 1}, {Batch: 1, Threads: 2}, {Batch: 32, Threads: 3}} {
			m := openTestModel(t, opt, elsewhere)
			got, err := m.EncodeImages(context.Background(), images)
			if items, other := SplitItemErrors(err); other != nil || len(items) != 1 || items[0].Index != 4 {
				t.Fatalf("%+v: error %v, want one of picture 4", opt, err)
			}
			if want.Data == nil {
				want = got
			}
			for i, v := range got.Data {
				if w := want.Data[i]; i/got.Dim != 4 && !(math.Abs(float64(v)-float64(w)) <= 2e-6) || i/got.Dim == 4 && v == v {
					t.Fatalf("%+v, beside batches: %t: value %d of picture %d is %g, first %g", opt, elsewhere, i%got.Dim, i/got.Dim, v, w)
				}
			}
			ctx, cancel := context.WithCancel(context.Background())
			m.opt.Progress = func(string, int, int) { cancel() }
			if _, err := m.EncodeImages(ctx, images); !errors.Is(err, context.Canceled) {
				t.Errorf("%+v: error %v, want context.Canceled", opt, err)
			}
			m.Close()
		}
	}
	for range 8 {
		w := imageWindows.Get().(*imageWindow)
		if slices.ContainsFunc(w.pictures[:cap(w.pictures)], func(p picture) bool { return p.data != nil || p.Data != nil }) {
			t.Error("a window that waits for its next use keeps pictures")
		}
	}
}

// Files are read ahead until they have so many bytes together; pictures in memory do not count.
func TestReadAheadIsBounded(t *testing.T) {
	half := make([]byte, readAheadBytes/2+1)
	path := filepath.Join(t.TempDir(), "half")
	if err := os.WriteFile(path, half, 0o666); err != nil {
		t.Fatal(err)
	}
	images := []Image{File(path), File(path), File(path), {Data: half}, {Data: half}, {Data: half}, {Name: "bad"}}
	m := &Model{opt: Options{Threads: 1, Batch: 8}, info: Info{Backend: "cpu"}, exec: executorFor("CPU"), preprocess: Preprocess{Pipeline: "openai", Size: 224, Std: [3]float32{1, 1, 1}}}
	p, err := newImagePipe(images, []*tower{{m: m}})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range [][2]int{{0, 2}, {1, 3}, {3, 7}, {7, 7}} { // two halves are too much
		p.next = tt[0]
		if p.take(context.Background(), 8); p.next != tt[1] || len(p.taken) != tt[1]-tt[0] {
			t.Errorf("took %d pictures up to %d from %d on, want up to %d", len(p.taken), p.next, tt[0], tt[1])
		}
		for _, pic := range p.taken {
			if (pic.err != nil) != (pic.index == 6) || pic.index < 6 && len(pic.data) != len(half) {
				t.Errorf("picture %d: %d bytes, error %v", pic.index, len(pic.data), pic.err)
			}
		}
	}
}

// Files that are larger than what is read ahead are read and refused one after another; the others are as without them.
func TestLargeFiles(t *testing.T) {
	dir := t.TempDir()
	images := testPictures(t, 5)
	for i, name := range []string{"a", "b", "c"} {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.WriteFile(path, nil, 0o666), os.Truncate(path, readAheadBytes/2+1)); err != nil {
			t.Fatal(err)
		}
		images = slices.Insert(images, 2*i, File(path))
	}
	path := filepath.Join(dir, "over")
	if err := errors.Join(os.WriteFile(path, nil, 0o666), os.Truncate(path, readAheadBytes+2)); err != nil {
		t.Fatal(err)
	}
	images = append(images, File(path))
	for _, elsewhere := range []bool{false, true} {
		m := openTestModel(t, Options{Batch: 3, Threads: 2, Limits: ImageLimits{BytesMax: readAheadBytes}}, elsewhere)
		_, err := m.EncodeImages(context.Background(), images)
		items, other := SplitItemErrors(err)
		var failed []int
		for _, item := range items {
			failed = append(failed, item.Index)
		}
		if other != nil || !slices.Equal(failed, []int{0, 2, 4, 8}) || !errors.Is(err, ErrImage) {
			t.Errorf("error %v, pictures %v failed, want 0, 2, 4 and 8", err, failed)
		}
	}
}
