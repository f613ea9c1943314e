package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/tia2-engine/tia2-engine/bench/demo"
	"github.com/tia2-engine/tia2-engine/engine/serve/protocol/kservepb"
)

// serving is a serve command that runs in this process.
type serving struct {
	t    *testing.T
	stop context.CancelFunc // as SIGTERM does
	code chan int
	log  lockedBuffer
}

// lockedBuffer is a bytes.Buffer for several goroutines.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// startServing starts a server on free ports and waits until it is ready.
func startServing(t *testing.T, args ...string) *serving {
	t.Helper()
	s := &serving{t: t, code: make(chan int, 1)}
	var ctx context.Context
	ctx, s.stop = context.WithCancel(context.Background())
	args = append([]string{"serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--backend", "cpu"}, args...)
	go func() { s.code <- run(ctx, args, stdio{in: strings.NewReader(""), out: io.Discard, err: &s.log}) }()
	t.Cleanup(s.stop)
	s.await("msg=ready")
	return s
}

// await waits for a line of the log.
func (s *serving) await(text string) {
	s.t.Helper()
	for range 3000 {
		if strings.Contains(s.log.String(), text) {
			return
		}
		select {
		case code := <-s.code:
			s.t.Fatalf("the server ended with status %d: %s", code, s.log.String())
		case <-time.After(10 * time.Millisecond):
		}
	}
	s.t.Fatalf("the log does not say %q: %s", text, s.log.String())
}

// address returns where the server listens for something.
func (s *serving) address(what string) string {
	s.t.Helper()
	m := regexp.MustCompile(`for=` + what + ` address=(\S+)`).FindStringSubmatch(s.log.String())
	if m == nil {
		s.t.Fatalf("no address of %s in the log: %s", what, s.log.String())
	}
	return m[1]
}

// end stops the server and expects status 0.
func (s *serving) end() {
	s.t.Helper()
	s.stop()
	select {
	case code := <-s.code:
		if code != exitDone {
			s.t.Errorf("status %d: %s", code, s.log.String())
		}
	case <-time.After(30 * time.Second):
		s.t.Fatalf("the server does not end: %s", s.log.String())
	}
}

// request sends a request and returns the status and the body of the answer.
func (s *serving) request(method, url, body string, header ...string) (int, string) {
	s.t.Helper()
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return resp.StatusCode, string(data)
}

