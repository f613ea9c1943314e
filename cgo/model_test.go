package cgo

import (
	"errors"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// The model that is part of the program: pictures of 64 x 64, 632 tokens, texts of at most 32, embeddings of width 128.
const demoPath = "../engine/internal/demo/model.gguf"

func openDemo(t testing.TB) *Model {
	t.Helper()
	m, err := OpenModel(demoPath, "cpu", 2)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

// handlesReach waits until n handles are alive: cleanups run on a goroutine of their own.
func handlesReach(n int) bool {
	for range 200 {
		if LiveHandles() == n {
			return true
		}
		time.Sleep(10 * time.Millisecond)
	}
	return false
}

// pictures returns the pixels of n pictures, no two alike.
func pictures(m *Model, n int) []uint8 {
	px := make([]uint8, n*3*m.info.ImageSize*m.info.ImageSize)
	for i := range px {
		px[i] = uint8(i*i>>8 + i*7)
	}
	return px
}

func TestOpenModelRefuses(t *testing.T) {
	dir := t.TempDir()
	whole, err := os.ReadFile(demoPath)
	if err != nil {
		t.Fatal(err)
	}
	file := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o666); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, tt := range []struct {
		name, path, device string
		threads            int
		kind               error
		message            string
	}{
		{"no file", filepath.Join(dir, "none.gguf"), "cpu", 1, ErrIO, "none.gguf: No such file"},
		{"no name", "", "cpu", 1, ErrIO, "No such file"},
		{"folder", dir, "cpu", 1, ErrIO, "cannot be mapped"},
		{"device file", "/dev/null", "cpu", 1, ErrIO, "cannot be mapped"},
		{"empty", file("empty.gguf", nil), "cpu", 1, ErrIO, "expected a file that is not empty"},
		{"text", file("text.gguf", []byte("a text file, not a model\n")), "cpu", 1, ErrModel, "text.gguf: not a GGUF file"},
		{"header only", file("header.gguf", whole[:4096]), "cpu", 1, ErrModel, "ends inside"},
		{"half", file("half.gguf", whole[:len(whole)/2]), "cpu", 1, ErrModel, "the file ends before tensor"},
		{"a byte short", file("short.gguf", whole[:len(whole)-64]), "cpu", 1, ErrModel, "the file ends before tensor"},
		{"device", demoPath, "gpu9", 1, ErrBackend, `no device "gpu9"`},
		{"no device", demoPath, "", 1, ErrBackend, `no device ""`},
		{"no threads", demoPath, "cpu", 0, ErrInvalid, "0 threads"},
		{"too many threads", demoPath, "cpu", 513, ErrInvalid, "513 threads"},
		{"threads beyond C's int", demoPath, "cpu", 1<<32 + 1, ErrInvalid, "threads"},
	} {
		m, err := OpenModel(tt.path, tt.device, tt.threads)
		if err == nil {
			m.Close()
		}
		if !errors.Is(err, tt.kind) || !strings.Contains(err.Error(), tt.message) {
			t.Errorf("%s: error %v, want %v with %q", tt.name, err, tt.kind, tt.message)
		}
	}
	if !handlesReach(0) {
		t.Errorf("%d handles are alive after failures", LiveHandles())
	}
}

func TestModelInfo(t *testing.T) {
	i := openDemo(t).Info()
	if i.Family != "clip" || i.Device == "" || i.EmbedDim != 128 || i.ImageSize != 64 || i.Context != 32 || i.VocabSize != 632 || i.ImageTokens != 65 {
		t.Errorf("info %+v", i)
	}
	// One row of the last block's query, projection and MLP, three layer norms, and the projection into the embedding.
	const pooled = 2*2*128*128 + 2*2*128*512 + 2*128*128 + 3*8*128
	if !(i.LogitScale > 1 && i.LogitScale < 200) || i.WeightsBytes < 1e6 || i.ImageFLOPs < 1e6 || i.TextFLOPsPerToken < 1e5 || i.TextFLOPsPooled != pooled {
		t.Errorf("info %+v", i)
	}
}

func TestEncodeTextsRefuses(t *testing.T) {
	m := openDemo(t)
	good := []int32{630, 320, 631}
	before := make([]float32, 128)
	if err := m.EncodeTexts(before, good, []int32{0, 3}, true); err != nil {
		t.Fatal(err)
	}
	many := make([]int32, 1<<14+2) // offsets of one text more than a batch may have
	for i := range many {
		many[i] = int32(i)
	}
	for _, tt := range []struct {
		name         string
		dst          int
		ids, offsets []int32
		message      string
	}{
		{"no offsets", 0, nil, nil, "offsets do not end where the ids end"},
		{"ids missing", 128, nil, []int32{0, 3}, "offsets do not end where the ids end"},
		{"ids left over", 128, good, []int32{0, 2}, "offsets do not end where the ids end"},
		{"late start", 128, good, []int32{1, 3}, "offsets start at 1"},
		{"negative start", 128, good, []int32{-1, 3}, "offsets start at -1"},
		{"beyond the ids and back", 256, good, []int32{0, 30, 3}, "text 1 has -27 tokens"},
		{"far beyond the ids and back", 256, good, []int32{0, math.MaxInt32, 3}, "text 0 has 2147483647 tokens"},
		{"below zero", 256, good, []int32{0, math.MinInt32, 3}, "text 0 has -2147483648 tokens"},
		{"empty text", 256, good, []int32{0, 0, 3}, "text 0 has 0 tokens"},
		{"longer than the context", 128, make([]int32, 33), []int32{0, 33}, "text 0 has 33 tokens, expected 1 to 32"},
		{"negative id", 128, []int32{630, -1, 631}, []int32{0, 3}, "token id -1, expected 0 to 631"},
		{"unknown id", 128, []int32{630, 632, 631}, []int32{0, 3}, "token id 632"},
		{"huge id", 256, []int32{630, 631, math.MaxInt32}, []int32{0, 2, 3}, "text 1 has token id 2147483647"},
		{"no dst", 0, good, []int32{0, 3}, "dst holds 0 floats, expected 128"},
		{"short dst", 127, good, []int32{0, 3}, "dst holds 127 floats"},
		{"long dst", 129, good, []int32{0, 3}, "dst holds 129 floats"},
		{"batch", len(many) * 128, make([]int32, len(many)-1), many, "batch of 16385, expected 0 to 16384"},
	} {
		err := m.EncodeTexts(make([]float32, tt.dst), tt.ids, tt.offsets, true)
		if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), tt.message) {
			t.Errorf("%s: error %v, want ErrInvalid with %q", tt.name, err, tt.message)
		}
	}
	if err := m.EncodeTexts(nil, nil, []int32{0}, true); err != nil {
		t.Errorf("a batch of none: %v", err)
	}
	after := make([]float32, 128)
	if err := m.EncodeTexts(after, good, []int32{0, 3}, true); err != nil || !slices.Equal(before, after) {
		t.Errorf("the model gives other numbers after errors (%v)", err)
	}
}

