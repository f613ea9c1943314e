package tensorfile

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// expected is testdata/expect.json: see testdata/make_files.py.
type expected map[string]struct {
	Shape  []int64
	Values []float64
}

func readExpected(t *testing.T) (e expected) {
	t.Helper()
	b, err := os.ReadFile("testdata/expect.json")
	if err == nil {
		err = json.Unmarshal(b, &e)
	}
	if err != nil || len(e) != 6 {
		t.Fatalf("%d tensors expected, %v", len(e), err)
	}
	return e
}

func TestEveryContainerReadsTheSame(t *testing.T) {
	want := readExpected(t)
	types := map[string]DType{"a": F32, "b": F16, "c": BF16, "d": F64, "ids": I64, "s": F32}
	for file, container := range map[string]Container{"plain.safetensors": Safetensors, "zip.pt": TorchZip, "deflated.pt": TorchZip,
		"legacy.pt": TorchLegacy, "wrapped.pt": TorchZip, "wrapped_twice.pt": TorchLegacy, "script.pt": TorchScript} {
		f, err := Open(filepath.Join("testdata", file))
		if err != nil {
			t.Error(err)
			continue
		}
		if f.Container != container || len(f.Tensors) != len(want) {
			t.Errorf("%s: %d tensors in %q: expected %d in %q", file, len(f.Tensors), f.Container, len(want), container)
		}
		for name, w := range want {
			if container == TorchScript && (name == "c" || name == "d") {
				name = "inner." + name
			}
			got := f.Tensor(name)
			if got == nil {
				t.Errorf("%s: no tensor %s", file, name)
				continue
			}
			if base := name[strings.LastIndex(name, ".")+1:]; !slices.Equal(got.Shape, w.Shape) || got.DType != types[base] {
				t.Errorf("%s: %s is %v of %s: expected %v of %s", file, name, got.Shape, got.DType, w.Shape, types[base])
			}
			checkValues(t, got, w.Values)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
}

// checkValues compares a tensor, read whole and in pieces of one row.
func checkValues(t *testing.T, got *Tensor, want []float64) {
	t.Helper()
	values, err := got.Floats()
	if !got.DType.IsFloat() {
		if err == nil || !strings.Contains(err.Error(), "expected a float") {
			t.Errorf("%s: %v", got, err)
		}
		return
	}
	if err != nil || len(values) != len(want) {
		t.Errorf("%s: %d values, %v: expected %d", got, len(values), err, len(want))
		return
	}
	for i, w := range want {
		if float64(values[i]) != w {
			t.Errorf("%s: value %d is %g: expected %g", got, i, values[i], w)
		}
	}
}

func TestSharedStorage(t *testing.T) {
	f, err := Open("testdata/shared.pt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	checkValues(t, f.Tensor("x"), []float64{0, 1, 2, 3})
	checkValues(t, f.Tensor("y"), []float64{2, 3, 4, 5})
	if z := f.Tensor("z"); z == nil || z.DType != Other {
		t.Errorf("the sparse tensor: %+v", z)
	}
}

func TestHostileFiles(t *testing.T) {
	for file, want := range map[string]string{
		"bad_system.pt": "refused pickle global posix.system", "bad_legacy_system.pt": "refused pickle global posix.system",
		"bad_eval.pt": "refused pickle global __builtin__.eval", "bad_getattr.pt": "refused pickle global __builtin__.getattr",
		"bad_load_from_bytes.pt": "refused pickle global torch.storage._load_from_bytes", "bad_module.pt": "refused pickle global torch.nn.modules.linear.Linear",
		"bad_tensorless.pt": `no tensors: the top level holds "epoch", "args"`, "bad_pickle.pt": "not one of torch.save",
	} {
		path := filepath.Join("testdata", file)
		f, err := Open(path)
		if err == nil {
			f.Close()
		}
		if err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), path) {
			t.Errorf("%s: error %v: expected one with %q", file, err, want)
		}
	}
}

func TestNotACheckpoint(t *testing.T) {
	tar := make([]byte, 512)
	copy(tar[257:], "ustar")
	for want, content := range map[string]string{
		"Git LFS": "version https://git-lfs.github.com/spec/v1\n", "web page": "<!DOCTYPE html>", "GGUF": "GGUF\x03", "0.1.10": string(tar),
		"not a checkpoint": "hello", "expected safetensors": "",
	} {
		_, err := read(strings.NewReader(content), int64(len(content)), "x")
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.20q: %v: expected %q", content, err, want)
		}
	}
	if _, err := Open(t.TempDir()); err == nil {
		t.Error("a folder: no error")
	}
}

