package throughput

import (
	"context"
	"math"
	"runtime"
	"slices"
	"time"

	"golang.org/x/perf/benchmath"
	"gonum.org/v1/gonum/stat"
)

const (
	runsFloor      = 3                      // timed calls that are made even when the time is up
	warmUpTime     = 100 * time.Millisecond // calls until then are warm-up: clocks rise, pages and code come in
	warmUpRunsMax  = 100
	confidence     = 0.95
	reasonSpread   = "spread"
	reasonTime     = "time"
	reasonRuns     = "runs"
	spreadUnknown  = -1
	spreadCheckGap = 1.1 // the spread is looked at again after this many times more runs
)

// sampler repeats a call and times it.
type sampler struct {
	opt Options
	now func() time.Time
}

// series is what a sampler measured.
type series struct {
	ms     []float64 // each timed call, in order
	warmUp time.Duration
	total  time.Duration // of the timed calls
	stop   string
}

// sample warms up and times call until one of the rules of Options ends it. It fails with the call's or ctx's error.
func (s sampler) sample(ctx context.Context, call func(context.Context) error) (series, error) {
	var out series
	start := s.now()
	for n := 0; n < warmUpRunsMax; n++ {
		out.warmUp = s.now().Sub(start)
		if n >= s.opt.WarmUp && out.warmUp >= warmUpTime || n > 0 && out.warmUp > s.opt.MaxTime/4 {
			break
		}
		if err := runOnce(ctx, call); err != nil {
			return out, err
		}
	}
	runtime.GC() // or the warm-up's garbage is collected in a timed call
	next := s.opt.MinRuns
	for {
		began := s.now()
		if err := runOnce(ctx, call); err != nil {
			return out, err
		}
		took := max(s.now().Sub(began), 1)
		out.ms = append(out.ms, float64(took)/float64(time.Millisecond))
		out.total += took
		n := len(out.ms)
		if n >= next && out.total >= s.opt.MinTime {
			next = int(math.Ceil(float64(n) * spreadCheckGap))
			if rel := medianSpread(out.ms); rel >= 0 && rel <= s.opt.Spread {
				out.stop = reasonSpread
				return out, nil
			}
		}
		if n >= s.opt.MaxRuns {
			out.stop = reasonRuns
			return out, nil
		}
		if mean := out.total / time.Duration(n); n >= runsFloor && out.total+mean > s.opt.MaxTime {
			out.stop = reasonTime
			return out, nil
		}
	}
}

func runOnce(ctx context.Context, call func(context.Context) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return call(ctx)
}

// median returns the middle value of xs, which is not changed; for an even number the mean of the two in the middle.
func median(xs []float64) float64 { return summary(xs).Center }

// medianSpread returns half the width of the 95 % confidence interval of the median, relative to the median, or
// spreadUnknown below six values. The interval is that of order statistics, which assumes nothing of the distribution.
func medianSpread(xs []float64) float64 {
	s := summary(xs)
	rel := (s.Hi - s.Lo) / 2 / s.Center
	if math.IsInf(rel, 0) || math.IsNaN(rel) {
		return spreadUnknown
	}
	return rel
}

func summary(xs []float64) benchmath.Summary {
	s := benchmath.NewSample(slices.Clone(xs), &benchmath.DefaultThresholds) // it sorts what it is given
	return benchmath.AssumeNothing.Summary(s, confidence)
}

// latency returns the percentiles of times in milliseconds.
func latency(ms []float64) Latency {
	sorted := slices.Sorted(slices.Values(ms))
	return Latency{
		P50: round(median(ms)),
		P90: round(stat.Quantile(0.90, stat.Empirical, sorted, nil)),
		P99: round(stat.Quantile(0.99, stat.Empirical, sorted, nil)),
	}
}
