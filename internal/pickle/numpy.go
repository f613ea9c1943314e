package pickle

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"unicode/utf8"
)

// Type is the type of an array's elements.
type Type struct {
	Kind byte // 'U' text (UCS-4), 'S' bytes, 'O' objects, 'b' bool, 'i', 'u', 'f'
	Size int  // bytes of an element; 0 for objects
	big  bool // big-endian
}

// String returns NumPy's short name: "U5", "u1", "f4".
func (t Type) String() string {
	switch t.Kind {
	case 'U':
		return "U" + strconv.Itoa(t.Size/4)
	case 'O':
		return "O"
	}
	return string(t.Kind) + strconv.Itoa(t.Size)
}

// Array is a NumPy array in C order.
type Array struct {
	Type    Type
	Shape   []int
	Data    []byte // its elements; shares memory with the pickle. nil for objects
	Objects []any  // the elements of an array of objects
}

// dtype is a numpy.dtype while a pickle is read: its byte order comes after it was made.
type dtype struct{ Type }

func (d *dtype) String() string { return "numpy.dtype" }

// numberSizes are the element sizes read of each kind of number.
var numberSizes = map[byte][]int{'b': {1}, 'i': {1, 2, 4, 8}, 'u': {1, 2, 4, 8}, 'f': {2, 4, 8}}

// Limits of an array.
const (
	maxDims       = 64      // NumPy's own
	maxItemSize   = 1 << 24 // bytes of a text
	maxEmptyItems = 1 << 16 // elements of an array whose elements take no bytes
)

// makeDType is numpy.dtype("U5", False, True): a type's letter and its size (for U in characters).
func makeDType(_ *decoder, args Tuple) (any, error) {
	name, _ := first(args).(string)
	if name == "" {
		return nil, errors.New("expected a type's name")
	}
	kind := name[0]
	n, err := strconv.Atoi(name[1:])
	if err != nil || n < 0 || n > maxItemSize {
		return nil, fmt.Errorf("unknown type %.20q", name)
	}
	switch {
	case kind == 'O':
		return &dtype{Type{Kind: kind}}, nil
	case kind == 'U':
		return &dtype{Type{Kind: kind, Size: 4 * n}}, nil
	case kind == 'S', slices.Contains(numberSizes[kind], n):
		return &dtype{Type{Kind: kind, Size: n}}, nil
	}
	return nil, fmt.Errorf("arrays of type %.20q are not read: expected texts (U), bytes (S), objects (O), bool, integers or floats", name)
}

// setState is dtype.__setstate__((version, byte order, subtype, names, fields, size, alignment, flags[, metadata])).
func (d *dtype) setState(s Tuple) error {
	if len(s) < 8 || s[2] != nil || s[3] != nil || s[4] != nil {
		return errors.New("numpy.dtype: structured types are not read")
	}
	switch order := s[1]; order {
	case "<", "|", "=": // "=" is the writer's own order, which is little-endian where it runs
		d.big = false
	case ">":
		d.big = true
	default:
		return errors.New("numpy.dtype: unknown byte order")
	}
	if size, ok := s[5].(int64); ok && size >= 0 && d.Kind != 'O' && size != int64(d.Size) {
		return fmt.Errorf("numpy.dtype: an element of %v takes %d bytes, not %d", d.Type, d.Size, size)
	}
	return nil
}

// emptyArray is _reconstruct(numpy.ndarray, (0,), b"b"): its state follows.
func emptyArray(_ *decoder, args Tuple) (any, error) {
	if g, ok := first(args).(Global); !ok || g != (Global{"numpy", "ndarray"}) {
		return nil, errors.New("expected numpy.ndarray")
	}
	return &Array{Type: Type{Kind: 'O'}, Shape: []int{0}}, nil
}

// setState is ndarray.__setstate__((version, shape, dtype, is Fortran order, data)).
func (a *Array) setState(d *decoder, s Tuple) error {
	if len(s) != 5 {
		return errors.New("numpy.ndarray: expected a state of five values")
	}
	made, err := newArray(s[2], s[1], s[4])
	if err != nil {
		return fmt.Errorf("numpy.ndarray: %w", err)
	}
	*a = *made
	if s[3] == true {
		return a.fromFortran(d)
	}
	return nil
}

