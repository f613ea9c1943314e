package pickle

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// Limits of a pickle that Decode reads. Its bytes are the caller's to bound: what Decode allocates is in proportion to
// them and to Opcodes.
const (
	// MaxOpcodes bounds the work and the small allocations: an opcode may cost a hundred bytes. An image is two opcodes.
	MaxOpcodes = 1 << 18
	// MaxDepth is how deep containers may hold containers.
	MaxDepth = 64
	// maxLongBytes bounds an integer.
	maxLongBytes = 256
)

// Decode reads the one pickle that b holds, of protocol 2 to 5, as plain data: nil, bool, int64, Long, float64, string,
// Bytes (which share memory with b), Tuple, *List (also of a set), *Dict, and NumPy's arrays, *Array; NumPy's scalars
// become the plain values. Nothing is run. A class or function that is not of the allow-list of this file is an error
// that names it, as is a value that holds itself, is deeper than MaxDepth or, shared parts counted each time they
// occur, larger than MaxOpcodes.
//
// Source: CPython's Lib/pickle.py (save_bytes, save_bytearray, save_set of protocols 2 to 4); NumPy's
// array_reduce, array_reduce_ex_picklebuffer, arraydescr_reduce and gentype_reduce.
func Decode(b []byte) (any, error) {
	m := newDataMachine(b, MaxOpcodes)
	d := &decoder{copies: 2*len(b) + 1<<16}
	m.Global, m.Call, m.Build = dataGlobal, d.call, d.build
	v, err := m.Load()
	if err != nil {
		return nil, err
	}
	if rest := int64(len(b)) - m.Offset(); rest != 0 {
		return nil, fmt.Errorf("%d bytes follow the pickle", rest)
	}
	budget := MaxOpcodes
	if err := checkTree(v, MaxDepth, &budget); err != nil {
		return nil, err
	}
	return v, nil
}

// checkTree counts the values of v, and fails where there are more than budget or they are nested deeper than depth.
func checkTree(v any, depth int, budget *int) error {
	var items []any
	switch c := v.(type) {
	case Long:
		if len(c) > maxLongBytes {
			return fmt.Errorf("an integer of %d bytes: expected at most %d", len(c), maxLongBytes)
		}
	case Tuple:
		items = c
	case *List:
		items = c.Items
	case *Array:
		items = c.Objects
	case *Dict:
		return checkEntries(c, depth, budget)
	case Global, *dtype:
		return fmt.Errorf("%v stands where data is expected", c)
	}
	return checkItems(items, depth, budget)
}

func checkItems(items []any, depth int, budget *int) error {
	if *budget -= 1 + len(items); *budget < 0 {
		return fmt.Errorf("more than %d values, those of shared parts counted each time", MaxOpcodes)
	}
	if len(items) > 0 && depth == 0 {
		return fmt.Errorf("containers are nested deeper than %d", MaxDepth)
	}
	for _, item := range items {
		if isLeaf(item) {
			continue
		}
		if err := checkTree(item, depth-1, budget); err != nil {
			return err
		}
	}
	return nil
}

func checkEntries(d *Dict, depth int, budget *int) error {
	for _, e := range d.Entries {
		if err := checkItems([]any{e.Key, e.Value}, depth, budget); err != nil {
			return err
		}
	}
	return checkItems(nil, depth, budget)
}

// isLeaf is whether v is complete in itself and small, so that checkTree has nothing to see in it.
func isLeaf(v any) bool {
	switch v.(type) {
	case nil, bool, int64, float64, string, Bytes:
		return true
	}
	return false
}

// decoder is one call of Decode.
type decoder struct {
	copies int // bytes that calls may still copy: a memo lets a short pickle ask for the same copy again and again
}

// spend takes n from what may be copied.
func (d *decoder) spend(n int) error {
	if d.copies -= n; d.copies < 0 {
		return errors.New("the pickle converts the same data again and again")
	}
	return nil
}

// callable makes a value of the arguments it is called with.
type callable func(d *decoder, args Tuple) (any, error)