func TestEncodeImagesRefuses(t *testing.T) {
	m := openDemo(t)
	px, f32 := pictures(m, 2), make([]float32, 2*3*64*64)
	before := make([]float32, 2*128)
	if err := m.EncodeImagesU8(before, nil, px, 2, true); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name                   string
		dst, u8, floats, batch int
		message                string
	}{
		{"no pixels", 128, 0, 0, 1, "pixels do not hold"},
		{"short", 128, 3*64*64 - 1, 3*64*64 - 1, 1, "pixels do not hold"},
		{"other batch", 128, len(px), len(f32), 1, "pixels do not hold"},
		{"negative batch", 0, 0, 0, -1, "pixels do not hold"},
		{"batch that overflows", 0, 0, 0, math.MinInt64, "pixels do not hold"},
		{"huge batch", 0, 0, 0, 1 << 62, "pixels do not hold"},
		{"no dst", 0, len(px), len(f32), 2, "dst holds 0 floats, expected 256"},
		{"short dst", 255, len(px), len(f32), 2, "dst holds 255 floats"},
		{"long dst", 257, len(px), len(f32), 2, "dst holds 257 floats"},
	} {
		dst := make([]float32, tt.dst)
		for kind, err := range map[string]error{
			"u8":  m.EncodeImagesU8(dst, nil, px[:tt.u8], tt.batch, true),
			"f32": m.EncodeImagesF32(dst, nil, f32[:tt.floats], tt.batch, true),
		} {
			if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), tt.message) {
				t.Errorf("%s, %s: error %v, want ErrInvalid with %q", tt.name, kind, err, tt.message)
			}
		}
	}
	if err := errors.Join(m.EncodeImagesU8(nil, nil, nil, 0, true), m.EncodeImagesF32(nil, nil, nil, 0, true)); err != nil {
		t.Errorf("a batch of none: %v", err)
	}
	after := make([]float32, 2*128)
	if err := m.EncodeImagesU8(after, nil, px, 2, true); err != nil || !slices.Equal(before, after) {
		t.Errorf("the model gives other numbers after errors (%v)", err)
	}
}

