package tensorfile

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/tia2-engine/tia2-engine/internal/pickle"
)

// zipEntry is a storage kept as a file of a zip archive. PyTorch stores them uncompressed; other tools may deflate.
type zipEntry struct {
	r    io.ReaderAt
	file *zip.File
}

// maxInflated limits one deflated entry, which has to be inflated in memory.
const maxInflated = 4 << 30

// size returns the entry's length after inflating.
func (e zipEntry) size() int64 { return int64(e.file.UncompressedSize64) }

func (e zipEntry) open() (io.ReaderAt, error) {
	if e.file.Method == zip.Store {
		off, err := e.file.DataOffset()
		if err != nil {
			return nil, fmt.Errorf("zip entry %.200q: %w", e.file.Name, err)
		}
		return io.NewSectionReader(e.r, off, e.size()), nil
	}
	b, err := inflate(e.file, maxInflated)
	return bytesAt(b), err
}

// inflate reads a whole entry of at most limit bytes; memory grows with what comes out, not with what the entry claims.
func inflate(f *zip.File, limit int64) ([]byte, error) {
	r, err := f.Open()
	if err != nil {
		return nil, fmt.Errorf("zip entry %.200q: %w", f.Name, err)
	}
	defer r.Close()
	var buf bytes.Buffer
	n, err := io.Copy(&buf, io.LimitReader(r, limit+1))
	if err == nil && n > limit {
		err = fmt.Errorf("larger than %d bytes", limit)
	}
	if err != nil {
		return nil, fmt.Errorf("zip entry %.200q: %w", f.Name, err)
	}
	return buf.Bytes(), nil
}

// readTorchZip reads an archive of torch.save or torch.jit.save: NAME/data.pkl and NAME/data/KEY.
func readTorchZip(r io.ReaderAt, size int64, file string) (*File, error) {
	archive, err := zip.NewReader(r, size)
	if err != nil {
		return nil, fmt.Errorf("zip archive: %w", err)
	}
	entries := map[string]*zip.File{}
	root := ""
	for _, f := range archive.File {
		if err := checkEntry(f, size); err != nil {
			return nil, err
		}
		if entries[f.Name] != nil {
			return nil, fmt.Errorf("zip entry %.200q stands twice", f.Name)
		}
		entries[f.Name] = f
		if path.Base(f.Name) == "data.pkl" && strings.Count(f.Name, "/") <= 1 {
			root = strings.TrimSuffix(f.Name, "data.pkl")
		}
	}
	data := entries[root+"data.pkl"]
	if data == nil {
		return nil, errors.New("a zip archive without data.pkl: not a PyTorch file")
	}
	if order := entries[root+"byteorder"]; order != nil {
		if b, err := inflate(order, 16); err != nil || string(b) != "little" {
			return nil, fmt.Errorf("byte order %q: expected little (%v)", b, err)
		}
	}
	f := &File{Container: TorchZip}
	if entries[root+"constants.pkl"] != nil {
		f.Container = TorchScript
	}
	text, err := inflate(data, pickle.MaxBytes)
	if err != nil {
		return nil, err
	}
	m := pickle.NewMachine(bytes.NewReader(text))
	unpickler{script: f.Container == TorchScript}.hooks(m)
	value, err := m.Load()
	if err != nil {
		return nil, err
	}
	return f, f.fill(value, file, func(s storageRef) (storage, int64, error) {
		e := entries[root+"data/"+s.key]
		if e == nil {
			return nil, 0, fmt.Errorf("no zip entry %.200q", root+"data/"+s.key)
		}
		return zipEntry{r, e}, int64(e.UncompressedSize64), nil
	})
}

// checkEntry refuses entries whose sizes cannot be true.
func checkEntry(f *zip.File, size int64) error {
	limit := uint64(size)
	switch {
	case f.CompressedSize64 > limit:
		return fmt.Errorf("zip entry %.200q has %d bytes, the file %d", f.Name, f.CompressedSize64, size)
	case f.Method == zip.Store && f.CompressedSize64 != f.UncompressedSize64:
		return fmt.Errorf("zip entry %.200q is stored in %d bytes but claims %d", f.Name, f.CompressedSize64, f.UncompressedSize64)
	case f.Method != zip.Store && f.Method != zip.Deflate:
		return fmt.Errorf("zip entry %.200q: compression method %d is not known", f.Name, f.Method)
	case f.UncompressedSize64 > 1100*f.CompressedSize64+1024 || f.Method != zip.Store && f.UncompressedSize64 > maxInflated:
		return fmt.Errorf("zip entry %.200q claims %d bytes of %d: more than deflate can hold", f.Name, f.UncompressedSize64, f.CompressedSize64)
	}
	if f.Method == zip.Store {
		if off, err := f.DataOffset(); err != nil || off < 0 || off > size-int64(f.UncompressedSize64) {
			return fmt.Errorf("zip entry %.200q lies outside the file", f.Name)
		}
	}
	return nil
}

