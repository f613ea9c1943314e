package serve

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tia2-engine/tia2-engine/engine"
)

// TestReady: a probe where nothing else shows that the worker answers, red while it does not.
func TestReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		var hang atomic.Pointer[chan struct{}]
		f.before = func(ctx context.Context, c *fakeCall) error {
			if wait := hang.Load(); wait != nil {
				<-*wait // as a device that does not answer: it hears of no context
			}
			time.Sleep(10 * time.Millisecond)
			return nil
		}
		s := New(f, Options{ProbeTimeout: time.Second})
		calls := func() int { return len(f.all()) }
		must(t, s.Ready(t.Context()))
		if calls() != 1 {
			t.Errorf("%d calls: expected a probe", calls())
		}
		if c := f.all()[0]; fmt.Sprint(c.rewards) != "[clip pickscore hpsv2]" || len(c.pairs) != 1 {
			t.Errorf("the probe asked for %v of %d pairs: expected all rewards of one", c.rewards, len(c.pairs))
		}
		for range 20 { // traffic that is answered needs no probe
			time.Sleep(time.Second)
			must(t, ask(s, t.Context(), "client", 1))
			must(t, s.Ready(t.Context()))
		}
		if calls() != 21 {
			t.Errorf("%d calls: expected no probe beside 20 requests", calls()-1)
		}

		wait := make(chan struct{})
		hang.Store(&wait)
		var all sync.WaitGroup
		all.Go(func() { well(t, ask(s, t.Context(), "stuck", 1)) })
		time.Sleep(4 * time.Second)
		must(t, s.Ready(t.Context())) // the last answer is still fresh
		time.Sleep(2 * time.Second)
		began := time.Now()
		if err := s.Ready(t.Context()); !errors.Is(err, ErrNotReady) {
			t.Errorf("a worker that hangs: got %v", err)
		}
		if took := time.Since(began); took < time.Second || took > 1100*time.Millisecond {
			t.Errorf("it took %v to find that: expected the bound", took)
		}
		began = time.Now()
		for range 3 {
			if err := s.Ready(t.Context()); !errors.Is(err, ErrNotReady) || time.Since(began) > 0 {
				t.Errorf("the second time: got %v after %v: expected the same at once", err, time.Since(began))
			}
		}
		hurried, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if err := s.Ready(hurried); !errors.Is(err, ErrNotReady) {
			t.Errorf("got %v", err)
		}
		synctest.Wait()
		time.Sleep(2 * time.Second)
		s.mu.Lock()
		if len(s.worker.urgent) > 0 {
			t.Errorf("%d probes still wait after their time", len(s.worker.urgent))
		}
		s.mu.Unlock()
		hang.Store(nil)
		close(wait)
		all.Wait() // the stuck request is answered
		must(t, s.Ready(t.Context()))
		time.Sleep(time.Minute)
		must(t, s.Ready(t.Context()))
		checkIdle(t, s)
	})
}

// TestFirstProbe: the first probe may take as long as reading the weights does.
func TestFirstProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(slow(newFake(), time.Minute), Options{ProbeTimeout: time.Second})
		must(t, s.Ready(t.Context()))
		checkIdle(t, s)
	})
}

// TestReadyFails: an error, a panic, a picture that cannot be read and a score that is no number are red; the next answer
// is green.
func TestReadyFails(t *testing.T) {
	for name, c := range map[string]struct {
		before func() error
		text   string
	}{
		"error": {func() error { return errors.New("tia2: the device is lost") }, "the device is lost"},
		"panic": {func() error { panic("a bug") }, "panicked"},
		"image": {func() error { return engine.ItemErrors{{Index: 0, Err: errors.New("no decoder")}} }, "no decoder"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake()
				f.before = func(context.Context, *fakeCall) error { return c.before() }
				if name == "image" {
					f.before = nil
				}
				var b Backend = f
				if name == "image" {
					b = blind{f}
				}
				s := New(b, Options{})
				if err := s.Ready(t.Context()); !errors.Is(err, ErrNotReady) || !strings.Contains(err.Error(), c.text) {
					t.Errorf("got %v: expected ErrNotReady with %q", err, c.text)
				}
				if name != "image" {
					f.before = nil
					must(t, ask(s, t.Context(), "client", 1))
					must(t, s.Ready(t.Context()))
				}
				checkIdle(t, s)
			})
		})
	}
}