func TestNormalize(t *testing.T) {
	m := openDemo(t)
	px := pictures(m, 1)
	raw, unit := make([]float32, 128), make([]float32, 128)
	if err := errors.Join(m.EncodeImagesU8(raw, nil, px, 1, false), m.EncodeImagesU8(unit, nil, px, 1, true)); err != nil {
		t.Fatal(err)
	}
	var rr, uu, ru float64
	for i := range raw {
		rr, uu, ru = rr+float64(raw[i])*float64(raw[i]), uu+float64(unit[i])*float64(unit[i]), ru+float64(raw[i])*float64(unit[i])
	}
	if math.Abs(uu-1) > 1e-6 || math.Abs(rr-1) < 1e-3 || math.Abs(ru/math.Sqrt(rr)-1) > 1e-6 {
		t.Errorf("|raw|^2 = %g, |unit|^2 = %g, raw . unit = %g", rr, uu, ru)
	}
}

func TestUseAfterClose(t *testing.T) {
	m := openDemo(t)
	info := m.Info()
	if err := errors.Join(m.Close(), m.Close()); err != nil {
		t.Fatal(err)
	}
	for name, err := range map[string]error{
		"EncodeTexts":     m.EncodeTexts(make([]float32, 128), []int32{630, 631}, []int32{0, 2}, true),
		"EncodeImagesU8":  m.EncodeImagesU8(make([]float32, 128), nil, pictures(m, 1), 1, true),
		"EncodeImagesF32": m.EncodeImagesF32(make([]float32, 128), nil, make([]float32, 3*64*64), 1, true),
		"an empty batch":  m.EncodeTexts(nil, nil, []int32{0}, true),
	} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("%s: error %v, want ErrClosed", name, err)
		}
	}
	m.SetProfile(true)
	if samples := m.Profile(); samples != nil {
		t.Errorf("Profile gives %v", samples)
	}
	if m.Info() != info {
		t.Errorf("Info changed to %+v", m.Info())
	}
}

// A model that nobody closed is freed once it cannot be reached.
func TestForgottenModelIsFreed(t *testing.T) {
	before := LiveHandles()
	func() {
		m, err := OpenModel(demoPath, "cpu", 1)
		if err != nil {
			t.Fatal(err)
		}
		if LiveHandles() != before+1 {
			t.Errorf("%d handles after opening one more than %d", LiveHandles(), before)
		}
		runtime.KeepAlive(m)
	}()
	runtime.GC()
	if !handlesReach(before) {
		t.Errorf("%d handles are alive, want %d", LiveHandles(), before)
	}
}

