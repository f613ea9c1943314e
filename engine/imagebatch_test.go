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

	"github.com/tia2-engine/tia2-engine/engine/internal/embedcache"
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

// The pixels of good pictures are moved to the front, their embeddings to their rows of the call.
func TestWindowPackAndSpread(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	var w imageWindow
	for round := range 300 {
		pipeline := []string{"openai", "hpsv2"}[round%2]
		n, first := 1+rng.IntN(9), rng.IntN(3)
		w.reset(Preprocess{Pipeline: pipeline, Size: 1}, n)
		var good []int
		for i := range n {
			w.pictures = append(w.pictures, picture{index: first + 2*i, key: embedcache.Key{byte(i)}})
			if rng.IntN(3) == 0 {
				w.pictures[i].err = ErrImage
			} else {
				good = append(good, i)
			}
			for c := range 3 {
				if pipeline == "hpsv2" {
					w.f32[3*i+c] = float32(10*i + c)
				} else {
					w.u8[3*i+c] = uint8(10*i + c)
				}
			}
		}
		w.pack()
		if !slices.Equal(w.good, good) {
			t.Fatalf("good pictures %v, want %v", w.good, good)
		}
		out := Embeddings{N: first + 2*n, Dim: 2, Data: make([]float32, (first+2*n)*2)}
		for k, i := range good { // the embedding of a picture is its first and last value
			px, rows := w.batch(k, k+1, 2)
			values := px.F32
			for _, v := range px.U8 {
				values = append(values, float32(v))
			}
			if len(values) != 3 || values[0] != float32(10*i) || values[2] != float32(10*i+2) {
				t.Fatalf("picture %d of %v has the values %v", i, good, values)
			}
			if len(rows) != 2 || w.keys[k] != (embedcache.Key{byte(i)}) {
				t.Fatalf("picture %d of %v has room for %d values and the key %v", i, good, len(rows), w.keys[k])
			}
			w.spread(k, []float32{values[0], values[2]}, out)
		}
		if failed := w.appendFailed(nil, out); len(failed) != n-len(good) {
			t.Fatalf("%d failed, want %d", len(failed), n-len(good))
		}
		for i := range n {
			row, beside := out.Row(first+2*i), out.Row(first+2*i+1)
			if beside[0] != 0 || beside[1] != 0 {
				t.Fatalf("the row of a picture that is not in the window is %v", beside)
			}
			if bad := w.pictures[i].err != nil; bad != math.IsNaN(float64(row[0])) || bad != math.IsNaN(float64(row[1])) ||
				!bad && (row[0] != float32(10*i) || row[1] != float32(10*i+2)) {
				t.Fatalf("row %d is %v, bad: %t, good pictures %v", i, row, bad, good)
			}
		}
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
	m := &Model{opt: Options{Threads: 1}, info: Info{Backend: "cpu"}}
	p := &imagePipe{model: m, images: images, size: 8}
	for _, tt := range [][2]int{{0, 2}, {1, 3}, {3, 7}, {7, 7}} { // two halves are too much
		p.next = tt[0]
		if p.take(context.Background(), 8); p.next != tt[1] || len(p.run) != tt[1]-tt[0] {
			t.Errorf("took %d pictures up to %d from %d on, want up to %d", len(p.run), p.next, tt[0], tt[1])
		}
		for _, pic := range p.run {
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
