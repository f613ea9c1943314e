package engine

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/tia2-engine/tia2-engine/engine/internal/embedcache"
	"github.com/tia2-engine/tia2-engine/engine/internal/gguf"
)

// EmbeddingCacheAuto as Options.EmbeddingCache is the folder "embeddings" in CacheDir, and no cache where that is CacheOff.
const EmbeddingCacheAuto = "auto"

// embeddingGeneration is part of what kept embeddings depend on. Raise it with every change that can change a bit of an
// embedding: of the kernels, the graphs, the preprocessing, the tokenizers or the conversion of checkpoints. Rows of
// another generation are not found, and are evicted in time.
const embeddingGeneration = 2

// EmbeddingCacheStats tell what a model's embedding cache did.
type EmbeddingCacheStats struct {
	Dir      string // the folder; "": the model has none, and all else is zero
	MaxBytes int64  // the folder's bound

	Images, Texts EmbeddingCacheCounts // of this model

	// Of the folder, for all models of this process that share it.
	Bytes        int64  // of its files now, those of other processes too
	EvictedBytes uint64 // removed to keep the bound
	DroppedRows  uint64 // embeddings that were not kept: the folder cannot be written to, or is slower than what came
	DamagedFiles uint64 // found damaged and removed
}

// EmbeddingCacheCounts are of items. Pictures that could not be read are not asked for; of equal texts of a call one is.
type EmbeddingCacheCounts struct{ Asked, Found uint64 }

// HitRate returns the share that was found, 0 to 1; 0 where nothing was asked.
func (c EmbeddingCacheCounts) HitRate() float64 {
	if c.Asked == 0 {
		return 0
	}
	return float64(c.Found) / float64(c.Asked)
}

// EmbeddingCacheStats returns what the embedding cache did for this model so far. It lists the folder, and may be called
// at any time and from any goroutine. Rows are written some time after they were computed, and when the last model that
// uses the folder is closed: after that Bytes is all of them.
func (m *Model) EmbeddingCacheStats() EmbeddingCacheStats {
	c := &m.cached
	if c.folder == nil {
		return EmbeddingCacheStats{}
	}
	s := c.folder.cache.Stats()
	return EmbeddingCacheStats{
		Dir: c.folder.dir, MaxBytes: c.folder.maxBytes, Images: c.images.counts(), Texts: c.texts.counts(),
		Bytes: s.Bytes, EvictedBytes: s.EvictedBytes, DroppedRows: s.Dropped, DamagedFiles: s.Damaged,
	}
}

// embeddingCache is a model's part of a folder of embeddings. The zero value keeps nothing.
type embeddingCache struct {
	folder        *embeddingFolder
	images, texts embeddingTable
}

// embeddingTable is one tower's part.
type embeddingTable struct {
	rows         *embedcache.Table // nil: off
	asked, found atomic.Uint64
	closed       atomic.Bool // with the model, though another one may use the rows
}

func (t *embeddingTable) counts() EmbeddingCacheCounts {
	return EmbeddingCacheCounts{Asked: t.asked.Load(), Found: t.found.Load()}
}

// on tells whether there is a cache.
func (t *embeddingTable) on() bool { return t.rows != nil }

// get copies the rows that are there to dst, f32 [len(keys), width], and sets hit, [len(keys)], which it returns the
// true ones of. A closed model finds nothing: its callers are to get ErrClosed.
func (t *embeddingTable) get(keys []embedcache.Key, dst []float32, hit []bool) (hits int) {
	if t.closed.Load() {
		clear(hit)
		return 0
	}
	hits, _ = t.rows.Get(keys, dst, hit) // its only error is lengths that do not fit
	return hits
}

// put keeps rows, f32 [len(keys), width], but for those with a value that is not finite.
func (t *embeddingTable) put(keys []embedcache.Key, rows []float32) {
	if len(keys) == 0 {
		return
	}
	dim := len(rows) / len(keys)
	for from := 0; from < len(keys); {
		to := from
		for to < len(keys) && allFinite(rows[to*dim:(to+1)*dim]) {
			to++
		}
		_ = t.rows.Put(keys[from:to], rows[from*dim:to*dim]) // its only error is lengths that do not fit
		from = to + 1
	}
}

func allFinite(row []float32) bool {
	for _, v := range row {
		if math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) {
			return false
		}
	}
	return true
}

// embeddingFolder is a folder of embeddings, open once in the process for all models that name it.
type embeddingFolder struct {
	dir      string
	maxBytes int64
	cache    *embedcache.Cache
	users    int // models
}

var embeddingFolders = struct {
	sync.Mutex
	byDir map[string]*embeddingFolder
}{byDir: map[string]*embeddingFolder{}}

// openEmbeddingFolder opens a folder, or gives it one more user. The bound and the ear for remarks are those of the first.
func openEmbeddingFolder(dir string, maxBytes int64, note func(format string, args ...any)) (*embeddingFolder, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	embeddingFolders.Lock()
	defer embeddingFolders.Unlock()
	f := embeddingFolders.byDir[dir]
	if f == nil {
		if maxBytes == 0 {
			maxBytes = embedcache.DefaultMaxBytes
		}
		cache, err := embedcache.Open(dir, embedcache.Options{MaxBytes: maxBytes, Report: func(err error) { note("%v", err) }})
		if err != nil {
			return nil, err
		}
		f = &embeddingFolder{dir: dir, maxBytes: maxBytes, cache: cache}
		embeddingFolders.byDir[dir] = f
	}
	f.users++
	return f, nil
}