// One crossing of the language border for a batch, without a Go allocation.
func TestEncodeAllocatesNothing(t *testing.T) {
	m := openDemo(t)
	px, dst := pictures(m, 2), make([]float32, 2*128)
	f32 := make([]float32, len(px))
	ids, offsets := []int32{630, 320, 631, 630, 631}, []int32{0, 3, 5}
	for name, f := range map[string]func() error{
		"EncodeImagesU8":  func() error { return m.EncodeImagesU8(dst, nil, px, 2, true) },
		"EncodeImagesF32": func() error { return m.EncodeImagesF32(dst, nil, f32, 2, true) },
		"EncodeTexts":     func() error { return m.EncodeTexts(dst, ids, offsets, true) },
	} {
		if n := testing.AllocsPerRun(10, func() {
			if err := f(); err != nil {
				t.Fatal(err)
			}
		}); n != 0 {
			t.Errorf("%s: %g allocations a call, want 0", name, n)
		}
	}
}

func TestProfile(t *testing.T) {
	m := openDemo(t)
	dst, px := make([]float32, 2*128), pictures(m, 2)
	plain := make([]float32, 2*128)
	if err := m.EncodeImagesU8(plain, nil, px, 2, true); err != nil || len(m.Profile()) != 0 {
		t.Fatalf("%v; %d samples before profiling", err, len(m.Profile()))
	}
	m.SetProfile(true)
	for range 3 {
		if err := m.EncodeImagesU8(dst, nil, px, 2, true); err != nil {
			t.Fatal(err)
		}
	}
	if !slices.Equal(dst, plain) {
		t.Error("profiling changes the numbers")
	}
	var flops float64
	seen := map[string]bool{}
	for _, s := range m.Profile() {
		if s.Count != 3 || s.Time <= 0 || s.Bytes <= 0 || !strings.HasPrefix(s.Name, "image/") || seen[s.Name] {
			t.Errorf("sample %+v", s)
		}
		seen[s.Name] = true
		flops += s.FLOPs
	}
	if want := 3 * 2 * m.Info().ImageFLOPs; math.Abs(flops/want-1) > 1e-9 || !seen["image/blk.3/attn/qkv"] || !seen["image/blk.4/attn/kv"] {
		t.Errorf("%g FLOPs in the samples, want %g; ops %v", flops, want, seen)
	}
	m.SetProfile(true)
	if n := len(m.Profile()); n != 0 {
		t.Errorf("%d samples after a new start", n)
	}
	m.SetProfile(false)
}

// Calls from many goroutines queue for the model; Close waits for the running one, and the rest get ErrClosed.
func TestCloseWhileEncoding(t *testing.T) {
	m := openDemo(t)
	px := pictures(m, 2)
	var group sync.WaitGroup
	started := make(chan struct{}, 8)
	for range 8 {
		group.Go(func() {
			dst := make([]float32, 2*128)
			for {
				err := m.EncodeImagesU8(dst, nil, px, 2, true)
				if errors.Is(err, ErrClosed) {
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
	if err := m.Close(); err != nil {
		t.Error(err)
	}
	group.Wait()
}

// What ggml has to say of a damaged file reaches Go.
func TestLogReachesGo(t *testing.T) {
	data, err := os.ReadFile(demoPath)
	if err != nil {
		t.Fatal(err)
	}
	damaged := strings.Replace(string(data), "v.post_ln.weight", "t.post_ln.weight", 1)
	path := filepath.Join(t.TempDir(), "damaged.gguf")
	if err := os.WriteFile(path, []byte(damaged), 0o666); err != nil {
		t.Fatal(err)
	}
	DrainLog()
	if _, err := OpenModel(path, "cpu", 1); !errors.Is(err, ErrModel) {
		t.Errorf("error %v, want ErrModel", err)
	}
	if lines := DrainLog(); !slices.ContainsFunc(lines, func(l string) bool { return strings.Contains(l, "duplicate tensor name 't.post_ln.weight'") }) {
		t.Errorf("log %q", lines)
	}
	if lines := DrainLog(); lines != nil {
		t.Errorf("lines come twice: %q", lines)
	}
}