// arrayOfBuffer is _frombuffer(data, dtype, shape, order[, axis order]): order "K" means that the axes of an array in C
// order were then arranged in the order given.
func arrayOfBuffer(d *decoder, args Tuple) (any, error) {
	if len(args) != 4 && len(args) != 5 {
		return nil, errors.New("expected data, type, shape and order")
	}
	a, err := newArray(args[1], args[2], args[0])
	if err != nil {
		return nil, err
	}
	switch order := args[3]; {
	case order == "C":
		return a, nil
	case order == "F":
		return a, a.fromFortran(d)
	case order == "K" && len(args) == 5:
		axes, err := a.permutation(args[4])
		if err != nil {
			return nil, err
		}
		return a, a.transpose(d, axes)
	}
	return nil, errors.New(`expected order "C", "F" or "K"`)
}

// newArray checks that data is what the type and the shape say.
func newArray(typ, shape, data any) (*Array, error) {
	d, ok := typ.(*dtype)
	if !ok {
		return nil, errors.New("expected a numpy.dtype")
	}
	a := &Array{Type: d.Type}
	n, err := a.setShape(shape)
	if err != nil {
		return nil, err
	}
	if a.Type.Kind == 'O' {
		list, ok := data.(*List)
		if !ok || len(list.Items) != n {
			return nil, fmt.Errorf("expected a list of %d objects", n)
		}
		a.Objects = list.Items
		return a, nil
	}
	b, ok := data.(Bytes)
	if !ok || n > math.MaxInt64/max(a.Type.Size, 1) || len(b) != n*a.Type.Size {
		return nil, fmt.Errorf("expected %d elements of %d bytes, found %d bytes", n, a.Type.Size, len(b))
	}
	if a.Type.Size == 0 && n > maxEmptyItems {
		return nil, fmt.Errorf("%d elements of no bytes", n)
	}
	a.Data = b
	return a, nil
}

// setShape reads a tuple of lengths and returns their product.
func (a *Array) setShape(shape any) (int, error) {
	dims, ok := shape.(Tuple)
	if !ok || len(dims) > maxDims {
		return 0, fmt.Errorf("expected a shape of at most %d lengths", maxDims)
	}
	n := 1
	for _, dim := range dims {
		d, ok := dim.(int64)
		if !ok || d < 0 || d > math.MaxInt32 {
			return 0, errors.New("a length of the shape is no integer from 0 to 2^31-1")
		}
		if n > math.MaxInt/max(int(d), 1) {
			return 0, errors.New("the shape overflows")
		}
		n *= int(d)
		a.Shape = append(a.Shape, int(d))
	}
	return n, nil
}

// fromFortran arranges elements that lie with their first index running fastest.
func (a *Array) fromFortran(d *decoder) error {
	slices.Reverse(a.Shape) // read so, they are in C order, with the axes reversed
	axes := make([]int, len(a.Shape))
	for i := range axes {
		axes[i] = len(axes) - 1 - i
	}
	return a.transpose(d, axes)
}

// permutation reads a tuple of all axes in some order.
func (a *Array) permutation(v any) ([]int, error) {
	tuple, ok := v.(Tuple)
	axes := make([]int, len(a.Shape))
	seen := make([]bool, len(a.Shape))
	for i := range axes {
		axis, isInt := int64(-1), false
		if ok && len(tuple) == len(axes) {
			axis, isInt = tuple[i].(int64)
		}
		if !isInt || axis < 0 || axis >= int64(len(axes)) || seen[axis] {
			return nil, fmt.Errorf("expected an order of %d axes", len(axes))
		}
		axes[i], seen[axis] = int(axis), true
	}
	return axes, nil
}

// transpose arranges the axes, and the elements with them: axis i of the result is axis axes[i] of a.
func (a *Array) transpose(d *decoder, axes []int) error {
	shape, strides, stride := make([]int, len(axes)), make([]int, len(axes)), a.Type.Size
	for i := len(axes) - 1; i >= 0; i-- { // axis i of a has this stride in bytes
		k := slices.Index(axes, i)
		shape[k], strides[k] = a.Shape[i], stride
		stride *= a.Shape[i]
	}
	a.Shape = shape
	if len(axes) < 2 || len(a.Data) == 0 && a.Type.Kind != 'O' {
		return nil
	}
	if a.Type.Kind == 'O' {
		return errors.New("objects in Fortran order are not read")
	}
	if err := d.spend(len(a.Data)); err != nil {
		return err
	}
	a.Data = gather(a.Data, shape, strides, a.Type.Size)
	return nil
}

