package serve

import (
	"context"
	"errors"
	"fmt"
	"runtime/pprof"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tia2-engine/tia2-engine/engine"
)

// slow makes each call of f take so long, or end with its context.
func slow(f *fake, d time.Duration) *fake {
	f.before = func(ctx context.Context, c *fakeCall) error {
		select {
		case <-time.After(d):
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return f
}

// sizes returns how many pictures each call had.
func sizes(calls []*fakeCall) []int {
	var out []int
	for _, c := range calls {
		out = append(out, len(c.images))
	}
	return out
}

// TestQueueFillsWhileBusy: what arrives during a batch is the next one.
func TestQueueFillsWhileBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := slow(newFake(), time.Second)
		s := New(f, Options{MaxBatchImages: 16, MaxBatchTime: time.Hour})
		var all sync.WaitGroup
		for i := range 41 {
			all.Go(func() {
				if i > 0 {
					time.Sleep(10 * time.Millisecond)
				}
				well(t, ask(s, t.Context(), fmt.Sprint("client ", i), 1))
			})
		}
		all.Wait()
		if got := fmt.Sprint(sizes(f.seen())); got != "[1 16 16 8]" {
			t.Errorf("batches of %s: expected [1 16 16 8]", got)
		}
		checkIdle(t, s)
	})
}

// TestLatencyBudget: an idle backend waits for a request that is being read, and for nothing else.
func TestLatencyBudget(t *testing.T) {
	const ms = time.Millisecond
	for name, c := range map[string]struct {
		budget  time.Duration
		reading bool
		then    time.Duration // when the request that is being read arrives, or is given up
		arrives bool
		batches string
		took    time.Duration // of the first
	}{
		"nothing is read":              {10 * ms, false, 5 * ms, true, "[1 1]", 0},
		"it arrives in time":           {10 * ms, true, 5 * ms, true, "[2]", 5 * ms},
		"it arrives too late":          {10 * ms, true, 15 * ms, true, "[1 1]", 10 * ms},
		"it is given up":               {10 * ms, true, 5 * ms, false, "[1]", 5 * ms},
		"nothing is ever waited for":   {-1, true, 5 * ms, true, "[1 1]", 0},
		"a budget that is the default": {0, true, 5 * ms, true, "[1 1]", 2 * ms},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake()
				s := New(f, Options{LatencyBudget: c.budget})
				var other sync.WaitGroup
				ctx, done := t.Context(), func() {}
				if c.reading {
					ctx, done = s.Reading(ctx)
				}
				other.Go(func() {
					defer done()
					if time.Sleep(c.then); c.arrives {
						well(t, ask(s, ctx, "other", 1))
					}
				})
				began := time.Now()
				must(t, ask(s, t.Context(), "first", 1))
				if took := time.Since(began); took != c.took {
					t.Errorf("the first took %v: expected %v", took, c.took)
				}
				other.Wait()
				if got := fmt.Sprint(sizes(f.seen())); got != c.batches {
					t.Errorf("batches of %s: expected %s", got, c.batches)
				}
				checkIdle(t, s)
			})
		})
	}
}

// TestAnsweredClientsAskAgain: clients that were answered together are waited for, so that they stay together.
func TestAnsweredClientsAskAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := slow(newFake(), 20*time.Millisecond)
		s := New(f, Options{LatencyBudget: 10 * time.Millisecond})
		var all sync.WaitGroup
		_, together := s.Reading(t.Context())
		for i := range 8 {
			all.Go(func() {
				for range 5 {
					well(t, ask(s, t.Context(), fmt.Sprint("client ", i), 1))
					time.Sleep(time.Duration(i) * time.Millisecond)
				}
			})
		}
		synctest.Wait()
		together()
		all.Wait()
		if got := fmt.Sprint(sizes(f.seen())); got != "[8 8 8 8 8]" {
			t.Errorf("batches of %s: expected 5 of all 8", got)
		}
		checkIdle(t, s)
	})
}

