package client

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// serve answers what is asked at a path with a text, and returns a client of it and the last request's body.
func serve(t *testing.T, path, answer string) (*Client, *[]byte) {
	t.Helper()
	got := new([]byte)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != path {
			t.Errorf("asked for %s, want %s", r.URL.Path, path)
		}
		*got, _ = io.ReadAll(r.Body)
		io.WriteString(w, answer)
	}))
	t.Cleanup(server.Close)
	return New(server.URL + "/"), got
}

func wantJSON(t *testing.T, got []byte, want string) {
	t.Helper()
	var a, b any
	if err := json.Unmarshal(got, &a); err != nil {
		t.Fatalf("%v in %s", err, got)
	}
	if err := json.Unmarshal([]byte(want), &b); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(b, a); diff != "" {
		t.Error(diff)
	}
}

var nan = float32(math.NaN())

func TestScore(t *testing.T) {
	const answer = `{"rewards":{"clip":[1.5,null]},"pairs":[[0,0],[1,1]],"errors":[{"image":1,"message":"broken"}]}`
	tests := []struct {
		name string
		req  ScoreRequest
		want string // what is sent beside the images
	}{
		{"zip", ScoreRequest{Texts: []string{"é", "b"}}, `"texts":["é","b"],"pairs":"zip"`},
		{"all", ScoreRequest{Texts: []string{"a"}, All: true}, `"texts":["a"],"pairs":"all"`},
		{"pairs", ScoreRequest{Pairs: []Pair{{1, 0}}, Rewards: []string{"clip"}}, `"texts":[],"pairs":[[1,0]],"rewards":["clip"]`},
		{"no pairs", ScoreRequest{Pairs: []Pair{}}, `"texts":[],"pairs":[]`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, got := serve(t, "/v1/score", answer)
			tt.req.Images = [][]byte{{0, 255, 1}}
			scores, err := c.Score(t.Context(), tt.req)
			if err != nil {
				t.Fatal(err)
			}
			wantJSON(t, *got, `{"images":["AP8B"],`+tt.want+`}`)
			want := &Scores{map[string]Floats{"clip": {1.5, nan}}, []Pair{{0, 0}, {1, 1}}, []ItemError{{1, "broken"}}}
			if diff := cmp.Diff(want, scores, cmpopts.EquateNaNs()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestTextNorm(t *testing.T) {
	c, got := serve(t, "/v1/textnorm", `{"rewards":{"clip":{"scores":[[1,2],null],"confidence":[0.25,null]}},"errors":[{"image":1,"message":"m"}]}`)
	out, err := c.TextNorm(t.Context(), TextNormRequest{Images: [][]byte{{1}, {2}}, Prompt: "a", Contrastive: []string{"b"}, Scale: 3, MinMax: "set"})
	if err != nil {
		t.Fatal(err)
	}
	wantJSON(t, *got, `{"images":["AQ==","Ag=="],"prompt":"a","contrastive":["b"],"scale":3,"minmax":"set"}`)
	want := &TextNorm{map[string]Calibrated{"clip": {[]Floats{{1, 2}, nil}, Floats{0.25, nan}}}, []ItemError{{1, "m"}}}
	if diff := cmp.Diff(want, out, cmpopts.EquateNaNs()); diff != "" {
		t.Error(diff)
	}
}

func TestEmbeddings(t *testing.T) {
	raw := base64.StdEncoding.EncodeToString([]byte{0, 0, 0x80, 0x3f, 0, 0, 0, 0xc0}) // 1, -2
	c, got := serve(t, "/v1/embeddings", `{"data":[{"index":2,"embedding":[0.5,0.25]},{"index":0,"embedding":"`+raw+`"},{"index":1,"embedding":[0,1]}]}`)
	out, err := c.Embeddings(t.Context(), EmbeddingsRequest{Model: "demo", Images: [][]byte{{1}, {2}}, Texts: []string{"t"}})
	if err != nil {
		t.Fatal(err)
	}
	wantJSON(t, *got, `{"model":"demo","encoding_format":"base64","input":[{"image":"AQ=="},{"image":"Ag=="},"t"]}`)
	want := &Embeddings{[][]float32{{1, -2}, {0, 1}}, [][]float32{{0.5, 0.25}}}
	if diff := cmp.Diff(want, out); diff != "" {
		t.Error(diff)
	}
}

func TestModels(t *testing.T) {
	c, _ := serve(t, "/v1/models", `{"object":"list","data":[{"id":"demo","rewards":["clip"],"checkpoint_sha256":"ab","embedding_dim":8}]}`)
	models, err := c.Models(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]Model{{ID: "demo", Rewards: []string{"clip"}, CheckpointSHA256: "ab", EmbeddingDim: 8}}, models); diff != "" {
		t.Error(diff)
	}
}

func TestAnswersThatAreNone(t *testing.T) {
	score := func(c *Client) error { _, err := c.Score(t.Context(), ScoreRequest{}); return err }
	embed := func(c *Client) error { _, err := c.Embeddings(t.Context(), EmbeddingsRequest{}); return err }
	norm := func(c *Client) error {
		_, err := c.TextNorm(t.Context(), TextNormRequest{Images: [][]byte{{1}}})
		return err
	}
	tests := []struct {
		path, answer, want string
		call               func(*Client) error
	}{
		{"/v1/score", "nonsense", "not what was expected", score},
		{"/v1/score", `{"rewards":{"clip":["x"]}}`, "not what was expected", score},
		{"/v1/score", `{"rewards":{"clip":[1,2]},"pairs":[[0,0]]}`, "2 scores of clip for 1 pairs", score},
		{"/v1/embeddings", `{"data":[{"index":0}]}`, "index 0 for 0 inputs", embed},
		{"/v1/embeddings", `{"data":[{"index":0,"embedding":"AAAA"}]}`, "3 bytes", embed},
		{"/v1/embeddings", `{"data":[]}`, "input 0 has no embedding", func(c *Client) error {
			_, err := c.Embeddings(t.Context(), EmbeddingsRequest{Texts: []string{"x"}})
			return err
		}},
		{"/v1/textnorm", `{"rewards":{"clip":{"scores":[],"confidence":[1]}}}`, "0 scores and 1 confidences of clip for 1 images", norm},
	}
	for _, tt := range tests {
		c, _ := serve(t, tt.path, tt.answer)
		if err := tt.call(c); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error %v, want %q", tt.answer, err, tt.want)
		}
	}
	if _, err := New("x").Score(t.Context(), ScoreRequest{All: true, Pairs: []Pair{}}); err == nil {
		t.Error("Pairs and All together are no error")
	}
}

// failing answers the first requests with each of the steps, then with an empty object.
func failing(t *testing.T, steps ...func(w http.ResponseWriter)) (*Client, *atomic.Int32) {
	t.Helper()
	count := new(atomic.Int32)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		if n := int(count.Add(1)); n <= len(steps) {
			steps[n-1](w)
			return
		}
		io.WriteString(w, "{}")
	}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.Start()
	t.Cleanup(server.Close)
	return New(server.URL), count
}

func status(code int, header ...string) func(http.ResponseWriter) {
	return func(w http.ResponseWriter) {
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(code)
		fmt.Fprint(w, `{"error":{"message":"why","code":"x"}}`)
	}
}

func hangUp(http.ResponseWriter) { panic(http.ErrAbortHandler) }

func half(w http.ResponseWriter) {
	w.Header().Set("Content-Length", "100")
	io.WriteString(w, "{")
}

func TestRepeated(t *testing.T) {
	t.Parallel()
	for name, step := range map[string]func(http.ResponseWriter){
		"429": status(429), "503": status(503), "502": status(502), "hung up": hangUp, "half an answer": half,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, count := failing(t, step)
			if _, err := c.Models(t.Context()); err != nil || count.Load() != 2 {
				t.Errorf("error %v after %d requests, want none after 2", err, count.Load())
			}
		})
	}
}

