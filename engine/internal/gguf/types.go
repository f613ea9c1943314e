package gguf

import (
	"fmt"
	"math"
)

// Type is the element type of a tensor, numbered as ggml does.
type Type uint32

// The tensor types that this engine writes.
const (
	F32  Type = 0
	F16  Type = 1
	Q8_0 Type = 8
	BF16 Type = 30
)

// layout describes a type's blocks: `values` elements in `bytes` bytes.
type layout struct {
	name          string
	values, bytes uint64
}

// layouts holds every type of ggml 0.27 that a file may hold.
var layouts = map[Type]layout{
	F32: {"f32", 1, 4}, F16: {"f16", 1, 2}, BF16: {"bf16", 1, 2}, Q8_0: {"q8_0", 32, 34},
	2: {"q4_0", 32, 18}, 3: {"q4_1", 32, 20}, 6: {"q5_0", 32, 22}, 7: {"q5_1", 32, 24}, 9: {"q8_1", 32, 36},
	10: {"q2_k", 256, 84}, 11: {"q3_k", 256, 110}, 12: {"q4_k", 256, 144}, 13: {"q5_k", 256, 176}, 14: {"q6_k", 256, 210},
	15: {"q8_k", 256, 292}, 24: {"i8", 1, 1}, 25: {"i16", 1, 2}, 26: {"i32", 1, 4}, 27: {"i64", 1, 8}, 28: {"f64", 1, 8},
}

// ParseType returns the type of the given name: "f32", "f16", "bf16" or "q8_0".
func ParseType(name string) (Type, error) {
	for _, t := range []Type{F32, F16, BF16, Q8_0} {
		if name == layouts[t].name {
			return t, nil
		}
	}
	return 0, fmt.Errorf("unknown weight type %q: expected f32, f16, bf16 or q8_0", name)
}

// String returns the type's name, as ParseType takes it.
func (t Type) String() string {
	if l, ok := layouts[t]; ok {
		return l.name
	}
	return fmt.Sprintf("type %d", uint32(t))
}

// Size returns the bytes of a tensor of this type and shape. It is an error when the type is unknown, a row is no
// whole number of blocks, a dimension is 0, or the size is beyond 2^62.
func (t Type) Size(dims []uint64) (uint64, error) {
	l, ok := layouts[t]
	if !ok {
		return 0, fmt.Errorf("unknown tensor type %d", uint32(t))
	}
	if len(dims) == 0 || len(dims) > MaxDims {
		return 0, fmt.Errorf("%d dimensions: expected 1 to %d", len(dims), MaxDims)
	}
	if dims[0]%l.values != 0 {
		return 0, fmt.Errorf("rows of %d values are no whole number of %s blocks of %d", dims[0], l.name, l.values)
	}
	n := uint64(1)
	for _, d := range dims {
		if d == 0 || d > math.MaxInt64 || n > (1<<62)/l.bytes/d {
			return 0, fmt.Errorf("shape %v is empty or too large", dims)
		}
		n *= d
	}
	return n / l.values * l.bytes, nil
}

// Limits of a file. Names and dimensions are ggml's; the rest is far beyond any model and keeps a lying header cheap.
const (
	MaxDims        = 4
	maxTensorName  = 63 // GGML_MAX_NAME less its NUL
	maxKey         = 1<<16 - 1
	maxKVs         = 1 << 16
	maxTensors     = 1 << 18
	maxHeaderBytes = 256 << 20
	maxAlignment   = 1 << 20

	defaultAlignment = 32
)

// Kinds of metadata values, numbered as in the file.
const (
	kindU8 uint32 = iota
	kindI8
	kindU16
	kindI16
	kindU32
	kindI32
	kindF32
	kindBool
	kindString
	kindArray
	kindU64
	kindI64
	kindF64
)

// kindBytes is the size of each kind of fixed size; strings and arrays are at least their length fields.
var kindBytes = map[uint32]int64{kindU8: 1, kindI8: 1, kindU16: 2, kindI16: 2, kindU32: 4, kindI32: 4, kindF32: 4, kindBool: 1, kindString: 8, kindU64: 8, kindI64: 8, kindF64: 8}

// KV is one entry of the metadata. Value is a bool, string, a sized integer, a float32 or float64, or a slice of one
// of them.
type KV struct {
	Key   string
	Value any
}

// Tensor describes one tensor of a file.
type Tensor struct {
	Name   string
	Dims   []uint64 // Dims[0] is the innermost
	Type   Type
	Offset uint64 // of its bytes, from the start of the data section
	Bytes  uint64
}

// Elements returns the number of values.
func (t *Tensor) Elements() uint64 {
	n := uint64(1)
	for _, d := range t.Dims {
		n *= d
	}
	return n
}
