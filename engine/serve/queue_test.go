package serve

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tia2-engine/tia2-engine/engine"
)

func newLogger(w io.Writer) *slog.Logger { return slog.New(slog.NewTextHandler(w, nil)) }

// perImage makes each call of f take a millisecond for a picture, and a tenth for a text.
func perImage(f *fake) *fake {
	f.before = func(ctx context.Context, c *fakeCall) error {
		time.Sleep(time.Duration(len(c.images))*time.Millisecond + time.Duration(len(c.texts))*100*time.Microsecond)
		return ctx.Err()
	}
	return f
}

// TestSmallRequestIsNotStarved: one pair of a client does not wait for 10,000 of another.
func TestSmallRequestIsNotStarved(t *testing.T) {
	for _, rewards := range [][]string{{"clip"}, {"hpsv2"}} { // the same batches, and batches of its own
		synctest.Test(t, func(t *testing.T) {
			f := perImage(newFake())
			s := New(f, Options{MaxImages: 10000, Timeout: time.Hour})
			var all sync.WaitGroup
			all.Go(func() { well(t, ask(s, t.Context(), "greedy", 10000)) })
			time.Sleep(time.Second)
			began := time.Now()
			ctx, cancel := context.WithTimeout(t.Context(), time.Second) // though 9 s wait before it
			defer cancel()
			_, err := s.Score(ctx, ScoreRequest{Client: "small", Rewards: rewards, Images: pictures("small", 1), Texts: []string{"a text"}})
			must(t, err)
			if took := time.Since(began); took > 70*time.Millisecond { // the batch that runs, and its own
				t.Errorf("%v: one pair took %v beside 10 s of another client", rewards, took)
			}
			all.Wait()
			checkIdle(t, s)
		})
	}
}

// TestFairShare: clients with much to ask are served alike, however they cut it into requests and rewards.
func TestFairShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(perImage(newFake()), Options{Timeout: time.Hour})
		ctx, cancel := context.WithCancel(t.Context())
		var mu sync.Mutex
		served := map[string]int{}
		var all sync.WaitGroup
		client := func(name string, requests, size int, rewards ...string) {
			for k := range requests {
				all.Go(func() {
					for n := 0; ctx.Err() == nil; n++ {
						imgs := pictures(fmt.Sprint(name, k, n), size)
						if _, err := s.Score(ctx, ScoreRequest{Client: name, Rewards: rewards, Images: imgs, Texts: []string{"a"}}); err == nil {
							mu.Lock()
							served[name] += size
							mu.Unlock()
						}
					}
				})
			}
		}
		client("one large request", 1, 200, "clip")
		client("other rewards", 2, 100, "hpsv2")
		client("many small requests", 64, 3, "clip")
		time.Sleep(20 * time.Second)
		cancel()
		all.Wait()
		var sum int
		for _, n := range served {
			sum += n
		}
		for name, n := range served {
			if share := float64(n) / float64(sum); share < 0.25 || share > 0.42 {
				t.Errorf("%s had %.2f of the whole: expected about a third (%v)", name, share, served)
			}
		}
		checkIdle(t, s)
	})
}

// TestLanesShareTheDevice: embeddings and pairs get the same time.
func TestLanesShareTheDevice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		spent := map[kind]time.Duration{}
		f.before = func(ctx context.Context, c *fakeCall) error {
			d := time.Duration(len(c.images))*time.Millisecond + time.Duration(len(c.texts))*100*time.Microsecond
			spent[c.kind] += d
			time.Sleep(d)
			return ctx.Err()
		}
		s := New(f, Options{Timeout: time.Hour, MaxBatchTokens: 100})
		ctx, cancel := context.WithCancel(t.Context())
		var all sync.WaitGroup
		for k, request := range []func(n int) error{
			func(n int) error { return ask(s, ctx, fmt.Sprint("pairs ", n), 100) },
			func(n int) error { return embed(EmbedRequest{Images: pictures(fmt.Sprint("images ", n), 100)})(s, ctx) },
			func(n int) error { return embed(EmbedRequest{Texts: words(n, 1000)})(s, ctx) },
		} {
			for i := range 2 {
				all.Go(func() {
					for n := i; ctx.Err() == nil; n += 2 {
						if err := request(n); err != nil && ctx.Err() == nil {
							t.Errorf("%v: %v", kind(k), err)
						}
					}
				})
			}
		}
		time.Sleep(10 * time.Second)
		cancel()
		all.Wait()
		checkIdle(t, s)
		for k, d := range spent {
			if d < 2500*time.Millisecond || d > 4200*time.Millisecond {
				t.Errorf("%s had %v of 10 s: expected about a third (%v)", k, d, spent)
			}
		}
	})
}

