package gguf

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strings"
	"unicode/utf8"
)

// SeedKey marks a file without a data section, whose weights are drawn at random from the value (uint64).
const SeedKey = "tia2.random.seed"

// File is an open GGUF file. Its methods may be called from several goroutines.
type File struct {
	Version    uint32
	Alignment  uint64
	KVs        []KV     // in file order
	Tensors    []Tensor // in file order
	DataOffset int64    // where the data section starts

	name    string
	r       io.ReaderAt
	closer  io.Closer
	byKey   map[string]int
	byName  map[string]int
	hasData bool
}

// Open opens and checks the file: everything but the tensors' values is read. Close it.
func Open(path string) (*File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	st, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, err
	}
	g, err := Read(f, st.Size(), path)
	if err != nil {
		f.Close()
		return nil, err
	}
	g.closer = f
	return g, nil
}

// Read is Open for any source of size bytes; name stands in errors. The source must outlive the File.
func Read(r io.ReaderAt, size int64, name string) (*File, error) {
	g := &File{name: name, r: r, byKey: map[string]int{}, byName: map[string]int{}}
	d := &decoder{r: newBuffered(r, min(size, maxHeaderBytes)), size: size}
	if err := g.read(d); err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			err = fmt.Errorf("the file ends inside its header")
			if size > maxHeaderBytes {
				err = fmt.Errorf("the header is longer than %d MiB", maxHeaderBytes>>20)
			}
		}
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return g, nil
}

// Close closes the file.
func (g *File) Close() error {
	if g.closer == nil {
		return nil
	}
	return g.closer.Close()
}

// Value returns the metadata value of a key, nil when there is none.
func (g *File) Value(key string) any {
	if i, ok := g.byKey[key]; ok {
		return g.KVs[i].Value
	}
	return nil
}

// Str returns the string of a key, "" when there is none.
func (g *File) Str(key string) string {
	s, _ := g.Value(key).(string)
	return s
}

// Tensor returns the tensor of the given name, nil when there is none.
func (g *File) Tensor(name string) *Tensor {
	if i, ok := g.byName[name]; ok {
		return &g.Tensors[i]
	}
	return nil
}

// HasData tells whether the file holds the tensors' values. Files with SeedKey do not.
func (g *File) HasData() bool { return g.hasData }

// Data returns a reader of the tensor's bytes.
func (g *File) Data(t *Tensor) (*io.SectionReader, error) {
	if !g.hasData {
		return nil, fmt.Errorf("%s: tensor %s: the file holds no weights, only a random seed", g.name, t.Name)
	}
	return io.NewSectionReader(g.r, g.DataOffset+int64(t.Offset), int64(t.Bytes)), nil
}

// read parses the header, the metadata and the tensor infos and checks them.
func (g *File) read(d *decoder) error {
	magic := make([]byte, 4)
	if _, err := io.ReadFull(d.r, magic); err != nil || string(magic) != "GGUF" {
		return fmt.Errorf("not a GGUF file: it starts with %q", magic)
	}
	g.Version = d.u32()
	nTensors, nKVs := d.u64(), d.u64()
	switch {
	case d.err != nil:
		return d.err
	case g.Version != 2 && g.Version != 3:
		return fmt.Errorf("GGUF version %d: expected 2 or 3 (little-endian)", g.Version)
	case nTensors > maxTensors || nKVs > maxKVs:
		return fmt.Errorf("%d tensors and %d metadata entries are more than any model has", nTensors, nKVs)
	}
	for range nKVs {
		kv, err := d.kv()
		if err != nil {
			return err
		}
		if _, dup := g.byKey[kv.Key]; dup {
			return fmt.Errorf("metadata key %q stands twice", kv.Key)
		}
		g.byKey[kv.Key] = len(g.KVs)
		g.KVs = append(g.KVs, kv)
	}
	if err := g.readAlignment(); err != nil {
		return err
	}
	for range nTensors {
		t, err := d.tensor()
		if err != nil {
			return err
		}
		if _, dup := g.byName[t.Name]; dup {
			return fmt.Errorf("tensor %q stands twice", t.Name)
		}
		g.byName[t.Name] = len(g.Tensors)
		g.Tensors = append(g.Tensors, t)
	}
	return g.checkOffsets(d)
}

