package gguf

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/tia2-engine/tia2-engine/internal/atomicfile"
)

// Writer writes one GGUF file (version 3, alignment 32), tensor by tensor, so that no more than one is in memory.
// The file appears under its name only when Commit has put all of it on the disk. Not safe for several goroutines.
type Writer struct {
	path    string
	file    *atomicfile.File
	buf     *bufio.Writer
	tensors []Tensor
	next    int    // the tensor that WriteTensor writes next
	end     uint64 // of the data written so far
	err     error  // the first, which sticks
}

// Create starts a file with the given metadata and tensors (name, dims and type; offsets and sizes are worked out
// here). Tensors are then written in this order. The caller ends with Commit or Abort; Abort after Commit is fine.
func Create(path string, kvs []KV, tensors []Tensor) (*Writer, error) {
	tensors = append([]Tensor(nil), tensors...)
	if err := layOut(tensors); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	f, err := atomicfile.Create(path)
	if err != nil {
		return nil, err
	}
	w := &Writer{path: path, file: f, buf: bufio.NewWriterSize(f, 1<<20), tensors: tensors}
	n := w.header(kvs)
	if w.err == nil {
		w.pad(n)
	}
	if w.err != nil {
		w.Abort()
		return nil, fmt.Errorf("%s: %w", path, w.err)
	}
	return w, nil
}

// layOut fills in sizes and offsets and checks names.
func layOut(tensors []Tensor) error {
	seen := map[string]bool{}
	var end uint64
	for i := range tensors {
		t := &tensors[i]
		if t.Name == "" || len(t.Name) > maxTensorName || seen[t.Name] {
			return fmt.Errorf("tensor name %q is empty, too long or stands twice", t.Name)
		}
		seen[t.Name] = true
		var err error
		if t.Bytes, err = t.Type.Size(t.Dims); err != nil {
			return fmt.Errorf("tensor %s: %w", t.Name, err)
		}
		t.Offset = align(end, defaultAlignment)
		end = t.Offset + t.Bytes
	}
	return nil
}

// header writes everything before the data and returns its length.
func (w *Writer) header(kvs []KV) uint64 {
	b := binary.LittleEndian.AppendUint32([]byte("GGUF"), 3)
	b = binary.LittleEndian.AppendUint64(b, uint64(len(w.tensors)))
	b = binary.LittleEndian.AppendUint64(b, uint64(len(kvs)))
	seen := map[string]bool{}
	for _, kv := range kvs {
		if kv.Key == "" || len(kv.Key) > maxKey || seen[kv.Key] {
			w.err = fmt.Errorf("metadata key %q is empty, too long or stands twice", kv.Key)
			return 0
		}
		seen[kv.Key] = true
		b = appendStr(b, kv.Key)
		if b, w.err = appendValue(b, kv.Value); w.err != nil {
			w.err = fmt.Errorf("metadata key %q: %w", kv.Key, w.err)
			return 0
		}
	}
	for _, t := range w.tensors {
		b = appendStr(b, t.Name)
		b = binary.LittleEndian.AppendUint32(b, uint32(len(t.Dims)))
		for _, d := range t.Dims {
			b = binary.LittleEndian.AppendUint64(b, d)
		}
		b = binary.LittleEndian.AppendUint32(b, uint32(t.Type))
		b = binary.LittleEndian.AppendUint64(b, t.Offset)
	}
	if len(b) > maxHeaderBytes {
		w.err = fmt.Errorf("the header has %d bytes: the limit is %d", len(b), maxHeaderBytes)
		return 0
	}
	_, w.err = w.buf.Write(b)
	return uint64(len(b))
}

// Tensors returns the tensors with their offsets and sizes, in the order of writing.
func (w *Writer) Tensors() []Tensor { return w.tensors }

// WriteTensor writes the next tensor's bytes: fill must write exactly as many as the tensor has.
func (w *Writer) WriteTensor(fill func(io.Writer) error) error {
	if w.err != nil {
		return w.err
	}
	if w.next >= len(w.tensors) {
		return w.fail(errors.New("all tensors are written"))
	}
	t := w.tensors[w.next]
	count := &counter{w: w.buf}
	if err := fill(count); err != nil {
		return w.fail(err)
	}
	if count.n != t.Bytes {
		return w.fail(fmt.Errorf("tensor %s: %d bytes were written: expected %d", t.Name, count.n, t.Bytes))
	}
	w.next++
	w.end = t.Offset + t.Bytes
	w.pad(w.end)
	return w.err
}