// gather copies elements of size bytes, which lie at the strides given, one after another.
func gather(in []byte, shape, strides []int, size int) []byte {
	out := make([]byte, 0, len(in))
	index, at := make([]int, len(shape)), 0
	for len(out) < len(in) {
		out = append(out, in[at:at+size]...)
		for d := len(shape) - 1; d >= 0; d-- {
			index[d]++
			at += strides[d]
			if index[d] < shape[d] {
				break
			}
			at -= shape[d] * strides[d]
			index[d] = 0
		}
	}
	return out
}

// makeScalar is scalar(dtype, data): the plain value.
func makeScalar(d *decoder, args Tuple) (any, error) {
	if len(args) != 2 {
		return nil, errors.New("expected a type and data")
	}
	t, ok := args[0].(*dtype)
	b, isBytes := args[1].(Bytes)
	if !ok || !isBytes || t.Kind == 'O' || len(b) != t.Size {
		return nil, errors.New("expected a type and as many bytes as its element takes")
	}
	if err := d.spend(len(b)); err != nil {
		return nil, err
	}
	return t.value(b)
}

// Values returns the elements of an array of one dimension (or none) as plain values.
func (a *Array) Values() ([]any, error) {
	if len(a.Shape) > 1 {
		return nil, fmt.Errorf("an array of %d dimensions: expected one", len(a.Shape))
	}
	if a.Type.Kind == 'O' {
		return a.Objects, nil
	}
	n := 1
	if len(a.Shape) == 1 {
		n = a.Shape[0]
	}
	if n > MaxOpcodes {
		return nil, fmt.Errorf("an array of %d elements: expected at most %d", n, MaxOpcodes)
	}
	out := make([]any, n)
	for i := range out {
		v, err := a.Type.value(a.Data[i*a.Type.Size : (i+1)*a.Type.Size])
		if err != nil {
			return nil, fmt.Errorf("element %d: %w", i, err)
		}
		out[i] = v
	}
	return out, nil
}

// value decodes one element.
func (t Type) value(b []byte) (any, error) {
	switch t.Kind {
	case 'U':
		return t.text(b)
	case 'S':
		return Bytes(bytes.TrimRight(b, "\x00")), nil
	case 'b':
		return b[0] != 0, nil
	}
	var bits uint64
	for i := range b { // most significant byte first
		k := i
		if !t.big {
			k = len(b) - 1 - i
		}
		bits = bits<<8 | uint64(b[k])
	}
	switch {
	case t.Kind == 'i':
		shift := 64 - 8*t.Size
		return int64(bits<<shift) >> shift, nil
	case t.Kind == 'u' && bits > math.MaxInt64:
		return Long(binary.LittleEndian.AppendUint64(nil, bits)), nil
	case t.Kind == 'u':
		return int64(bits), nil
	case t.Size == 2:
		return half(uint16(bits)), nil
	case t.Size == 4:
		return float64(math.Float32frombits(uint32(bits))), nil
	}
	return math.Float64frombits(bits), nil
}

// text decodes UCS-4 without the zeros at its end, which NumPy does not count.
func (t Type) text(b []byte) (string, error) {
	var order binary.ByteOrder = binary.LittleEndian
	if t.big {
		order = binary.BigEndian
	}
	for len(b) >= 4 && order.Uint32(b[len(b)-4:]) == 0 {
		b = b[:len(b)-4]
	}
	out := make([]byte, 0, len(b)/4)
	for ; len(b) >= 4; b = b[4:] {
		r := order.Uint32(b)
		if r > utf8.MaxRune || !utf8.ValidRune(rune(r)) {
			return "", fmt.Errorf("0x%x is no character", r)
		}
		out = utf8.AppendRune(out, rune(r))
	}
	return string(out), nil
}

// half converts an IEEE 754 binary16 number.
func half(h uint16) float64 {
	sign, exponent, fraction := float64(1), int(h>>10&0x1f), float64(h&0x3ff)
	if h&0x8000 != 0 {
		sign = -1
	}
	switch {
	case exponent == 0x1f && fraction != 0:
		return math.NaN()
	case exponent == 0x1f:
		return math.Inf(int(sign))
	case exponent == 0:
		return sign * math.Ldexp(fraction, -24)
	}
	return sign * math.Ldexp(1024+fraction, exponent-25)
}

// first returns the first argument, nil where there is none.
func first(args Tuple) any {
	if len(args) == 0 {
		return nil
	}
	return args[0]
}