// TestBatchBounds: a batch keeps each bound, and all pairs of a picture stay together where they can.
func TestBatchBounds(t *testing.T) {
	for name, c := range map[string]struct {
		opt    Options
		in     ScoreRequest
		images string // of each batch
		pairs  string
	}{
		"images":      {Options{MaxBatchImages: 3}, ScoreRequest{Images: pictures("p", 7), Texts: []string{"a"}}, "[3 3 1]", "[3 3 1]"},
		"pairs":       {Options{MaxBatchPairs: 10}, ScoreRequest{Images: pictures("p", 3), Texts: []string{"a", "b", "c", "d"}, All: true}, "[2 1]", "[8 4]"},
		"one picture": {Options{MaxBatchPairs: 3}, ScoreRequest{Images: pictures("p", 1), Texts: []string{"a", "b", "c", "d"}}, "[1 1]", "[3 1]"},
		"tokens": {Options{MaxBatchTokens: 50}, ScoreRequest{Images: pictures("p", 1), Texts: []string{strings.Repeat("a", 80), strings.Repeat("b", 80), strings.Repeat("c", 80)}},
			"[1 1]", "[2 1]"},
		"a text over the bound": {Options{MaxBatchTokens: 5}, ScoreRequest{Images: pictures("p", 2), Texts: []string{strings.Repeat("a", 80)}}, "[2]", "[2]"},
		"pairs in any order": {Options{MaxBatchImages: 1}, ScoreRequest{Images: pictures("p", 2), Texts: []string{"a", "b"},
			Pairs: pairsAt(0, 0, 1, 0, 0, 1, 1, 1)}, "[1 1]", "[2 2]"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake()
			s := New(f, c.opt)
			out, err := s.Score(t.Context(), c.in)
			must(t, err)
			for i, p := range out.Pairs {
				if want := fakeScore("clip", c.in.Images[p.Image].Data, c.in.Texts[p.Text]); out.Scores[0][i] != want {
					t.Errorf("pair %v: %g: expected %g", p, out.Scores[0][i], want)
				}
			}
			var n []int
			for _, call := range f.seen() {
				n = append(n, len(call.pairs))
			}
			if images, pairs := fmt.Sprint(sizes(f.seen())), fmt.Sprint(n); images != c.images || pairs != c.pairs {
				t.Errorf("batches of %s images and %s pairs: expected %s and %s", images, pairs, c.images, c.pairs)
			}
			checkIdle(t, s)
		})
	}
}

// TestBatchTime: a batch is no larger than what the measured rate allows.
func TestBatchTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.before = func(ctx context.Context, c *fakeCall) error {
			time.Sleep(time.Duration(len(c.images)) * time.Second)
			return nil
		}
		s := New(f, Options{MaxBatchTime: 5 * time.Second, Timeout: time.Hour})
		must(t, ask(s, t.Context(), "first", 1))
		must(t, ask(s, t.Context(), "second", 12))
		if got := fmt.Sprint(sizes(f.seen())); got != "[1 5 5 2]" {
			t.Errorf("batches of %s: expected [1 5 5 2]", got)
		}
		checkIdle(t, s)
	})
}

