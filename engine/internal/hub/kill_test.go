package hub

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestMain lets the test binary be the process that TestPullKilled kills.
func TestMain(m *testing.M) {
	if endpoint := os.Getenv("TIA2_TEST_PULL_FROM"); endpoint != "" {
		_, err := Pull(context.Background(), testRef, Options{Endpoint: endpoint, CacheDir: os.Getenv("TIA2_TEST_PULL_TO")})
		fmt.Fprintln(os.Stderr, err)
		os.Exit(3)
	}
	os.Exit(m.Run())
}

// A pull that is killed leaves no half file under a final name, and the next one continues where it was.
func TestPullKilled(t *testing.T) {
	h := newFakeHub(t)
	data := h.files["model.safetensors"]
	begun := make(chan struct{})
	h.mu.Lock() // the race detector does not see what orders it before the other process's requests
	h.hook = func(w http.ResponseWriter, r *http.Request, n int) bool {
		if !strings.HasSuffix(r.URL.Path, "/model.safetensors") || n > 0 {
			return false
		}
		w.Header().Set("ETag", fmt.Sprintf("%q", hexSHA256(data)))
		w.Header().Set("Content-Length", fmt.Sprint(len(data)))
		_, _ = w.Write(data[:600_000])
		w.(http.Flusher).Flush()
		close(begun)
		<-r.Context().Done()
		return true
	}
	h.mu.Unlock()
	opt := h.options(t)
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), "TIA2_TEST_PULL_FROM="+h.URL, "TIA2_TEST_PULL_TO="+opt.CacheDir)
	child.Stderr = os.Stderr
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	<-begun
	parts := filepath.Join(opt.CacheDir, "tia--clip", testCommit, stateDir, "*.part")
	for deadline := time.Now().Add(20 * time.Second); partBytes(parts) < 500_000; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the part has %d bytes", partBytes(parts))
		}
	}
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = child.Wait()
	dir := filepath.Join(opt.CacheDir, "tia--clip", testCommit)
	if _, err := os.Stat(filepath.Join(dir, "model.safetensors")); err == nil {
		t.Fatal("a half file has its final name")
	}
	if _, ok := opt.lookup(testRef); ok {
		t.Fatal("the folder counts as complete")
	}
	if again := mustPull(t, h, opt); again != dir {
		t.Errorf("went to %s, want %s", again, dir)
	}
	var from int
	ranges := h.rangesOf("model.safetensors")
	if len(ranges) != 2 {
		t.Fatalf("ranges %q: want two requests", ranges)
	}
	if _, err := fmt.Sscanf(ranges[1], "bytes=%d-", &from); err != nil || from < 500_000 {
		t.Errorf("second request has Range %q: want it to continue after 500000 bytes", ranges[1])
	}
}

// partBytes is the size of the largest file that matches pattern.
func partBytes(pattern string) (n int64) {
	names, _ := filepath.Glob(pattern)
	for _, name := range names {
		if info, err := os.Stat(name); err == nil {
			n = max(n, info.Size())
		}
	}
	return n
}