// TestLaneComesLate: a lane that was idle has no claim on the time that another used, though that has nothing waiting
// just then.
func TestLaneComesLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(perImage(newFake()), Options{Timeout: time.Hour})
		for n := range 300 { // 10 s of pairs, one request after another
			must(t, ask(s, t.Context(), fmt.Sprint("pairs ", n), 32))
		}
		ctx, cancel := context.WithCancel(t.Context())
		var all sync.WaitGroup
		all.Go(func() { well(t, ask(s, t.Context(), "pairs that run", 32)) })
		synctest.Wait()
		all.Go(func() { _ = embed(EmbedRequest{Client: "flood", Images: pictures("flood", 4000)})(s, ctx) })
		synctest.Wait()
		began := time.Now()
		must(t, ask(s, t.Context(), "pairs again", 32))
		if took := time.Since(began); took > 150*time.Millisecond {
			t.Errorf("a batch of pairs took %v beside embeddings that wait for 4 s", took)
		}
		cancel()
		all.Wait()
		checkIdle(t, s)
	})
}

// TestClientComesLate: a client that comes late has no claim on what another was served before.
func TestClientComesLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(perImage(newFake()), Options{Timeout: time.Hour, MaxImages: 20000})
		ctx, cancel := context.WithCancel(t.Context())
		var all sync.WaitGroup
		all.Go(func() { well(t, ask(s, t.Context(), "early", 10200)) })
		time.Sleep(10 * time.Second)
		all.Go(func() { _ = ask(s, ctx, "late", 10000) })
		began := time.Now()
		time.Sleep(10 * time.Millisecond)
		for s.Stats().Requests == 2 { // until the first is done
			time.Sleep(time.Millisecond)
		}
		if took := time.Since(began); took > time.Second {
			t.Errorf("what was left of the first client's request took %v beside a client that came late", took)
		}
		cancel()
		all.Wait()
		checkIdle(t, s)
	})
}

// TestEndedJustNow: a request whose context has ended, but that was not told yet, is not put into a batch.
func TestEndedJustNow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(slow(newFake(), time.Second), Options{})
		var all sync.WaitGroup
		all.Go(func() { well(t, ask(s, t.Context(), "busy", 1)) })
		synctest.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		all.Go(func() { _ = ask(s, ctx, "gone", 1) })
		synctest.Wait()
		s.mu.Lock()
		cancel()
		b := s.worker.newBatch()
		if s.worker.lanes[pairs].take(b); b.target != nil {
			t.Errorf("a batch of %d units", len(b.units))
		}
		b.cancel()
		s.mu.Unlock()
		all.Wait()
		checkIdle(t, s)
	})
}

// TestCanceledTwinsAreForgotten: a pair that is asked for and given up again and again while it waits holds no memory.
func TestCanceledTwinsAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(slow(newFake(), time.Second), Options{})
		var all sync.WaitGroup
		all.Go(func() { well(t, ask(s, t.Context(), "busy", 1)) })
		synctest.Wait()
		all.Go(func() { well(t, ask(s, t.Context(), "twin", 1)) })
		synctest.Wait()
		for range 1000 {
			ctx, cancel := context.WithCancel(t.Context())
			all.Go(func() { _ = ask(s, ctx, "twin", 1) })
			synctest.Wait()
			cancel()
			synctest.Wait()
		}
		s.mu.Lock()
		for key, u := range s.worker.units {
			if len(u.subs) > 20 {
				t.Errorf("%d subscriptions of %s", len(u.subs), key.image)
			}
		}
		for _, c := range s.worker.lanes[pairs].clients {
			for _, q := range c.queues {
				if len(q.groups) > 10 {
					t.Errorf("%d groups of a client with one that waits", len(q.groups))
				}
			}
		}
		s.mu.Unlock()
		all.Wait()
		checkIdle(t, s)
	})
}

// words returns m distinct texts.
func words(n, m int) []string {
	out := make([]string, m)
	for i := range out {
		out[i] = fmt.Sprint("word ", n, " ", i)
	}
	return out
}

