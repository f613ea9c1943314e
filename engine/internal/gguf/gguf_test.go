package gguf

import (
	"bytes"
	"encoding/binary"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// everyKind is metadata with a value of each kind that the format knows.
var everyKind = []KV{
	{"general.architecture", "clip"}, {"bool", true}, {"u8", uint8(200)}, {"i8", int8(-3)}, {"u16", uint16(60000)}, {"i16", int16(-5)},
	{"u32", uint32(1 << 31)}, {"i32", int32(-7)}, {"u64", uint64(1 << 63)}, {"i64", int64(-9)}, {"f32", float32(0.5)}, {"f64", 0.25},
	{"strings", []string{"a b", "", "ü"}}, {"bools", []bool{true, false}}, {"u8s", []uint8{1, 2}}, {"i8s", []int8{-1}}, {"u16s", []uint16{3}},
	{"i16s", []int16{-3}}, {"u32s", []uint32{4}}, {"i32s", []int32{-4}}, {"u64s", []uint64{5}}, {"i64s", []int64{-5}},
	{"f32s", []float32{1, 2, 3}}, {"f64s", []float64{4}},
}

func write(t testing.TB, kvs []KV, tensors []Tensor, data [][]byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "x.gguf")
	w, err := Create(path, kvs, tensors)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	for _, b := range data {
		if err := w.WriteTensor(func(dst io.Writer) error { _, err := dst.Write(b); return err }); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Commit(); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestRoundTrip(t *testing.T) {
	tensors := []Tensor{{Name: "a", Dims: []uint64{3}, Type: F32}, {Name: "b", Dims: []uint64{32, 2}, Type: Q8_0}, {Name: "c", Dims: []uint64{5, 1, 2}, Type: BF16}}
	data := [][]byte{bytes.Repeat([]byte{1}, 12), bytes.Repeat([]byte{2}, 68), bytes.Repeat([]byte{3}, 20)}
	path := write(t, everyKind, tensors, data)
	g, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	if diff := cmp.Diff(everyKind, g.KVs); diff != "" {
		t.Error(diff)
	}
	if len(g.Tensors) != 3 || g.Str("general.architecture") != "clip" || g.Value("none") != nil {
		t.Errorf("got %d tensors, architecture %q", len(g.Tensors), g.Str("general.architecture"))
	}
	for i, want := range tensors {
		got := g.Tensor(want.Name)
		if got == nil || !cmp.Equal(got.Dims, want.Dims) || got.Type != want.Type {
			t.Fatalf("tensor %s: got %+v", want.Name, got)
		}
		r, err := g.Data(got)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(r); err != nil || !bytes.Equal(b, data[i]) {
			t.Errorf("tensor %s: got % x, %v", want.Name, b, err)
		}
	}
}

func TestHeaderOnly(t *testing.T) {
	tensors := []Tensor{{Name: "big", Dims: []uint64{1 << 20, 1 << 10}, Type: F32}}
	g, err := Open(write(t, []KV{{SeedKey, uint64(1)}}, tensors, nil))
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	if g.HasData() {
		t.Error("a file with a seed says that it has data")
	}
	if _, err := g.Data(g.Tensor("big")); err == nil {
		t.Error("data of a file without data")
	}
	if _, err := Open(write(t, nil, tensors, nil)); err == nil || !strings.Contains(err.Error(), "cut off") {
		t.Errorf("a file without data and seed: %v", err)
	}
}

func TestWriterRefuses(t *testing.T) {
	dir := t.TempDir()
	for name, c := range map[string]struct {
		kvs     []KV
		tensors []Tensor
	}{
		"double key":       {[]KV{{"a", true}, {"a", false}}, nil},
		"unknown value":    {[]KV{{"a", struct{}{}}}, nil},
		"double tensor":    {nil, []Tensor{{Name: "a", Dims: []uint64{1}}, {Name: "a", Dims: []uint64{1}}}},
		"long name":        {nil, []Tensor{{Name: strings.Repeat("a", 64), Dims: []uint64{1}}}},
		"ragged q8_0 rows": {nil, []Tensor{{Name: "a", Dims: []uint64{33}, Type: Q8_0}}},
		"empty":            {nil, []Tensor{{Name: "a", Dims: []uint64{0}}}},
		"overflow":         {nil, []Tensor{{Name: "a", Dims: []uint64{1 << 40, 1 << 40}}}},
	} {
		if _, err := Create(filepath.Join(dir, "x"), c.kvs, c.tensors); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	w, err := Create(filepath.Join(dir, "x"), nil, []Tensor{{Name: "a", Dims: []uint64{2}}, {Name: "b", Dims: []uint64{2}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.WriteTensor(func(dst io.Writer) error { _, err := dst.Write(make([]byte, 7)); return err }); err == nil {
		t.Error("7 bytes for a tensor of 8: no error")
	}
	if err := w.Commit(); err == nil {
		t.Error("Commit after an error: no error")
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 0 {
		t.Errorf("left behind: %v", entries)
	}
}

// header builds damaged files by hand.
type header struct{ bytes.Buffer }

func (h *header) put(values ...any) *header {
	for _, v := range values {
		if s, ok := v.(string); ok {
			binary.Write(h, binary.LittleEndian, uint64(len(s)))
			h.WriteString(s)
			continue
		}
		binary.Write(h, binary.LittleEndian, v)
	}
	return h
}

func start(version uint32, tensors, kvs uint64) *header {
	h := &header{}
	h.WriteString("GGUF")
	return h.put(version, tensors, kvs)
}

func damaged() map[string]*header {
	info := func(h *header, name string, offset uint64, dims ...uint64) *header {
		h.put(name, uint32(len(dims))).put(anys(dims)...)
		return h.put(uint32(0), offset)
	}
	misplaced := info(start(3, 1, 0), "a", 32, 4)
	overlap := info(info(start(3, 2, 0), "a", 0, 64), "b", 32, 64)
	overlap.Write(make([]byte, 4096))
	misplaced.Write(make([]byte, 4096))
	return map[string]*header{
		"version 1":          start(1, 0, 0),
		"big-endian":         start(3<<24, 0, 0),
		"many tensors":       start(3, 1<<60, 0),
		"many keys":          start(3, 0, 1<<60),
		"cut":                start(3, 0, 1),
		"long key":           start(3, 0, 1).put(uint64(1 << 40)),
		"long string":        start(3, 0, 1).put("k", kindString, uint64(1<<62)),
		"long array":         start(3, 0, 1).put("k", kindArray, kindU64, uint64(1<<61)),
		"nested array":       start(3, 0, 1).put("k", kindArray, kindArray, uint64(1)),
		"unknown kind":       start(3, 0, 1).put("k", uint32(77)),
		"bool of 2":          start(3, 0, 1).put("k", kindBool, uint8(2)),
		"double key":         start(3, 0, 2).put("k", kindU8, uint8(1), "k", kindU8, uint8(1)),
		"alignment 3":        start(3, 0, 1).put("general.alignment", kindU32, uint32(3)),
		"alignment 0":        start(3, 0, 1).put("general.alignment", kindU32, uint32(0)),
		"five dimensions":    info(start(3, 1, 0), "a", 0, 1, 1, 1, 1, 1),
		"no dimensions":      info(start(3, 1, 0), "a", 0),
		"overflow":           info(start(3, 1, 0), "a", 0, 1<<32, 1<<32),
		"no data":            info(start(3, 1, 0), "a", 0, 4),
		"offset of nowhere":  info(start(3, 1, 0), "a", 1<<63, 4),
		"offset not in line": misplaced,
		"overlap":            overlap,
	}
}

// anys passes dims on to put.
func anys(dims []uint64) []any {
	var out []any
	for _, d := range dims {
		out = append(out, d)
	}
	return out
}

func TestReaderRefuses(t *testing.T) {
	for name, h := range damaged() {
		_, err := Read(bytes.NewReader(h.Bytes()), int64(h.Len()), "bad.gguf")
		if err == nil || !strings.HasPrefix(err.Error(), "bad.gguf: ") {
			t.Errorf("%s: got error %v", name, err)
		}
	}
	if _, err := Read(strings.NewReader("PK"), 2, "x"); err == nil || !strings.Contains(err.Error(), "not a GGUF") {
		t.Errorf("not a GGUF file: %v", err)
	}
}

func TestEveryCutIsRefused(t *testing.T) {
	path := write(t, everyKind, []Tensor{{Name: "a", Dims: []uint64{8}, Type: F32}}, [][]byte{make([]byte, 32)})
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for n := range len(whole) {
		if _, err := Read(bytes.NewReader(whole[:n]), int64(n), "cut"); err == nil {
			t.Fatalf("%d of %d bytes: no error", n, len(whole))
		}
	}
}

func FuzzGGUF(f *testing.F) {
	path := write(f, everyKind, []Tensor{{Name: "a", Dims: []uint64{8}, Type: F32}}, [][]byte{make([]byte, 32)})
	whole, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	for _, h := range damaged() {
		f.Add(h.Bytes())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		g, err := Read(bytes.NewReader(b), int64(len(b)), "fuzz")
		if err != nil {
			return
		}
		for i := range g.Tensors {
			if !g.HasData() {
				break
			}
			r, err := g.Data(&g.Tensors[i])
			if err != nil {
				t.Fatal(err)
			}
			if n, err := io.Copy(io.Discard, r); err != nil || uint64(n) != g.Tensors[i].Bytes {
				t.Fatalf("tensor %d: read %d of %d bytes, %v", i, n, g.Tensors[i].Bytes, err)
			}
		}
	})
}
