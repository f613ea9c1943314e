package loadtest

import (
	"context"
	"fmt"
	"math"
	"time"
)

// Search is the search for the highest rate that holds the service level: at which 99 % of all requests are answered,
// wholly and rightly, within the SLO. So p99 is within it, and refusals count as answers that took for ever.
type Search struct {
	RatePS    float64 `json:"rate_per_s"`  // the highest rate found that holds it; 0: none did
	FailsPS   float64 `json:"fails_per_s"` // the lowest rate found that does not; 0: all did
	Steps     int     `json:"steps"`
	GoodShare float64 `json:"goodput_share"` // at RatePS
}

const (
	searchShare     = 0.99 // of requests that must be answered within the SLO
	searchPrecision = 0.05 // the search ends when the two rates lie this close
	searchStepsMax  = 24
	searchLeast     = 0.01 // requests a second: below, nothing is looked for
	searchRequests  = 100  // that a step has at least, or it lasts searchLonger times as long as others: 99 % of fewer say little
	searchLonger    = 4
	probeAtATime    = 8 // requests under way in the closed loop whose throughput the search begins at
)

// search finds the highest rate that holds. From start it goes up or down by doubling and halving until it has one rate
// that holds and one that does not, then it halves what lies between, by ratio. holds puts a load on and says whether the
// level was held.
func search(ctx context.Context, start float64, holds func(ctx context.Context, rate float64) (share float64, ok bool, err error)) (Search, error) {
	var s Search
	for rate := start; s.Steps < searchStepsMax && rate >= searchLeast; rate = s.next(rate) {
		share, ok, err := holds(ctx, rate)
		if err != nil {
			return s, err
		}
		s.Steps++
		if ok {
			s.RatePS, s.GoodShare = rate, share
		} else {
			s.FailsPS = rate
		}
		if s.RatePS > 0 && s.FailsPS > 0 && s.FailsPS <= s.RatePS*(1+searchPrecision) {
			break
		}
	}
	return s, nil
}

// next returns the rate to try after one.
func (s *Search) next(rate float64) float64 {
	switch {
	case s.FailsPS == 0:
		return rate * 2
	case s.RatePS == 0:
		return rate / 2
	}
	return math.Sqrt(s.RatePS * s.FailsPS)
}

// findRate searches, and adds its steps to the report. It begins at the first of the rates asked for, else at half of
// the throughput of a closed loop.
func (r *runner) findRate(ctx context.Context, report *Report) error {
	start := 0.0
	if len(r.opt.Rates) > 0 {
		start = r.opt.Rates[0]
	} else {
		probe, err := r.step(ctx, Load{Concurrency: probeAtATime})
		if err := report.add(probe, err); err != nil {
			return err
		}
		if probe.Answered == 0 {
			return fmt.Errorf("search: no answer in %g s with %d requests at a time: expected a server that answers some", probe.Seconds, probeAtATime)
		}
		start = probe.AnswersPS / 2
	}
	found, err := search(ctx, start, func(ctx context.Context, rate float64) (float64, bool, error) {
		enough := time.Duration(min(searchRequests/rate, searchLonger*r.opt.Duration.Seconds()) * float64(time.Second))
		step, err := r.step(ctx, Load{Rate: rate, Duration: max(r.opt.Duration, enough)})
		if err := report.add(step, err); err != nil {
			return 0, false, err
		}
		return step.GoodShare, step.Sent > 0 && step.GoodShare >= searchShare, nil
	})
	report.Search = &found
	return err
}
