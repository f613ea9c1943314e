package convert

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/tia2-engine/tia2-engine/engine/internal/gguf"
	"github.com/tia2-engine/tia2-engine/internal/atomicfile"
)

// Cached returns the path of the GGUF file of a checkpoint in the folder cacheDir, converting it where it is not there
// yet. Files are told apart by the source's path, the size and time of every file that matters, the options and the
// converter's version. Processes that ask at the same time wait for one another, and one that dies leaves no half file.
func Cached(ctx context.Context, src, cacheDir string, opt Options) (string, error) {
	s, err := findSource(src)
	if err != nil {
		return "", err
	}
	key, err := s.fingerprint(opt)
	if err != nil {
		return "", err
	}
	return cachedFile(ctx, cacheDir, s.modelName(), key, func(dst string) error { return Convert(ctx, src, dst, opt) })
}

// CachedRandom is Cached for a model of random weights.
func CachedRandom(ctx context.Context, name string, seed uint64, cacheDir string, opt Options) (string, error) {
	if _, err := parseDType(opt.DType); err != nil {
		return "", err
	}
	key := fmt.Sprintf("%d random %s %d %s", Version, name, seed, opt.DType)
	if opt.ImageSize != 0 {
		key += fmt.Sprintf(" image size %d", opt.ImageSize)
	}
	return cachedFile(ctx, cacheDir, "random-"+name, key, func(dst string) error { return Random(name, dst, seed, opt) })
}

// cachedFile returns the cache's file for a key, making it under a lock where it is missing or damaged.
func cachedFile(ctx context.Context, dir, name, key string, make func(dst string) error) (string, error) {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return "", err
	}
	sum := sha256.Sum256([]byte(key))
	path := filepath.Join(dir, safeName(name)+"-"+hex.EncodeToString(sum[:8])+".gguf")
	if usable(path) {
		return path, nil
	}
	unlock, err := atomicfile.Lock(filepath.Join(dir, "convert.lock"))
	if err != nil {
		return "", err
	}
	defer unlock()
	if err := ctx.Err(); err != nil {
		return "", err
	}
	if usable(path) { // another process made it meanwhile
		return path, nil
	}
	return path, make(path)
}

// usable tells whether a cached file is there and whole, as far as its header and length say.
func usable(path string) bool {
	g, err := gguf.Open(path)
	if err != nil {
		return false
	}
	g.Close()
	return true
}

// besideWeights are the files beside the weights that a conversion reads.
var besideWeights = []string{"config.json", "open_clip_config.json", "med_config.json", "preprocessor_config.json", "tokenizer.json", "tokenizer_config.json",
	"merges.txt", "vocab.json", "vocab.txt", "bpe_simple_vocab_16e6.txt.gz", evaFile}

// fingerprint describes everything that the converted file depends on.
func (s *source) fingerprint(opt Options) (string, error) {
	abs, err := filepath.Abs(s.weights)
	if err != nil {
		return "", err
	}
	dir := filepath.Dir(abs)
	files := []string{abs}
	if strings.HasSuffix(abs, ".index.json") {
		shards, err := filepath.Glob(filepath.Join(dir, "*-of-*"))
		if err != nil {
			return "", err
		}
		files = append(files, shards...)
	}
	for _, name := range besideWeights {
		files = append(files, filepath.Join(dir, name))
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%d %v %q %q %q %q %q\n", Version, s.folder, opt.DType, opt.Arch, opt.Reward, opt.Pipeline, opt.Name)
	if opt.ImageSize != 0 {
		fmt.Fprintf(&b, "image size %d\n", opt.ImageSize)
	}
	for _, f := range files {
		if st, err := os.Stat(f); err == nil {
			fmt.Fprintf(&b, "%q %d %d\n", f, st.Size(), st.ModTime().UnixNano())
		}
	}
	return b.String(), nil
}

// safeName keeps letters, digits, points, dashes and underscores of a name, at most 64.
func safeName(name string) string {
	keep := func(r rune) rune {
		if r < 128 && (r == '.' || r == '-' || r == '_' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z') {
			return r
		}
		return '-'
	}
	name = strings.TrimLeft(strings.Map(keep, name), ".")
	return name[:min(len(name), 64)]
}

// CachedQuantize is Cached for a GGUF file whose matrices are to be of another type (see Quantize).
func CachedQuantize(ctx context.Context, src, cacheDir string, opt Options) (string, error) {
	abs, err := filepath.Abs(src)
	if err != nil {
		return "", err
	}
	st, err := os.Stat(abs)
	if err != nil {
		return "", err
	}
	key := fmt.Sprintf("%d quantize %q %d %d %s", Version, abs, st.Size(), st.ModTime().UnixNano(), opt.DType)
	name := strings.TrimSuffix(filepath.Base(abs), ".gguf") + "-" + opt.DType
	return cachedFile(ctx, cacheDir, name, key, func(dst string) error { return Quantize(ctx, src, dst, opt) })
}