func TestNotRepeated(t *testing.T) {
	t.Parallel()
	for _, code := range []int{400, 401, 404, 413, 499, 500, 504} {
		c, count := failing(t, status(code, "Retry-After", "0"))
		_, err := c.Models(t.Context())
		var e *Error
		if !errors.As(err, &e) || e.Status != code || e.Message != "why" || count.Load() != 1 {
			t.Errorf("status %d: error %v after %d requests", code, err, count.Load())
		}
	}
}

func TestRetryAfterIsKept(t *testing.T) {
	t.Parallel()
	c, count := failing(t, status(429, "Retry-After", "1"))
	start := time.Now()
	if _, err := c.Models(t.Context()); err != nil || count.Load() != 2 {
		t.Fatalf("error %v after %d requests", err, count.Load())
	}
	if took := time.Since(start); took < time.Second {
		t.Errorf("came back after %v", took)
	}
}

func TestRetriesAreBounded(t *testing.T) {
	t.Parallel()
	many := make([]func(http.ResponseWriter), 50)
	for i := range many {
		many[i] = status(503)
	}
	c, count := failing(t, many...)
	c.Retries = 2
	if _, err := c.Models(t.Context()); err == nil || count.Load() != 3 {
		t.Errorf("error %v after %d requests, want one after 3", err, count.Load())
	}
	c, count = failing(t, status(503, "Retry-After", "3600"))
	if _, err := c.Models(t.Context()); err == nil || count.Load() != 1 {
		t.Errorf("error %v after %d requests: it should not have waited an hour", err, count.Load())
	}
	if c, count = failing(t, many...); c.Ready(t.Context()) == nil || count.Load() != 1 {
		t.Errorf("Ready asked %d times", count.Load())
	}
}

