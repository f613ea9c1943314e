package metrics

import (
	"math"

	"gonum.org/v1/gonum/floats"
)

// BestOfN returns, for n = 1..nMax, the expected label of the item that a score picks from n items: the expectation
// over all subsets of n of the N items, exact (no sampling), equal scores sharing the pick. Curve[0] is the mean label.
// Where the curve falls as n grows, optimising the score harder gives worse items: overoptimisation.
//
// labels may be any numbers (1 and 0 for a probability). nMax is cut to N. NaN throughout if a score or label is NaN.
//
// With m items scoring strictly higher than a group of ties, all n items are among the others with probability
// C(N-m, n) / C(N, n); the pick is from the group when that holds for m but not for m plus the group's size.
func BestOfN(scores, labels []float64, nMax int) []float64 {
	checkLengths(len(scores), len(labels))
	curve := make([]float64, max(0, min(nMax, len(scores))))
	if floats.HasNaN(scores) || floats.HasNaN(labels) {
		for i := range curve {
			curve[i] = math.NaN()
		}
		return curve
	}
	items := descending(scores)
	for i := 0; i < len(items); {
		j, sum := i, 0.0
		for ; j < len(items) && scores[items[j]] == scores[items[i]]; j++ {
			sum += labels[items[j]]
		}
		mean := sum / float64(j-i)
		pAbove, pGroup := 1.0, 1.0 // that none of the n is among the first i, the first j
		for n := range curve {
			left := float64(len(items) - n)
			pAbove *= math.Max(0, float64(len(items)-i-n)) / left
			pGroup *= math.Max(0, float64(len(items)-j-n)) / left
			curve[n] += mean * (pAbove - pGroup)
		}
		i = j
	}
	return curve
}
