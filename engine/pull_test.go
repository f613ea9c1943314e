package engine

import (
	"crypto/sha1"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Pull takes the endpoint and the token from the environment and returns the file that was named.
func TestPullNamedFile(t *testing.T) {
	const commit = "0123456789abcdef0123456789abcdef01234567"
	content := []byte("weights")
	blob := sha1.Sum(append(fmt.Appendf(nil, "blob %d\x00", len(content)), content...))
	hub := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if got := r.Header.Get("Authorization"); got != "Bearer secret" {
			t.Errorf("%s: Authorization %q", r.URL, got)
		}
		switch r.URL.Path {
		case "/api/models/a/b/revision/v1":
			fmt.Fprintf(w, `{"sha":%q,"siblings":[{"rfilename":"x.pt","size":%d,"blobId":"%x"},{"rfilename":"y.pt","size":1}]}`, commit, len(content), blob)
		case "/api/models/a/b/tree/" + commit:
			fmt.Fprintf(w, `[{"type":"file","path":"x.pt","size":%d,"oid":"%x"}]`, len(content), blob)
		case "/a/b/resolve/" + commit + "/x.pt":
			_, _ = w.Write(content)
		default:
			http.NotFound(w, r)
		}
	}))
	defer hub.Close()
	t.Setenv("HF_ENDPOINT", hub.URL)
	t.Setenv("HF_TOKEN", "secret")
	t.Setenv("HF_HUB_OFFLINE", "")
	cache := t.TempDir()
	path, err := Pull(t.Context(), "hf:a/b/x.pt@v1", PullOptions{CacheDir: cache})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != "weights" {
		t.Errorf("%s: %q, %v", path, got, err)
	}
	if rel, err := filepath.Rel(cache, path); err != nil || rel != filepath.Join("hub", "a--b", commit, "x.pt") {
		t.Errorf("it lies in %s", rel)
	}
	if _, err := Pull(t.Context(), "hf:a/c", PullOptions{CacheDir: cache}); err == nil || !strings.HasPrefix(err.Error(), "tia2: hf:a/c: ") {
		t.Errorf("a repository that is not there: %v", err)
	}
	if _, err := Pull(t.Context(), "gpt2", PullOptions{}); err == nil || !strings.Contains(err.Error(), "hf:OWNER/REPO") {
		t.Errorf("not a repository: %v", err)
	}
}