// TestEndedRequestsAreDropped: nothing is computed for requests that ended while they waited.
func TestEndedRequestsAreDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := slow(newFake(), time.Second)
		s := New(f, Options{})
		var all sync.WaitGroup
		all.Go(func() { well(t, ask(s, t.Context(), "busy", 1)) })
		synctest.Wait()
		gone, cancel := context.WithCancel(t.Context())
		all.Go(func() {
			if err := ask(s, gone, "gone", 5); !errors.Is(err, context.Canceled) {
				t.Errorf("canceled: got %v", err)
			}
		})
		late, cancelLate := context.WithTimeout(t.Context(), 900*time.Millisecond)
		defer cancelLate()
		all.Go(func() {
			if err := ask(s, late, "late", 3); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("deadline: got %v", err)
			}
		})
		all.Go(func() { well(t, ask(s, t.Context(), "stays", 2)) })
		synctest.Wait()
		if st := s.Stats(); st.Waiting != 10 {
			t.Errorf("%d items wait: expected 10", st.Waiting)
		}
		cancel()
		synctest.Wait()
		if st := s.Stats(); st.Waiting != 5 || st.Dropped[DropCanceled] != 5 {
			t.Errorf("%d items wait, %d were canceled: expected 5 and 5", st.Waiting, st.Dropped[DropCanceled])
		}
		all.Wait()
		if got := fmt.Sprint(sizes(f.seen())); got != "[1 2]" {
			t.Errorf("batches of %s: expected [1 2]", got)
		}
		if st := s.Stats(); st.Dropped[DropTimeout] != 3 {
			t.Errorf("%d items timed out: expected 3", st.Dropped[DropTimeout])
		}
		checkIdle(t, s)
	})
}

// TestEndedTwin: a pair that two requests wait for is computed though the first of them ends.
func TestEndedTwin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := slow(newFake(), time.Second)
		s := New(f, Options{})
		var all sync.WaitGroup
		all.Go(func() { well(t, ask(s, t.Context(), "busy", 1)) })
		synctest.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		twin := ScoreRequest{Images: pictures("twin", 2), Texts: []string{"a"}}
		all.Go(func() {
			if err := score(twin)(s, ctx); !errors.Is(err, context.Canceled) {
				t.Errorf("got %v", err)
			}
		})
		synctest.Wait()
		all.Go(func() { well(t, score(twin)(s, t.Context())) })
		synctest.Wait()
		cancel()
		all.Wait()
		checkIdle(t, s)
	})
}

// TestRunningBatchIsStopped: the context of a batch ends when nobody wants it any more, not before.
func TestRunningBatchIsStopped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := slow(newFake(), time.Second)
		s := New(f, Options{LatencyBudget: 10 * time.Millisecond})
		one, cancelOne := context.WithCancel(t.Context())
		two, cancelTwo := context.WithCancel(t.Context())
		_, arrived := s.Reading(t.Context())
		began := time.Now()
		var all sync.WaitGroup
		for i, ctx := range []context.Context{one, two} {
			all.Go(func() {
				if err := ask(s, ctx, fmt.Sprint("client ", i), 1); !errors.Is(err, context.Canceled) {
					t.Errorf("got %v", err)
				}
			})
		}
		synctest.Wait()
		arrived()
		time.Sleep(100 * time.Millisecond)
		cancelOne()
		synctest.Wait()
		if st := s.Stats(); st.Running != 1 {
			t.Errorf("%d batches run after one of two requests has ended: expected 1", st.Running)
		}
		// Another that wants the same joins the batch, and is not harmed by the end of the second.
		all.Go(func() { well(t, ask(s, t.Context(), "client 1", 1)) })
		synctest.Wait()
		cancelTwo()
		all.Wait()
		if took := time.Since(began); took != time.Second || len(f.seen()) != 1 {
			t.Errorf("%d batches took %v: expected the first to be ended after 1 s", len(f.seen()), took)
		}

		ctx, cancel := context.WithCancel(t.Context())
		all.Go(func() { ask(s, ctx, "alone", 1) })
		synctest.Wait()
		began = time.Now()
		cancel()
		synctest.Wait()
		if st := s.Stats(); st.Running != 0 || time.Since(began) > 0 {
			t.Errorf("a batch that nobody wants still runs")
		}
		checkIdle(t, s)
	})
}

// TestStoppedBatchIsNotJoined: who asks for what a batch computes that nobody wants any more, has it computed anew.
func TestStoppedBatchIsNotJoined(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.before = func(ctx context.Context, _ *fakeCall) error {
			time.Sleep(time.Second) // as a device that ends its batch before it looks at the context
			return ctx.Err()
		}
		s := New(f, Options{})
		ctx, cancel := context.WithCancel(t.Context())
		var all sync.WaitGroup
		all.Go(func() { _ = ask(s, ctx, "client", 2) })
		synctest.Wait()
		cancel()
		synctest.Wait()
		must(t, ask(s, t.Context(), "client", 2))
		all.Wait()
		if got := fmt.Sprint(sizes(f.seen())); got != "[2 2]" {
			t.Errorf("batches of %s: expected [2 2]", got)
		}
		checkIdle(t, s)
	})
}

