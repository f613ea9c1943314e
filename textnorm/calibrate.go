package textnorm

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"gonum.org/v1/gonum/floats"
)

// Errors that callers may test for with errors.Is.
var (
	ErrShape     = errors.New("wrong shape")       // rows of unequal length, or too few of them
	ErrNonFinite = errors.New("not finite")        // a reward or confidence is NaN or infinite
	ErrOption    = errors.New("option is invalid") // a scale, penalty, protocol or min-max mode out of its range
)

// MinMax says over which rewards the minimum and the maximum are taken before the softmax.
type MinMax string

const (
	// PerImage takes them over the P rewards of one image, as the authors' reinforcement learning code does.
	PerImage MinMax = "image"
	// PerSet takes them over all B x P rewards of one prompt. The paper does not say which of the two its evaluation used.
	PerSet MinMax = "set"
)

// DefaultScale and DefaultPenalty are used for every prompt by the protocol [Fixed].
const (
	DefaultScale   = 10.0
	DefaultPenalty = 0.1
)

// Float is the type of a reward.
type Float interface{ ~float32 | ~float64 }

// Options of [Calibrate].
type Options struct {
	Scale  float64 // softmax scale c > 0: the logits span [0, c]; 0 stands for DefaultScale
	MinMax MinMax  // "" stands for PerImage
}

// Calibrate returns the TextNorm confidence of each image for its prompt.
//
// rewards is [B][P], P >= 2: row b holds one model's rewards of image b for the prompt (column 0) and its P-1
// contrastive prompts, in any unit (an affine change with a positive factor has no effect). It is not modified.
// The order of the contrastive prompts has no effect, not even on the last bit.
// The result is [B], each in (0, 1]:
//
//	softmax((r - min r) / (max r - min r) * c)[0]
//
// Where all the rewards that the minimum and maximum are taken over are equal, the quotient is 0/0 and the authors'
// code gives NaN. Here the confidence is then 1/P: the softmax of equal logits, and the limit for c -> 0.
//
// Errors: ErrShape if P < 2 or the rows differ in length; ErrNonFinite, with its row and column, for a NaN or an
// infinity; ErrOption.
//
// Source: Kim et al., ICLR 2024, section 4; kykim0/ddpo-overopt examples/scripts/reward_fns.py scale_norm, softmax_score.
func Calibrate[F Float](rewards [][]F, opt Options) ([]float64, error) {
	scale, perSet, err := opt.resolve()
	if err != nil {
		return nil, err
	}
	rows, err := finiteRows(rewards)
	if err != nil || len(rows) == 0 {
		return nil, err
	}
	lo, hi := math.Inf(1), math.Inf(-1)
	if perSet {
		for _, row := range rows {
			lo, hi = min(lo, floats.Min(row)), max(hi, floats.Max(row))
		}
	}
	out := make([]float64, len(rows))
	for b, row := range rows {
		if !perSet {
			lo, hi = floats.Min(row), floats.Max(row)
		}
		out[b] = firstSoftmax(row, lo, hi, scale)
	}
	return out, nil
}

func (o Options) resolve() (scale float64, perSet bool, err error) {
	scale = o.Scale
	if scale == 0 {
		scale = DefaultScale
	}
	if !(scale > 0) || math.IsInf(scale, 1) {
		return 0, false, fmt.Errorf("softmax scale %g: %w: want a finite number > 0", scale, ErrOption)
	}
	switch o.MinMax {
	case "", PerImage:
		return scale, false, nil
	case PerSet:
		return scale, true, nil
	}
	return 0, false, fmt.Errorf("min-max mode %q: %w: want %q or %q", o.MinMax, ErrOption, PerImage, PerSet)
}

// finiteRows copies the rewards to float64 and checks them.
func finiteRows[F Float](rewards [][]F) ([][]float64, error) {
	if len(rewards) == 0 {
		return nil, nil
	}
	p := len(rewards[0])
	if p < 2 {
		return nil, fmt.Errorf("rewards for %d texts: %w: want the prompt and at least one contrastive prompt", p, ErrShape)
	}
	data := make([]float64, len(rewards)*p)
	rows := make([][]float64, len(rewards))
	for b, row := range rewards {
		if len(row) != p {
			return nil, fmt.Errorf("image %d has %d rewards and image 0 has %d: %w", b, len(row), p, ErrShape)
		}
		rows[b] = data[b*p : (b+1)*p]
		for t, r := range row {
			v := float64(r)
			if math.IsNaN(v) || math.IsInf(v, 0) {
				return nil, fmt.Errorf("reward of image %d for text %d is %g: %w", b, t, v, ErrNonFinite)
			}
			rows[b][t] = v
		}
	}
	return rows, nil
}

// firstSoftmax returns the softmax weight of the first element of the scaled logits. It overwrites row. The terms are
// added in ascending order, so that the order of the contrastive prompts does not show in the last bits: images whose
// rewards are the same numbers in another order are ties, for ranking too.
func firstSoftmax(row []float64, lo, hi, scale float64) float64 {
	if hi == lo {
		return 1 / float64(len(row))
	}
	half := 1.0
	if math.IsInf(hi-lo, 1) { // halving first keeps rewards near the largest float64 finite
		half = 0.5
	}
	span := hi*half - lo*half
	for t, r := range row {
		row[t] = (r*half - lo*half) / span * scale
	}
	first, top := row[0], floats.Max(row)
	slices.Sort(row)
	sum := 0.0
	for _, logit := range row {
		sum += math.Exp(logit - top)
	}
	return math.Exp(first-top) / sum
}