// release takes a user away, and closes the folder after the last one.
func (f *embeddingFolder) release() {
	embeddingFolders.Lock()
	defer embeddingFolders.Unlock()
	if f.users--; f.users == 0 {
		delete(embeddingFolders.byDir, f.dir)
		_ = f.cache.Close() // what could not be written was reported, and is no error of the model
	}
}

// open opens the tables of a model that has embeddings. A cache that cannot be opened is remarked upon, and left out.
func (c *embeddingCache) open(m *Model, path string, device Device) {
	if m.opt.EmbeddingCache == "" || !m.info.HasEmbeddings() {
		return
	}
	if err := c.tables(m, path, device); err != nil {
		m.opt.logf("no embeddings are kept: %v", err)
		c.close()
		c.folder, c.images.rows, c.texts.rows = nil, nil, nil
	}
}

func (c *embeddingCache) tables(m *Model, path string, device Device) error {
	weights, err := weightsHash(path)
	if err != nil {
		return err
	}
	if c.folder, err = openEmbeddingFolder(m.opt.EmbeddingCache, m.opt.EmbeddingCacheBytes, m.opt.logf); err != nil {
		return err
	}
	v, limits := NativeVersions(), m.opt.Limits
	both := []string{
		fmt.Sprintf("generation %d", embeddingGeneration), "weights " + weights,
		"device " + device.Name, device.Backend, device.Description,
		"engine " + v.Engine, "ggml " + v.GGML, "oneDNN " + v.OneDNN, "kernels " + v.ISA, strings.Join(kernelSettings(), "\n"),
		fmt.Sprintf("normalized %t", !m.opt.NoNormalize),
	}
	// How a text is cleaned and cut shows in its ids, which are its key.
	if c.texts.rows, err = c.folder.cache.Table(m.info.EmbedDim, append(slices.Clip(both), "text")...); err != nil {
		return err
	}
	// How a picture is prepared stands in the weights' file, apart from the limits; what it decodes to is a library's.
	c.images.rows, err = c.folder.cache.Table(m.imageWidth(), append(slices.Clip(both), "image",
		"libjpeg-turbo "+v.JPEG, "libpng "+v.PNG, "libwebp "+v.WebP,
		fmt.Sprintf("at most %d pixels, %d bytes", limits.PixelsMax, limits.bytesMax()))...)
	return err
}

// close gives the folder back. What is asked for or put after that is not found and not kept.
func (c *embeddingCache) close() {
	c.images.closed.Store(true)
	c.texts.closed.Store(true)
	if c.folder != nil {
		c.folder.release()
	}
}

// kernelSettings are the variables of the environment that choose kernels, sorted.
func kernelSettings() []string {
	var set []string
	for _, kv := range os.Environ() {
		for _, prefix := range []string{"TIA2_CPU=", "GGML_", "ONEDNN_", "DNNL_"} {
			if strings.HasPrefix(kv, prefix) {
				set = append(set, kv)
			}
		}
	}
	slices.Sort(set)
	return set
}

// sampleBytes is how much of a tensor is hashed where the file says what it was made from.
const sampleBytes = 4 << 10

// weightsHash names the contents of a GGUF file. One that holds the checksum of its source is hashed up to its tensors,
// and the beginning of each: two conversions of one source may differ in values alone, as f32 to q8_0 does from f32 to
// f16 to q8_0, and then each tensor does. Of any other file all bytes are hashed.
func weightsHash(path string) (string, error) {
	g, err := gguf.Open(path)
	if err != nil {
		return "", err
	}
	defer g.Close()
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if g.Str("tia2.source.sha256") == "" || !g.HasData() {
		if _, err := io.Copy(h, f); err != nil {
			return "", err
		}
		return hex.EncodeToString(h.Sum(nil)), nil
	}
	if _, err := io.CopyN(h, f, g.DataOffset); err != nil {
		return "", err
	}
	for i := range g.Tensors {
		data, err := g.Data(&g.Tensors[i])
		if err != nil {
			return "", err
		}
		if _, err := io.Copy(h, io.LimitReader(data, sampleBytes)); err != nil {
			return "", err
		}
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// keyHashers are kept for the next keys.
var keyHashers = sync.Pool{New: func() any { return embedcache.NewKeyHasher() }}

// imageKey names a picture by its file's bytes.
func imageKey(data []byte) embedcache.Key {
	h := keyHashers.Get().(*embedcache.KeyHasher)
	defer keyHashers.Put(h)
	h.Bytes(data)
	return h.Key()
}

// textKey names a text by its ids.
func textKey(ids []int32) embedcache.Key {
	h := keyHashers.Get().(*embedcache.KeyHasher)
	defer keyHashers.Put(h)
	h.Int32s(ids)
	return h.Key()
}
