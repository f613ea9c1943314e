package pickle

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// load reads one pickle that may name only "mod.ok", whose calls give their arguments back.
func load(b []byte) (any, error) {
	m := NewMachine(bytes.NewReader(b))
	m.Global = func(g Global) (any, error) {
		if g == (Global{"mod", "ok"}) {
			return g, nil
		}
		return nil, fmt.Errorf("refused pickle global %s", g)
	}
	m.Call = func(fn any, args Tuple) (any, error) {
		g, ok := fn.(Global)
		if !ok {
			return nil, fmt.Errorf("not callable")
		}
		return &Object{Class: g, Args: args}, nil
	}
	m.Persistent = func(id any) (any, error) { return Tuple{"id", id}, nil }
	return m.Load()
}

func le32(n uint32) string { return string(binary.LittleEndian.AppendUint32(nil, n)) }
func le64(n uint64) string { return string(binary.LittleEndian.AppendUint64(nil, n)) }

func TestValues(t *testing.T) {
	for name, c := range map[string]struct {
		in   string
		want any
	}{
		"none":           {"N.", nil},
		"bools":          {"\x88\x89\x86.", Tuple{true, false}},
		"ints":           {"(J\xff\xff\xff\xffK\xffM\xff\xfft.", Tuple{int64(-1), int64(255), int64(65535)}},
		"longs":          {"(\x8a\x00\x8a\x01\xff\x8a\x02\xff\x00\x8b\x02\x00\x00\x00\x00\x80t.", Tuple{int64(0), int64(-1), int64(255), int64(-32768)}},
		"long of 9":      {"\x8a\x09123456789.", Long("123456789")},
		"float":          {"G?\xe0\x00\x00\x00\x00\x00\x00.", 0.5},
		"texts":          {"(X" + le32(1) + "a\x8c\x02\xc3\xbc\x8d" + le64(1) + "ct.", Tuple{"a", "ü", "c"}},
		"bytes":          {"(T" + le32(1) + "aU\x01bB" + le32(1) + "cC\x01d\x8e" + le64(1) + "e\x96" + le64(1) + "ft.", Tuple{Bytes("a"), Bytes("b"), Bytes("c"), Bytes("d"), Bytes("e"), Bytes("f")}},
		"tuples":         {"N\x85N\x86NN\x87.", Tuple{Tuple{Tuple{nil}, nil}, nil, nil}},
		"list":           {"](K\x01K\x02eK\x03a.", &List{Items: []any{int64(1), int64(2), int64(3)}}},
		"set":            {"\x8f(K\x01\x90.", &List{Items: []any{int64(1)}}},
		"memo":           {"X" + le32(1) + "aq\x00r" + le32(9) + "0h\x00j" + le32(9) + "\x86.", Tuple{"a", "a"}},
		"memoize":        {"K\x07\x940h\x00.", int64(7)},
		"pop and mark":   {"K\x01(K\x02K\x031.", int64(1)},
		"dup":            {"K\x012\x86.", Tuple{int64(1), int64(1)}},
		"frame":          {"\x80\x04\x95" + le64(3) + "K\x05.", int64(5)},
		"persistent":     {"K\x01Q.", Tuple{"id", int64(1)}},
		"call":           {"cmod\nok\nK\x01\x85R.", &Object{Class: Global{"mod", "ok"}, Args: Tuple{int64(1)}}},
		"stack global":   {"X" + le32(3) + "modX" + le32(2) + "ok\x93)\x81}b.", &Object{Class: Global{"mod", "ok"}, Args: Tuple{}, State: &Dict{}}},
		"newobj_ex":      {"cmod\nok\n)}\x92.", &Object{Class: Global{"mod", "ok"}, Args: Tuple{}}},
		"list from mark": {"(K\x01l.", &List{Items: []any{int64(1)}}},
	} {
		got, err := load([]byte(c.in))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if diff := cmp.Diff(c.want, got, cmp.AllowUnexported(Dict{})); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestDict(t *testing.T) {
	v, err := load([]byte("}(X" + le32(1) + "aK\x01K\x05K\x02X" + le32(1) + "aK\x03uX" + le32(1) + "bK\x04s."))
	if err != nil {
		t.Fatal(err)
	}
	d := v.(*Dict)
	if a, ok := d.Get("a"); !ok || a != int64(3) || len(d.Entries) != 3 {
		t.Errorf("a is %v of %d entries: expected the later value 3 of 3", a, len(d.Entries))
	}
	if _, ok := d.Get("none"); ok {
		t.Error("a key that is not there")
	}
}

// hostile are inputs that must be refused without harm, with a word of the message.
var hostile = map[string]struct{ in, want string }{
	"os.system":          {"\x80\x02cos\nsystem\nX" + le32(2) + "id\x85R.", "refused pickle global os.system"},
	"builtins.eval":      {"\x80\x04\x8c\x08builtins\x8c\x04eval\x93\x8c\x011\x85R.", "refused pickle global builtins.eval"},
	"old instance":       {"(ios\nsystem\n.", "refused pickle global os.system"},
	"call of a text":     {"X" + le32(1) + "a)R.", "not callable"},
	"call without tuple": {"cmod\nok\n]R.", "tuple"},
	"keyword arguments":  {"cmod\nok\n)}X" + le32(1) + "aNs\x92.", "keyword"},
	"state of a list":    {"]}b.", "no object"},
	"protocol 0":         {"I01\n.", "opcode"},
	"protocol 1":         {"\x80\x01N.", "protocol 1"},
	"protocol 9":         {"\x80\x09N.", "protocol 9"},
	"extension":          {"\x82\x01.", "refused"},
	"unknown opcode":     {"\xff.", "opcode 0xff"},
	"huge text":          {"\x8d" + le64(1<<44), "longer"},
	"negative text":      {"\x8d" + le64(1<<63), "longer"},
	"lying text":         {"X" + le32(1<<24) + "abc", "ends"},
	"huge long":          {"\x8b" + le32(0xffffffff), "longer"},
	"not UTF-8":          {"X" + le32(1) + "\xff.", "UTF-8"},
	"no stop":            {"NNN", "ends"},
	"empty":              {"", "ends"},
	"empty stack":        {".", "empty"},
	"pop of nothing":     {"0.", "empty"},
	"mark protects":      {"K\x01(0.", "empty"},
	"no mark":            {"t.", "mark"},
	"memo of nothing":    {"h\x05.", "memo"},
	"put of nothing":     {"q\x05.", "empty"},
	"items on a number":  {"K\x01K\x02a.", "list"},
	"odd dict":           {"}(K\x01u.", "odd"},
	"items of no dict":   {"](K\x01K\x01u.", "dict"},
	"long global":        {"c" + strings.Repeat("a", 2000), "1024"},
	"number as a global": {"K\x01K\x02\x93.", "no text"},
}

func TestHostile(t *testing.T) {
	for name, c := range hostile {
		v, err := load([]byte(c.in))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %T, error %v; expected one with %q", name, v, err, c.want)
		}
	}
}

func TestNothingIsAllowedByDefault(t *testing.T) {
	for _, in := range []string{"cos\nsystem\n.", "K\x01Q.", "K\x01)R."} {
		if _, err := NewMachine(strings.NewReader(in)).Load(); err == nil {
			t.Errorf("%q: no error", in)
		}
	}
}

func TestDeepNestingAndManyMarks(t *testing.T) {
	const n = 1 << 20
	v, err := load([]byte(strings.Repeat("(", n) + strings.Repeat("t", n) + "."))
	if err != nil {
		t.Fatal(err)
	}
	depth := 0
	for tuple, ok := v.(Tuple); ok && len(tuple) > 0; tuple, ok = tuple[0].(Tuple) {
		depth++
	}
	if depth != n-1 {
		t.Errorf("depth %d: expected %d", depth, n-1)
	}
	if _, err := load([]byte(strings.Repeat("N", maxOps+1))); err == nil || !strings.Contains(err.Error(), "opcodes") {
		t.Errorf("too many opcodes: %v", err)
	}
}

// Each level holds the one below twice: 2^64 leaves to whoever walks it, 64 tuples in memory.
func TestBombIsShared(t *testing.T) {
	if _, err := load([]byte("N" + strings.Repeat("2\x86", 64) + ".")); err != nil {
		t.Error(err)
	}
	if v, err := load([]byte("]q\x00h\x00a.")); err != nil { // a list that holds itself
		t.Error(err)
	} else if l := v.(*List); l.Items[0] != any(l) {
		t.Error("the list does not hold itself")
	}
}

func TestSeveralPickles(t *testing.T) {
	in := "K\x01.K\x02.rest"
	m := NewMachine(strings.NewReader(in))
	for want := int64(1); want <= 2; want++ {
		if v, err := m.Load(); err != nil || v != want {
			t.Fatalf("got %v, %v: expected %d", v, err, want)
		}
	}
	if m.Offset() != 6 {
		t.Errorf("offset %d: expected 6", m.Offset())
	}
}

func FuzzPickle(f *testing.F) {
	for _, c := range hostile {
		f.Add([]byte(c.in))
	}
	f.Add([]byte("}(X" + le32(1) + "aK\x01X" + le32(1) + "bcmod\nok\nK\x01\x85R}bu."))
	f.Add([]byte("](K\x01K\x02eK\x03a(\x88\x89tq\x00h\x00\x86."))
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := load(b)
		if err != nil && v != nil {
			t.Fatal("a value with an error")
		}
	})
}