// Every prefix of a file must be an error or, where the cut is in the values, one when they are read.
func TestEveryCutIsRefused(t *testing.T) {
	for _, file := range []string{"plain.safetensors", "zip.pt", "legacy.pt", "script.pt", "deflated.pt"} {
		whole, err := os.ReadFile(filepath.Join("testdata", file))
		if err != nil {
			t.Fatal(err)
		}
		for n := range len(whole) {
			if _, err := read(bytes.NewReader(whole[:n]), int64(n), file); err == nil {
				t.Errorf("%s: %d of %d bytes: no error", file, n, len(whole))
				break
			}
		}
	}
}

// safetensors builds a file of a header and n bytes of data.
func safetensors(header string, n int) []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	return append(append(b, header...), make([]byte, n)...)
}

func lyingHeaders() map[string][]byte {
	t := func(dtype, shape, offsets string) string {
		return fmt.Sprintf(`{"dtype":%q,"shape":%s,"data_offsets":%s}`, dtype, shape, offsets)
	}
	one := func(s string) string { return `{"a":` + s + `}` }
	return map[string][]byte{
		"gap":             safetensors(`{"a":`+t("F32", "[1]", "[0,4]")+`,"b":`+t("F32", "[1]", "[8,12]")+`}`, 12),
		"overlap":         safetensors(`{"a":`+t("F32", "[2]", "[0,8]")+`,"b":`+t("F32", "[2]", "[4,12]")+`}`, 12),
		"same bytes":      safetensors(`{"a":`+t("F32", "[1]", "[0,4]")+`,"b":`+t("F32", "[1]", "[0,4]")+`}`, 4),
		"data left over":  safetensors(one(t("F32", "[1]", "[0,4]")), 5),
		"cut":             safetensors(one(t("F32", "[2]", "[0,8]")), 7),
		"wrong size":      safetensors(one(t("F32", "[3]", "[0,8]")), 8),
		"backwards":       safetensors(one(t("F32", "[1]", "[4,0]")), 4),
		"negative offset": safetensors(one(t("F32", "[1]", "[-4,0]")), 4),
		"one offset":      safetensors(one(t("F32", "[1]", "[0]")), 4),
		"overflow":        safetensors(one(t("F32", "[4294967296,4294967296]", "[0,0]")), 0),
		"negative shape":  safetensors(one(t("F32", "[-1,-1]", "[0,4]")), 4),
		"huge number":     safetensors(one(t("F32", "[1e30]", "[0,4]")), 4),
		"unknown type":    safetensors(one(t("F31", "[1]", "[0,4]")), 4),
		"many dimensions": safetensors(one(t("F32", "["+strings.Repeat("1,", 40)+"1]", "[0,4]")), 4),
		"name twice":      safetensors(`{"a":`+t("F32", "[1]", "[0,4]")+`,"a":`+t("F32", "[1]", "[4,8]")+`}`, 8),
		"not JSON":        safetensors(`{"a":`, 0),
		"two objects":     safetensors(`{}{}`, 0),
		"a list in it":    safetensors(`{"a":[1]}`, 0),
		"header too long": append(binary.LittleEndian.AppendUint64(nil, 1<<62), "{}"...),
		"header cut":      append(binary.LittleEndian.AppendUint64(nil, 100), "{}"...),
	}
}

func TestLyingSafetensors(t *testing.T) {
	for name, b := range lyingHeaders() {
		if _, err := read(bytes.NewReader(b), int64(len(b)), "bad.safetensors"); err == nil || !strings.HasPrefix(err.Error(), "bad.safetensors: ") {
			t.Errorf("%s: error %v", name, err)
		}
	}
	b := safetensors(`{"__metadata__":{"format":"pt"},"e":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},"a":{"dtype":"F32","shape":[],"data_offsets":[0,4]}}   `, 4)
	if f, err := read(bytes.NewReader(b), int64(len(b)), "good"); err != nil || len(f.Tensors) != 2 {
		t.Errorf("an empty tensor and a padded header: %v", err)
	}
}

