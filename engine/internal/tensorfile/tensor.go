package tensorfile

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"

	"github.com/tia2-engine/tia2-engine/engine/internal/floats"
)

// DType is the element type of a stored tensor.
type DType string

// The element types. Values of the first four can be read; the others only have a size.
const (
	F64   DType = "f64"
	F32   DType = "f32"
	F16   DType = "f16"
	BF16  DType = "bf16"
	I64   DType = "i64"
	U64   DType = "u64"
	I32   DType = "i32"
	U32   DType = "u32"
	I16   DType = "i16"
	U16   DType = "u16"
	I8    DType = "i8"
	U8    DType = "u8"
	Bool  DType = "bool"
	F8    DType = "f8"
	C64   DType = "c64"
	C128  DType = "c128"
	Other DType = "other" // a sparse or quantised tensor, whose values cannot be read
)

// Bytes returns the size of one element.
func (d DType) Bytes() int64 {
	switch d {
	case C128:
		return 16
	case F64, I64, U64, C64:
		return 8
	case F32, I32, U32:
		return 4
	case F16, BF16, I16, U16:
		return 2
	}
	return 1
}

// IsFloat tells whether the values can be weights.
func (d DType) IsFloat() bool { return d == F64 || d == F32 || d == F16 || d == BF16 }

// storage is a run of bytes that tensors are views of.
type storage interface {
	// open returns a reader of the storage's bytes. It may be costly (a deflated entry is inflated).
	open() (io.ReaderAt, error)
}

// Tensor is one named tensor of a checkpoint. It is valid until the File is closed.
type Tensor struct {
	Name  string
	DType DType
	Shape []int64 // outermost first; empty for a scalar
	File  string  // the file that holds it, for messages

	strides []int64 // elements; nil when row-major and contiguous
	data    storage
	offset  int64 // bytes
}

// Elements returns the number of values; it was checked against the file's size.
func (t *Tensor) Elements() int64 {
	n := int64(1)
	for _, d := range t.Shape {
		n *= d
	}
	return n
}

// String names the tensor with its file.
func (t *Tensor) String() string { return fmt.Sprintf("%s: tensor %s", t.File, t.Name) }

// readPiece is how much of a tensor is read at once, in elements.
const readPiece = 1 << 20

// Stream calls f with the tensor's values in row-major order, in pieces of a multiple of `multiple` values (the last
// may be less); the slice is only valid during the call. The tensor must be of a float type.
func (t *Tensor) Stream(multiple int64, f func(values []float32) error) error {
	if !t.DType.IsFloat() {
		return fmt.Errorf("%s holds %s values: expected a float type", t, t.DType)
	}
	src, err := t.data.open()
	if err != nil {
		return fmt.Errorf("%s: %w", t, err)
	}
	offset := t.offset
	if t.strides != nil {
		if src, err = t.gather(src); err != nil {
			return fmt.Errorf("%s: %w", t, err)
		}
		offset = 0
	}
	size, n := t.DType.Bytes(), t.Elements()
	piece := min(n, max(1, readPiece/multiple)*multiple)
	raw, values := make([]byte, piece*size), make([]float32, piece)
	for at := int64(0); at < n; at += piece {
		k := min(piece, n-at)
		if _, err := src.ReadAt(raw[:k*size], offset+at*size); err != nil && err != io.EOF {
			return fmt.Errorf("%s: %w", t, err)
		}
		decode(values[:k], raw[:k*size], t.DType)
		if err := f(values[:k]); err != nil {
			return err
		}
	}
	return nil
}

// Floats returns all values in row-major order.
func (t *Tensor) Floats() ([]float32, error) {
	out := make([]float32, 0, t.Elements())
	err := t.Stream(1, func(v []float32) error { out = append(out, v...); return nil })
	return out, err
}

// decode converts little-endian raw values of a float type.
func decode(dst []float32, raw []byte, dtype DType) {
	le := binary.LittleEndian
	switch dtype {
	case F32:
		for i := range dst {
			dst[i] = math.Float32frombits(le.Uint32(raw[4*i:]))
		}
	case F16:
		for i := range dst {
			dst[i] = floats.FromF16(le.Uint16(raw[2*i:]))
		}
	case BF16:
		for i := range dst {
			dst[i] = floats.FromBF16(le.Uint16(raw[2*i:]))
		}
	case F64:
		for i := range dst {
			dst[i] = float32(math.Float64frombits(le.Uint64(raw[8*i:])))
		}
	}
}