// blind is a backend that can read no picture.
type blind struct{ *fake }

func (b blind) Score(ctx context.Context, images []engine.Image, texts []string, of []engine.Pair, rewards []string) ([]engine.Reward, error) {
	out, _ := b.fake.Score(ctx, images, texts, of, rewards)
	return out, engine.ItemErrors{{Index: 0, Err: errors.New("no decoder")}}
}

// TestProbePassesTheQueue: the probe does not wait for what waits.
func TestProbePassesTheQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := slow(newFake(), 6*time.Second)
		s := New(f, Options{MaxBatchImages: 1, Timeout: time.Hour})
		var all sync.WaitGroup
		all.Go(func() { well(t, ask(s, t.Context(), "client", 10)) })
		time.Sleep(5 * time.Second)
		must(t, s.Ready(t.Context())) // 1 s of the running batch, 6 s of its own
		if calls := f.all(); len(calls) < 2 || !calls[1].probe() {
			t.Errorf("the second of %d batches is not the probe", len(calls))
		}
		all.Wait()
		checkIdle(t, s)
	})
}

// load asks a server from several clients at once until stop is closed, and returns how many were answered and refused.
func loadOn(t *testing.T, s *Server, stop <-chan struct{}) (answered, refused *atomic.Int64, wait func()) {
	answered, refused = new(atomic.Int64), new(atomic.Int64)
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				switch err := ask(s, context.Background(), fmt.Sprintf("client %d %d", i, n), 1+n%5); {
				case err == nil:
					answered.Add(1)
				case errors.Is(err, ErrDraining):
					refused.Add(1)
					time.Sleep(time.Millisecond)
				default:
					t.Errorf("client %d: %v", i, err)
				}
			}
		})
	}
	return answered, refused, all.Wait
}

// TestReloadUnderLoad: backends are swapped while requests run, and each is answered.
func TestReloadUnderLoad(t *testing.T) {
	s := New(slow(newFake(), time.Millisecond), Options{MaxBatchImages: 4})
	stop := make(chan struct{})
	answered, refused, wait := loadOn(t, s, stop)
	olds := []*fake{s.worker.backend.(*fake)}
	for range 10 {
		time.Sleep(5 * time.Millisecond)
		next := slow(newFake(), time.Millisecond)
		must(t, s.Reload(t.Context(), next))
		olds = append(olds, next)
	}
	close(stop)
	wait()
	if answered.Load() == 0 || refused.Load() != 0 {
		t.Errorf("%d requests were answered, %d refused", answered.Load(), refused.Load())
	}
	if st := s.Stats(); st.Reloads != 10 || st.Answered != uint64(answered.Load()) || st.Accepted != st.Answered {
		t.Errorf("stats %+v: expected 10 reloads and %d answers", st, answered.Load())
	}
	checkIdle(t, s)
	for i, f := range olds {
		if !f.isClosed() {
			t.Errorf("backend %d is not closed", i)
		}
	}
}