func TestContext(t *testing.T) {
	c, _ := failing(t, status(503, "Retry-After", "60"))
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := c.Models(ctx)
	var e *Error
	if !errors.Is(err, context.DeadlineExceeded) || !errors.As(err, &e) {
		t.Errorf("error %v: want the deadline, and the answer before it", err)
	}
}

func TestTimeoutIsNotRepeated(t *testing.T) {
	done := make(chan struct{})
	c, count := failing(t, func(http.ResponseWriter) { <-done })
	defer close(done)
	c.HTTP = &http.Client{Timeout: 50 * time.Millisecond}
	if _, err := c.Models(t.Context()); err == nil || count.Load() != 1 {
		t.Errorf("error %v after %d requests", err, count.Load())
	}
}

func TestNoServer(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listener.Close()
	c := New("http://" + listener.Addr().String())
	c.Retries = 1
	if _, err := c.Models(t.Context()); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("error %v", err)
	}
}

func TestStrangerIsNotAskedAgain(t *testing.T) {
	var tried atomic.Int32
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			tried.Add(1)
		}
	}
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	defer server.Close()
	if _, err := New(server.URL).Models(t.Context()); err == nil || tried.Load() != 1 {
		t.Errorf("error %v after %d connections", err, tried.Load())
	}
}

func TestHeaders(t *testing.T) {
	var got http.Header
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r.Header.Clone()
		io.WriteString(w, `{"rewards":{},"pairs":[]}`)
	}))
	defer server.Close()
	c := New(server.URL)
	c.Key, c.HTTP = "secret", nil
	if _, err := c.Score(t.Context(), ScoreRequest{}); err != nil {
		t.Fatal(err)
	}
	if got.Get("Authorization") != "Bearer secret" || got.Get("Content-Type") != "application/json" {
		t.Errorf("headers %v", got)
	}
}

func TestRetryAfterHeader(t *testing.T) {
	now := time.Date(2024, 5, 1, 12, 0, 0, 0, time.UTC)
	for value, want := range map[string]time.Duration{
		"": 0, "7": 7 * time.Second, " 7 ": 7 * time.Second, "soon": 0, "-1": 0, "99999999999999": 0,
		"Wed, 01 May 2024 12:00:30 GMT": 30 * time.Second, "Wed, 01 May 2024 11:00:00 GMT": 0,
	} {
		if got := retryAfter(value, now); got != want {
			t.Errorf("Retry-After %q: %v, want %v", value, got, want)
		}
	}
}

func TestBackoff(t *testing.T) {
	for attempt := range 70 {
		wait, again := retryIn(&Error{Status: 429}, attempt)
		if !again || wait < backoffFirst/2 || wait > backoffMost {
			t.Errorf("attempt %d: %v, %v", attempt, wait, again)
		}
	}
}

func TestMessage(t *testing.T) {
	for body, want := range map[string]string{
		`{"error":{"message":"m"}}`: "m", `{"error":"x"}`: `{"error":"x"}`, "": "500 Oh", "plain\n": "plain", "\xff\xfe": "500 Oh",
	} {
		if got := message([]byte(body), "500 Oh"); got != want {
			t.Errorf("%q: %q, want %q", body, got, want)
		}
	}
	if got := message(bytes.Repeat([]byte("x"), 1000), ""); len(got) != 200 {
		t.Errorf("%d bytes of a body", len(got))
	}
}
