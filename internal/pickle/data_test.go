package pickle

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"math"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// vector is one line of testdata/vectors_numpyN.jsonl.
type vector struct {
	Name     string `json:"name"`
	Protocol int    `json:"protocol"`
	Pickle   []byte `json:"pickle"`
	Value    any    `json:"value"`
}

func readVectors(t testing.TB) (out []vector) {
	files, err := filepath.Glob("testdata/vectors_numpy*.jsonl")
	if err != nil || len(files) != 2 {
		t.Fatalf("%d files of vectors, %v: expected 2", len(files), err)
	}
	for _, file := range files {
		f, err := os.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		for lines := json.NewDecoder(bufio.NewReader(f)); lines.More(); {
			var v vector
			if err := lines.Decode(&v); err != nil {
				t.Fatal(err)
			}
			v.Name += " of " + filepath.Base(file) + ", protocol " + strconv.Itoa(v.Protocol)
			out = append(out, v)
		}
	}
	return out
}

// tagged writes a value as testdata/make_vectors.py does.
func tagged(t *testing.T, v any) any {
	all := func(items []any) any {
		out := []any{}
		for _, item := range items {
			out = append(out, tagged(t, item))
		}
		return out
	}
	switch v := v.(type) {
	case nil:
		return []any{"NoneType", nil}
	case bool:
		return []any{"bool", v}
	case int64:
		return []any{"int", strconv.FormatInt(v, 10)}
	case Long:
		be := slices.Clone(v)
		slices.Reverse(be)
		return []any{"int", new(big.Int).SetBytes(be).String()}
	case float64:
		return []any{"float", v}
	case string:
		return []any{"str", v}
	case Bytes:
		return []any{"bytes", base64.StdEncoding.EncodeToString(v)}
	case Tuple:
		return []any{"tuple", all(v)}
	case *List:
		return []any{"list", all(v.Items)}
	case *Dict:
		out := []any{}
		for _, e := range v.Entries {
			out = append(out, []any{tagged(t, e.Key), tagged(t, e.Value)})
		}
		return []any{"dict", out}
	case *Array:
		shape := []any{}
		for _, d := range v.Shape {
			shape = append(shape, float64(d))
		}
		flat := *v
		if flat.Objects == nil {
			flat.Shape = []int{len(v.Data) / max(v.Type.Size, 1)}
		}
		items, err := flat.Values()
		if err != nil {
			t.Error(err)
		}
		return []any{"array", v.Type.String(), shape, all(items)}
	}
	t.Errorf("a value of type %T", v)
	return nil
}

// floats replaces Python's float.hex() in an expected value.
func floats(v any) any {
	list, ok := v.([]any)
	if !ok {
		return v
	}
	if len(list) == 2 && list[0] == "float" {
		x, err := strconv.ParseFloat(list[1].(string), 64)
		if err != nil {
			return err
		}
		return []any{"float", x}
	}
	for i := range list {
		list[i] = floats(list[i])
	}
	return list
}

func TestDecodeVectors(t *testing.T) {
	for _, v := range readVectors(t) {
		got, err := Decode(v.Pickle)
		if err != nil {
			t.Errorf("%s: %v", v.Name, err)
			continue
		}
		if diff := cmp.Diff(floats(v.Value), tagged(t, got)); diff != "" {
			t.Errorf("%s: %s", v.Name, diff)
		}
	}
}

// u is a text's opcode.
func u(s string) string { return "X" + le32(uint32(len(s))) + s }

// arrayPickle is a call of _frombuffer.
func arrayPickle(data, dtype, order, size, shape string) string {
	return "cnumpy.core.numeric\n_frombuffer\n(" + "B" + le32(uint32(len(data))) + data +
		"cnumpy\ndtype\n" + u(dtype) + "\x89\x88\x87R(K\x03" + u(order) + "NNN" + size + "J\xff\xff\xff\xffK\x00tb" + shape + u("C") + "tR."
}