// TestReloadOfBadModels: what does not answer a probe is not taken, and is closed.
func TestReloadOfBadModels(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		s := New(f, Options{})
		failing, hanging := newFake(), slow(newFake(), time.Hour)
		failing.before = func(context.Context, *fakeCall) error { return errors.New("no such kernel") }
		if err := s.Reload(t.Context(), failing); !errors.Is(err, ErrBackend) || !strings.Contains(err.Error(), "no such kernel") {
			t.Errorf("got %v", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		var other sync.WaitGroup
		other.Go(func() {
			time.Sleep(time.Second)
			third := newFake()
			if err := s.Reload(t.Context(), third); !errors.Is(err, ErrOverloaded) || !third.isClosed() {
				t.Errorf("a reload during another: got %v", err)
			}
		})
		if err := s.Reload(ctx, hanging); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		other.Wait()
		synctest.Wait()
		if !failing.isClosed() || !hanging.isClosed() || f.isClosed() {
			t.Error("expected the refused backends to be closed, and the old one not")
		}
		must(t, ask(s, t.Context(), "client", 1))
		if len(f.seen()) != 1 {
			t.Error("the old backend was not asked")
		}
		checkIdle(t, s)
	})
}

// TestReloadChangesRewards: requests and lists are of the new models.
func TestReloadChangesRewards(t *testing.T) {
	s := New(newFake(), Options{})
	next := newFake()
	next.rewards = []string{"imagereward"}
	next.models[0].Name = "new"
	must(t, s.Reload(t.Context(), next))
	if fmt.Sprint(s.Rewards()) != "[imagereward]" || s.Models()[0].Name != "new" {
		t.Errorf("rewards %v, model %s", s.Rewards(), s.Models()[0].Name)
	}
	if err := ask(s, t.Context(), "client", 1); !errors.Is(err, ErrUnknownReward) {
		t.Errorf("got %v", err)
	}
	checkIdle(t, s)
}

// TestDrainUnderLoad: what was accepted is answered, the rest is refused.
func TestDrainUnderLoad(t *testing.T) {
	s := New(slow(newFake(), time.Millisecond), Options{MaxBatchImages: 4})
	stop := make(chan struct{})
	answered, refused, wait := loadOn(t, s, stop)
	time.Sleep(20 * time.Millisecond)
	must(t, s.Drain(t.Context()))
	before := s.Stats()
	if before.Requests != 0 || before.Waiting != 0 || !before.Draining {
		t.Errorf("after the drain: %+v", before)
	}
	time.Sleep(10 * time.Millisecond)
	close(stop)
	wait()
	if st := s.Stats(); st.Accepted != st.Answered || st.Answered != uint64(answered.Load()) || st.Answered != before.Answered {
		t.Errorf("%d accepted, %d answered, clients counted %d", st.Accepted, st.Answered, answered.Load())
	}
	if refused.Load() == 0 {
		t.Error("nothing was refused")
	}
	if err := s.Ready(t.Context()); !errors.Is(err, ErrDraining) {
		t.Errorf("ready: got %v", err)
	}
	if err := ask(s, t.Context(), "late", 1); !errors.Is(err, ErrDraining) {
		t.Errorf("got %v", err)
	} else if _, ok := RetryAfter(err); !ok {
		t.Error("no time to try again")
	}
	must(t, s.Drain(t.Context()))
	if err := s.Reload(t.Context(), newFake()); !errors.Is(err, ErrDraining) {
		t.Errorf("reload: got %v", err)
	}
	checkIdle(t, s)
	must(t, s.Close())
}

// TestDrainDoesNotWait: while the server ends, no batch waits for company.
func TestDrainDoesNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(newFake(), Options{LatencyBudget: time.Minute})
		_, read := s.Reading(t.Context())
		began := time.Now()
		var all sync.WaitGroup
		all.Go(func() { well(t, ask(s, t.Context(), "client", 1)) })
		synctest.Wait()
		must(t, s.Drain(t.Context()))
		all.Wait()
		if took := time.Since(began); took > 0 {
			t.Errorf("it took %v", took)
		}
		read()
		checkIdle(t, s)
	})
}

