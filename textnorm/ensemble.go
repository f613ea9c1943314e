package textnorm

import (
	"fmt"
	"math"
)

// Mean returns the mean confidence of an ensemble: [B] from members [K][B], K >= 1, each row one model's result of
// [Calibrate] on the same images.
//
// Errors: ErrShape without members or with rows of unequal length; ErrNonFinite.
//
// Source: reward_fns.py mean_ensemble_score.
func Mean(members [][]float64) ([]float64, error) { return Penalised(members, 0) }

// Penalised returns the uncertainty-penalised confidence of an ensemble: the mean of the members minus penalty times
// their population variance (divided by K, not K-1). penalty is finite and >= 0; shapes and errors are those of
// [Mean], and ErrOption.
//
// Source: Kim et al., ICLR 2024, section 4; reward_fns.py uw_ensemble.
func Penalised(members [][]float64, penalty float64) ([]float64, error) {
	if !(penalty >= 0) || math.IsInf(penalty, 1) {
		return nil, fmt.Errorf("penalty %g: %w: want a finite number >= 0", penalty, ErrOption)
	}
	if len(members) == 0 {
		return nil, fmt.Errorf("ensemble without members: %w", ErrShape)
	}
	out := make([]float64, len(members[0]))
	for k, member := range members {
		if len(member) != len(out) {
			return nil, fmt.Errorf("member %d has %d confidences and member 0 has %d: %w", k, len(member), len(out), ErrShape)
		}
		for b, v := range member {
			if math.IsNaN(v) || math.IsInf(v, 0) {
				return nil, fmt.Errorf("confidence %d of member %d is %g: %w", b, k, v, ErrNonFinite)
			}
			out[b] += v
		}
	}
	n := float64(len(members))
	for b := range out {
		mean, variance := out[b]/n, 0.0
		for _, member := range members {
			d := member[b] - mean
			variance += d * d
		}
		out[b] = mean - penalty*variance/n
	}
	return out, nil
}
