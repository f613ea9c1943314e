package loadtest

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"time"
)

// simulated is a server that answers all within the SLO up to its capacity, and a share beyond.
func simulated(capacity float64, calls *[]float64) func(context.Context, float64) (float64, bool, error) {
	return func(_ context.Context, rate float64) (float64, bool, error) {
		*calls = append(*calls, rate)
		share := min(1, capacity/rate)
		return share, share >= searchShare, nil
	}
}

func TestSearch(t *testing.T) {
	for _, capacity := range []float64{0.03, 1, 17.3, 100, 5000} {
		for _, start := range []float64{0.1, 1, 16, 100, 4096} {
			var calls []float64
			s, err := search(t.Context(), start, simulated(capacity, &calls))
			if err != nil {
				t.Fatal(err)
			}
			most := capacity / searchShare // where the share is just reached
			if s.RatePS > most || s.RatePS < most/(1+searchPrecision)/1.0001 || s.FailsPS <= most {
				t.Errorf("capacity %g from %g: holds %g, fails %g, want up to %g", capacity, start, s.RatePS, s.FailsPS, most)
			}
			if s.Steps != len(calls) || s.Steps > searchStepsMax || s.GoodShare < searchShare {
				t.Errorf("capacity %g from %g: %+v after %d steps", capacity, start, s, len(calls))
			}
			for i, rate := range calls { // no rate twice
				for _, other := range calls[:i] {
					if rate == other {
						t.Errorf("capacity %g from %g: %g was tried twice", capacity, start, rate)
					}
				}
			}
		}
	}
}

func TestSearchWithoutAnEnd(t *testing.T) {
	all, err := search(t.Context(), 1, func(context.Context, float64) (float64, bool, error) { return 1, true, nil })
	if err != nil || all.RatePS == 0 || all.FailsPS != 0 || all.Steps != searchStepsMax {
		t.Errorf("a server without a limit: %+v, %v", all, err)
	}
	none, err := search(t.Context(), 1, func(context.Context, float64) (float64, bool, error) { return 0, false, nil })
	if err != nil || none.RatePS != 0 || none.FailsPS > 2*searchLeast {
		t.Errorf("a server that holds nothing: %+v, %v", none, err)
	}
	broken := errors.New("broken")
	if _, err := search(t.Context(), 1, func(context.Context, float64) (float64, bool, error) { return 0, false, broken }); !errors.Is(err, broken) {
		t.Errorf("error %v", err)
	}
}

// A server that refuses beyond its capacity: four at a time of 10 ms are 400 a second.
func TestFindRate(t *testing.T) {
	slots := make(chan struct{}, 4)
	f := &fake{each: func(_ int64, w http.ResponseWriter) bool {
		select {
		case slots <- struct{}{}:
			time.Sleep(10 * time.Millisecond)
			<-slots
			return false
		default:
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusTooManyRequests)
			return true
		}
	}}
	opt := quick(f.start(t))
	opt.FindRate, opt.Rates, opt.SLO, opt.Duration = true, []float64{160}, time.Second, 300*time.Millisecond
	report := run(t, work(t, 3, 3), opt)
	if s := report.Search; s == nil || s.RatePS < 60 || s.RatePS > 500 || s.Steps != len(report.Steps) {
		t.Errorf("search %+v with %d steps", s, len(report.Steps))
	}
	if first := report.Steps[0]; first.RatePS != 160 || first.Seconds != 0.625 {
		t.Errorf("it began with %g/s for %g s, want the rate asked for, for 100 requests", first.RatePS, first.Seconds)
	}
}

func TestFindRateBeginsWithAProbe(t *testing.T) {
	f := &fake{delay: 30 * time.Millisecond}
	opt := quick(f.start(t))
	opt.FindRate, opt.SLO, opt.Duration = true, time.Millisecond, 60*time.Millisecond // holds at no rate
	ctx, cancel := context.WithTimeout(t.Context(), 700*time.Millisecond)
	defer cancel()
	report, err := Run(ctx, work(t, 3, 3), opt)
	if !errors.Is(err, context.DeadlineExceeded) || len(report.Steps) < 2 {
		t.Fatalf("error %v, %d steps", err, len(report.Steps))
	}
	probe, second := report.Steps[0], report.Steps[1]
	if probe.Concurrency != probeAtATime || second.RatePS != probe.AnswersPS/2 {
		t.Errorf("probe of %d at a time with %g/s, then %g/s", probe.Concurrency, probe.AnswersPS, second.RatePS)
	}
}