func TestOverload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := slow(newFake(), time.Second)
		s := New(f, Options{QueueItems: 10, QueueBytes: 200, MaxBatchImages: 2})
		var all sync.WaitGroup
		all.Go(func() { well(t, ask(s, t.Context(), "first", 2)) }) // teaches the pace: 2 items a second
		time.Sleep(1500 * time.Millisecond)
		all.Wait()
		all.Go(func() { well(t, ask(s, t.Context(), "busy", 2)) })
		synctest.Wait()
		all.Go(func() { well(t, ask(s, t.Context(), "waits", 8)) })
		synctest.Wait()

		refused := func(err error, reason string, least, most time.Duration) {
			t.Helper()
			after, ok := RetryAfter(err)
			if !errors.Is(err, ErrOverloaded) || !ok || after < least || after > most {
				t.Errorf("%s: got %v, retry after %v: expected ErrOverloaded, after %v to %v", reason, err, after, least, most)
			}
			if s.Stats().Dropped[reason] == 0 {
				t.Errorf("%s: not counted: %v", reason, s.Stats().Dropped)
			}
		}
		refused(ask(s, t.Context(), "more", 3), DropQueue, 300*time.Millisecond, 2*time.Second)
		heavy := ScoreRequest{Images: []engine.Image{{Data: make([]byte, 190)}}, Texts: []string{"a"}}
		refused(score(heavy)(s, t.Context()), DropBytes, 100*time.Millisecond, 5*time.Second)
		soon, cancel := context.WithTimeout(t.Context(), 1200*time.Millisecond)
		defer cancel()
		refused(ask(s, soon, "hurried", 1), DropDeadline, 100*time.Millisecond, 2*time.Second) // 1 s is left of the batch, 1 s its own and others' share
		in4s, cancel := context.WithTimeout(t.Context(), 4*time.Second)
		defer cancel()
		all.Go(func() { well(t, ask(s, in4s, "fits", 1)) })
		all.Wait()
		soon, cancel = context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if err := ask(s, soon, "idle", 1); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("an idle server tries, whatever it expects: got %v", err)
		}
		if n := s.Stats().Dropped[DropDeadline]; n != 1 {
			t.Errorf("%d items were refused for their deadline: expected 1", n)
		}
		checkIdle(t, s)
	})
}

// TestDeadlineBesideOtherLanes: what other lanes get meanwhile is part of the estimate.
func TestDeadlineBesideOtherLanes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(perImage(newFake()), Options{Timeout: time.Hour})
		must(t, ask(s, t.Context(), "pace", 32))
		must(t, embed(EmbedRequest{Images: pictures("pace", 32)})(s, t.Context()))
		var all sync.WaitGroup
		all.Go(func() { well(t, embed(EmbedRequest{Client: "flood", Images: pictures("flood", 4000)})(s, t.Context())) })
		synctest.Wait()
		for deadline, refused := range map[time.Duration]bool{1500 * time.Millisecond: true, 2500 * time.Millisecond: false} { // 1 s of pairs, as much of pictures
			ctx, cancel := context.WithTimeout(t.Context(), deadline)
			if err := ask(s, ctx, fmt.Sprint("client ", deadline), 1000); refused != errors.Is(err, ErrOverloaded) || !refused && err != nil {
				t.Errorf("within %v: got %v", deadline, err)
			}
			cancel()
		}
		all.Wait()
		checkIdle(t, s)
	})
}

// TestRetryAfter: errors without a time have none.
func TestRetryAfter(t *testing.T) {
	for _, c := range []struct {
		err  error
		want time.Duration
	}{
		{nil, 0}, {ofKind(ErrBadRequest, "x"), 0}, {context.Canceled, 0},
		{retryLater(ErrOverloaded, 3*time.Second, "x"), 3 * time.Second},
		{fmt.Errorf("more: %w", retryLater(ErrDraining, time.Hour, "x")), time.Minute},
		{retryLater(ErrOverloaded, 0, "x"), 100 * time.Millisecond},
	} {
		if got, ok := RetryAfter(c.err); got != c.want || ok != (c.want > 0) {
			t.Errorf("%v: got %v, %v: expected %v", c.err, got, ok, c.want)
		}
	}
	if err := ofKind(ErrBackend, "%w", engine.ErrMemory); !errors.Is(err, ErrBackend) || !errors.Is(err, engine.ErrMemory) || strings.Contains(err.Error(), "batch") {
		t.Errorf("got %v", err)
	}
}