// dataCalls is the allow-list: what data may name, and what a call of it means. nil: it may be named only.
var dataCalls = map[string]callable{
	"_codecs.encode":        encodeLatin1, // protocol 2 writes bytes so
	"builtins.bytes":        makeBytes,
	"builtins.bytearray":    makeBytes,
	"builtins.set":          makeSet,
	"builtins.frozenset":    makeSet,
	"__builtin__.bytes":     makeBytes, // the same in protocol 2
	"__builtin__.bytearray": makeBytes,
	"__builtin__.set":       makeSet,
	"__builtin__.frozenset": makeSet,

	"numpy.ndarray":                       nil,
	"numpy.dtype":                         makeDType,
	"numpy.core.multiarray._reconstruct":  emptyArray, // NumPy 1
	"numpy._core.multiarray._reconstruct": emptyArray, // NumPy 2
	"numpy.core.multiarray.scalar":        makeScalar,
	"numpy._core.multiarray.scalar":       makeScalar,
	"numpy.core.numeric._frombuffer":      arrayOfBuffer, // protocol 5
	"numpy._core.numeric._frombuffer":     arrayOfBuffer,
}

// dataGlobal accepts the names of dataCalls.
func dataGlobal(g Global) (any, error) {
	if _, ok := dataCalls[g.Module+"."+g.Name]; !ok {
		return nil, fmt.Errorf("refused %q: only plain values and NumPy arrays of texts and numbers are read", g.String())
	}
	return g, nil
}

func (d *decoder) call(fn any, args Tuple) (any, error) {
	g, ok := fn.(Global)
	if !ok {
		return nil, errors.New("a call of what is no function")
	}
	call := dataCalls[g.Module+"."+g.Name]
	if call == nil {
		return nil, fmt.Errorf("refused a call of %q", g.String())
	}
	v, err := call(d, args)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", g, err)
	}
	return v, nil
}

func (d *decoder) build(obj, state any) error {
	tuple, ok := state.(Tuple)
	switch o := obj.(type) {
	case *dtype:
		if ok {
			return o.setState(tuple)
		}
	case *Array:
		if ok {
			return o.setState(d, tuple)
		}
	}
	return errors.New("a state for what takes none, or in an unknown form")
}

// encodeLatin1 is encode(text, "latin1"): the byte string whose values are the text's code points.
func encodeLatin1(d *decoder, args Tuple) (any, error) {
	if len(args) != 2 || (args[1] != "latin1" && args[1] != "latin-1") {
		return nil, errors.New(`expected a text and "latin1"`)
	}
	text, ok := args[0].(string)
	if !ok {
		return nil, errors.New("expected a text")
	}
	if err := d.spend(len(text)); err != nil {
		return nil, err
	}
	out := make(Bytes, 0, utf8.RuneCountInString(text))
	for _, r := range text {
		if r > 0xff {
			return nil, fmt.Errorf("U+%04X is no byte", r)
		}
		out = append(out, byte(r))
	}
	return out, nil
}

// makeBytes is bytes() or bytearray(b).
func makeBytes(_ *decoder, args Tuple) (any, error) {
	if len(args) == 0 {
		return Bytes{}, nil
	}
	if b, ok := args[0].(Bytes); ok && len(args) == 1 {
		return b, nil
	}
	return nil, errors.New("expected a byte string")
}

// makeSet is set(list), kept as a list.
func makeSet(_ *decoder, args Tuple) (any, error) {
	if len(args) == 1 {
		if l, ok := args[0].(*List); ok {
			return &List{Items: l.Items}, nil
		}
	}
	return nil, errors.New("expected a list")
}

// TypeName returns Python's name of a value's type, for messages.
func TypeName(v any) string {
	switch c := v.(type) {
	case nil:
		return "None"
	case bool:
		return "bool"
	case int64, Long:
		return "int"
	case float64:
		return "float"
	case string:
		return "str"
	case Bytes:
		return "bytes"
	case Tuple:
		return "tuple"
	case *List:
		return "list"
	case *Dict:
		return "dict"
	case *Array:
		return "array of " + c.Type.String() + " " + strings.ReplaceAll(fmt.Sprint(c.Shape), " ", ", ")
	}
	return fmt.Sprintf("%T", v)
}