func TestDecodeRefuses(t *testing.T) {
	const any4 = "J\xff\xff\xff\xff"
	for name, c := range map[string]struct{ in, want string }{
		"os.system":              {"\x80\x02cos\nsystem\n" + u("id") + "\x85R.", `refused "os.system"`},
		"posix.system":           {"\x80\x04\x8c\x05posix\x8c\x06system\x93.", `refused "posix.system"`},
		"eval":                   {"\x80\x04\x8c\x08builtins\x8c\x04eval\x93\x8c\x011\x85R.", `refused "builtins.eval"`},
		"dotted attribute":       {"\x80\x04\x8c\x05numpy\x8c\x0ef2py.os.system\x93.", `refused "numpy.f2py.os.system"`},
		"dot in the module":      {"cnumpy.core\nmultiarray.scalar.__class__\n.", "refused"},
		"torch tensor":           {"ctorch._utils\n_rebuild_tensor_v2\n.", `refused "torch._utils._rebuild_tensor_v2"`},
		"PIL image":              {"cPIL.Image\nImage\n)\x81.", `refused "PIL.Image.Image"`},
		"instance":               {"(ios\nsystem\n.", `refused "os.system"`},
		"call of ndarray":        {"cnumpy\nndarray\nK\x01\x85R.", `refused a call of "numpy.ndarray"`},
		"new ndarray":            {"cnumpy\nndarray\nK\x01\x85\x81.", `refused a call of "numpy.ndarray"`},
		"call of an array":       {"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n\x85R)R.", "no function"},
		"reconstruct of a list":  {"cnumpy.core.multiarray\n_reconstruct\ncbuiltins\nset\n\x85R.", "expected numpy.ndarray"},
		"a function as data":     {"cbuiltins\nset\n.", "stands where data is expected"},
		"a function in a list":   {"]cbuiltins\nset\na.", "stands where data is expected"},
		"a type as data":         {"cnumpy\ndtype\n" + u("f4") + "\x85R.", "stands where data is expected"},
		"persistent id":          {"K\x01Q.", "persistent"},
		"out-of-band buffer":     {"\x80\x05\x97.", "opcode 0x97"},
		"extension":              {"\x82\x01.", "refused"},
		"state of a list":        {"]}b.", "state"},
		"rest":                   {"N.N.", "follow"},
		"empty":                  {"", "ends"},
		"encode as utf-8":        {"c_codecs\nencode\n" + u("a") + u("utf-8") + "\x86R.", "latin1"},
		"encode beyond latin1":   {"c_codecs\nencode\n" + u("猫") + u("latin1") + "\x86R.", "no byte"},
		"huge text":              {"\x8d" + le64(1<<44), "ends"},
		"negative text":          {"\x8d" + le64(1<<63), "ends"},
		"huge long":              {"\x8b" + le32(0xffffffff), "ends"},
		"long of 300 bytes":      {"\x8b" + le32(300) + strings.Repeat("\x01", 300) + ".", "integer"},
		"list in itself":         {"]q\x00h\x00a.", "deeper"},
		"dict in itself":         {"}q\x00" + u("a") + "h\x00s.", "deeper"},
		"array in itself":        {"}q\x00" + u("a") + "cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n\x85R(K\x01K\x01\x85cnumpy\ndtype\n" + u("O8") + "\x85R\x89]h\x00atbs.", "deeper"},
		"deep":                   {strings.Repeat("]", 100) + strings.Repeat("a", 99) + ".", "deeper"},
		"bomb":                   {"N" + strings.Repeat("2\x86", 60) + ".", "more than"},
		"wide bomb":              {"(" + strings.Repeat("N", 1000) + "tq\x00(" + strings.Repeat("h\x00", 1000) + "t.", "more than"},
		"many opcodes":           {strings.Repeat("N", MaxOpcodes+1) + ".", "opcodes"},
		"complex array":          {arrayPickle("12345678", "c8", "<", any4, "K\x01\x85"), "c8"},
		"dates":                  {arrayPickle("12345678", "M8", "<", any4, "K\x01\x85"), "M8"},
		"records":                {arrayPickle("12345678", "V8", "|", any4, "K\x01\x85"), "V8"},
		"a type of no size":      {arrayPickle("", "f", "<", any4, "K\x00\x85"), "unknown type"},
		"a type of huge size":    {arrayPickle("", "U99999999999", "<", any4, "K\x00\x85"), "unknown type"},
		"odd byte order":         {arrayPickle("1234", "f4", "!", any4, "K\x01\x85"), "byte order"},
		"another size":           {arrayPickle("1234", "f4", "<", "K\x08", "K\x01\x85"), "takes 4 bytes, not 8"},
		"too little data":        {arrayPickle("1234", "f4", "<", any4, "K\x02\x85"), "expected 2 elements"},
		"too much data":          {arrayPickle("12345678", "f4", "<", any4, "K\x01\x85"), "expected 1 elements"},
		"negative length":        {arrayPickle("", "f4", "<", any4, any4+"\x85"), "length"},
		"overflowing shape":      {arrayPickle("", "f4", "<", any4, "(J\xff\xff\xff\x7fJ\xff\xff\xff\x7fJ\xff\xff\xff\x7ft"), "overflow"},
		"elements of no bytes":   {arrayPickle("", "U0", "<", any4, "J\xff\xff\xff\x7f\x85"), "no bytes"},
		"shape of no tuple":      {arrayPickle("", "f4", "<", any4, "K\x00"), "shape"},
		"objects in a buffer":    {arrayPickle("12345678", "O8", "|", any4, "K\x01\x85"), "list of 1"},
		"an order of axes":       {"cnumpy.core.numeric\n_frombuffer\n(C\x02abcnumpy\ndtype\n" + u("u1") + "\x85RK\x01K\x02\x86" + u("K") + "K\x01K\x01\x86tR.", "order of 2 axes"},
		"an unknown order":       {"cnumpy.core.numeric\n_frombuffer\n(C\x02abcnumpy\ndtype\n" + u("u1") + "\x85RK\x01K\x02\x86" + u("A") + "tR.", "expected order"},
		"structured type":        {"cnumpy\ndtype\n" + u("V8") + "\x89\x88\x87R.", "V8"},
		"names in a type":        {"cnumpy\ndtype\n" + u("f4") + "\x89\x88\x87R(K\x03" + u("<") + "N" + u("a") + "N" + any4 + any4 + "K\x00tb.", "structured"},
		"scalar of wrong length": {"cnumpy.core.multiarray\nscalar\ncnumpy\ndtype\n" + u("f4") + "\x85RC\x03abc\x86R.", "as many bytes"},
		"scalar of no character": {"cnumpy.core.multiarray\nscalar\ncnumpy\ndtype\n" + u("U1") + "\x85RC\x04\xff\xff\xff\xff\x86R.", "no character"},
		"surrogate":              {"cnumpy.core.multiarray\nscalar\ncnumpy\ndtype\n" + u("U1") + "\x85RC\x04\x00\xd8\x00\x00\x86R.", "no character"},
	} {
		v, err := Decode([]byte(c.in))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %s, error %v; expected one with %q", name, TypeName(v), err, c.want)
		}
	}
}