func (g *File) readAlignment() error {
	g.Alignment = defaultAlignment
	if v := g.Value("general.alignment"); v != nil {
		a, ok := v.(uint32)
		if !ok || a == 0 || a&(a-1) != 0 || a > maxAlignment {
			return fmt.Errorf("general.alignment is %v: expected a power of two as u32", v)
		}
		g.Alignment = uint64(a)
	}
	return nil
}

// checkOffsets demands what ggml demands: tensors in file order, each at the next aligned offset, all within the file.
func (g *File) checkOffsets(d *decoder) error {
	g.DataOffset = int64(align(uint64(d.r.off), g.Alignment))
	var end uint64 // of the tensors so far
	for i := range g.Tensors {
		t := &g.Tensors[i]
		if t.Offset != align(end, g.Alignment) {
			return fmt.Errorf("tensor %s: offset %d: expected %d", t.Name, t.Offset, align(end, g.Alignment))
		}
		end = t.Offset + t.Bytes
		if end > math.MaxInt64/2 {
			return fmt.Errorf("tensor %s: the tensors are larger than any file", t.Name)
		}
	}
	_, random := g.Value(SeedKey).(uint64)
	g.hasData = !random || len(g.Tensors) == 0
	if g.hasData && len(g.Tensors) > 0 && uint64(d.size) < uint64(g.DataOffset)+end {
		return fmt.Errorf("the file has %d bytes: its tensors end at %d (cut off?)", d.size, uint64(g.DataOffset)+end)
	}
	return nil
}

func align(n, a uint64) uint64 { return (n + a - 1) / a * a }

// buffered reads a source in order, in large pieces, and knows how far it is.
type buffered struct {
	src  *io.SectionReader
	buf  []byte
	have []byte
	off  int64 // of the next byte that Read returns
}

func newBuffered(r io.ReaderAt, size int64) *buffered {
	return &buffered{src: io.NewSectionReader(r, 0, size), buf: make([]byte, min(size, 1<<16))}
}

// Read implements io.Reader.
func (b *buffered) Read(p []byte) (int, error) {
	if len(b.have) == 0 {
		n, err := b.src.Read(b.buf)
		if n == 0 {
			if err == nil {
				err = io.EOF
			}
			return 0, err
		}
		b.have = b.buf[:n]
	}
	n := copy(p, b.have)
	b.have = b.have[n:]
	b.off += int64(n)
	return n, nil
}

// left returns how many bytes of the source are unread.
func (b *buffered) left() int64 { return b.src.Size() - b.off }

// decoder reads the parts of a header. The first error sticks.
type decoder struct {
	r       *buffered
	size    int64 // of the whole file
	scratch [8]byte
	err     error
}

func (d *decoder) bytes(n int) []byte {
	b := d.scratch[:n]
	if d.err == nil {
		_, d.err = io.ReadFull(d.r, b)
	}
	if d.err != nil {
		clear(b)
	}
	return b
}

func (d *decoder) u8() uint8   { return d.bytes(1)[0] }
func (d *decoder) u16() uint16 { return binary.LittleEndian.Uint16(d.bytes(2)) }
func (d *decoder) u32() uint32 { return binary.LittleEndian.Uint32(d.bytes(4)) }
func (d *decoder) u64() uint64 { return binary.LittleEndian.Uint64(d.bytes(8)) }

// str reads a string of at most limit bytes. Its length is checked against the file before anything is allocated.
func (d *decoder) str(what string, limit int64) string {
	n := d.u64()
	if d.err != nil {
		return ""
	}
	if n > uint64(limit) || n > uint64(d.r.left()) {
		d.err = fmt.Errorf("%s has %d bytes: expected at most %d", what, n, min(limit, d.r.left()))
		return ""
	}
	b := make([]byte, n)
	if _, d.err = io.ReadFull(d.r, b); d.err != nil {
		return ""
	}
	return string(b)
}

func (d *decoder) kv() (KV, error) {
	key := d.str("a metadata key", maxKey)
	if d.err == nil && (key == "" || !utf8.ValidString(key) || strings.ContainsRune(key, 0)) {
		d.err = fmt.Errorf("metadata key %q is not valid", key)
	}
	kind := d.u32()
	value := d.value(kind)
	if d.err != nil {
		return KV{}, fmt.Errorf("metadata key %q: %w", key, d.err)
	}
	return KV{key, value}, nil
}

