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

// The pixels of good pictures are moved to the front, their embeddings back to their own rows.
func TestWindowPackAndSpread(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	var w imageWindow
	for round := range 300 {
		pipeline := []string{"openai", "hpsv2"}[round%2]
		n, first := 1+rng.IntN(9), rng.IntN(3)
		w.reset(Preprocess{Pipeline: pipeline, Size: 1}, make([]Image, n), first)
		var good []int
		for i := range n {
			if rng.IntN(3) == 0 {
				w.errs[i] = ErrImage
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
		out := Embeddings{N: first + n + 1, Dim: 2, Data: make([]float32, (first+n+1)*2)}
		for k, i := range good { // the embedding of a picture is its first and last value
			px := w.batch(k, k+1)
			values := px.F32
			for _, v := range px.U8 {
				values = append(values, float32(v))
			}
			if len(values) != 3 || values[0] != float32(10*i) || values[2] != float32(10*i+2) {
				t.Fatalf("picture %d of %v has the values %v", i, good, values)
			}
			copy(out.Row(first+k), []float32{values[0], values[2]})
		}
		w.spread(out)
		for i := range n {
			row := out.Row(first + i)
			if bad := w.errs[i] != nil; bad != math.IsNaN(float64(row[0])) || bad != math.IsNaN(float64(row[1])) ||
				!bad && (row[0] != float32(10*i) || row[1] != float32(10*i+2)) {
				t.Fatalf("row %d is %v, bad: %t, good pictures %v", i, row, bad, good)
			}
		}
		if last := out.Row(first + n); last[0] != 0 || last[1] != 0 {
			t.Fatalf("the row behind the window is %v", last)
		}
		if failed := w.appendFailed(nil); len(failed) != n-len(good) {
			t.Fatalf("%d failed, want %d", len(failed), n-len(good))
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
		if w.images != nil || slices.ContainsFunc(w.data[:cap(w.data)], func(b []byte) bool { return b != nil }) {
			t.Error("a window that waits for its next use keeps pictures")
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