// TestDrainInVain: a drain ends with its context, and Close fails what is left.
func TestDrainInVain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := slow(newFake(), time.Hour)
		s := New(f, Options{MaxBatchImages: 1, Timeout: -1})
		var all sync.WaitGroup
		all.Go(func() {
			if err := ask(s, t.Context(), "client", 100); !errors.Is(err, ErrDraining) {
				t.Errorf("got %v", err)
			}
		})
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := s.Drain(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		checkIdleAfterClose := func() {
			must(t, s.Close())
			all.Wait()
			if !f.isClosed() || s.Stats().Requests != 0 {
				t.Errorf("closed %v, stats %+v", f.isClosed(), s.Stats())
			}
		}
		checkIdleAfterClose()
	})
}

// recorder is an Observer that remembers.
type recorder struct {
	mu       sync.Mutex
	queued   []int
	batches  []BatchStats
	requests []string
	stages   []string
}

func (r *recorder) Queued(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.queued = append(r.queued, n)
}

func (r *recorder) BatchDone(b BatchStats) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.batches = append(r.batches, b)
}

func (r *recorder) RequestDone(kind string, err error, items int, waited, computed time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.requests = append(r.requests, fmt.Sprintf("%s %v %d %v %v", kind, err, items, waited, computed))
}

func (r *recorder) Stage(_ context.Context, name string, _ time.Time, took time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stages = append(r.stages, fmt.Sprint(name, " ", took))
}

func TestObserver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rec := &recorder{}
		s := New(slow(newFake(), time.Second), Options{Observer: rec, MaxBatchTime: time.Hour})
		go ask(s, t.Context(), "busy", 1)
		synctest.Wait()
		_, err := s.Score(t.Context(), ScoreRequest{Images: pictures("p", 2), Texts: []string{"a text of some words", "b"}, All: true, Rewards: []string{"hpsv2", "clip"}})
		must(t, err)
		s.Score(t.Context(), ScoreRequest{Rewards: []string{"x"}})
		must(t, embed(EmbedRequest{Texts: []string{"a", "a"}})(s, t.Context()))
		synctest.Wait()
		checkIdle(t, s)
		want := BatchStats{Kind: "pairs", Target: "clip,hpsv2", Images: 2, Texts: 2, Tokens: 7 + 2, Units: 4, Items: 4, Requests: 1, Waited: time.Second, Computed: time.Second}
		if len(rec.batches) != 3 || rec.batches[1] != want {
			t.Errorf("batches %+v: expected the second to be %+v", rec.batches, want)
		}
		if b := rec.batches[2]; b.Kind != "texts" || b.Target != "tiny" || b.Units != 1 || b.Items != 2 {
			t.Errorf("batch of texts: %+v", b)
		}
		wantRequests := `[score <nil> 1 0s 1s score <nil> 4 1s 1s score no reward "x": expected some of clip, pickscore, hpsv2 0 0s 0s embed <nil> 2 0s 1s]`
		if got := fmt.Sprint(rec.requests); got != wantRequests {
			t.Errorf("requests %s\nexpected %s", got, wantRequests)
		}
		if got := fmt.Sprint(rec.stages); got != "[compute 1s queue 1s compute 1s compute 1s]" {
			t.Errorf("stages %s", got)
		}
		if last := rec.queued[len(rec.queued)-1]; last != 0 || maxOf(rec.queued) != 4 {
			t.Errorf("queue lengths %v: expected 4 and in the end 0", rec.queued)
		}
	})
}

func maxOf(n []int) (most int) {
	for _, v := range n {
		most = max(most, v)
	}
	return most
}

// TestTwoBatchesAtOnce: on a device that is not the CPU a full batch is computed beside another, one that is not full
// waits.
func TestTwoBatchesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := slow(newFake(), time.Second)
		f.models[0].Backend = "cuda"
		s := New(f, Options{MaxBatchImages: 4})
		var all sync.WaitGroup
		all.Go(func() { well(t, ask(s, t.Context(), "a", 1)) })
		synctest.Wait()
		all.Go(func() { well(t, ask(s, t.Context(), "b", 3)) })
		synctest.Wait()
		if n := s.Stats().Running; n != 1 {
			t.Errorf("%d batches run: expected that 3 pictures wait", n)
		}
		all.Go(func() { well(t, ask(s, t.Context(), "c", 3)) })
		synctest.Wait()
		if n := s.Stats().Running; n != 2 {
			t.Errorf("%d batches run: expected a full one beside the first", n)
		}
		all.Wait()
		checkIdle(t, s)
	})
}

