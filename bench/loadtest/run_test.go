package loadtest

import (
	"context"
	"errors"
	"io"
	"math"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// quick are options of a short run.
func quick(target string) Options {
	return Options{Target: target, Duration: 400 * time.Millisecond, Warmup: 100 * time.Millisecond, Timeout: 5 * time.Second, Arrivals: Constant}
}

func run(t *testing.T, w *Workload, opt Options) *Report {
	t.Helper()
	report, err := Run(t.Context(), w, opt)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

func TestClosedLoop(t *testing.T) {
	f := &fake{delay: 20 * time.Millisecond}
	opt := quick(f.start(t))
	opt.Concurrency, opt.Items, opt.Warmup = []int{1, 4}, 3, -1
	report := run(t, work(t, 7, 2), opt)
	for i, n := range opt.Concurrency {
		s := report.Steps[i]
		// Of 400 ms, each of n clients gets at most one answer in 20 ms. A busy machine answers fewer.
		if most := n * 21; s.Answered > most || s.Answered < most/3 || s.Sent != s.Answered {
			t.Errorf("%d at a time: %d sent, %d answered, want at most %d", n, s.Sent, s.Answered, most)
		}
		if s.Latency.P50 < 20 || s.Latency.P50 > 60 || s.Latency.Max < s.Latency.P99 || s.Latency.P99 < s.Latency.P50 {
			t.Errorf("%d at a time: latencies %+v, want from 20 ms", n, s.Latency)
		}
		if want := float64(s.Answered) / 0.4; math.Abs(s.AnswersPS-want) > 0.01*want || math.Abs(s.ItemsPS-3*want) > 0.03*want {
			t.Errorf("%d at a time: %g answers and %g pictures a second, want %g and %g", n, s.AnswersPS, s.ItemsPS, want, 3*want)
		}
	}
	if most := f.most.Load(); most != 4 {
		t.Errorf("%d requests at a time, want 4", most)
	}
}

func TestOpenLoop(t *testing.T) {
	f := &fake{delay: 50 * time.Millisecond}
	opt := quick(f.start(t))
	opt.Rates, opt.SLO = []float64{100}, 20*time.Millisecond
	s := run(t, work(t, 7, 2), opt).Steps[0]
	if s.Sent != 40 || s.Answered != 40 { // due at 0.1, 0.11, ... 0.49 s
		t.Errorf("%d sent, %d answered, want 40: those due after the warm-up", s.Sent, s.Answered)
	}
	if s.GoodShare != 0 || s.GoodputPS != 0 {
		t.Errorf("%g within 20 ms of answers that take 50 ms", s.GoodShare)
	}
	if f.most.Load() < 4 {
		t.Errorf("%d requests at a time: an open loop does not wait for answers", f.most.Load())
	}
	opt.SLO = time.Minute
	if s := run(t, work(t, 7, 2), opt).Steps[0]; s.GoodShare != 1 {
		t.Errorf("%g of the answers within a minute", s.GoodShare)
	}
}

// While a server stands still, requests become due: they wait, though they are not sent yet or sent and not taken.
func TestStallCountsForAllThatItHeldUp(t *testing.T) {
	var one sync.Mutex
	f := &fake{}
	f.each = func(n int64, _ http.ResponseWriter) bool {
		one.Lock()
		defer one.Unlock()
		if n == 20 {
			time.Sleep(300 * time.Millisecond)
		}
		return false
	}
	opt := quick(f.start(t))
	opt.Rates, opt.Duration = []float64{100}, 900*time.Millisecond
	s := run(t, work(t, 2, 2), opt).Steps[0]
	// Some 30 of 90 requests waited, 150 ms on average.
	if s.Latency.P90 < 150 || s.Latency.Max < 290 || s.Latency.P50 > 100 {
		t.Errorf("latencies %+v: want a tenth above 150 ms", s.Latency)
	}
}

func TestErrorsByKind(t *testing.T) {
	f := &fake{}
	f.each = func(n int64, w http.ResponseWriter) bool {
		switch n % 8 {
		case 1:
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusTooManyRequests)
		case 2:
			w.WriteHeader(http.StatusServiceUnavailable)
		case 3:
			w.WriteHeader(http.StatusInternalServerError)
		case 4:
			panic(http.ErrAbortHandler)
		case 5:
			w.Header().Set("Content-Length", "100")
			io.WriteString(w, "{")
		case 6:
			io.WriteString(w, `{"rewards":{"clip":[null]}}`)
		case 7:
			io.WriteString(w, "nonsense")
		default:
			return false
		}
		return true
	}
	opt := quick(f.start(t))
	opt.Rates, opt.Warmup = []float64{200}, -1 // 79 requests
	s := run(t, work(t, 2, 2), opt).Steps[0]
	near := func(what string, got, of int) {
		t.Helper()
		if want := s.Sent * of / 8; got < want-1 || got > want+1 {
			t.Errorf("%s: %d of %d, want some %d", what, got, s.Sent, want)
		}
	}
	near("whole answers", s.Answered, 1)
	near("429", s.Refused429, 1)
	near("503", s.Refused503, 1)
	near("refused without Retry-After", s.NoRetryAfter, 1)
	near("lost", s.Lost, 2)
	for kind, of := range map[string]int{"status 500": 1, kindClosed: 2, "scores are missing": 1, "answer cannot be read": 1} {
		near(kind, s.Errors[kind], of)
	}
	if len(s.Errors) != 4 {
		t.Errorf("errors %v", s.Errors)
	}
	if s.GoodShare > 0.2 {
		t.Errorf("%g are good: refusals count against the SLO", s.GoodShare)
	}
}

func TestTimeoutsAreLost(t *testing.T) {
	f := &fake{delay: 400 * time.Millisecond}
	opt := quick(f.start(t))
	opt.Concurrency, opt.Timeout, opt.Warmup = []int{2}, 100*time.Millisecond, -1
	report := run(t, work(t, 2, 2), opt)
	if s := report.Steps[0]; s.Lost == 0 || s.Lost != s.Sent || s.Errors[kindTimeout] != s.Lost {
		t.Errorf("%d lost of %d: %v", s.Lost, s.Sent, s.Errors)
	}
	if lines := report.Failures(); len(lines) != 1 || !strings.Contains(lines[0], "got no answer") {
		t.Errorf("failures %q", lines)
	}
}

func TestNoServer(t *testing.T) {
	opt := quick("http://127.0.0.1:1")
	opt.Concurrency, opt.Duration = []int{1}, 50*time.Millisecond
	s := run(t, work(t, 1, 1), opt).Steps[0]
	if s.Answered != 0 || s.Errors[kindRefused] != s.Sent || s.Latency != (Latency{}) {
		t.Errorf("%+v", s)
	}
	opt.Verify = true
	if _, err := Run(t.Context(), work(t, 1, 1), opt); err == nil || !strings.Contains(err.Error(), "first pass, 0.png with") {
		t.Errorf("error %v", err)
	}
}

func TestVerify(t *testing.T) {
	for _, protocol := range Protocols {
		t.Run(protocol, func(t *testing.T) {
			f := &fake{wrong: func(pairs int) float64 { return 0 }}
			opt := quick(f.start(t))
			opt.Protocol, opt.Verify, opt.Items, opt.Concurrency, opt.Duration, opt.Warmup = protocol, true, 3, []int{2}, 100*time.Millisecond, -1
			opt.Rewards = []string{"clip"}
			s := run(t, work(t, 5, 2), opt).Steps[0]
			if s.Wrong != 0 || s.Checked != 3*s.Answered || s.Answered == 0 {
				t.Errorf("%d wrong, %d checked in %d answers", s.Wrong, s.Checked, s.Answered)
			}
			f.wrong = func(pairs int) float64 { return 0.1 * float64(pairs-1) } // depends on who else is in the request
			report := run(t, work(t, 5, 2), opt)
			s = report.Steps[0]
			if s.Wrong == 0 || s.Wrong != s.Checked || s.Answered != 0 || len(s.WrongExamples) != wrongExamplesMax {
				t.Errorf("%d wrong of %d, %d answers, %d examples", s.Wrong, s.Checked, s.Answered, len(s.WrongExamples))
			}
			if lines := report.Failures(); len(lines) != 1 || !strings.Contains(lines[0], "scores are wrong: clip of ") {
				t.Errorf("failures %q", lines)
			}
		})
	}
}

func TestVerifyWaitsForABusyServer(t *testing.T) {
	f := &fake{each: func(n int64, w http.ResponseWriter) bool {
		if n == 1 {
			w.WriteHeader(http.StatusTooManyRequests)
		}
		return n == 1
	}}
	opt := quick(f.start(t))
	opt.Verify, opt.Concurrency, opt.Duration = true, []int{1}, 50*time.Millisecond
	if s := run(t, work(t, 1, 1), opt).Steps[0]; s.Checked == 0 {
		t.Error("nothing was checked")
	}
}

// A server that answers bad requests as it must has no failures, and the good requests beside them are whole.
func TestBadRequestsAnsweredRightly(t *testing.T) {
	for _, protocol := range Protocols {
		t.Run(protocol, func(t *testing.T) {
			f := &fake{}
			opt := quick(f.start(t))
			opt.Protocol, opt.Rewards, opt.BadFraction, opt.Rates, opt.Seed = protocol, []string{"clip"}, 0.5, []float64{200}, 3
			report := run(t, work(t, 5, 2), opt)
			s := report.Steps[0]
			if lines := report.Failures(); len(lines) > 0 {
				t.Errorf("failures %q", lines)
			}
			sent := 0
			for _, b := range s.Bad {
				sent += b.Sent
			}
			if len(s.Bad) != len(badKinds) || sent < 25 || s.Answered != s.Sent || s.Sent < 15 {
				t.Errorf("%d kinds, %d bad requests, %d of %d good ones answered", len(s.Bad), sent, s.Answered, s.Sent)
			}
		})
	}
}

// A server that takes everything fails at every kind.
func TestBadRequestsTaken(t *testing.T) {
	opt := quick(startHandler(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, `{"rewards":{"clip":[1]}}`) })))
	opt.BadFraction, opt.Rates = 1, []float64{200}
	report := run(t, work(t, 5, 2), opt)
	for _, b := range report.Steps[0].Bad {
		if b.Wrong != b.Sent {
			t.Errorf("%s: %d wrong of %d: %v", b.Kind, b.Wrong, b.Sent, b.Answers)
		}
	}
	if lines := report.Failures(); len(lines) < len(badKinds) {
		t.Errorf("failures %q", lines)
	}
}

