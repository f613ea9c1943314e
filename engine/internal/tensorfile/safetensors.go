package tensorfile

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
)

// maxSafetensorsHeader is the limit of the format's reference implementation.
const maxSafetensorsHeader = 100_000_000

// maxRank limits the dimensions of a tensor, above what any weight has.
const maxRank = 16

// safetensorsTypes maps the format's type names.
var safetensorsTypes = map[string]DType{
	"F64": F64, "F32": F32, "F16": F16, "BF16": BF16, "I64": I64, "U64": U64, "I32": I32, "U32": U32, "I16": I16, "U16": U16,
	"I8": I8, "U8": U8, "BOOL": Bool, "F8_E4M3": F8, "F8_E5M2": F8, "F8_E8M0": F8, "C64": C64,
}

// section is a storage that lies in the file as it is.
type section struct {
	r         io.ReaderAt
	off, size int64
}

func (s section) open() (io.ReaderAt, error) { return io.NewSectionReader(s.r, s.off, s.size), nil }

// entry is one tensor of a safetensors header.
type entry struct {
	DType   string  `json:"dtype"`
	Shape   []int64 `json:"shape"`
	Offsets []int64 `json:"data_offsets"`
}

// readSafetensors reads the header: eight bytes of length, JSON, then the data. As the reference does, it demands that
// the tensors cover the data without a gap and without sharing a byte.
func readSafetensors(r io.ReaderAt, size int64, path string) (*File, error) {
	var length [8]byte
	if _, err := r.ReadAt(length[:], 0); err != nil {
		return nil, errors.New("the file ends inside its header")
	}
	n := binary.LittleEndian.Uint64(length[:])
	if n > maxSafetensorsHeader || int64(n) > size-8 {
		return nil, fmt.Errorf("the header has %d bytes, the file %d (cut off?)", n, size)
	}
	header := make([]byte, n)
	if _, err := r.ReadAt(header, 8); err != nil && err != io.EOF {
		return nil, err
	}
	data := section{r, 8 + int64(n), size - 8 - int64(n)}
	f := &File{Container: Safetensors}
	ends := map[*Tensor][]int64{}
	err := eachEntry(header, func(name string, raw json.RawMessage) error {
		var e entry
		if err := json.Unmarshal(raw, &e); err != nil {
			return fmt.Errorf("tensor %.200q: %w", name, err)
		}
		t, err := e.tensor(name, path, data)
		if err != nil {
			return err
		}
		ends[t] = e.Offsets
		f.Tensors = append(f.Tensors, t)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("header: %w", err)
	}
	slices.SortFunc(f.Tensors, func(a, b *Tensor) int {
		return slices.Compare(ends[a], ends[b])
	})
	at := int64(0)
	for _, t := range f.Tensors {
		if ends[t][0] != at {
			return nil, fmt.Errorf("tensor %s starts at %d of the data: expected %d, the end of the one before", t.Name, ends[t][0], at)
		}
		at = ends[t][1]
	}
	if at != data.size {
		return nil, fmt.Errorf("the tensors end at %d of %d bytes of data (cut off?)", at, data.size)
	}
	return f, nil
}

// tensor checks one entry of the header.
func (e *entry) tensor(name, path string, data section) (*Tensor, error) {
	dtype, ok := safetensorsTypes[e.DType]
	switch {
	case !ok:
		return nil, fmt.Errorf("tensor %.200q: unknown type %.40q", name, e.DType)
	case len(e.Shape) > maxRank:
		return nil, fmt.Errorf("tensor %.200q: %d dimensions", name, len(e.Shape))
	case len(e.Offsets) != 2 || e.Offsets[0] < 0 || e.Offsets[0] > e.Offsets[1] || e.Offsets[1] > data.size:
		return nil, fmt.Errorf("tensor %.200q: data_offsets %v: expected a range in %d bytes", name, clip(e.Offsets), data.size)
	}
	size := e.Offsets[1] - e.Offsets[0]
	t, err := newView(name, path, dtype, section{data.r, data.off + e.Offsets[0], size}, size, 0, e.Shape, nil)
	if err != nil {
		return nil, err
	}
	if t.Elements()*dtype.Bytes() != size {
		return nil, fmt.Errorf("tensor %s: %d bytes for shape %v of %s", name, size, e.Shape, dtype)
	}
	return t, nil
}

// eachEntry calls f for every tensor of the header, in order; a name may stand once.
func eachEntry(header []byte, f func(name string, raw json.RawMessage) error) error {
	dec := json.NewDecoder(bytes.NewReader(header))
	if tok, err := dec.Token(); err != nil || tok != json.Delim('{') {
		return errors.New("no JSON object")
	}
	seen := map[string]bool{}
	for dec.More() {
		tok, err := dec.Token()
		if err != nil {
			return err
		}
		name, ok := tok.(string)
		if !ok || seen[name] {
			return fmt.Errorf("the name %.200q stands twice", tok)
		}
		seen[name] = true
		var raw json.RawMessage
		if err := dec.Decode(&raw); err != nil {
			return err
		}
		if name == "__metadata__" {
			continue
		}
		if err := f(name, raw); err != nil {
			return err
		}
	}
	if _, err := dec.Token(); err != nil {
		return err
	}
	if rest := bytes.TrimSpace(header[dec.InputOffset():]); len(rest) > 0 {
		return fmt.Errorf("%d bytes after the JSON object", len(rest))
	}
	return nil
}
