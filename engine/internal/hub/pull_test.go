package hub

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

var testRef = Ref{Repo: "tia/clip"}

func mustPull(t *testing.T, h *fakeHub, opt Options) string {
	t.Helper()
	dir, err := Pull(t.Context(), testRef, opt)
	if err != nil {
		t.Fatal(err)
	}
	checkFolder(t, h, dir)
	return dir
}

// checkFolder fails unless dir holds exactly what a checkpoint needs, byte for byte, and no parts.
func checkFolder(t *testing.T, h *fakeHub, dir string) {
	t.Helper()
	want := []string{"config.json", "merges.txt", "model.safetensors", "preprocessor_config.json"}
	var got []string
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() != stateDir {
			got = append(got, e.Name())
		}
	}
	if !slices.Equal(got, want) {
		t.Fatalf("files %q, want %q", got, want)
	}
	for _, name := range want {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil || !bytes.Equal(data, h.files[name]) {
			t.Errorf("%s: differs from the server's (%v)", name, err)
		}
	}
	if parts, _ := filepath.Glob(filepath.Join(dir, stateDir, "*.part")); len(parts) > 0 {
		t.Errorf("parts left: %q", parts)
	}
}

func TestPullTakesWhatACheckpointNeeds(t *testing.T) {
	h := newFakeHub(t)
	opt := h.options(t)
	seen := map[string]int64{}
	opt.Progress = func(file string, done, total int64) {
		if done > total {
			t.Errorf("%s: %d of %d bytes", file, done, total)
		}
		seen[file] = done
	}
	dir := mustPull(t, h, opt)
	if n := seen["model.safetensors"]; n != int64(len(h.files["model.safetensors"])) {
		t.Errorf("progress ended at %d bytes", n)
	}
	before := h.total()
	if again := mustPull(t, h, opt); again != dir {
		t.Errorf("second pull went to %s, want %s", again, dir)
	}
	if n := h.total() - before; n != 1 {
		t.Errorf("second pull made %d requests, want the listing only", n)
	}
}

func TestPullOffline(t *testing.T) {
	h := newFakeHub(t)
	opt := h.options(t)
	opt.Offline = true
	if _, err := Pull(t.Context(), testRef, opt); err == nil || !strings.Contains(err.Error(), "HF_HUB_OFFLINE") {
		t.Fatalf("empty cache: %v", err)
	}
	if h.total() != 0 {
		t.Fatal("asked the server although offline")
	}
	opt.Offline = false
	dir := mustPull(t, h, opt)
	opt.Offline = true
	if again, err := Pull(t.Context(), testRef, opt); err != nil || again != dir {
		t.Fatalf("complete cache: %q, %v", again, err)
	}
	if err := os.Truncate(filepath.Join(dir, "model.safetensors"), 5); err != nil {
		t.Fatal(err)
	}
	if _, err := Pull(t.Context(), testRef, opt); err == nil {
		t.Fatal("took a damaged folder for complete")
	}
	h.Close()
	opt.Offline = false
	if _, err := Pull(t.Context(), testRef, opt); err == nil || !strings.Contains(err.Error(), "gave up after") {
		t.Fatalf("no network, damaged folder: %v", err)
	}
}

func TestPullWithoutNetworkUsesTheLastCommit(t *testing.T) {
	h := newFakeHub(t)
	opt := h.options(t)
	dir := mustPull(t, h, opt)
	h.Close()
	if again, err := Pull(t.Context(), testRef, opt); err != nil || again != dir {
		t.Fatalf("%q, %v", again, err)
	}
	byCommit := Ref{Repo: "tia/clip", Revision: testCommit}
	if again, err := Pull(t.Context(), byCommit, opt); err != nil || again != dir {
		t.Fatalf("by commit: %q, %v", again, err)
	}
}

// The connection breaks a few times; every time the download goes on where it was.
func TestPullContinuesBrokenDownload(t *testing.T) {
	h := newFakeHub(t)
	data := h.files["model.safetensors"]
	h.hook = func(w http.ResponseWriter, r *http.Request, n int) bool {
		if !strings.HasSuffix(r.URL.Path, "/model.safetensors") || n > 7 {
			return false
		}
		var offset int
		_, _ = fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &offset)
		breakOff(w, data, offset, 100_000)
		return true
	}
	mustPull(t, h, h.options(t))
	ranges := h.rangesOf("model.safetensors")
	if len(ranges) != 9 || ranges[0] != "" || ranges[1] == "" || ranges[8] == "" {
		t.Errorf("ranges %q: want one whole request and then the rest each time", ranges)
	}
}