// A server that leaves a bad request without an answer fails, and does not hold up the run.
func TestBadRequestsLeftAlone(t *testing.T) {
	opt := quick(startHandler(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	})))
	opt.BadFraction, opt.Rates, opt.Timeout, opt.Duration = 1, []float64{200}, 200*time.Millisecond, 200*time.Millisecond
	start := time.Now()
	report := run(t, work(t, 5, 2), opt)
	if took := time.Since(start); took > 4*time.Second {
		t.Errorf("it took %v", took)
	}
	for _, b := range report.Steps[0].Bad {
		if b.Kind != "half a request" && b.Wrong != b.Sent { // whose connection a server may close
			t.Errorf("%s: %v", b.Kind, b.Answers)
		}
	}
}

func TestInterrupted(t *testing.T) {
	f := &fake{delay: 10 * time.Millisecond}
	opt := quick(f.start(t))
	opt.Concurrency, opt.Duration = []int{1, 2}, time.Minute
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	start := time.Now()
	report, err := Run(ctx, work(t, 1, 1), opt)
	if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) > 3*time.Second {
		t.Errorf("error %v after %v", err, time.Since(start))
	}
	if report == nil || len(report.Steps) != 0 {
		t.Errorf("%+v: a step that was cut short is none", report)
	}
}