// A memo gives a short pickle its data as often as it wants: copies are counted.
func TestDecodeCopiesAreBounded(t *testing.T) {
	text := u(strings.Repeat("a", 1<<20))
	again := strings.Repeat("c_codecs\nencode\nh\x00h\x01\x86R", 100)
	if _, err := Decode([]byte(text + "q\x00" + u("latin1") + "q\x01(" + again + "t.")); err == nil || !strings.Contains(err.Error(), "again") {
		t.Errorf("100 encodings of a MiB: %v", err)
	}
	data := "B" + le32(1<<20) + strings.Repeat("\x00", 1<<20)
	again = strings.Repeat("h\x00h\x01h\x02\x86R0", 100)
	in := data + "q\x02cnumpy.core.multiarray\nscalar\nq\x00cnumpy\ndtype\n" + u("U262144") + "\x85Rq\x01" + again + "."
	if _, err := Decode([]byte(in)); err == nil || !strings.Contains(err.Error(), "again") {
		t.Errorf("100 scalars of a MiB: %v", err)
	}
}

func TestDecodeSharesMemory(t *testing.T) {
	in := []byte("\x80\x04B" + le32(4) + "jpeg.")
	v, err := Decode(in)
	if err != nil {
		t.Fatal(err)
	}
	in[7] = 'J'
	if b := v.(Bytes); string(b) != "Jpeg" || cap(b) != 4 {
		t.Errorf("got %q of capacity %d: expected the input's own bytes, cut", b, cap(b))
	}
}

