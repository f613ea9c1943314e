package metrics

import (
	"math"
	"math/rand/v2"
	"slices"

	"gonum.org/v1/gonum/floats"
	"gonum.org/v1/gonum/stat"
	"gonum.org/v1/gonum/stat/distuv"
)

// Resampling says how intervals and p-values are drawn. The zero value stands for the defaults.
type Resampling struct {
	Resamples int     // bootstrap samples, and sign flips where not all are tried; default 10000
	Level     float64 // of the interval, in (0, 1); default 0.95
	Seed      uint64
}

// WithDefaults returns r with the defaults in place of values out of range.
func (r Resampling) WithDefaults() Resampling {
	if r.Resamples <= 0 {
		r.Resamples = 10000
	}
	if !(r.Level > 0 && r.Level < 1) {
		r.Level = 0.95
	}
	return r
}

func (r Resampling) source() *rand.Rand { return rand.New(rand.NewPCG(r.Seed, 0x7469613274696132)) }

// Interval is a confidence interval.
type Interval struct{ Low, High float64 }

// MeanInterval returns the bias-corrected and accelerated (BCa) bootstrap interval of the mean of x: x is what varies
// between samples, one value a prompt, since the prompts of a set stand for prompts to come. x must hold no NaN.
// The interval is a single point if all values are equal, and NaN for fewer than two.
//
// Source: Efron 1987, "Better bootstrap confidence intervals"; scipy.stats.bootstrap(method="BCa").
func MeanInterval(x []float64, opt Resampling) Interval {
	opt = opt.WithDefaults()
	if len(x) < 2 || floats.HasNaN(x) {
		return Interval{math.NaN(), math.NaN()}
	}
	if constant(x) {
		return Interval{x[0], x[0]}
	}
	mean := stat.Mean(x, nil)
	means := resampledMeans(x, opt)
	// Bias: where the estimate lies among the resamples; acceleration: for a mean, the skewness of the values.
	bias := distuv.UnitNormal.Quantile(shareBelow(means, mean))
	var m2, m3 float64
	for _, v := range x {
		d := v - mean
		m2, m3 = m2+d*d, m3+d*d*d
	}
	acceleration := m3 / (6 * math.Pow(m2, 1.5))
	bound := func(p float64) float64 {
		z := bias + distuv.UnitNormal.Quantile(p)
		adjusted := distuv.UnitNormal.CDF(bias + z/(1-acceleration*z))
		return stat.Quantile(adjusted, stat.LinInterp, means, nil)
	}
	tail := (1 - opt.Level) / 2
	return Interval{bound(tail), bound(1 - tail)}
}

// resampledMeans returns the sorted means of samples drawn with replacement.
func resampledMeans(x []float64, opt Resampling) []float64 {
	rng := opt.source()
	means := make([]float64, opt.Resamples)
	for r := range means {
		sum := 0.0
		for range x {
			sum += x[rng.IntN(len(x))]
		}
		means[r] = sum / float64(len(x))
	}
	slices.Sort(means)
	return means
}

// shareBelow returns the share of sorted values below v, equal ones counting half, kept off 0 and 1.
func shareBelow(sorted []float64, v float64) float64 {
	lo, _ := slices.BinarySearch(sorted, v)
	hi := lo
	for hi < len(sorted) && sorted[hi] == v {
		hi++
	}
	n := float64(len(sorted))
	return min(max((float64(lo)+float64(hi))/2/n, 0.5/n), 1-0.5/n)
}

// Difference compares two scores on the same prompts.
type Difference struct {
	N        int     // pairs
	Mean     float64 // of a - b
	Interval         // of the mean, by bootstrap over the pairs
	P        float64 // two-sided p-value of the sign-flip test
}

// exactFlips is the number of pairs up to which all sign patterns are tried: 65,536.
const exactFlips = 16

// PairedDifference compares a and b, paired by index: the mean difference, its BCa interval and the p-value of the
// two-sided sign-flip permutation test, whose null hypothesis is that each difference is as likely as its negative.
// Up to 16 pairs all patterns are counted and the p-value is exact; beyond, Resamples random patterns give
// (1 + those at least as far from 0) / (1 + Resamples). Pairs with a NaN are left out. NaN without pairs.
//
// Source: scipy.stats.permutation_test(permutation_type="samples").
func PairedDifference(a, b []float64, opt Resampling) Difference {
	checkLengths(len(a), len(b))
	opt = opt.WithDefaults()
	var d []float64
	for i := range a {
		if v := a[i] - b[i]; !math.IsNaN(v) {
			d = append(d, v)
		}
	}
	if len(d) == 0 {
		return Difference{Mean: math.NaN(), Interval: Interval{math.NaN(), math.NaN()}, P: math.NaN()}
	}
	return Difference{N: len(d), Mean: stat.Mean(d, nil), Interval: MeanInterval(d, opt), P: signFlip(d, opt)}
}

func signFlip(d []float64, opt Resampling) float64 {
	// The tolerance keeps patterns that equal the observed one up to rounding on its side.
	observed := math.Abs(floats.Sum(d))
	observed -= 1e-12 * floats.Norm(d, 1)
	extreme := 0
	if len(d) <= exactFlips {
		for pattern := range 1 << len(d) {
			if math.Abs(flippedSum(d, uint64(pattern))) >= observed {
				extreme++
			}
		}
		return float64(extreme) / float64(int(1)<<len(d))
	}
	rng := opt.source()
	for range opt.Resamples {
		sum := 0.0
		for i := 0; i < len(d); i += 64 {
			sum += flippedSum(d[i:min(i+64, len(d))], rng.Uint64())
		}
		if math.Abs(sum) >= observed {
			extreme++
		}
	}
	return float64(1+extreme) / float64(1+opt.Resamples)
}

// flippedSum adds d with the signs given by the bits of pattern, at most 64 values.
func flippedSum(d []float64, pattern uint64) float64 {
	sum := 0.0
	for i, v := range d {
		sum += math.Float64frombits(math.Float64bits(v) ^ pattern>>i<<63) // no branch: the signs are random
	}
	return sum
}