// fill looks up the storages of the tensors in a pickle's value. find returns a storage and its size in bytes.
func (f *File) fill(value any, file string, find func(storageRef) (storage, int64, error)) error {
	found, err := findTensors(value)
	if err != nil {
		return err
	}
	for _, n := range found {
		if n.ref.other != "" {
			f.Tensors = append(f.Tensors, &Tensor{Name: n.name, DType: Other, File: file})
			continue
		}
		s := n.ref.storage
		data, have, err := find(s)
		if err != nil {
			return fmt.Errorf("tensor %.200q: %w", n.name, err)
		}
		unit := s.dtype.Bytes() // 1 for an untyped storage, whose count is in bytes
		if s.n > have/unit || s.offset > have/unit-s.n {
			return fmt.Errorf("tensor %.200q: its storage has %d bytes: expected %d values of %d bytes (cut off?)", n.name, have, s.n, unit)
		}
		if skip := s.offset * unit; skip > 0 || have != s.n*unit {
			data, have = part{data, skip, s.n * unit}, s.n*unit
		}
		t, err := newView(n.name, file, n.ref.dtype, data, have, n.ref.offset, n.ref.shape, n.ref.strides)
		if err != nil {
			return err
		}
		f.Tensors = append(f.Tensors, t)
	}
	return nil
}

// part is a run of another storage.
type part struct {
	whole     storage
	off, size int64
}

func (p part) open() (io.ReaderAt, error) {
	r, err := p.whole.open()
	if err != nil {
		return nil, err
	}
	return io.NewSectionReader(r, p.off, p.size), nil
}

// legacyMagic is the first pickle of a legacy file: 0x1950a86a20f9469cfc6c.
var legacyMagic = []byte{0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19}

// readTorchLegacy reads the format of torch.save before 1.6: pickles of a magic number, a protocol version, the
// machine's sizes, the object and the list of storage keys, then each storage as a count and its values.
func readTorchLegacy(r io.ReaderAt, size int64, file string) (*File, error) {
	m := pickle.NewMachine(io.NewSectionReader(r, 0, min(size, pickle.MaxBytes+1<<16)))
	var types = map[string]DType{}
	u := unpickler{}
	u.hooks(m)
	m.Persistent = func(id any) (any, error) {
		v, err := persistent(id)
		if s, ok := v.(storageRef); ok {
			types[s.key] = s.dtype
		}
		return v, err
	}
	var parts [5]any
	for i := range parts {
		var err error
		if parts[i], err = m.Load(); err != nil {
			return nil, err
		}
		if magic, ok := parts[0].(pickle.Long); !ok || !bytes.Equal(magic, legacyMagic) {
			return nil, errors.New("a pickle, but not one of torch.save")
		}
	}
	if v, ok := parts[1].(int64); !ok || v != 1001 {
		return nil, errors.New("a version of PyTorch's legacy format that is not known: expected 1001")
	}
	if info, ok := parts[2].(*pickle.Dict); ok {
		if little, _ := info.Get("little_endian"); little == false {
			return nil, errors.New("written on a big-endian machine")
		}
	}
	storages, err := legacyStorages(r, size, m.Offset(), items(parts[4]), types)
	if err != nil {
		return nil, err
	}
	f := &File{Container: TorchLegacy}
	return f, f.fill(parts[3], file, func(s storageRef) (storage, int64, error) {
		at, ok := storages[s.key]
		if !ok {
			return nil, 0, fmt.Errorf("no storage %.200q", s.key)
		}
		return at, at.size, nil
	})
}

// legacyStorages finds the storages, which follow each other from offset at in the order of the keys.
func legacyStorages(r io.ReaderAt, size, at int64, keys []any, types map[string]DType) (map[string]section, error) {
	found := make(map[string]section, len(keys))
	for _, k := range keys {
		key, ok := k.(string)
		dtype, used := types[key]
		if !ok || !used || dtype == "" {
			return nil, fmt.Errorf("storage %.200q: its type is not known, so what follows cannot be found", key)
		}
		if _, twice := found[key]; twice {
			return nil, fmt.Errorf("storage %.200q stands twice", key)
		}
		var count [8]byte
		if _, err := r.ReadAt(count[:], at); err != nil {
			return nil, fmt.Errorf("storage %.200q: the file ends before it (cut off?)", key)
		}
		at += 8
		n := binary.LittleEndian.Uint64(count[:])
		if n > uint64((size-at)/dtype.Bytes()) {
			return nil, fmt.Errorf("storage %.200q has %d values of %s: the file ends before them (cut off?)", key, n, dtype)
		}
		found[key] = section{r, at, int64(n) * dtype.Bytes()}
		at += int64(n) * dtype.Bytes()
	}
	return found, nil
}
