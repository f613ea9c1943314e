package api

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// serveOn returns the address of a handler.
func serveOn(t testing.TB, h http.Handler) string {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return server.URL
}

// answering returns a handler that answers with a text.
func answering(text func(r *http.Request) string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.Write([]byte(text(r))) })
}

func TestRequestID(t *testing.T) {
	url := serveHTTP(t, &fake{}, Config{}, Route{Pattern: "GET /id", Handler: answering(func(r *http.Request) string { return RequestID(r.Context()) })})
	for sent, kept := range map[string]bool{"trainer-7:step.12_a": true, "": false, "with space": false, strings.Repeat("x", 129): false, "<b>": false} {
		r := call(t, "GET", url+"/id", "", "X-Request-Id", sent)
		got := r.Header.Get("X-Request-Id")
		if got == "" || got != r.body || kept != (got == sent) {
			t.Errorf("sent %q: header %q, handler %q", sent, got, r.body)
		}
	}
}

func TestNoRoute(t *testing.T) {
	url := serveHTTP(t, &fake{}, Config{})
	call(t, "GET", url+"/nothing/here", "").wantError(t, 404, "not_found", "/nothing/here", "openapi.json")
	r := call(t, "GET", url+"/v1/score", "")
	r.wantError(t, 405, "method_not_allowed", "POST")
	if r.Header.Get("Allow") != "POST" {
		t.Errorf("Allow: %q", r.Header.Get("Allow"))
	}
}

func TestSecurityHeaders(t *testing.T) {
	url := serveHTTP(t, &fake{}, Config{})
	for _, path := range []string{"/healthz", "/nothing", "/v1/models"} {
		r := call(t, "GET", url+path, "")
		for header, want := range map[string]string{"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Cache-Control": "no-store", "Referrer-Policy": "no-referrer"} {
			if got := r.Header.Get(header); got != want {
				t.Errorf("%s: %s: %q, want %q", path, header, got, want)
			}
		}
		if !strings.Contains(r.Header.Get("Content-Security-Policy"), "default-src 'none'") {
			t.Errorf("%s: no Content-Security-Policy", path)
		}
	}
}

// TestPanic: an answer where none was begun, a broken connection where one was; the stack is in the log alone.
func TestPanic(t *testing.T) {
	var log lockedBuffer
	url := serveHTTP(t, &fake{}, Config{Logger: logTo(&log)},
		Route{Pattern: "GET /panic", Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("secret words") })},
		Route{Pattern: "GET /half", Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			w.Write([]byte("half"))
			panic("too late")
		})})
	r := call(t, "GET", url+"/panic", "")
	r.wantError(t, 500, "internal", "X-Request-Id")
	if strings.Contains(r.body, "secret") {
		t.Errorf("the client sees %s", r.body)
	}
	if text := log.String(); !strings.Contains(text, "secret words") || !strings.Contains(text, "handler_test.go") {
		t.Errorf("the log has no reason and stack: %s", text)
	}
	if resp, err := http.Get(url + "/half"); err == nil {
		if _, err = resp.Body.Read(make([]byte, 200)); err == nil {
			_, err = resp.Body.Read(make([]byte, 200))
		}
		if resp.Body.Close(); err == nil {
			t.Error("half an answer looks like a whole one")
		}
	}
	if r := call(t, "GET", url+"/healthz", ""); r.StatusCode != 200 {
		t.Error("the server does not answer after a panic")
	}
}