func TestPullAnswersThatAreWrongAtFirst(t *testing.T) {
	first := func(times int, answer func(h *fakeHub, w http.ResponseWriter, r *http.Request)) func(*fakeHub) {
		return func(h *fakeHub) {
			h.hook = func(w http.ResponseWriter, r *http.Request, n int) bool {
				if !strings.HasSuffix(r.URL.Path, "/model.safetensors") || n >= times {
					return false
				}
				answer(h, w, r)
				return true
			}
		}
	}
	data := func(h *fakeHub) []byte { return h.files["model.safetensors"] }
	status := func(code int) func(*fakeHub, http.ResponseWriter, *http.Request) {
		return func(_ *fakeHub, w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
	}
	for name, set := range map[string]func(*fakeHub){
		"500":               first(3, status(500)),
		"503":               first(3, status(503)),
		"429 without delay": first(3, status(429)),
		"429 with delay": first(1, func(_ *fakeHub, w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(429)
		}),
		"short without length": first(2, func(h *fakeHub, w http.ResponseWriter, r *http.Request) {
			w.(http.Flusher).Flush() // chunked: ends cleanly, too early
			_, _ = w.Write(data(h)[:70_000])
		}),
		"announces too few": first(1, func(h *fakeHub, w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "10")
			_, _ = w.Write(data(h)[:10])
		}),
		"sends too much": first(1, func(h *fakeHub, w http.ResponseWriter, r *http.Request) {
			w.(http.Flusher).Flush()
			_, _ = w.Write(append(bytes.Clone(data(h)), "more"...))
		}),
		"other bytes": first(1, func(h *fakeHub, w http.ResponseWriter, r *http.Request) {
			_, _ = w.Write(make([]byte, len(data(h))))
		}),
		"hangs up at once": first(4, func(_ *fakeHub, w http.ResponseWriter, _ *http.Request) { panic(http.ErrAbortHandler) }),
	} {
		t.Run(name, func(t *testing.T) {
			h := newFakeHub(t)
			set(h)
			mustPull(t, h, h.options(t))
		})
	}
}

func TestPullGivesUp(t *testing.T) {
	on := func(suffix string, answer func(h *fakeHub, w http.ResponseWriter)) func(*fakeHub) {
		return func(h *fakeHub) {
			h.hook = func(w http.ResponseWriter, r *http.Request, _ int) bool {
				if !strings.Contains(r.URL.Path, suffix) {
					return false
				}
				answer(h, w)
				return true
			}
		}
	}
	status := func(code int, errorCode string) func(*fakeHub, http.ResponseWriter) {
		return func(_ *fakeHub, w http.ResponseWriter) {
			w.Header().Set("X-Error-Code", errorCode)
			w.WriteHeader(code)
		}
	}
	for _, c := range []struct {
		name, token string
		set         func(*fakeHub)
		want        string
	}{
		{"401", "", on("/api/", status(401, "RepoNotFound")), "set HF_TOKEN"},
		{"401 with token", "x", on("/api/", status(401, "")), "token in HF_TOKEN is not valid"},
		{"403", "", on("/resolve/", status(403, "")), "accept the licence at"},
		{"gated", "x", on("/resolve/", status(401, "GatedRepo")), "the account of HF_TOKEN has no access"},
		{"404", "", on("/api/", status(404, "")), `hf:tia/clip: 127.0.0.1`},
		{"404 file", "", on("/resolve/", status(404, "EntryNotFound")), "/tia/clip/resolve/" + testCommit},
		{"500 always", "", on("/resolve/", status(500, "")), "gave up after 6 tries"},
		{"503 listing", "", on("/api/", status(503, "")), "gave up after 6 tries"},
		{"retry next year", "", on("/api/", func(_ *fakeHub, w http.ResponseWriter) {
			w.Header().Set("Retry-After", "30000000")
			w.WriteHeader(503)
		}), "asks to come back in"},
		{"bad checksum", "", on("/model.safetensors", func(h *fakeHub, w http.ResponseWriter) {
			_, _ = w.Write(make([]byte, len(h.files["model.safetensors"])))
		}), "have checksum"},
		{"bad blob id", "", on("/config.json", func(h *fakeHub, w http.ResponseWriter) {
			_, _ = w.Write([]byte(strings.ToUpper(string(h.files["config.json"]))))
		}), "config.json: the bytes that came have checksum"},
		{"always too long", "", on("/model.safetensors", func(h *fakeHub, w http.ResponseWriter) {
			w.(http.Flusher).Flush()
			_, _ = w.Write(append(bytes.Clone(h.files["model.safetensors"]), 0))
		}), "sends more than"},
		{"always announces too much", "", on("/model.safetensors", func(h *fakeHub, w http.ResponseWriter) {
			w.Header().Set("Content-Length", "99999999999")
			w.WriteHeader(200)
		}), "announces 99999999999 bytes"},
		{"always short", "", on("/config.json", func(h *fakeHub, w http.ResponseWriter) {
			w.(http.Flusher).Flush()
		}), "broke off at byte 0"},
		{"HTML listing", "", on("/api/", func(_ *fakeHub, w http.ResponseWriter) { fmt.Fprint(w, "<html>") }), "not the JSON expected"},
		{"redirect loop", "", on("/resolve/", func(h *fakeHub, w http.ResponseWriter) {
			w.Header().Set("Location", "/tia/clip/resolve/x")
			w.WriteHeader(302)
		}), "refused a redirect"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newFakeHub(t)
			c.set(h)
			opt := h.options(t)
			opt.Token = c.token
			_, err := Pull(t.Context(), testRef, opt)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("error %v, want %q in it", err, c.want)
			}
			matches, _ := filepath.Glob(filepath.Join(opt.CacheDir, "*", testCommit, "model.safetensors"))
			if len(matches) > 0 {
				t.Errorf("the file that failed has its final name: %q", matches)
			}
		})
	}
}