// bytesAt is a ReaderAt over memory.
type bytesAt []byte

// ReadAt implements io.ReaderAt.
func (b bytesAt) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off > int64(len(b)) {
		return 0, io.EOF
	}
	n := copy(p, b[off:])
	if n < len(p) {
		return n, io.ErrUnexpectedEOF
	}
	return n, nil
}

func (b bytesAt) open() (io.ReaderAt, error) { return b, nil }

// gather makes a strided tensor contiguous: it reads the span of the storage that the tensor touches and copies the
// elements out in row-major order. Both fit the storage's size, which newView checked.
func (t *Tensor) gather(src io.ReaderAt) (io.ReaderAt, error) {
	size := t.DType.Bytes()
	raw := make([]byte, t.span()*size)
	if _, err := src.ReadAt(raw, t.offset); err != nil && err != io.EOF {
		return nil, err
	}
	out := make([]byte, 0, t.Elements()*size)
	index := make([]int64, len(t.Shape))
	at := int64(0) // the element's place in raw
	for range t.Elements() {
		out = append(out, raw[at*size:(at+1)*size]...)
		for d := len(index) - 1; d >= 0; d-- {
			index[d]++
			at += t.strides[d]
			if index[d] < t.Shape[d] {
				break
			}
			at -= index[d] * t.strides[d]
			index[d] = 0
		}
	}
	return bytesAt(out), nil
}

// span returns how many elements of the storage lie from the tensor's first to its last.
func (t *Tensor) span() int64 {
	last := int64(0)
	for d, n := range t.Shape {
		if n == 0 {
			return 0
		}
		last += (n - 1) * t.strides[d]
	}
	return last + 1
}

// newView makes a tensor over elements of a storage that has storageBytes bytes, and checks that it stays inside.
// strides nil means contiguous. offset is in elements.
func newView(name, file string, dtype DType, data storage, storageBytes, offset int64, shape, strides []int64) (*Tensor, error) {
	t := &Tensor{Name: name, DType: dtype, Shape: shape, File: file, strides: strides, data: data}
	have := storageBytes / dtype.Bytes()
	n := int64(1)
	for _, d := range shape {
		if d < 0 || d > 0 && n > have/d {
			return nil, fmt.Errorf("%s: shape %v is larger than its storage of %d values", t, clip(shape), have)
		}
		n *= d
	}
	if strides != nil && len(strides) != len(shape) {
		return nil, fmt.Errorf("%s: %d strides for %d dimensions", t, len(strides), len(shape))
	}
	if contiguous(shape, strides) || n == 0 {
		t.strides = nil
	}
	span := n
	if t.strides != nil {
		last := int64(0)
		for d, s := range strides {
			if s < 0 {
				return nil, fmt.Errorf("%s: stride %d leaves its storage of %d values", t, s, have)
			}
			if shape[d] > 1 && s > 0 {
				if shape[d]-1 > (have-1-last)/s {
					return nil, fmt.Errorf("%s: strides %v leave its storage of %d values", t, clip(strides), have)
				}
				last += (shape[d] - 1) * s
			}
		}
		span = last + 1
	}
	if offset < 0 || offset > have-span {
		return nil, fmt.Errorf("%s: values %d to %d lie outside its storage of %d", t, offset, offset+span, have)
	}
	t.offset = offset * dtype.Bytes()
	return t, nil
}

// clip shortens a list of numbers for a message.
func clip(x []int64) []int64 { return x[:min(len(x), 8)] }

// contiguous tells whether the strides are those of a row-major tensor without gaps.
func contiguous(shape, strides []int64) bool {
	if strides == nil {
		return true
	}
	want := int64(1)
	for d := len(shape) - 1; d >= 0; d-- {
		if shape[d] != 1 && strides[d] != want {
			return false
		}
		want *= shape[d]
	}
	return true
}
