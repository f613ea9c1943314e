package protocol

import (
	"bytes"
	"context"
	"errors"
	"hash/crc32"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tia2-engine/tia2-engine/engine"
	"github.com/tia2-engine/tia2-engine/engine/serve"
	"github.com/tia2-engine/tia2-engine/engine/serve/api"
)

// fake computes with numbers that tests, and the scripts in testdata, can tell: see fakeScore. Pictures whose file begins
// with "bad" cannot be read; the text "slow" takes two seconds.
type fake struct {
	rewards []string
	fault   atomic.Pointer[error] // of Score
}

var fakeRewards = []string{"clip", "pickscore", "hpsv2", "imagereward", "aesthetic"}

func newFake() *fake { return &fake{rewards: fakeRewards} }

// fakeScore is the raw score of a picture's file and a text: (CRC-32 of the file mod 1000) + 1000 * bytes of the text, plus a
// quarter for each place of the reward in the list.
func fakeScore(reward string, file []byte, text string) float32 {
	if reward == "aesthetic" {
		text = ""
	}
	return float32(crc32.ChecksumIEEE(file)%1000) + 1000*float32(len(text)) + 0.25*float32(slices.Index(fakeRewards, reward))
}

func (f *fake) Rewards() []string { return f.rewards }
func (f *fake) Close() error      { return nil }

func (f *fake) Score(ctx context.Context, images []engine.Image, texts []string, pairs []engine.Pair, rewards []string) ([]engine.Reward, error) {
	if fault := f.fault.Load(); fault != nil {
		return nil, *fault
	}
	if slices.Contains(texts, "slow") {
		select {
		case <-time.After(2 * time.Second):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	errs := unreadable(images)
	var out []engine.Reward
	for _, reward := range rewards {
		r := engine.Reward{Name: reward, Images: len(pairs), Texts: 1}
		for _, p := range pairs {
			score := fakeScore(reward, images[p.Image].Data, texts[p.Text])
			if isBad(images[p.Image]) {
				score = float32(math.NaN())
			}
			r.Scores = append(r.Scores, score)
		}
		out = append(out, r)
	}
	if errs != nil {
		return out, errs
	}
	return out, nil
}

func isBad(image engine.Image) bool { return bytes.HasPrefix(image.Data, []byte("bad")) }

func unreadable(images []engine.Image) (errs engine.ItemErrors) {
	for i, image := range images {
		if isBad(image) {
			errs = append(errs, &engine.ItemError{Index: i, Name: image.Name, Err: errors.New("not a picture")})
		}
	}
	return errs
}

// EncodeImages gives [CRC-32 mod 1000, 0.5, 1] of a file.
func (f *fake) EncodeImages(_ context.Context, _ string, images []engine.Image) (engine.Embeddings, error) {
	out := engine.Embeddings{N: len(images), Dim: 3}
	for _, image := range images {
		v := float32(crc32.ChecksumIEEE(image.Data) % 1000)
		if isBad(image) {
			v = float32(math.NaN())
		}
		out.Data = append(out.Data, v, 0.5, 1)
	}
	if errs := unreadable(images); errs != nil {
		return out, errs
	}
	return out, nil
}

// EncodeTexts gives [bytes, 0.25, -1] of a text.
func (f *fake) EncodeTexts(_ context.Context, _ string, texts []string) (engine.Embeddings, error) {
	out := engine.Embeddings{N: len(texts), Dim: 3}
	for _, text := range texts {
		out.Data = append(out.Data, float32(len(text)), 0.25, -1)
	}
	return out, nil
}

func (f *fake) Models() []engine.Info {
	return []engine.Info{
		{Name: "clip-vit-l-14", Family: "clip", Rewards: []string{"clip"}, LogitScale: 100, EmbedDim: 3, ImageVectors: 1, ImageTokens: 257, Context: 77},
		{Name: "pickscore-v1", Family: "clip", Rewards: []string{"pickscore"}, LogitScale: 100, EmbedDim: 3, ImageVectors: 1, ImageTokens: 257, Context: 77},
		{Name: "the rest", Family: "blip", Rewards: f.rewards[2:], LogitScale: 1},
	}
}

// newCore returns a server over the fake.
func newCore(t testing.TB, f *fake, opt serve.Options) *serve.Server {
	t.Helper()
	s := serve.New(f, opt)
	t.Cleanup(func() { s.Close() })
	return s
}

// newServer returns a server of all protocols over HTTP, and the core.
func newServer(t testing.TB, f *fake, opt Options) (*httptest.Server, *serve.Server) {
	t.Helper()
	s := newCore(t, f, serve.Options{MaxImages: 64, MaxTexts: 128, MaxImageBytes: 1 << 20, Timeout: 5 * time.Second})
	h := httptest.NewServer(handlerOf(s, opt))
	t.Cleanup(h.Close)
	return h, s
}

func handlerOf(s *serve.Server, opt ...Options) http.Handler {
	return api.Handler(s, api.Config{MaxBodyBytes: 4 << 20}, Routes(s, append(opt, Options{})[0])...)
}

// overloaded refuses every request, since its body does not fit what all may hold together.
func overloaded(s *serve.Server) http.Handler {
	return api.Handler(s, api.Config{MaxBodyBytesAll: 4}, Routes(s, Options{})...)
}

// post sends a body and returns the answer.
func post(t testing.TB, url string, body []byte, headers ...string) (*http.Response, []byte) {
	t.Helper()
	req, err := http.NewRequest("POST", url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	return do(t, req)
}

func get(t testing.TB, url string) (*http.Response, []byte) {
	t.Helper()
	req, err := http.NewRequest("GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	return do(t, req)
}

func do(t testing.TB, req *http.Request) (*http.Response, []byte) {
	t.Helper()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, b
}
