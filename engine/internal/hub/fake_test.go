package hub

import (
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

const testCommit = "0123456789abcdef0123456789abcdef01234567"

// fakeHub serves one repository, tia/clip, as the hub does. Its hooks make it misbehave.
type fakeHub struct {
	*httptest.Server
	files map[string][]byte // .safetensors and .bin are listed as large files, the rest as git blobs

	mu       sync.Mutex
	requests []*http.Request
	counts   map[string]int // requests per path

	// hook answers a request in place of the server and returns true, or returns false. n counts the requests for this
	// path from 0.
	hook func(w http.ResponseWriter, r *http.Request, n int) bool
	list func(listing map[string]any) // changes the listing before it is sent
}

func newFakeHub(t *testing.T) *fakeHub {
	t.Helper()
	rng := rand.New(rand.NewPCG(1, 2))
	weights := make([]byte, 1<<20+123)
	for i := range weights {
		weights[i] = byte(rng.Uint32())
	}
	h := &fakeHub{counts: map[string]int{}, files: map[string][]byte{
		"config.json":              []byte(`{"model_type":"clip"}`),
		"preprocessor_config.json": []byte(`{}`),
		"merges.txt":               []byte("#version: 0.2\n"),
		"model.safetensors":        weights,
		"pytorch_model.bin":        weights[:1000],
		"README.md":                []byte("# hello\n"),
		"onnx/model.onnx":          weights[:10],
	}}
	h.Server = httptest.NewServer(h)
	t.Cleanup(h.Close)
	return h
}

func (h *fakeHub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	n := h.counts[r.URL.Path]
	h.counts[r.URL.Path]++
	h.requests = append(h.requests, r)
	hook := h.hook
	h.mu.Unlock()
	if hook != nil && hook(w, r, n) {
		return
	}
	switch name, found := strings.CutPrefix(r.URL.Path, "/tia/clip/resolve/"+testCommit+"/"); {
	case found:
		h.serveFile(w, r, name)
	case r.URL.Path == "/api/models/tia/clip/revision/main" || r.URL.Path == "/api/models/tia/clip/revision/"+testCommit:
		_ = json.NewEncoder(w).Encode(h.listing())
	default:
		w.Header().Set("X-Error-Code", "RepoNotFound")
		http.Error(w, "not found", http.StatusNotFound)
	}
}

func (h *fakeHub) serveFile(w http.ResponseWriter, r *http.Request, name string) {
	data, ok := h.files[name]
	if !ok {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("ETag", fmt.Sprintf("%q", hexSHA256(data)))
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
}

func (h *fakeHub) listing() map[string]any {
	var siblings []any
	var names []string
	for name := range h.files {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		data := h.files[name]
		s := map[string]any{"rfilename": name, "size": len(data), "blobId": gitBlob(data)}
		if isLarge(name) {
			s["lfs"] = map[string]any{"sha256": hexSHA256(data), "size": len(data), "pointerSize": 134}
		}
		siblings = append(siblings, s)
	}
	l := map[string]any{"id": "tia/clip", "sha": testCommit, "gated": false, "siblings": siblings}
	if h.list != nil {
		h.list(l)
	}
	return l
}

func isLarge(name string) bool {
	return strings.HasSuffix(name, ".safetensors") || strings.HasSuffix(name, ".bin")
}

func hexSHA256(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

func gitBlob(b []byte) string {
	s := sha1.Sum(append(fmt.Appendf(nil, "blob %d\x00", len(b)), b...))
	return hex.EncodeToString(s[:])
}

func (h *fakeHub) options(t *testing.T) Options {
	return Options{CacheDir: t.TempDir(), Endpoint: h.URL, backoff: time.Millisecond, stall: 5 * time.Second, Log: t.Logf}
}

// rangesOf returns the Range headers of the requests for a file, in order.
func (h *fakeHub) rangesOf(name string) []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var ranges []string
	for _, r := range h.requests {
		if strings.HasSuffix(r.URL.Path, "/"+name) {
			ranges = append(ranges, r.Header.Get("Range"))
		}
	}
	return ranges
}

func (h *fakeHub) total() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.requests)
}

// breakOff announces the whole file from offset on, sends n bytes and drops the connection.
func breakOff(w http.ResponseWriter, data []byte, offset, n int) {
	w.Header().Set("ETag", fmt.Sprintf("%q", hexSHA256(data)))
	w.Header().Set("Content-Length", fmt.Sprint(len(data)-offset))
	if offset > 0 {
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", offset, len(data)-1, len(data)))
		w.WriteHeader(http.StatusPartialContent)
	}
	_, _ = w.Write(data[offset : offset+n])
	w.(http.Flusher).Flush()
	panic(http.ErrAbortHandler)
}