// TestComputedOnce: in one batch and while it runs, the same is computed once for all.
func TestComputedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := slow(newFake(), time.Second)
		s := New(f, Options{})
		var all sync.WaitGroup
		client := func(after time.Duration, name string) {
			all.Go(func() {
				time.Sleep(after)
				in := ScoreRequest{Client: name, Images: []engine.Image{picture("one"), picture("two"), picture("one")}, Texts: []string{"a", "b", "a"}}
				out, err := s.Score(t.Context(), in)
				if well(t, err); err != nil {
					return
				}
				if out.Scores[0][0] != fakeScore("clip", []byte("one"), "a") || out.Scores[0][0] != out.Scores[0][2] {
					t.Errorf("%s: scores %v", name, out.Scores[0])
				}
			})
		}
		must(t, ask(s, t.Context(), "warm-up", 1))
		go func() { well(t, ask(s, t.Context(), "busy", 1)) }() // until 2 s
		client(500*time.Millisecond, "waits")
		client(600*time.Millisecond, "waits too")
		client(1500*time.Millisecond, "comes while it runs")
		all.Wait()
		calls := f.seen()
		if len(calls) != 3 {
			t.Fatalf("%d batches: expected 3", len(calls))
		}
		c := calls[2]
		if len(c.images) != 2 || len(c.texts) != 2 || len(c.pairs) != 2 {
			t.Errorf("%d pictures, %d texts, %d pairs: expected 2 of each", len(c.images), len(c.texts), len(c.pairs))
		}
		if st := s.Stats(); st.Items != 11 || st.Units != 4 {
			t.Errorf("%d items by %d units: expected 11 by 4", st.Items, st.Units)
		}
		checkIdle(t, s)
	})
}

// TestRewardsApart: requests for other rewards are batches of their own, and only what is asked is computed.
func TestRewardsApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := slow(newFake(), time.Second)
		s := New(f, Options{})
		var all sync.WaitGroup
		for i, rewards := range [][]string{{"clip"}, {"clip", "hpsv2"}, {"hpsv2", "clip"}, {"hpsv2"}} {
			all.Go(func() {
				time.Sleep(time.Duration(i) * time.Millisecond)
				_, err := s.Score(t.Context(), ScoreRequest{Images: pictures("p", 1), Texts: []string{fmt.Sprint(i)}, Rewards: rewards})
				well(t, err)
			})
		}
		all.Wait()
		var got []string
		for _, c := range f.seen() {
			got = append(got, fmt.Sprintf("%s:%d", strings.Join(c.rewards, "+"), len(c.pairs)))
		}
		if fmt.Sprint(got) != "[clip:1 clip+hpsv2:2 hpsv2:1]" {
			t.Errorf("batches %v: expected [clip:1 clip+hpsv2:2 hpsv2:1]", got)
		}
		checkIdle(t, s)
	})
}

// TestLabels: a profile of the program tells what is computed.
func TestLabels(t *testing.T) {
	f := newFake()
	var labels string
	f.before = func(ctx context.Context, _ *fakeCall) error {
		model, _ := pprof.Label(ctx, "model")
		stage, _ := pprof.Label(ctx, "stage")
		labels = model + " " + stage
		return nil
	}
	s := New(f, Options{})
	for want, ask := range map[string]func(*Server, context.Context) error{
		"clip,hpsv2 pairs": score(ScoreRequest{Images: pictures("p", 1), Texts: []string{"a"}, Rewards: []string{"hpsv2", "clip"}}),
		"tiny images":      embed(EmbedRequest{Images: pictures("p", 1)}),
		"tiny texts":       embed(EmbedRequest{Texts: []string{"a"}}),
	} {
		if must(t, ask(s, t.Context())); labels != want {
			t.Errorf("labels %q: expected %q", labels, want)
		}
	}
	checkIdle(t, s)
}