// TestStress: many clients with requests of all kinds, of which some end early and some fail; whoever is answered is
// answered right, and nothing is left behind.
func TestStress(t *testing.T) {
	f := newFake()
	f.before = func(ctx context.Context, c *fakeCall) error {
		switch n := rand.IntN(50); {
		case n == 0 && !c.probe():
			return errors.New("at random")
		case n == 1 && !c.probe():
			panic("at random")
		case n < 5:
			return fmt.Errorf("at random: %w", engine.ErrMemory)
		case n < 20:
			time.Sleep(time.Duration(n) * 20 * time.Microsecond)
		}
		return ctx.Err()
	}
	f.models[0].Backend = "cuda" // two batches at once
	s := New(f, Options{MaxBatchImages: 5, MaxBatchPairs: 12, MaxBatchTokens: 60, QueueItems: 300, LatencyBudget: 100 * time.Microsecond})
	var all sync.WaitGroup
	var answered atomic.Int64
	for client := range 24 {
		all.Go(func() {
			rng := rand.New(rand.NewPCG(1, uint64(client)))
			for range 60 {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rng.IntN(20000))*time.Microsecond+time.Millisecond)
				if rng.IntN(4) == 0 {
					var done func()
					ctx, done = s.Reading(ctx)
					defer done()
				}
				err := randomRequest(s, ctx, rng, fmt.Sprint("client ", client%6))
				cancel()
				switch {
				case err == nil:
					answered.Add(1)
				case errors.Is(err, ErrBackend), errors.Is(err, ErrOverloaded), errors.Is(err, context.DeadlineExceeded):
				default:
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if answered.Load() < 100 {
		t.Errorf("%d of 1440 requests were answered: %+v", answered.Load(), s.Stats())
	}
	checkIdle(t, s)
}

// randomRequest asks for something and checks the answer. Pictures and texts are few, so that requests share them.
func randomRequest(s *Server, ctx context.Context, rng *rand.Rand, client string) error {
	var imgs []engine.Image
	var txts []string
	for range 1 + rng.IntN(6) {
		imgs = append(imgs, picture("p %d", rng.IntN(12)))
	}
	for range 1 + rng.IntN(6) {
		txts = append(txts, strings.Repeat("word ", 1+rng.IntN(12)))
	}
	if rng.IntN(3) == 0 {
		out, err := s.Embed(ctx, EmbedRequest{Client: client, Images: imgs, Texts: txts})
		if err != nil {
			return err
		}
		for i, img := range imgs {
			if out.Images.Row(i)[0] != fakeScore("tiny", img.Data, "") {
				return fmt.Errorf("wrong embedding of picture %d", i)
			}
		}
		for i, text := range txts {
			if out.Texts.Row(i)[0] != fakeScore("tiny", nil, text) {
				return fmt.Errorf("wrong embedding of text %d", i)
			}
		}
		return nil
	}
	rewards := [][]string{nil, {"clip"}, {"hpsv2", "clip"}}[rng.IntN(3)]
	out, err := s.Score(ctx, ScoreRequest{Client: client, Rewards: rewards, Images: imgs, Texts: txts, All: true})
	if err != nil {
		return err
	}
	for r, reward := range out.Rewards {
		for i, p := range out.Pairs {
			if out.Scores[r][i] != fakeScore(reward, imgs[p.Image].Data, txts[p.Text]) {
				return fmt.Errorf("wrong %s of pair %v", reward, p)
			}
		}
	}
	return nil
}