// A part is only continued as the same entity: when the ETag changed, by either kind of answer, it begins again.
func TestPullBeginsAgainWhenTheETagChanged(t *testing.T) {
	for _, answer := range []string{"ignores If-Range", "honours If-Range"} {
		t.Run(answer, func(t *testing.T) {
			h := newFakeHub(t)
			data := h.files["model.safetensors"]
			h.hook = func(w http.ResponseWriter, r *http.Request, n int) bool {
				if !strings.HasSuffix(r.URL.Path, "/model.safetensors") {
					return false
				}
				switch {
				case n == 0: // bytes of another version under another ETag
					w.Header().Set("ETag", `"old"`)
					w.Header().Set("Content-Length", fmt.Sprint(len(data)))
					_, _ = w.Write(make([]byte, 300_000))
					w.(http.Flusher).Flush()
					panic(http.ErrAbortHandler)
				case n == 1 && answer == "ignores If-Range":
					if r.Header.Get("If-Range") != `"old"` {
						t.Errorf("If-Range %q", r.Header.Get("If-Range"))
					}
					r.Header.Del("If-Range")
				}
				return false
			}
			mustPull(t, h, h.options(t))
		})
	}
}

// Storage hosts must not see the token, even on the same machine; the hub itself must.
func TestPullKeepsTheTokenFromOtherHosts(t *testing.T) {
	h := newFakeHub(t)
	storage := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if v := r.Header.Get("Authorization"); v != "" {
			t.Errorf("the storage host was sent %q", v)
		}
		h.serveFile(w, r, strings.TrimPrefix(r.URL.Path, "/"))
	}))
	defer storage.Close()
	h.hook = func(w http.ResponseWriter, r *http.Request, _ int) bool {
		if r.Header.Get("Authorization") != "Bearer secret" {
			t.Errorf("%s: Authorization %q", r.URL.Path, r.Header.Get("Authorization"))
		}
		name, ok := strings.CutPrefix(r.URL.Path, "/tia/clip/resolve/"+testCommit)
		if ok {
			http.Redirect(w, r, storage.URL+name, http.StatusFound)
		}
		return ok
	}
	opt := h.options(t)
	opt.Token = "secret"
	mustPull(t, h, opt)
}

func TestPullRefusesUnsafeNames(t *testing.T) {
	for _, name := range []string{"../model.safetensors", "/etc/model.safetensors", "a/../../model.safetensors", `..\model.safetensors`,
		"C:model.safetensors", ".pull/model.safetensors", "a//model.safetensors", "model\x00.safetensors"} {
		h := newFakeHub(t)
		h.list = func(l map[string]any) {
			l["siblings"] = []any{map[string]any{"rfilename": name, "size": 4, "blobId": gitBlob([]byte("evil"))}}
		}
		h.hook = func(w http.ResponseWriter, r *http.Request, _ int) bool {
			if strings.Contains(r.URL.Path, "/resolve/") {
				t.Errorf("%q was asked for", name)
			}
			return false
		}
		opt := h.options(t)
		opt.Include = []string{"*.safetensors", "*/*.safetensors", "*/*/*/*.safetensors"}
		if _, err := Pull(t.Context(), testRef, opt); err == nil {
			t.Errorf("%q was accepted", name)
		}
	}
}