// value reads one value of the given kind.
func (d *decoder) value(kind uint32) any {
	switch kind {
	case kindU8:
		return d.u8()
	case kindI8:
		return int8(d.u8())
	case kindU16:
		return d.u16()
	case kindI16:
		return int16(d.u16())
	case kindU32:
		return d.u32()
	case kindI32:
		return int32(d.u32())
	case kindF32:
		return math.Float32frombits(d.u32())
	case kindBool:
		return d.bool()
	case kindString:
		return d.str("a string", maxHeaderBytes)
	case kindU64:
		return d.u64()
	case kindI64:
		return int64(d.u64())
	case kindF64:
		return math.Float64frombits(d.u64())
	case kindArray:
		return d.array()
	}
	if d.err == nil {
		d.err = fmt.Errorf("unknown kind of value %d", kind)
	}
	return nil
}

func (d *decoder) bool() bool {
	b := d.u8()
	if d.err == nil && b > 1 {
		d.err = fmt.Errorf("a bool has the byte %d: expected 0 or 1", b)
	}
	return b == 1
}

// array reads an array. ggml takes no arrays of arrays, so neither does this.
func (d *decoder) array() any {
	kind, n := d.u32(), d.u64()
	size, ok := kindBytes[kind]
	if d.err == nil && !ok {
		d.err = fmt.Errorf("an array of kind %d: expected plain values", kind)
	}
	if d.err == nil && n > uint64(d.r.left()/size) {
		d.err = fmt.Errorf("an array of %d entries is longer than the header", n)
	}
	if d.err != nil {
		return nil
	}
	count := int(n)
	switch kind {
	case kindU8:
		return readArray(d, count, d.u8)
	case kindI8:
		return readArray(d, count, func() int8 { return int8(d.u8()) })
	case kindU16:
		return readArray(d, count, d.u16)
	case kindI16:
		return readArray(d, count, func() int16 { return int16(d.u16()) })
	case kindU32:
		return readArray(d, count, d.u32)
	case kindI32:
		return readArray(d, count, func() int32 { return int32(d.u32()) })
	case kindF32:
		return readArray(d, count, func() float32 { return math.Float32frombits(d.u32()) })
	case kindBool:
		return readArray(d, count, d.bool)
	case kindU64:
		return readArray(d, count, d.u64)
	case kindI64:
		return readArray(d, count, func() int64 { return int64(d.u64()) })
	case kindF64:
		return readArray(d, count, func() float64 { return math.Float64frombits(d.u64()) })
	}
	return readArray(d, count, func() string { return d.str("a string", maxHeaderBytes) })
}

func readArray[T any](d *decoder, n int, read func() T) []T {
	out := make([]T, 0, min(n, 1<<16)) // grows with what is really there
	for i := 0; i < n && d.err == nil; i++ {
		out = append(out, read())
	}
	return out
}

func (d *decoder) tensor() (Tensor, error) {
	t := Tensor{Name: d.str("a tensor name", maxTensorName)}
	if d.err == nil && (t.Name == "" || !utf8.ValidString(t.Name) || strings.ContainsRune(t.Name, 0)) {
		d.err = fmt.Errorf("the name is not valid")
	}
	n := d.u32()
	if d.err == nil && (n == 0 || n > MaxDims) {
		d.err = fmt.Errorf("%d dimensions: expected 1 to %d", n, MaxDims)
	}
	if d.err != nil {
		return t, fmt.Errorf("tensor %q: %w", t.Name, d.err)
	}
	for range n {
		t.Dims = append(t.Dims, d.u64())
	}
	t.Type, t.Offset = Type(d.u32()), d.u64()
	if d.err == nil {
		t.Bytes, d.err = t.Type.Size(t.Dims)
	}
	if d.err == nil && t.Offset > math.MaxInt64/2 {
		d.err = fmt.Errorf("offset %d is beyond any file", t.Offset)
	}
	if d.err != nil {
		return t, fmt.Errorf("tensor %q: %w", t.Name, d.err)
	}
	return t, nil
}
