package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// ask asks a handler as somebody at an address.
func ask(h http.Handler, method, target, remote string, headers ...string) reply {
	r := httptest.NewRequest(method, target, nil)
	r.RemoteAddr = remote
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return reply{w.Result(), w.Body.String()}
}

const (
	local = "http://127.0.0.1:9090"
	here  = "127.0.0.1:4242"
	there = "192.0.2.7:4242"
)

func TestAdmin(t *testing.T) {
	drained := 0
	hooks := AdminHooks{
		Reload: func(context.Context) error { return nil },
		Drain:  func() { drained++ },
		OpProfile: func(_ context.Context, d time.Duration, w io.Writer) error {
			_, err := fmt.Fprint(w, "profile of ", d)
			return err
		},
	}
	h := AdminHandler(newCore(t, &fake{}, nil), Config{Metrics: NewMetrics()}, hooks)
	for _, c := range []struct {
		method, path string
		status       int
		want         string
	}{
		{"GET", "/metrics", 200, "tia2_build_info"},
		{"GET", "/healthz", 200, "ok"},
		{"GET", "/readyz", 200, "ok"},
		{"GET", "/debug/pprof/", 200, "goroutine"},
		{"GET", "/debug/pprof/heap?debug=1", 200, "heap profile"},
		{"GET", "/debug/ops", 200, "profile of 10s"},
		{"GET", "/debug/ops?seconds=0.5", 200, "profile of 500ms"},
		{"GET", "/debug/ops?seconds=0", 400, "more than 0"},
		{"GET", "/debug/ops?seconds=NaN", 400, "more than 0"},
		{"GET", "/debug/ops?seconds=1e9", 400, "at most 300"},
		{"GET", "/debug/ops?seconds=soon", 400, "more than 0"},
		{"POST", "/-/reload", 200, "ok"},
		{"GET", "/-/reload", 405, ""},
		{"POST", "/-/drain", 202, "draining"},
	} {
		r := ask(h, c.method, local+c.path, here)
		if r.StatusCode != c.status || !strings.Contains(r.body, c.want) {
			t.Errorf("%s %s: status %d: %.200s; want %d, %q", c.method, c.path, r.StatusCode, r.body, c.status, c.want)
		}
	}
	if drained != 1 {
		t.Errorf("drained %d times", drained)
	}
}

// TestAdminGuard: who is let in.
func TestAdminGuard(t *testing.T) {
	keys, err := OpenKeys(writeFile(t, "keys", "ops:secret\n"))
	if err != nil {
		t.Fatal(err)
	}
	core := newCore(t, &fake{}, nil)
	hooks := AdminHooks{Reload: func(context.Context) error { return nil }}
	open, keyed := AdminHandler(core, Config{Metrics: NewMetrics()}, hooks), AdminHandler(core, Config{Metrics: NewMetrics(), Keys: keys}, hooks)
	for _, c := range []struct {
		name           string
		h              http.Handler
		target, remote string
		headers        []string
		status         int
	}{
		{"from here", open, local, here, nil, 200},
		{"from here by IPv6", open, "http://[::1]:9090", "[::1]:4242", nil, 200},
		{"from here by name", open, "http://localhost:9090", here, nil, 200},
		{"from here by a name that points here", open, "http://evil.example:9090", here, nil, 403},
		{"a page in a browser here", open, local, here, []string{"Sec-Fetch-Site", "cross-site"}, 403},
		{"from elsewhere", open, "http://10.0.0.1:9090", there, nil, 403},
		{"from elsewhere, as if from here", open, local, there, nil, 403},
		{"from elsewhere without a key", keyed, local, there, nil, 401},
		{"from elsewhere with a wrong key", keyed, local, there, []string{"Authorization", "Bearer x"}, 401},
		{"from elsewhere with a key", keyed, local, there, []string{"Authorization", "Bearer secret"}, 200},
	} {
		if r := ask(c.h, "POST", c.target+"/-/reload", c.remote, c.headers...); r.StatusCode != c.status {
			t.Errorf("%s: status %d, want %d: %s", c.name, r.StatusCode, c.status, r.body)
		}
	}
	if r := ask(open, "GET", "http://10.0.0.1:9090/metrics", there); r.StatusCode != 200 {
		t.Errorf("/metrics from elsewhere: status %d", r.StatusCode)
	}
}

// TestAdminFailures: who may ask may read why it fails; what there is no hook for is not there.
func TestAdminFailures(t *testing.T) {
	core := newCore(t, &fake{}, nil)
	failing := AdminHandler(core, Config{}, AdminHooks{
		Reload:    func(context.Context) error { return errors.New("model.gguf: no such file") },
		OpProfile: func(context.Context, time.Duration, io.Writer) error { return errors.New("no model is loaded") },
	})
	ask(failing, "POST", local+"/-/reload", here).wantError(t, 500, "internal", "model.gguf")
	ask(failing, "GET", local+"/debug/ops", here).wantError(t, 500, "internal", "no model")
	none := AdminHandler(core, Config{}, AdminHooks{})
	for target, method := range map[string]string{"/-/reload": "POST", "/-/drain": "POST", "/debug/ops": "GET"} {
		ask(none, method, local+target, here).wantError(t, 404, "not_found")
	}
}

// TestOneOpProfile: a second recording would end the first.
func TestOneOpProfile(t *testing.T) {
	began, end := make(chan bool), make(chan bool)
	h := AdminHandler(newCore(t, &fake{}, nil), Config{}, AdminHooks{OpProfile: func(context.Context, time.Duration, io.Writer) error {
		close(began)
		<-end
		return nil
	}})
	first := make(chan reply)
	go func() { first <- ask(h, "GET", local+"/debug/ops", here) }()
	<-began
	r := ask(h, "GET", local+"/debug/ops", here)
	r.wantError(t, 429, "overloaded", "already")
	if r.Header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	close(end)
	if r := <-first; r.StatusCode != 200 {
		t.Errorf("the first: status %d", r.StatusCode)
	}
}
