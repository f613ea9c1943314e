package metrics

import (
	"math"
	"slices"

	"gonum.org/v1/gonum/floats"
	"gonum.org/v1/gonum/integrate"
	"gonum.org/v1/gonum/stat"
)

// AUROC returns the area under the receiver operating characteristic: the chance that a random positive item scores
// higher than a random negative one, a tie counting half. NaN unless both classes occur.
//
// Source: sklearn.metrics.roc_auc_score.
func AUROC(scores []float64, positive []bool) float64 {
	checkLengths(len(scores), len(positive))
	n := countTrue(positive)
	if n == 0 || n == len(positive) || floats.HasNaN(scores) {
		return math.NaN()
	}
	y, classes := slices.Clone(scores), slices.Clone(positive)
	stat.SortWeightedLabeled(y, classes, nil)
	tpr, fpr, _ := stat.ROC(nil, y, classes, nil)
	// The area is a whole number of half pairs. Rounding to it takes away the summation error, so that two scores of
	// equal area compare as equal.
	halfPairs := 2 * float64(n) * float64(len(positive)-n)
	return math.Round(integrate.Trapezoidal(fpr, tpr)*halfPairs) / halfPairs
}

// AUPRC returns the average precision: the sum over the distinct scores, from the highest down, of the gain in recall
// times the precision there. No interpolation. 0 without a positive item.
//
// Source: sklearn.metrics.average_precision_score.
func AUPRC(scores []float64, positive []bool) float64 {
	checkLengths(len(scores), len(positive))
	if len(scores) == 0 || floats.HasNaN(scores) {
		return math.NaN()
	}
	return averagePrecision(scores, positive, descending(scores))
}

// APAt returns the average precision of the k items with the highest scores taken by themselves, recall being counted
// within these k; of all items if there are fewer. 0 if none of the k is positive. k >= 1.
//
// Of equal scores at the cut the earlier item is taken. Which one the published figures took cannot be told: they come
// without the scores.
//
// Source: ap5, ap10 and ap25 of the TIA2 release (Kim et al., ICLR 2024); sklearn's average_precision_score on the
// subset.
func APAt(k int, scores []float64, positive []bool) float64 {
	checkLengths(len(scores), len(positive))
	if len(scores) == 0 || floats.HasNaN(scores) {
		return math.NaN()
	}
	order := descending(scores)
	return averagePrecision(scores, positive, order[:min(k, len(order))])
}

// descending returns the indexes of the scores from the highest to the lowest, equal ones in their given order.
func descending(scores []float64) []int {
	order := make([]int, len(scores))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		switch {
		case scores[a] > scores[b]:
			return -1
		case scores[a] < scores[b]:
			return 1
		}
		return 0
	})
	return order
}

func averagePrecision(scores []float64, positive []bool, order []int) float64 {
	var hits, hitsBefore int
	var sum float64
	for i, item := range order {
		if positive[item] {
			hits++
		}
		if i+1 < len(order) && scores[order[i+1]] == scores[item] {
			continue // a threshold takes all of a tie or none
		}
		sum += float64(hits-hitsBefore) * float64(hits) / float64(i+1)
		hitsBefore = hits
	}
	if hits == 0 {
		return 0
	}
	return sum / float64(hits)
}

func countTrue(b []bool) int {
	n := 0
	for _, v := range b {
		if v {
			n++
		}
	}
	return n
}

func checkLengths(a, b int) {
	if a != b {
		panic("metrics: slice lengths differ")
	}
}