// TestFailures: a batch that fails, fails the requests in it and no others.
func TestFailures(t *testing.T) {
	for name, c := range map[string]struct {
		fail   func(call *fakeCall) error
		kind   error
		text   string
		panics uint64
	}{
		"context": {func(*fakeCall) error { return context.Canceled }, ErrBackend, "context canceled", 0},
		"error":   {func(*fakeCall) error { return errors.New("tia2: the device is lost") }, ErrBackend, "the device is lost", 0},
		"invalid": {func(*fakeCall) error { return fmt.Errorf("it has no embeddings: %w", engine.ErrInvalid) }, ErrBadRequest, "no embeddings", 0},
		"panic":   {func(*fakeCall) error { panic("a bug") }, ErrBackend, "panicked", 1},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake()
			f.before = func(_ context.Context, call *fakeCall) error {
				if strings.HasPrefix(string(call.images[0].Data), "poison") {
					return c.fail(call)
				}
				return nil
			}
			var log strings.Builder
			s := New(f, Options{MaxBatchImages: 1, Logger: newLogger(&log)})
			_, err := s.Score(t.Context(), ScoreRequest{Images: []engine.Image{picture("poison"), picture("x"), picture("y")}, Texts: []string{"a"}})
			if !errors.Is(err, c.kind) || !strings.Contains(err.Error(), c.text) || errors.Is(err, context.Canceled) {
				t.Errorf("got %v: expected %v with %q", err, c.kind, c.text)
			}
			must(t, ask(s, t.Context(), "other", 2))
			if n := len(f.seen()); n != 3 {
				t.Errorf("%d batches: expected 3, none for what was left of the failed request", n)
			}
			if st := s.Stats(); st.Panics != c.panics || st.Dropped[DropFailed] != 3 {
				t.Errorf("%d panics, %d items failed: expected %d and 3", st.Panics, st.Dropped[DropFailed], c.panics)
			}
			if c.panics > 0 && !(strings.Contains(log.String(), "a bug") && strings.Contains(log.String(), "batch_test.go")) {
				t.Errorf("the log has no stack of the panic: %s", log.String())
			}
			checkIdle(t, s)
		})
	}
}

// TestWrongShape: a backend that returns too little is an error, not a crash.
func TestWrongShape(t *testing.T) {
	s := New(short{newFake()}, Options{})
	for _, ask := range []func(*Server, context.Context) error{
		score(ScoreRequest{Images: pictures("p", 2), Texts: []string{"a"}}),
		embed(EmbedRequest{Images: pictures("p", 2)}), embed(EmbedRequest{Texts: []string{"a", "b"}}),
	} {
		if err := ask(s, t.Context()); !errors.Is(err, ErrBackend) || !strings.Contains(err.Error(), "the backend returned") {
			t.Errorf("got %v", err)
		}
	}
	checkIdle(t, s)
}

// short is a backend that leaves out the last item.
type short struct{ *fake }

func (b short) Score(ctx context.Context, images []engine.Image, texts []string, of []engine.Pair, rewards []string) ([]engine.Reward, error) {
	return b.fake.Score(ctx, images, texts, of[:len(of)-1], rewards)
}

func (b short) EncodeImages(ctx context.Context, model string, images []engine.Image) (engine.Embeddings, error) {
	return b.fake.EncodeImages(ctx, model, images[1:])
}

func (b short) EncodeTexts(ctx context.Context, model string, texts []string) (engine.Embeddings, error) {
	return b.fake.EncodeTexts(ctx, model, texts[1:])
}

// TestMemory: a batch for which memory does not suffice is tried in two halves, and later ones are smaller.
func TestMemory(t *testing.T) {
	for name, c := range map[string]struct {
		most    int // pictures for which memory suffices
		batches string
		fails   bool
	}{
		"halves suffice":     {6, "[8 4 4 3 3 2]", false},
		"halves do not":      {3, "[8 4 4]", true},
		"one is too much":    {0, "[8 4 4]", true},
		"the whole suffices": {8, "[8 8]", false},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake()
			f.before = func(_ context.Context, call *fakeCall) error {
				if len(call.images) > c.most {
					return fmt.Errorf("tia2: %d images: %w", len(call.images), engine.ErrMemory)
				}
				return nil
			}
			s := New(f, Options{MaxBatchImages: 8})
			err := ask(s, t.Context(), "client", 16)
			if c.fails != errors.Is(err, ErrBackend) || !c.fails && err != nil {
				t.Errorf("got %v", err)
			}
			if got := fmt.Sprint(sizes(f.seen())); got != c.batches {
				t.Errorf("calls with %s pictures: expected %s", got, c.batches)
			}
			checkIdle(t, s)
		})
	}
}
