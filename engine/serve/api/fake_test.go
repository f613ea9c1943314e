package api

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"image"
	"image/color"
	"image/png"
	"io"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tia2-engine/tia2-engine/engine"
	"github.com/tia2-engine/tia2-engine/engine/serve"
)

// fake is a backend whose score of a picture and a text is 100 * bytes of the file + bytes of the text, and one more for
// each reward before. Files that begin with "bad" cannot be read. While hold is locked it computes nothing.
type fake struct {
	hold  sync.Mutex
	fault error // of Score
}

var fakeRewards = []string{"clip", "hpsv2"}

func fakeScore(reward int, file, text string) float32 {
	return float32(100*len(file) + len(text) + reward)
}

func (f *fake) Rewards() []string { return fakeRewards }
func (f *fake) Close() error      { return nil }

func (f *fake) Score(ctx context.Context, images []engine.Image, texts []string, pairs []engine.Pair, rewards []string) ([]engine.Reward, error) {
	f.hold.Lock()
	defer f.hold.Unlock()
	if f.fault != nil {
		return nil, f.fault
	}
	var failed engine.ItemErrors
	bad := map[int]bool{}
	for i, img := range images {
		if bad[i] = bytes.HasPrefix(img.Data, []byte("bad")); bad[i] {
			failed = append(failed, &engine.ItemError{Index: i, Name: img.Name, Err: errors.New("not a picture")})
		}
	}
	var out []engine.Reward
	for _, name := range rewards {
		r := engine.Reward{Name: name, Images: len(pairs), Texts: 1}
		for _, p := range pairs {
			score := fakeScore(map[string]int{"clip": 0, "hpsv2": 1}[name], string(images[p.Image].Data), texts[p.Text])
			if bad[p.Image] {
				score = float32(math.NaN())
			}
			r.Scores = append(r.Scores, score)
		}
		out = append(out, r)
	}
	if failed != nil {
		return out, failed
	}
	return out, nil
}

// EncodeImages and EncodeTexts give vectors of ones.
func (f *fake) EncodeImages(_ context.Context, _ string, images []engine.Image) (engine.Embeddings, error) {
	return engine.Embeddings{N: len(images), Dim: 8, Data: slices.Repeat([]float32{1}, 8*len(images))}, nil
}

func (f *fake) EncodeTexts(_ context.Context, _ string, texts []string) (engine.Embeddings, error) {
	return engine.Embeddings{N: len(texts), Dim: 8, Data: slices.Repeat([]float32{1}, 8*len(texts))}, nil
}

func (f *fake) Models() []engine.Info {
	return []engine.Info{
		{Name: "vit-tiny", Family: "clip", Rewards: []string{"clip"}, Device: "CPU", Backend: "cpu", DType: "f32", SourceSHA256: "ab12", EmbedDim: 8, ImageVectors: 1,
			ImageSize: 8, Context: 77, LogitScale: 100, Pipeline: "openai", Mean: [3]float32{.5, .5, .5}, Std: [3]float32{.25, .25, .25}},
		{Name: "hps", Family: "clip", Rewards: []string{"hpsv2"}, Device: "CPU", Backend: "cpu", DType: "bf16", EmbedDim: 8, ImageVectors: 1,
			ImageSize: 8, Context: 77, LogitScale: float32(math.Inf(1)), Pipeline: "hpsv2", Mean: [3]float32{.5, .5, .5}, Std: [3]float32{.25, .25, .25}},
		{Name: "head", Family: "aesthetic", Rewards: []string{}, EmbedDim: 8, Device: "CPU", DType: "f32", LogitScale: 1},
	}
}

// newCore returns a server over the fake. An observer may be nil.
func newCore(t testing.TB, f *fake, o serve.Observer) *serve.Server {
	t.Helper()
	s := serve.New(f, serve.Options{MaxImages: 16, MaxTexts: 64, Timeout: 10 * time.Second, LatencyBudget: -1, Observer: o})
	t.Cleanup(func() { s.Close() })
	return s
}

// serveHTTP returns the address of a server over the fake.
func serveHTTP(t testing.TB, f *fake, cfg Config, routes ...Route) string {
	t.Helper()
	server := httptest.NewServer(Handler(newCore(t, f, nil), cfg, routes...))
	t.Cleanup(server.Close)
	return server.URL
}

// reply is what came back.
type reply struct {
	*http.Response
	body string
}

// call sends a request; headers are names and values in turn.
func call(t testing.TB, method, url, body string, headers ...string) reply {
	t.Helper()
	var from io.Reader
	if body != "" {
		from = strings.NewReader(body)
	}
	req, err := http.NewRequest(method, url, from)
	if err != nil {
		t.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return reply{resp, string(b)}
}

// wantError fails the test unless r is an error with that status, code and a message that has all the words.
func (r reply) wantError(t testing.TB, status int, code string, words ...string) {
	t.Helper()
	var got errorBody
	if err := json.Unmarshal([]byte(r.body), &got); err != nil {
		t.Fatalf("status %d, body %q: expected an error as JSON: %v", r.StatusCode, r.body, err)
	}
	if r.StatusCode != status || got.Error.Code != code {
		t.Errorf("status %d, code %q (%s): expected %d, %q", r.StatusCode, got.Error.Code, got.Error.Message, status, code)
	}
	for _, word := range words {
		if !strings.Contains(got.Error.Message, word) {
			t.Errorf("message %q: expected %q in it", got.Error.Message, word)
		}
	}
}

// logTo returns a logger that writes JSON to b, and everything.
func logTo(b *lockedBuffer) *slog.Logger {
	return slog.New(slog.NewJSONHandler(b, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// eventually waits until ok is true.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not in 10 s", what)
		}
	}
}

// base64Of writes a file's bytes as a JSON string of base64.
func base64Of(file string) string {
	return `"` + base64.StdEncoding.EncodeToString([]byte(file)) + `"`
}

// pngFile returns a picture of one colour.
func pngFile(t testing.TB, width, height int, c color.Color) string {
	t.Helper()
	img := image.NewNRGBA(image.Rect(0, 0, width, height))
	for i := range width * height {
		img.Set(i%width, i/width, c)
	}
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		t.Fatal(err)
	}
	return b.String()
}