// demoImages writes the first n pictures of the embedded set to files and returns their paths.
func demoImages(t *testing.T, n int) []string {
	t.Helper()
	dir := t.TempDir()
	names, err := fs.Glob(demo.Set(), "images/demo/*")
	if err != nil || len(names) < n {
		t.Fatalf("%d pictures in the embedded set (%v)", len(names), err)
	}
	var paths []string
	for _, name := range names[:n] {
		data, err := fs.ReadFile(demo.Set(), name)
		if err != nil {
			t.Fatal(err)
		}
		paths = append(paths, filepath.Join(dir, filepath.Base(name)))
		if err := os.WriteFile(paths[len(paths)-1], data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return paths
}

// TestServe: scores over HTTP are those of the score command, before and after a reload.
func TestServe(t *testing.T) {
	images := demoImages(t, 3)
	texts := []string{"a photo of a cat", "a red car", "two people on a beach"}
	type scores struct {
		Rewards map[string][][]float32 `json:"rewards"`
	}
	args := []string{"score", "--backend", "cpu", "--texts", textsFile(t, texts...)}
	for _, path := range images {
		args = append(args, "--images", path)
	}
	out := must(t, "", args...)
	var offline scores
	if err := json.Unmarshal([]byte(out), &offline); err != nil || len(offline.Rewards["clip"]) != 3 {
		t.Fatalf("score said %s (%v)", out, err)
	}

	s := startServing(t)
	in := map[string]any{"texts": texts, "pairs": "all"}
	var files []string
	for _, path := range images {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, base64.StdEncoding.EncodeToString(data))
	}
	in["images"] = files
	body, _ := json.Marshal(in)
	check := func() {
		t.Helper()
		code, answer := s.request("POST", "http://"+s.address("HTTP")+"/v1/score", string(body), "Content-Type", "application/json")
		var got struct {
			Rewards map[string][]float32 `json:"rewards"`
		}
		if err := json.Unmarshal([]byte(answer), &got); code != 200 || err != nil || len(got.Rewards["clip"]) != 9 {
			t.Fatalf("status %d, %s (%v)", code, answer, err)
		}
		for i, score := range got.Rewards["clip"] {
			if want := offline.Rewards["clip"][i/3][i%3]; score != want {
				t.Errorf("score %d is %v: offline it is %v", i, score, want)
			}
		}
	}
	check()
	admin := "http://" + s.address("admin")
	if code, answer := s.request("POST", admin+"/-/reload", ""); code != 200 {
		t.Errorf("reload: %d %s", code, answer)
	}
	check()
	if code, answer := s.request("GET", admin+"/metrics", ""); code != 200 || !strings.Contains(answer, "tia2_reloads_total 1") {
		t.Errorf("metrics: %d, without tia2_reloads_total 1", code)
	}
	for _, path := range []string{"/readyz", "/", "/v1/models", "/rewards", "/v2/health/ready", "/openapi.json"} {
		if code, answer := s.request("GET", "http://"+s.address("HTTP")+path, ""); code != 200 {
			t.Errorf("GET %s: %d %s", path, code, answer)
		}
	}
	if code, answer := s.request("GET", admin+"/debug/ops?seconds=0.01", ""); code != 200 || !strings.HasPrefix(answer, "\x1f\x8b") {
		t.Errorf("op profile: %d, %d bytes: expected gzip", code, len(answer))
	}
	conn, err := grpc.NewClient(s.address("gRPC"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if ready, err := kservepb.NewGRPCInferenceServiceClient(conn).ServerReady(t.Context(), &kservepb.ServerReadyRequest{}); err != nil || !ready.GetReady() {
		t.Errorf("gRPC: ready %v, %v", ready, err)
	}
	s.end()
	if log := s.log.String(); !strings.Contains(log, "draining") || strings.Contains(log, "level=ERROR") {
		t.Errorf("log: %s", log)
	}
}

// TestServeReloadsOnHangup: SIGHUP reads keys and models again; keys that cannot be read leave the old ones.
func TestServeReloadsOnHangup(t *testing.T) {
	keys := filepath.Join(t.TempDir(), "keys")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(keys, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("trainer:first-secret-of-the-trainer\n")
	s := startServing(t, "--api-keys", keys)
	models := "http://" + s.address("HTTP") + "/v1/models"
	asks := func(key string, want int) {
		t.Helper()
		if code, answer := s.request("GET", models, "", "Authorization", "Bearer "+key); code != want {
			t.Errorf("with key %q: %d %s: expected %d", key, code, answer, want)
		}
	}
	hangUp := func(done string) {
		t.Helper()
		process, err := os.FindProcess(os.Getpid())
		if err != nil {
			t.Fatal(err)
		}
		if err := process.Signal(syscall.SIGHUP); err != nil {
			t.Skip("no SIGHUP here:", err)
		}
		s.await(done)
	}
	asks("first-secret-of-the-trainer", 200)
	asks("second-secret-of-the-trainer", 401)
	write("trainer:second-secret-of-the-trainer\n")
	hangUp("msg=reloaded")
	asks("first-secret-of-the-trainer", 401)
	asks("second-secret-of-the-trainer", 200)
	write("no key at all\n")
	hangUp("msg=reload ")
	asks("second-secret-of-the-trainer", 200)
	s.end()
}

// TestServeDrains: a request that was accepted before the end is answered.
func TestServeDrains(t *testing.T) {
	images := demoImages(t, 1)
	data, err := os.ReadFile(images[0])
	if err != nil {
		t.Fatal(err)
	}
	s := startServing(t, "--max-batch-images", "1", "--log-format", "text")
	var texts []string
	for i := range 400 {
		texts = append(texts, fmt.Sprint("a picture of thing number ", i))
	}
	body, _ := json.Marshal(map[string]any{"images": []string{base64.StdEncoding.EncodeToString(data)}, "texts": texts})
	url := "http://" + s.address("HTTP") + "/v1/score"
	answered := make(chan int, 1)
	go func() {
		code, _ := s.request("POST", url, string(body), "Content-Type", "application/json")
		answered <- code
	}()
	admin := "http://" + s.address("admin") + "/metrics"
	for range 1000 {
		if _, text := s.request("GET", admin, ""); strings.Contains(text, "tia2_requests_open 1") || strings.Contains(text, `tia2_requests_total{error="",kind="score"}`) {
			break
		}
		time.Sleep(time.Millisecond)
	}
	s.end()
	if code := <-answered; code != 200 {
		t.Errorf("the request was answered with %d", code)
	}
}

func TestServeUsage(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"x", "expected none"},
		{"--queue 0", "--queue 0: expected a number >= 1"},
		{"--queue-bytes much", "--queue-bytes much"},
		{"--max-body-bytes 0", "--max-body-bytes 0"},
		{"--max-batch-images -1", "--max-batch-images -1"},
		{"--timeout 0s", "--timeout 0s: expected a time above 0"},
		{"--timeout soon", "invalid value"},
		{"--tls-cert x", "--tls-cert and --tls-key: expected both"},
		{"--client-ca x", "--client-ca: expected --tls-cert"},
		{"--log-level loud", "--log-level loud"},
		{"--log-format xml", "--log-format xml"},
		{"--default-reward beauty", "--default-reward beauty: expected one of clip"},
		{"--scale-convention pickscore=/26", "pickscore"},
		{"--dtype f64", "f32, bf16, f16 or int8"},
	} {
		args := append([]string{"serve", "--listen", "127.0.0.1:0", "--admin", ""}, strings.Fields(c.args)...)
		if r := command(t, "", args...); r.code != exitUsage || !strings.Contains(r.err, c.want) {
			t.Errorf("serve %s: status %d, %s: expected status 2 and %q", c.args, r.code, r.err, c.want)
		}
	}
	none := filepath.Join(t.TempDir(), "none")
	for _, args := range [][]string{
		{"--model", none}, {"--api-keys", none}, {"--tls-cert", none, "--tls-key", none}, {"--listen", "nowhere:port"}, {"--grpc", "nowhere:port"}, {"--admin", "nowhere:port"},
	} {
		args = append([]string{"serve", "--listen", "127.0.0.1:0", "--admin", ""}, args...)
		if r := command(t, "", args...); r.code != exitFailed || !strings.HasPrefix(r.err, "tia2-engine: ") && !strings.Contains(r.err, "\ntia2-engine: ") {
			t.Errorf("%q: status %d, %s: expected status 1 and a message", args, r.code, r.err)
		}
	}
}