func TestKeyAndProgress(t *testing.T) {
	var mu sync.Mutex
	keys := map[string]int{}
	var paths []string
	opt := quick(startHandler(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		keys[r.Header.Get("Authorization")]++
		paths = append(paths, r.URL.Path)
		io.WriteString(w, `{"rewards":{"clip":[1]}}`)
	})) + "/behind/")
	var last [2]int
	opt.Key, opt.Rates, opt.Warmup = "secret", []float64{100}, -1
	opt.Progress = func(stage string, done, total int) {
		if stage != "100/s constant" {
			t.Errorf("stage %q", stage)
		}
		last = [2]int{done, total}
	}
	run(t, work(t, 1, 1), opt)
	if len(keys) != 1 || keys["Bearer secret"] == 0 || paths[0] != "/behind/v1/score" {
		t.Errorf("keys %v, path %s", keys, paths[0])
	}
	if last != [2]int{39, 40} {
		t.Errorf("progress ended at %v", last)
	}
}

func TestOptionsThatMakeNoSense(t *testing.T) {
	good := Options{Target: "http://x:1"}
	if err := good.Check(); err != nil {
		t.Error(err)
	}
	for want, change := range map[string]func(*Options){
		"target":        func(o *Options) { o.Target = "x:1" },
		"protocol":      func(o *Options) { o.Protocol = "grpc" },
		"expected one":  func(o *Options) { o.Protocol, o.Rewards = "pickle", []string{"a", "b"} },
		"at least one":  func(o *Options) { o.Items = -1 },
		"bad fraction":  func(o *Options) { o.BadFraction = math.NaN() },
		"concurrency 0": func(o *Options) { o.Concurrency = []int{0} },
		"rate -1":       func(o *Options) { o.Rates = []float64{-1} },
		"arrivals":      func(o *Options) { o.Arrivals = "bursts" },
	} {
		o := good
		change(&o)
		if err := o.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
	opt := quick("http://127.0.0.1:1")
	opt.Expected = &Expected{from: "x.json"}
	if _, err := Run(t.Context(), work(t, 1, 1), opt); err == nil || !strings.Contains(err.Error(), "x.json has no score") {
		t.Errorf("error %v", err)
	}
}
