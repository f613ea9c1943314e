package metrics

import (
	"math"

	"gonum.org/v1/gonum/floats"
	"gonum.org/v1/gonum/stat"
)

// Spearman returns Spearman's rank correlation, ties sharing their mean rank. NaN if either side is constant.
//
// Source: scipy.stats.spearmanr.
func Spearman(x, y []float64) float64 {
	checkLengths(len(x), len(y))
	if len(x) < 2 || floats.HasNaN(x) || floats.HasNaN(y) || constant(x) || constant(y) {
		return math.NaN()
	}
	return stat.Correlation(ranks(x), ranks(y), nil)
}

// KendallTauB returns Kendall's tau-b: concordant minus discordant pairs, divided by the geometric mean of the numbers
// of pairs not tied in x and not tied in y. NaN if either side is constant. Cost n^2/2 comparisons.
// (gonum's stat.Kendall is tau-a, which has no correction for ties.)
//
// Source: scipy.stats.kendalltau.
func KendallTauB(x, y []float64) float64 {
	checkLengths(len(x), len(y))
	if len(x) < 2 || floats.HasNaN(x) || floats.HasNaN(y) {
		return math.NaN()
	}
	var balance, untiedX, untiedY int
	for i := range x {
		for j := range i {
			sx, sy := order(x[i], x[j]), order(y[i], y[j])
			balance += sx * sy
			untiedX += sx * sx
			untiedY += sy * sy
		}
	}
	if untiedX == 0 || untiedY == 0 {
		return math.NaN()
	}
	return float64(balance) / math.Sqrt(float64(untiedX)) / math.Sqrt(float64(untiedY))
}

// order returns the sign of a-b without computing the difference, which could overflow.
func order(a, b float64) int {
	switch {
	case a > b:
		return 1
	case a < b:
		return -1
	}
	return 0
}

// ranks returns the 1-based ranks, ascending, ties sharing their mean rank.
func ranks(x []float64) []float64 {
	out := make([]float64, len(x))
	byScore := descending(x)
	for i := 0; i < len(byScore); {
		j := i + 1
		for j < len(byScore) && x[byScore[j]] == x[byScore[i]] {
			j++
		}
		rank := float64(len(x)) - float64(i+j-1)/2
		for _, item := range byScore[i:j] {
			out[item] = rank
		}
		i = j
	}
	return out
}

func constant(x []float64) bool { return floats.Min(x) == floats.Max(x) }