func TestPullMirrorWithoutSizes(t *testing.T) {
	h := newFakeHub(t)
	full := h.listing()["siblings"].([]any)
	h.list = func(l map[string]any) {
		var bare []any
		for _, s := range full {
			bare = append(bare, map[string]any{"rfilename": s.(map[string]any)["rfilename"]})
		}
		l["siblings"] = bare
	}
	h.hook = func(w http.ResponseWriter, r *http.Request, n int) bool {
		if !strings.HasPrefix(r.URL.Path, "/api/models/tia/clip/tree/") {
			return false
		}
		half, next := full[:3], fmt.Sprintf("<%s%s?recursive=true&cursor=x>; rel=\"next\"", h.URL, r.URL.Path)
		if r.URL.Query().Get("cursor") == "x" {
			half, next = full[3:], ""
		}
		w.Header().Set("Link", next)
		writeTree(w, half)
		return true
	}
	mustPull(t, h, h.options(t))
}

func TestPullSpaceIsCheckedFirst(t *testing.T) {
	h := newFakeHub(t)
	h.list = func(l map[string]any) {
		for _, s := range l["siblings"].([]any) {
			if m := s.(map[string]any); m["rfilename"] == "model.safetensors" {
				m["lfs"].(map[string]any)["size"] = int64(1) << 60
			}
		}
	}
	if _, err := Pull(t.Context(), testRef, h.options(t)); err == nil || !strings.Contains(err.Error(), "GB free") {
		t.Fatalf("a listing of 2^60 bytes: %v", err)
	}
}

func TestPullIntoAFolder(t *testing.T) {
	h := newFakeHub(t)
	opt := h.options(t)
	opt.Dir = t.TempDir()
	// A file of that name that is not the listing's is replaced, one that is stays as it is.
	if err := os.WriteFile(filepath.Join(opt.Dir, "config.json"), []byte(`{"model_type":"CLIP"}`), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(opt.Dir, "model.safetensors"), h.files["model.safetensors"], 0o644); err != nil {
		t.Fatal(err)
	}
	mustPull(t, h, opt)
	if n := len(h.rangesOf("model.safetensors")); n != 0 {
		t.Errorf("a file that was there was downloaded %d times", n)
	}
}

func TestPullCancelledLeavesAPart(t *testing.T) {
	h := newFakeHub(t)
	ctx, cancel := context.WithCancel(t.Context())
	h.hook = func(w http.ResponseWriter, r *http.Request, n int) bool {
		if !strings.HasSuffix(r.URL.Path, "/model.safetensors") || n > 0 {
			return false
		}
		data := h.files["model.safetensors"]
		w.Header().Set("ETag", fmt.Sprintf("%q", hexSHA256(data)))
		w.Header().Set("Content-Length", fmt.Sprint(len(data)))
		_, _ = w.Write(data[:500_000])
		w.(http.Flusher).Flush()
		time.Sleep(50 * time.Millisecond)
		cancel()
		<-r.Context().Done()
		return true
	}
	opt := h.options(t)
	if _, err := Pull(ctx, testRef, opt); !errors.Is(err, context.Canceled) {
		t.Fatalf("error %v, want context.Canceled", err)
	}
	mustPull(t, h, opt)
	if ranges := h.rangesOf("model.safetensors"); len(ranges) != 2 || ranges[1] == "" {
		t.Errorf("ranges %q: want the second request to continue", ranges)
	}
}

func TestPullStalledConnectionIsGivenUp(t *testing.T) {
	h := newFakeHub(t)
	h.hook = func(w http.ResponseWriter, r *http.Request, n int) bool {
		if !strings.HasSuffix(r.URL.Path, "/model.safetensors") || n > 0 {
			return false
		}
		w.Header().Set("Content-Length", fmt.Sprint(len(h.files["model.safetensors"])))
		_, _ = w.Write([]byte("x"))
		w.(http.Flusher).Flush()
		<-r.Context().Done()
		return true
	}
	opt := h.options(t)
	opt.stall = 100 * time.Millisecond
	mustPull(t, h, opt)
}

// Several pulls of one repository at once download it once.
func TestPullConcurrently(t *testing.T) {
	h := newFakeHub(t)
	opt := h.options(t)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if _, err := Pull(t.Context(), testRef, opt); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := len(h.rangesOf("model.safetensors")); n != 1 {
		t.Errorf("downloaded %d times", n)
	}
}
