package export

import (
	"archive/zip"
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
	"unsafe"

	"github.com/tia2-engine/tia2-engine/internal/atomicfile"
)

// Array is one array for NumPy, row-major. Exactly one of its data fields is used: the first that is not nil, else F32.
type Array struct {
	Name    string // key in an .npz
	Shape   []int  // nil: a scalar
	F32     []float32
	U8      []uint8
	Strings []string // becomes a fixed-width Unicode array
}

// WriteNPY writes one array to the file path.
func WriteNPY(path string, a Array) error {
	f, err := atomicfile.Create(path)
	if err != nil {
		return err
	}
	defer f.Abort()
	if err := writeNPY(f, a); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return f.Commit()
}

// NPZ is an .npz archive being written, array by array. Use it from one goroutine.
type NPZ struct {
	path string
	file *atomicfile.File
	buf  *bufio.Writer
	zip  *zip.Writer
	seen map[string]bool
}

// CreateNPZ starts the archive that will be path. End with Commit or Abort; Abort after Commit does nothing.
func CreateNPZ(path string) (*NPZ, error) {
	f, err := atomicfile.Create(path)
	if err != nil {
		return nil, err
	}
	buf := bufio.NewWriterSize(f, 1<<18)
	return &NPZ{path: path, file: f, buf: buf, zip: zip.NewWriter(buf), seen: map[string]bool{}}, nil
}

// Add appends an array. Its name must be new. The entries are stored, not compressed: embeddings do not shrink.
func (z *NPZ) Add(a Array) error {
	if a.Name == "" || z.seen[a.Name] {
		return fmt.Errorf("%s: array %q: expected a name that no other array of the file has", z.path, a.Name)
	}
	z.seen[a.Name] = true
	w, err := z.zip.CreateHeader(&zip.FileHeader{Name: a.Name + ".npy", Method: zip.Store})
	if err == nil {
		err = writeNPY(w, a)
	}
	if err != nil {
		return fmt.Errorf("%s: array %q: %w", z.path, a.Name, err)
	}
	return nil
}

// Commit completes the archive and gives it its final name.
func (z *NPZ) Commit() error {
	err := z.zip.Close()
	if err == nil {
		err = z.buf.Flush()
	}
	if err != nil {
		z.file.Abort()
		return fmt.Errorf("%s: %w", z.path, err)
	}
	return z.file.Commit()
}

// Abort removes what was written, unless it was committed.
func (z *NPZ) Abort() { z.file.Abort() }

// WriteNPZ writes the arrays to the file path, in their order.
func WriteNPZ(path string, arrays []Array) error {
	z, err := CreateNPZ(path)
	if err != nil {
		return err
	}
	defer z.Abort()
	for _, a := range arrays {
		if err := z.Add(a); err != nil {
			return err
		}
	}
	return z.Commit()
}

// writeNPY writes version 1.0 of the format: magic, header padded to 64 bytes, data in little-endian order.
//
// Source: NumPy Enhancement Proposal 1, "A Simple File Format for NumPy Arrays".
func writeNPY(w io.Writer, a Array) error {
	n := 1
	for _, d := range a.Shape {
		n *= d
	}
	descr, length, width := "<f4", len(a.F32), 0
	switch {
	case a.F32 != nil:
	case a.U8 != nil:
		descr, length = "|u1", len(a.U8)
	case a.Strings != nil:
		width = 1 // NumPy has no strings of width 0
		for _, s := range a.Strings {
			width = max(width, utf8.RuneCountInString(s))
		}
		descr, length = "<U"+strconv.Itoa(width), len(a.Strings)
	}
	if length != n {
		return fmt.Errorf("%d elements for shape %v", length, a.Shape)
	}
	header := fmt.Sprintf("{'descr': '%s', 'fortran_order': False, 'shape': %s, }", descr, shapeTuple(a.Shape))
	const fixed = 10 // magic, version and length of the header
	header += strings.Repeat(" ", 63-(fixed+len(header))%64) + "\n"
	head := append([]byte("\x93NUMPY\x01\x00"), 0, 0)
	binary.LittleEndian.PutUint16(head[8:], uint16(len(header)))
	if _, err := w.Write(append(head, header...)); err != nil {
		return err
	}
	switch {
	case a.F32 != nil:
		return writeF32(w, a.F32)
	case a.U8 != nil:
		_, err := w.Write(a.U8)
		return err
	}
	return writeStrings(w, a.Strings, width)
}

func shapeTuple(shape []int) string {
	var b strings.Builder
	b.WriteByte('(')
	for i, d := range shape {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(strconv.Itoa(d))
	}
	if len(shape) == 1 {
		b.WriteByte(',')
	}
	b.WriteByte(')')
	return b.String()
}

// littleEndian tells whether this machine's memory has the file's byte order.
var littleEndian = binary.NativeEndian.Uint16([]byte{1, 0}) == 1

func writeF32(w io.Writer, data []float32) error {
	if littleEndian {
		_, err := w.Write(unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(data))), 4*len(data)))
		return err
	}
	buf := make([]byte, 0, 4*4096)
	for chunk := range slices.Chunk(data, 4096) {
		buf = buf[:0]
		for _, v := range chunk {
			buf = binary.LittleEndian.AppendUint32(buf, math.Float32bits(v))
		}
		if _, err := w.Write(buf); err != nil {
			return err
		}
	}
	return nil
}

// writeStrings writes each string as width UTF-32 code points, zeros at the end.
func writeStrings(w io.Writer, data []string, width int) error {
	cell := make([]byte, 0, 4*width)
	for _, s := range data {
		cell = cell[:0]
		for _, r := range s {
			cell = binary.LittleEndian.AppendUint32(cell, uint32(r))
		}
		cell = append(cell, make([]byte, 4*width-len(cell))...)
		if _, err := w.Write(cell); err != nil {
			return err
		}
	}
	return nil
}
