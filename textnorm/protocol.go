package textnorm

import (
	"fmt"
	"math"
)

// Protocol says how the softmax scale and the penalty of a prompt are chosen.
type Protocol string

const (
	// Fixed uses one setting for every prompt and looks at no label.
	Fixed Protocol = "fixed"
	// CrossValidated gives a prompt the setting that is best on all the other prompts: an honest use of the labels.
	CrossValidated Protocol = "cv"
	// Oracle gives a prompt the setting with the best AUROC on its own labels. The published figures chose on a prompt's
	// own labels too, by a rule that the authors did not release. It is an upper bound, not an estimate of what a user
	// gets on new prompts.
	Oracle Protocol = "oracle"
)

// ParseProtocol returns the protocol of that name. Its error names the three.
func ParseProtocol(name string) (Protocol, error) {
	switch p := Protocol(name); p {
	case Fixed, CrossValidated, Oracle:
		return p, nil
	}
	return "", fmt.Errorf("protocol %q: %w: want %q, %q or %q", name, ErrOption, Fixed, CrossValidated, Oracle)
}

// Setting is what a protocol chooses for one prompt.
type Setting struct {
	Scale   float64 // softmax scale c
	Penalty float64 // weight of the members' variance; 0 where there is no ensemble or only its mean
}

// scales and penalties are the values that the authors chose from: all those that occur in the released
// data_meta_*.json (kykim0/ddpo-overopt), fields mean_best and uw_best.
var (
	scales    = [...]float64{0.1, 1, 3, 5, 10}
	penalties = [...]float64{0.05, 0.1, 0.5, 1}
)

// Grid returns the settings that [CrossValidated] and [Oracle] choose from, ascending, the scale varying slowest:
// the published scales, with penalty 0 or, if penalised, crossed with the published penalties.
func Grid(penalised bool) []Setting {
	var grid []Setting
	for _, c := range scales {
		if !penalised {
			grid = append(grid, Setting{Scale: c})
			continue
		}
		for _, l := range penalties {
			grid = append(grid, Setting{Scale: c, Penalty: l})
		}
	}
	return grid
}

// Choose returns for every prompt the index of its setting in the grid.
//
// quality is [prompts][settings]: how well each setting does on the prompt's labels, more is better, NaN where the
// prompt cannot tell (all its images are of one class). Of equally good settings the first is chosen; so is the first
// where no prompt that may be looked at can tell. Fixed ignores the values and returns zeros.
//
// Errors: ErrShape for rows of unequal length or none; ErrOption for an unknown protocol.
func Choose(protocol Protocol, quality [][]float64) ([]int, error) {
	choice := make([]int, len(quality))
	for p, row := range quality {
		if len(row) == 0 || len(row) != len(quality[0]) {
			return nil, fmt.Errorf("prompt %d has %d settings and prompt 0 has %d: %w", p, len(row), len(quality[0]), ErrShape)
		}
	}
	switch protocol {
	case Fixed:
	case Oracle:
		for p, row := range quality {
			choice[p] = best(row)
		}
	case CrossValidated:
		for p := range quality {
			choice[p] = best(othersMean(quality, p))
		}
	default:
		_, err := ParseProtocol(string(protocol))
		return nil, err
	}
	return choice, nil
}

// othersMean returns the mean quality of every setting over all prompts but one. It sums afresh, so that settings of
// equal quality stay exactly equal; subtracting from a total would not.
func othersMean(quality [][]float64, without int) []float64 {
	mean := make([]float64, len(quality[without]))
	for s := range mean {
		n := 0
		for p, row := range quality {
			if p != without && !math.IsNaN(row[s]) {
				mean[s] += row[s]
				n++
			}
		}
		mean[s] /= float64(n) // NaN without prompts
	}
	return mean
}

// best returns the index of the first largest value, skipping NaN; 0 if all are NaN.
func best(row []float64) int {
	at, top := 0, math.Inf(-1)
	for i, v := range row {
		if v > top {
			at, top = i, v
		}
	}
	return at
}