func TestAuthentication(t *testing.T) {
	keys, err := OpenKeys(writeFile(t, "keys", "trainer:correct\neval:sha256="+sha256Hex("battery")+"\n"))
	if err != nil {
		t.Fatal(err)
	}
	who := Route{Pattern: "GET /who", Handler: answering(func(r *http.Request) string { return Client(r.Context()) })}
	open := Route{Pattern: "GET /open", Handler: answering(func(*http.Request) string { return "open" }), Public: true}
	var log lockedBuffer
	url := serveHTTP(t, &fake{}, Config{Keys: keys, Logger: logTo(&log)}, who, open)
	for _, c := range []struct {
		name, header, value string
		client              string // "": refused
	}{
		{"none", "X-Other", "x", ""},
		{"bearer", "Authorization", "Bearer correct", "trainer"},
		{"bearer in lower case", "Authorization", "bearer correct", "trainer"},
		{"x-api-key", "X-Api-Key", "battery", "eval"},
		{"wrong", "Authorization", "Bearer incorrect", ""},
		{"a part", "Authorization", "Bearer correc", ""},
		{"basic", "Authorization", "Basic correct", ""},
		{"empty", "Authorization", "Bearer ", ""},
		{"the hash is no key", "X-Api-Key", "sha256=" + sha256Hex("battery"), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := call(t, "GET", url+"/who", "", c.header, c.value)
			if c.client != "" {
				if r.StatusCode != 200 || r.body != c.client {
					t.Errorf("status %d, client %q, want %q", r.StatusCode, r.body, c.client)
				}
				return
			}
			r.wantError(t, 401, "unauthorized")
			if !strings.HasPrefix(r.Header.Get("WWW-Authenticate"), "Bearer") {
				t.Errorf("WWW-Authenticate: %q", r.Header.Get("WWW-Authenticate"))
			}
		})
	}
	for _, path := range []string{"/open", "/healthz", "/readyz", "/openapi.json"} {
		if r := call(t, "GET", url+path, ""); r.StatusCode != 200 {
			t.Errorf("%s without a key: status %d", path, r.StatusCode)
		}
	}
	for _, secret := range []string{"correct", "battery"} {
		if strings.Contains(log.String(), secret) {
			t.Errorf("the log shows a key: %s", log.String())
		}
	}
	if !strings.Contains(log.String(), `"client":"trainer"`) {
		t.Error("the log does not say who asked")
	}
}

func TestClientWithoutKeys(t *testing.T) {
	for remote, want := range map[string]string{
		"192.0.2.7:4242": "192.0.2.7", "[2001:db8:1:2:3:4:5:6]:4242": "2001:db8:1:2::/64", "[::ffff:192.0.2.7]:1": "192.0.2.7", "odd": "odd",
	} {
		if got := remoteName(&http.Request{RemoteAddr: remote}); got != want {
			t.Errorf("%s: %q, want %q", remote, got, want)
		}
	}
}

func TestCrossOrigin(t *testing.T) {
	url := serveHTTP(t, &fake{}, Config{})
	body := `{"images":["YQ=="],"texts":["x"]}`
	call(t, "POST", url+"/v1/score", body, "Sec-Fetch-Site", "cross-site").wantError(t, 403, "forbidden")
	call(t, "POST", url+"/v1/score", body, "Origin", "https://elsewhere.example").wantError(t, 403, "forbidden")
	for _, headers := range [][]string{nil, {"Sec-Fetch-Site", "same-origin"}, {"Origin", url}} {
		if r := call(t, "POST", url+"/v1/score", body, headers...); r.StatusCode != 200 {
			t.Errorf("%v: status %d: %s", headers, r.StatusCode, r.body)
		}
	}
}

// TestLog: one line a request, with what is needed to find it and nothing of its body or query.
func TestLog(t *testing.T) {
	var log lockedBuffer
	url := serveHTTP(t, &fake{}, Config{Logger: logTo(&log)})
	call(t, "POST", url+"/v1/score?q=hidden1", `{"images":["YQ=="],"texts":["hidden2"]}`, "X-Request-Id", "find-me")
	call(t, "POST", url+"/v1/score", `{"images":["YQ=="],"texts":["x"],"rewards":["nope"]}`)
	eventually(t, "two lines", func() bool { return strings.Count(log.String(), "\n") >= 2 })
	lines := strings.Split(log.String(), "\n")
	for _, want := range []string{`"request_id":"find-me"`, `"route":"POST /v1/score"`, `"status":200`, `"bytes_in":39`, `"client":"127.0.0.1"`, `"method":"POST"`} {
		if !strings.Contains(lines[0], want) {
			t.Errorf("no %s in %s", want, lines[0])
		}
	}
	if strings.Contains(log.String(), "hidden") {
		t.Errorf("the log shows what was sent: %s", log.String())
	}
	if !strings.Contains(lines[1], `"status":404`) || !strings.Contains(lines[1], `"error":"no reward`) {
		t.Errorf("no reason in %s", lines[1])
	}
}
