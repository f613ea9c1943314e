package serve

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/tia2-engine/tia2-engine/engine"
)

// fake is a backend whose scores are hashes of what they are of.
type fake struct {
	rewards []string
	models  []engine.Info
	before  func(ctx context.Context, c *fakeCall) error // called at the begin of each call; may block, fail or panic

	mu     sync.Mutex
	calls  []*fakeCall
	closed bool
}

// fakeCall is one call of a fake.
type fakeCall struct {
	kind    kind
	rewards []string
	model   string
	images  []engine.Image
	texts   []string
	pairs   []engine.Pair
	began   time.Time
}

// probe is whether the call is that of Ready.
func (c *fakeCall) probe() bool { return slices.Contains(c.texts, "a probe") }

func newFake() *fake {
	return &fake{rewards: []string{"clip", "pickscore", "hpsv2"},
		models: []engine.Info{{Name: "tiny", Spec: "tiny.gguf", Family: "clip", Backend: "cpu", Rewards: []string{"clip"}, EmbedDim: 2, ImageTokens: 100, Context: 77}}}
}

func (f *fake) Rewards() []string     { return f.rewards }
func (f *fake) Models() []engine.Info { return f.models }

func (f *fake) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return errors.New("closed twice")
	}
	f.closed = true
	return nil
}

func (f *fake) isClosed() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.closed
}

// begin records a call.
func (f *fake) begin(ctx context.Context, c *fakeCall) error {
	c.began = time.Now()
	f.mu.Lock()
	if f.closed {
		f.mu.Unlock()
		return engine.ErrClosed
	}
	f.calls = append(f.calls, c)
	f.mu.Unlock()
	if f.before != nil {
		return f.before(ctx, c)
	}
	return nil
}

// all returns the calls so far.
func (f *fake) all() []*fakeCall {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.calls)
}

// seen returns the calls so far, probes left out.
func (f *fake) seen() []*fakeCall { return slices.DeleteFunc(f.all(), (*fakeCall).probe) }

func (f *fake) Score(ctx context.Context, images []engine.Image, texts []string, of []engine.Pair, rewards []string) ([]engine.Reward, error) {
	if err := f.begin(ctx, &fakeCall{kind: pairs, rewards: rewards, images: images, texts: texts, pairs: of}); err != nil {
		return nil, err
	}
	var out []engine.Reward
	for _, name := range rewards {
		r := engine.Reward{Name: name, Images: len(of), Texts: 1}
		for _, p := range of {
			r.Scores = append(r.Scores, fakeScore(name, images[p.Image].Data, texts[p.Text]))
		}
		out = append(out, r)
	}
	return out, badImages(images)
}

func (f *fake) EncodeImages(ctx context.Context, model string, imgs []engine.Image) (engine.Embeddings, error) {
	if err := f.begin(ctx, &fakeCall{kind: images, model: model, images: imgs}); err != nil {
		return engine.Embeddings{}, err
	}
	out := engine.Embeddings{N: len(imgs), Dim: 2}
	for _, img := range imgs {
		v := fakeScore(model, img.Data, "")
		out.Data = append(out.Data, v, -v)
	}
	return out, badImages(imgs)
}

func (f *fake) EncodeTexts(ctx context.Context, model string, txts []string) (engine.Embeddings, error) {
	if err := f.begin(ctx, &fakeCall{kind: texts, model: model, texts: txts}); err != nil {
		return engine.Embeddings{}, err
	}
	out := engine.Embeddings{N: len(txts), Dim: 2}
	for _, text := range txts {
		v := fakeScore(model, nil, text)
		out.Data = append(out.Data, v, -v)
	}
	return out, nil
}

// fakeScore is NaN for a picture that begins with "bad".
func fakeScore(name string, image []byte, text string) float32 {
	if isBad(image) {
		return float32(math.NaN())
	}
	h := fnv.New32a()
	fmt.Fprintf(h, "%s %q %q", name, image, text)
	return float32(h.Sum32()) / 1e5
}

func isBad(image []byte) bool { return len(image) >= 3 && string(image[:3]) == "bad" }

func badImages(imgs []engine.Image) error {
	var items engine.ItemErrors
	for i, img := range imgs {
		if isBad(img.Data) {
			items = append(items, &engine.ItemError{Index: i, Name: img.Name, Err: errors.New("tia2: it is bad")})
		}
	}
	if len(items) > 0 {
		return items
	}
	return nil
}

// picture returns a picture as far as the fake is concerned.
func picture(format string, args ...any) engine.Image {
	return engine.Image{Data: fmt.Appendf(nil, format, args...)}
}

// pictures returns n pictures whose names begin with name.
func pictures(name string, n int) []engine.Image {
	out := make([]engine.Image, n)
	for i := range out {
		out[i] = picture("%s %d", name, i)
	}
	return out
}

// pairsAt returns pairs: image, text, image, text, ...
func pairsAt(at ...int) []engine.Pair {
	out := []engine.Pair{}
	for p := range slices.Chunk(at, 2) {
		out = append(out, engine.Pair{Image: p[0], Text: p[1]})
	}
	return out
}

// ask asks for clip of pictures named after the client, all with one text.
func ask(s *Server, ctx context.Context, client string, n int) error {
	imgs := pictures(client, n)
	result, err := s.Score(ctx, ScoreRequest{Client: client, Rewards: []string{"clip"}, Images: imgs, Texts: []string{"a text"}})
	if err != nil {
		return err
	}
	for i, img := range imgs {
		if want := fakeScore("clip", img.Data, "a text"); result.Scores[0][i] != want {
			return fmt.Errorf("score %d is %g: expected %g", i, result.Scores[0][i], want)
		}
	}
	return nil
}

// must fails the test where err is not nil.
func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// well reports err where it is not nil; goroutines of a test may call it.
func well(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Error(err)
	}
}

// checkIdle fails the test where the server holds something though nothing is asked of it, and closes it. A batch that
// nobody wants any more may still run.
func checkIdle(t *testing.T, s *Server) {
	t.Helper()
	for s.Stats().Running > 0 {
		time.Sleep(time.Millisecond)
	}
	s.mu.Lock()
	w := s.worker
	if s.waiting != 0 || s.bytes != 0 || s.requests != 0 || s.running != 0 || s.reading != 0 || len(w.units) != 0 || w.groups() != 0 {
		t.Errorf("waiting %d, bytes %d, requests %d, running %d, reading %d, units %d, groups %d: expected none",
			s.waiting, s.bytes, s.requests, s.running, s.reading, len(w.units), w.groups())
	}
	for _, l := range w.lanes {
		for _, c := range l.clients {
			if len(c.queues) > 0 {
				t.Errorf("lane %s: client %s still has queues", l.kind, c.name)
			}
		}
		if l.load != (load{}) {
			t.Errorf("lane %s: load %+v: expected none", l.kind, l.load)
		}
	}
	s.mu.Unlock()
	must(t, s.Close())
}
