package tensorfile

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Container says how a checkpoint is stored.
type Container string

// The containers.
const (
	Safetensors Container = "safetensors"
	TorchZip    Container = "torch zip"
	TorchLegacy Container = "torch legacy pickle"
	TorchScript Container = "torchscript"
)

// File is an open checkpoint: one file, or the shards of one. Close it when the tensors are no longer read.
type File struct {
	Container Container
	Tensors   []*Tensor // in file order, names without wrappers' prefixes
	Parts     []string  // the paths of the weight files, in the order of their names

	byName  map[string]*Tensor
	closers []io.Closer
}

// Tensor returns the tensor of the given name, nil when there is none.
func (f *File) Tensor(name string) *Tensor { return f.byName[name] }

// Join adds the tensors of another checkpoint file, with prefix before their names, for a model that lies in two. f then
// owns the other's files; of the other File nothing may be used any more.
func (f *File) Join(other *File, prefix string) error {
	for _, t := range other.Tensors {
		t.Name = prefix + t.Name
	}
	f.Tensors = append(f.Tensors, other.Tensors...)
	f.Parts = append(f.Parts, other.Parts...)
	f.closers = append(f.closers, other.closers...)
	return f.index()
}

// Close closes the files.
func (f *File) Close() error {
	var errs []error
	for _, c := range f.closers {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

// Open opens a checkpoint file of any container, or the shards that a *.index.json names.
func Open(path string) (*File, error) {
	var f *File
	var err error
	if strings.HasSuffix(path, ".index.json") {
		f, err = openShards(path)
	} else {
		f, err = openOne(path)
	}
	if err != nil {
		return nil, err
	}
	f.stripPrefixes()
	if err := f.index(); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// openOne opens a single file.
func openOne(path string) (*File, error) {
	h, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	st, err := h.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = fmt.Errorf("%s: not a regular file", path)
	}
	var f *File
	if err == nil {
		f, err = read(h, st.Size(), path)
	}
	if err != nil {
		h.Close()
		return nil, err
	}
	f.Parts, f.closers = []string{path}, []io.Closer{h}
	return f, nil
}

// read finds out the container from the first bytes and reads its table of tensors. path stands in errors.
func read(r io.ReaderAt, size int64, path string) (*File, error) {
	head := make([]byte, min(size, 512))
	if _, err := r.ReadAt(head, 0); err != nil && err != io.EOF {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	s := string(head)
	var f *File
	var err error
	switch {
	case strings.HasPrefix(s, "PK\x03\x04"):
		f, err = readTorchZip(r, size, path)
	case strings.HasPrefix(s, "\x80") && len(s) > 2 && s[1] >= 2 && s[1] <= 5 && s[2] != 0:
		f, err = readTorchLegacy(r, size, path)
	case len(s) > 8 && (s[8] == '{'):
		f, err = readSafetensors(r, size, path)
	case strings.HasPrefix(s, "GGUF"):
		err = errors.New("a GGUF file, not a checkpoint: open, quantize or inspect it as it is")
	case strings.HasPrefix(s, "version https://git-lfs"):
		err = errors.New("a Git LFS pointer, not the file itself: fetch it with git lfs pull")
	case strings.HasPrefix(strings.ToLower(strings.TrimSpace(s)), "<!doctype") || strings.HasPrefix(strings.TrimSpace(s), "<html"):
		err = errors.New("a web page, not a checkpoint: the download went wrong")
	case len(s) > 262 && s[257:262] == "ustar":
		err = errors.New("a tar archive, as PyTorch before 0.1.10 wrote: load and save it again with torch.save")
	default:
		err = errors.New("not a checkpoint: expected safetensors, a PyTorch file or a TorchScript archive")
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return f, nil
}

// maxIndexBytes limits the JSON files beside the weights.
const maxIndexBytes = 64 << 20

// openShards opens the files that an index names and takes each tensor from the shard that it is said to be in.
func openShards(path string) (*File, error) {
	names, err := readIndex(path)
	if err != nil {
		return nil, err
	}
	shards := map[string]*File{}
	whole := &File{}
	for _, shard := range slices.Sorted(func(yield func(string) bool) {
		for _, s := range names {
			if !yield(s) {
				return
			}
		}
	}) {
		if shards[shard] != nil {
			continue
		}
		part, err := openOne(filepath.Join(filepath.Dir(path), shard))
		if err != nil {
			whole.Close()
			return nil, err
		}
		shards[shard] = part
		whole.Container = part.Container
		whole.Parts = append(whole.Parts, part.Parts...)
		whole.closers = append(whole.closers, part.closers...)
		for _, t := range part.Tensors {
			if names[t.Name] == shard {
				whole.Tensors = append(whole.Tensors, t)
				delete(names, t.Name)
			}
		}
	}
	for name, shard := range names {
		whole.Close()
		return nil, fmt.Errorf("%s: tensor %s is not in %s", path, name, shard)
	}
	return whole, nil
}

// readIndex returns the shard file of each tensor. Names of shards must lie in the index's own folder.
func readIndex(path string) (map[string]string, error) {
	b, err := ReadSmall(path)
	if err != nil {
		return nil, err
	}
	var index struct {
		Map map[string]string `json:"weight_map"`
	}
	if err := json.Unmarshal(b, &index); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if len(index.Map) == 0 {
		return nil, fmt.Errorf("%s: no weight_map", path)
	}
	for name, shard := range index.Map {
		if shard == "" || shard != filepath.Base(shard) || !filepath.IsLocal(shard) {
			return nil, fmt.Errorf("%s: tensor %s is in %q: expected the name of a file in the same folder", path, name, shard)
		}
	}
	return index.Map, nil
}

// ReadSmall reads a JSON or text file beside a checkpoint, of at most 64 MiB.
func ReadSmall(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxIndexBytes+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if len(b) > maxIndexBytes {
		return nil, fmt.Errorf("%s: larger than %d MiB", path, maxIndexBytes>>20)
	}
	return b, nil
}

// stripPrefixes takes off what wrappers put before every name: DataParallel, torch.compile, Lightning.
func (f *File) stripPrefixes() {
	for again := len(f.Tensors) > 0; again; {
		again = false
		for _, prefix := range []string{"module.", "_orig_mod.", "model."} {
			if !slices.ContainsFunc(f.Tensors, func(t *Tensor) bool { return !strings.HasPrefix(t.Name, prefix) }) {
				for _, t := range f.Tensors {
					t.Name = t.Name[len(prefix):]
				}
				again = true
			}
		}
	}
}

func (f *File) index() error {
	f.byName = map[string]*Tensor{}
	for _, t := range f.Tensors {
		if f.byName[t.Name] != nil {
			return fmt.Errorf("%s stands twice", t)
		}
		f.byName[t.Name] = t
	}
	return nil
}