// Commit ends the file. Where not even the first tensor was written, the file is header-only: that is for files with
// SeedKey, and refused where some tensors were.
func (w *Writer) Commit() error {
	if w.err == nil && w.next != 0 && w.next != len(w.tensors) {
		w.fail(fmt.Errorf("%d of %d tensors are written", w.next, len(w.tensors)))
	}
	if w.err == nil {
		if err := w.buf.Flush(); err != nil {
			w.fail(err)
		}
	}
	if w.err != nil {
		w.Abort()
		return w.err
	}
	return w.file.Commit()
}

// Abort gives the file up and removes what was written. After Commit it does nothing.
func (w *Writer) Abort() { w.file.Abort() }

func (w *Writer) fail(err error) error {
	w.err = fmt.Errorf("%s: %w", w.path, err)
	return w.err
}

// pad writes zeros from the (relative) position n to the next aligned one.
func (w *Writer) pad(n uint64) {
	var zeros [defaultAlignment]byte
	if _, err := w.buf.Write(zeros[:align(n, defaultAlignment)-n]); err != nil {
		w.fail(err)
	}
}

// counter counts the bytes that pass.
type counter struct {
	w io.Writer
	n uint64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += uint64(n)
	return n, err
}

func appendStr(b []byte, s string) []byte {
	return append(binary.LittleEndian.AppendUint64(b, uint64(len(s))), s...)
}

// appendValue writes a value with its kind before it.
func appendValue(b []byte, value any) ([]byte, error) {
	le := binary.LittleEndian
	switch v := value.(type) {
	case bool:
		return appendBool(le.AppendUint32(b, kindBool), v), nil
	case uint8:
		return append(le.AppendUint32(b, kindU8), v), nil
	case int8:
		return append(le.AppendUint32(b, kindI8), byte(v)), nil
	case uint16:
		return le.AppendUint16(le.AppendUint32(b, kindU16), v), nil
	case int16:
		return le.AppendUint16(le.AppendUint32(b, kindI16), uint16(v)), nil
	case uint32:
		return le.AppendUint32(le.AppendUint32(b, kindU32), v), nil
	case int32:
		return le.AppendUint32(le.AppendUint32(b, kindI32), uint32(v)), nil
	case uint64:
		return le.AppendUint64(le.AppendUint32(b, kindU64), v), nil
	case int64:
		return le.AppendUint64(le.AppendUint32(b, kindI64), uint64(v)), nil
	case float32:
		return le.AppendUint32(le.AppendUint32(b, kindF32), math.Float32bits(v)), nil
	case float64:
		return le.AppendUint64(le.AppendUint32(b, kindF64), math.Float64bits(v)), nil
	case string:
		return appendStr(le.AppendUint32(b, kindString), v), nil
	case []bool:
		return appendArray(b, kindBool, v, appendBool), nil
	case []uint8:
		return appendArray(b, kindU8, v, func(b []byte, x uint8) []byte { return append(b, x) }), nil
	case []int8:
		return appendArray(b, kindI8, v, func(b []byte, x int8) []byte { return append(b, byte(x)) }), nil
	case []uint16:
		return appendArray(b, kindU16, v, le.AppendUint16), nil
	case []int16:
		return appendArray(b, kindI16, v, func(b []byte, x int16) []byte { return le.AppendUint16(b, uint16(x)) }), nil
	case []uint32:
		return appendArray(b, kindU32, v, le.AppendUint32), nil
	case []int32:
		return appendArray(b, kindI32, v, func(b []byte, x int32) []byte { return le.AppendUint32(b, uint32(x)) }), nil
	case []uint64:
		return appendArray(b, kindU64, v, le.AppendUint64), nil
	case []int64:
		return appendArray(b, kindI64, v, func(b []byte, x int64) []byte { return le.AppendUint64(b, uint64(x)) }), nil
	case []float32:
		return appendArray(b, kindF32, v, func(b []byte, x float32) []byte { return le.AppendUint32(b, math.Float32bits(x)) }), nil
	case []float64:
		return appendArray(b, kindF64, v, func(b []byte, x float64) []byte { return le.AppendUint64(b, math.Float64bits(x)) }), nil
	case []string:
		return appendArray(b, kindString, v, appendStr), nil
	}
	return b, fmt.Errorf("a value of type %T cannot be stored", value)
}

func appendBool(b []byte, v bool) []byte {
	if v {
		return append(b, 1)
	}
	return append(b, 0)
}

func appendArray[T any](b []byte, kind uint32, values []T, one func([]byte, T) []byte) []byte {
	b = binary.LittleEndian.AppendUint32(b, kindArray)
	b = binary.LittleEndian.AppendUint32(b, kind)
	b = binary.LittleEndian.AppendUint64(b, uint64(len(values)))
	for _, v := range values {
		b = one(b, v)
	}
	return b
}