func TestArrayValues(t *testing.T) {
	a := &Array{Type: Type{Kind: 'u', Size: 1}, Shape: []int{2, 2}, Data: []byte{1, 2, 3, 4}}
	if _, err := a.Values(); err == nil || !strings.Contains(err.Error(), "2 dimensions") {
		t.Errorf("two dimensions: %v", err)
	}
	a = &Array{Type: Type{Kind: 'u', Size: 1}, Shape: []int{MaxOpcodes + 1}, Data: make([]byte, MaxOpcodes+1)}
	if _, err := a.Values(); err == nil || !strings.Contains(err.Error(), "elements") {
		t.Errorf("many elements: %v", err)
	}
	if got := TypeName(a); got != "array of u1 [262145]" {
		t.Errorf("TypeName: %q", got)
	}
}

func TestHalf(t *testing.T) {
	for bits, want := range map[uint16]float64{0: 0, 0x3c00: 1, 0xc000: -2, 0x7bff: 65504, 1: math.Ldexp(1, -24), 0x0400: math.Ldexp(1, -14), 0x7c00: math.Inf(1), 0xfc00: math.Inf(-1)} {
		if got := half(bits); got != want {
			t.Errorf("0x%04x: %v, expected %v", bits, got, want)
		}
	}
	if !math.IsNaN(half(0x7e00)) {
		t.Error("0x7e00 is no NaN")
	}
}

func TestAppend(t *testing.T) {
	inner := &Dict{}
	inner.Set("error", "no ü")
	for name, c := range map[string]struct{ in, want any }{
		"none":    {nil, nil},
		"bools":   {[]any{true, false}, &List{Items: []any{true, false}}},
		"ints":    {[]any{0, -1, int64(1 << 31), math.MinInt64}, &List{Items: []any{int64(0), int64(-1), int64(1 << 31), int64(math.MinInt64)}}},
		"floats":  {[]float32{0.5, -1, float32(math.Inf(1))}, &List{Items: []any{0.5, -1.0, math.Inf(1)}}},
		"doubles": {[]float64{0.1}, &List{Items: []any{0.1}}},
		"one":     {float32(0.1), float64(float32(0.1))},
		"texts":   {[]string{"", "a"}, &List{Items: []any{"", "a"}}},
		"bytes":   {[]any{Bytes("\x00\xff"), Bytes{}}, &List{Items: []any{Bytes("\x00\xff"), Bytes{}}}},
		"empty":   {[]float32{}, &List{}},
		"dict":    {inner, inner},
	} {
		b, err := Append([]byte("before"), c.in)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got, err := Decode(bytes.TrimPrefix(b, []byte("before")))
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if diff := cmp.Diff(tagged(t, c.want), tagged(t, got)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	if _, err := Append(nil, []any{struct{}{}}); err == nil {
		t.Error("a struct was pickled")
	}
	bad := &Dict{}
	bad.Set("a", uint8(1))
	if _, err := Append(nil, bad); err == nil {
		t.Error("a dict with an unknown value was pickled")
	}
}

// FuzzDecode holds every pickle to Decode's promise: a tree of plain data that can be walked, in memory like the input's.
func FuzzDecode(f *testing.F) {
	for _, v := range readVectors(f) {
		if len(v.Pickle) < 1000 {
			f.Add(v.Pickle)
		}
	}
	for _, c := range hostile {
		f.Add([]byte(c.in))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := Decode(b)
		if err != nil {
			return
		}
		n := 0
		walk(t, v, &n)
	})
}

func walk(t *testing.T, v any, n *int) {
	if *n++; *n > 2*MaxOpcodes {
		t.Fatal("more values than MaxOpcodes")
	}
	switch v := v.(type) {
	case nil, bool, int64, Long, float64, string, Bytes:
	case Tuple:
		for _, item := range v {
			walk(t, item, n)
		}
	case *List:
		for _, item := range v.Items {
			walk(t, item, n)
		}
	case *Dict:
		for _, e := range v.Entries {
			walk(t, e.Key, n)
			walk(t, e.Value, n)
		}
	case *Array:
		if items, err := v.Values(); err == nil && v.Type.Kind == 'O' {
			for _, item := range items {
				walk(t, item, n)
			}
		}
	default:
		t.Fatalf("a value of type %T", v)
	}
}