func TestViewsStayInTheirStorage(t *testing.T) {
	for name, c := range map[string]struct {
		offset         int64
		shape, strides []int64
		ok             bool
	}{
		"whole":            {0, []int64{2, 5}, []int64{5, 1}, true},
		"transposed":       {0, []int64{5, 2}, []int64{1, 5}, true},
		"last element":     {9, []int64{1}, []int64{1}, true},
		"past the end":     {10, []int64{1}, []int64{1}, false},
		"offset too large": {1, []int64{5, 2}, []int64{1, 5}, false},
		"stride too large": {0, []int64{2}, []int64{10}, false},
		"stride overflow":  {0, []int64{3, 3}, []int64{1 << 62, 1 << 62}, false},
		"negative stride":  {0, []int64{2}, []int64{-1}, false},
		"negative offset":  {-1, []int64{2}, []int64{1}, false},
		"expanded beyond":  {0, []int64{1 << 40}, []int64{0}, false},
		"expanded":         {0, []int64{10}, []int64{0}, true},
		"wrong rank":       {0, []int64{2}, []int64{1, 1}, false},
		"shape overflow":   {0, []int64{1 << 32, 1 << 32}, nil, false},
	} {
		raw := make(bytesAt, 40)
		v, err := newView("v", "f", F32, raw, 40, c.offset, c.shape, c.strides)
		if (err == nil) != c.ok {
			t.Errorf("%s: error %v", name, err)
		}
		if err == nil {
			if _, err := v.Floats(); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

func TestShards(t *testing.T) {
	dir := t.TempDir()
	put := func(name string, b []byte) {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	one := func(tensor string) []byte {
		return safetensors(`{"`+tensor+`":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}`, 4)
	}
	put("m-1.safetensors", one("a"))
	put("m-2.safetensors", one("b"))
	index := filepath.Join(dir, "m.safetensors.index.json")
	for name, c := range map[string]struct {
		index, want string
	}{
		"good":          {`{"weight_map":{"a":"m-1.safetensors","b":"m-2.safetensors"}}`, ""},
		"missing shard": {`{"weight_map":{"a":"m-3.safetensors"}}`, "m-3.safetensors"},
		"wrong shard":   {`{"weight_map":{"a":"m-2.safetensors"}}`, "tensor a is not in m-2.safetensors"},
		"outside":       {`{"weight_map":{"a":"../m-1.safetensors"}}`, "same folder"},
		"absolute":      {`{"weight_map":{"a":"/etc/passwd"}}`, "same folder"},
		"no map":        {`{}`, "no weight_map"},
		"no JSON":       {`{`, "unexpected end"},
	} {
		put("m.safetensors.index.json", []byte(c.index))
		f, err := Open(index)
		if c.want == "" {
			if err != nil || len(f.Tensors) != 2 || len(f.Parts) != 2 {
				t.Errorf("%s: %v", name, err)
			}
			f.Close()
			continue
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v: expected %q", name, err, c.want)
		}
	}
}

// readAll reads the values of every tensor; small inputs cannot hold large ones.
func readAll(t *testing.T, b []byte) {
	f, err := read(bytes.NewReader(b), int64(len(b)), "fuzz")
	if err != nil {
		return
	}
	f.stripPrefixes()
	if err := f.index(); err != nil {
		return
	}
	for _, tensor := range f.Tensors {
		if n := tensor.Elements(); tensor.DType != Other && n > 1100*int64(len(b))+1024 {
			t.Fatalf("%d values in %d bytes", n, len(b))
		}
		if tensor.DType.IsFloat() {
			tensor.Stream(1, func([]float32) error { return nil })
		}
	}
}

func FuzzSafetensors(f *testing.F) {
	for _, b := range lyingHeaders() {
		f.Add(b[8:])
	}
	plain, err := os.ReadFile("testdata/plain.safetensors")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(plain[8:])
	f.Fuzz(func(t *testing.T, b []byte) {
		end := bytes.LastIndexByte(b, '}') + 1 // the length field follows from the rest, or nothing would get past it
		readAll(t, append(binary.LittleEndian.AppendUint64(nil, uint64(end)), b...))
	})
}

// FuzzTorchPickle damages the pickle within an archive, whose checksums would stop a mutation of the whole file.
func FuzzTorchPickle(f *testing.F) {
	for _, file := range []string{"zip.pt", "script.pt", "wrapped.pt", "shared.pt", "bad_system.pt"} {
		f.Add(dataPickle(f, filepath.Join("testdata", file)))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, constants := range []bool{false, true} {
			readAll(t, torchZip(t, b, constants))
		}
	})
}

func FuzzTorchLegacy(f *testing.F) {
	for _, file := range []string{"legacy.pt", "wrapped_twice.pt", "bad_legacy_system.pt"} {
		b, err := os.ReadFile(filepath.Join("testdata", file))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) { readAll(t, b) })
}

func FuzzTorchZip(f *testing.F) {
	for _, file := range []string{"zip.pt", "deflated.pt", "script.pt"} {
		b, err := os.ReadFile(filepath.Join("testdata", file))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) { readAll(t, b) })
}
