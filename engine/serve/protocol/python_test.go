package protocol

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tia2-engine/tia2-engine/engine/serve"
)

// TestPythonClients runs the scripts of testdata against a server, with the clients' own libraries.
func TestPythonClients(t *testing.T) {
	python := os.Getenv("TIA2_PYTHON")
	if python == "" {
		t.Skip("TIA2_PYTHON names no python with tritonclient[http,grpc], openai and requests")
	}
	server, core := newServer(t, newFake(), Options{})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	grpcServer := GRPC(core, GRPCOptions{})
	go grpcServer.Serve(l)
	t.Cleanup(grpcServer.Stop)

	for _, c := range []struct {
		packages, script string
		args             []string
	}{
		{"tritonclient.http, tritonclient.grpc", "check_triton.py", []string{strings.TrimPrefix(server.URL, "http://"), l.Addr().String()}},
		{"openai, numpy", "check_openai.py", []string{server.URL}},
		{"requests", "check_pickle.py", []string{server.URL, busy(t, server).URL}},
	} {
		t.Run(c.script, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			if err := exec.CommandContext(ctx, python, "-c", "import "+c.packages).Run(); err != nil {
				t.Skipf("%s has no %s", python, c.packages)
			}
			out, err := exec.CommandContext(ctx, python, append([]string{"testdata/" + c.script}, c.args...)...).CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			t.Logf("%s", out)
		})
	}
}

// TestPerfAnalyzer runs Triton's load generator, which asks for configuration and statistics as well.
func TestPerfAnalyzer(t *testing.T) {
	perf := filepath.Join(filepath.Dir(os.Getenv("TIA2_PYTHON")), "perf_analyzer")
	if _, err := os.Stat(perf); err != nil || os.Getenv("TIA2_PYTHON") == "" {
		t.Skip("no perf_analyzer beside TIA2_PYTHON")
	}
	server, core := newServer(t, newFake(), Options{})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	grpcServer := GRPC(core, GRPCOptions{})
	go grpcServer.Serve(l)
	t.Cleanup(grpcServer.Stop)
	input := filepath.Join(t.TempDir(), "input.json")
	data := `{"data":[{"images":{"content":["` + b64("\xff\xd8\xff one") + `"],"shape":[1]},"texts":{"content":["a cat"],"shape":[1]}}]}`
	if err := os.WriteFile(input, []byte(data), 0o600); err != nil {
		t.Fatal(err)
	}
	for transport, addr := range map[string]string{"grpc": l.Addr().String(), "http": strings.TrimPrefix(server.URL, "http://")} {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		out, err := exec.CommandContext(ctx, perf, "-m", "clip", "--service-kind", "triton", "-i", transport, "-u", addr,
			"--input-data", input, "--request-count", "50", "-s", "99").CombinedOutput()
		if err != nil || !strings.Contains(string(out), "Successful request count") {
			t.Errorf("%s: %v\n%s", transport, err, out)
		}
	}
}

// busy returns a server that refuses the first requests as the real one does when it is overloaded and shutting down.
func busy(t *testing.T, server *httptest.Server) *httptest.Server {
	core := newCore(t, newFake(), serve.Options{})
	if err := core.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	refusing := []http.Handler{overloaded(core), handlerOf(core)}
	var n atomic.Int32
	b := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if i := int(n.Add(1)) - 1; i < len(refusing) {
			refusing[i].ServeHTTP(w, r)
			return
		}
		server.Config.Handler.ServeHTTP(w, r)
	}))
	t.Cleanup(b.Close)
	return b
}
