package align

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"gonum.org/v1/gonum/stat"

	"github.com/tia2-engine/tia2-engine/bench/metrics"
	"github.com/tia2-engine/tia2-engine/bench/tia2"
	"github.com/tia2-engine/tia2-engine/textnorm"
)

// bestOfNMax is the longest best-of-n curve: TIA2 has 50 images a prompt.
const bestOfNMax = 50

// Options of [Evaluate]. The zero value stands for the defaults.
type Options struct {
	Protocol   textnorm.Protocol  // default textnorm.Fixed
	Scale      float64            // softmax scale of the protocol fixed; 0 stands for textnorm.DefaultScale
	Penalty    *float64           // penalty of textnorm_ur under the protocol fixed; nil stands for textnorm.DefaultPenalty
	MinMax     textnorm.MinMax    // default textnorm.PerImage
	Rewards    []string           // those to evaluate; default all that have scores
	Members    []string           // those of the ensembles; default all evaluated ones whose value depends on the text
	Resampling metrics.Resampling // of intervals and tests
}

func (o Options) withDefaults() (Options, error) {
	if o.Protocol == "" {
		o.Protocol = textnorm.Fixed
	}
	if _, err := textnorm.ParseProtocol(string(o.Protocol)); err != nil {
		return o, err
	}
	if o.Scale == 0 {
		o.Scale = textnorm.DefaultScale
	}
	if o.Penalty == nil {
		penalty := textnorm.DefaultPenalty
		o.Penalty = &penalty
	}
	if o.MinMax == "" {
		o.MinMax = textnorm.PerImage
	}
	o.Resampling = o.Resampling.WithDefaults()
	// A trial run lets textnorm judge the numbers, before any work and even if no prompt gets to use them.
	trial, err := textnorm.Calibrate([][]float64{{0, 1}}, textnorm.Options{Scale: o.Scale, MinMax: o.MinMax})
	if err == nil {
		_, err = textnorm.Penalised([][]float64{trial}, *o.Penalty)
	}
	return o, err
}

func (o Options) settings() Settings {
	s := Settings{Protocol: string(o.Protocol), MinMax: string(o.MinMax), Level: o.Resampling.Level,
		Resamples: o.Resampling.Resamples, Seed: o.Resampling.Seed}
	if o.Protocol == textnorm.Fixed {
		s.Scale, s.Penalty = &o.Scale, o.Penalty
	}
	return s
}

// CheckRewards refuses Rewards and Members that name a reward twice or one that is not among have.
func (o Options) CheckRewards(have []string) error {
	if err := checkNames("reward to evaluate", o.Rewards, have); err != nil {
		return err
	}
	if len(o.Rewards) > 0 {
		have = o.Rewards
	}
	return checkNames("member of the ensembles", o.Members, have)
}

func checkNames(what string, names, have []string) error {
	for i, name := range names {
		if !slices.Contains(have, name) {
			return fmt.Errorf("%s %q: expected some of %s", what, name, strings.Join(have, ", "))
		}
		if slices.Contains(names[:i], name) {
			return fmt.Errorf("%s %q: it is named twice", what, name)
		}
	}
	return nil
}

// Evaluate compares the scores with the labels of every set that has scores. What cannot be evaluated (prompts and
// images without scores, prompts of one class) is said in the notes of the report. It is an error if no set has scores,
// an option names a reward that has none, or an option is out of its range (textnorm.ErrOption).
//
// The same arguments give the same report, bit for bit.
func Evaluate(sets []*tia2.Set, scores *tia2.Scores, opt Options) (*Report, error) {
	opt, err := opt.withDefaults()
	if err != nil {
		return nil, err
	}
	if err := opt.CheckRewards(scores.Rewards()); err != nil {
		return nil, err
	}
	report := &Report{Settings: opt.settings()}
	known := map[string]bool{}
	for _, set := range sets {
		scored := false
		for _, p := range set.Prompts {
			known[p.Caption] = true
			scored = scored || scores.Prompt(p.Caption) != nil
		}
		if !scored {
			continue
		}
		r, err := evaluateSet(set, scores, opt)
		if err != nil {
			return nil, fmt.Errorf("set %s: %w", set.Name, err)
		}
		report.Sets = append(report.Sets, *r)
	}
	if len(report.Sets) == 0 {
		return nil, fmt.Errorf("no prompt of the sets %s has scores", setNames(sets))
	}
	var foreign []string
	for _, prompt := range scores.Prompts() {
		if !known[prompt] {
			foreign = append(foreign, prompt)
		}
	}
	report.Notes = note(report.Notes, foreign, "prompts of the scores are in none of the sets")
	return report, nil
}

func setNames(sets []*tia2.Set) string {
	names := make([]string, len(sets))
	for i, s := range sets {
		names[i] = s.Name
	}
	return strings.Join(names, ", ")
}

// note appends a line with the count and the first of the names, if there are any.
func note(notes []string, names []string, what string) []string {
	const most = 3
	if len(names) == 0 {
		return notes
	}
	shown, more := names, ""
	if len(names) > most {
		shown, more = names[:most], "; ..."
	}
	return append(notes, fmt.Sprintf("%d %s: %s%s", len(names), what, strings.Join(shown, "; "), more))
}

func evaluateSet(set *tia2.Set, scores *tia2.Scores, opt Options) (*SetReport, error) {
	d := gather(set, scores, opt.Rewards)
	all, err := d.allSeries(opt)
	if err != nil {
		return nil, err
	}
	report := &SetReport{Set: set.Name, Prompts: len(set.Prompts), Notes: d.notes}
	perPrompt := make([][]float64, len(all)) // AUROC by series and prompt, NaN where there is none
	for i, s := range all {
		r, auroc := d.report(s, opt.Resampling)
		r.Model = scores.Model(s.name)
		report.Rewards = append(report.Rewards, r)
		perPrompt[i] = auroc
	}
	report.Comparisons = compare(all, perPrompt, opt.Resampling)
	report.BestOfNIdeal = d.ideal()
	return report, nil
}

// report computes all figures of one series, and returns its AUROC on every prompt for the comparisons.
func (d *setData) report(s series, resampling metrics.Resampling) (RewardReport, []float64) {
	r := RewardReport{Name: s.name, CI: map[string]Range{}, Prompts: map[string]PromptReport{}}
	columns := map[string][]float64{}
	auroc := make([]float64, len(d.prompts))
	var human []float64
	var curves [][]float64
	for i, p := range d.prompts {
		auroc[i] = math.NaN()
		positive, graded, share := p.labels(s.prompts[i].images)
		if share == 0 || share == 1 || len(positive) == 0 {
			continue
		}
		scores := s.prompts[i].scores
		f := figures(scores, positive, graded)
		f.each(func(name string, v *Number) { columns[name] = append(columns[name], float64(*v)) })
		auroc[i] = float64(f.AUROC)
		human = append(human, share)
		curves = append(curves, metrics.BestOfN(scores, indicator(positive), bestOfNMax))
		pr := PromptReport{Figures: f, Human: Number(share), Images: len(scores)}
		if set := s.prompts[i].setting; s.calibrated {
			pr.Scale = &set.Scale
			if s.penalised {
				pr.Penalty = &set.Penalty
			}
		}
		r.Prompts[p.caption] = pr
	}
	r.Scored = len(human)
	r.Human = Number(stat.Mean(human, nil))
	r.BestOfN = meanCurve(curves)
	r.Mean, r.CI = summarise(columns, resampling)
	return r, auroc
}

// summarise returns the mean of every metric over the prompts on which it is defined, and its interval.
func summarise(columns map[string][]float64, resampling metrics.Resampling) (Figures, map[string]Range) {
	var mean Figures
	ci := map[string]Range{}
	mean.each(func(name string, value *Number) {
		var defined []float64
		for _, v := range columns[name] {
			if !math.IsNaN(v) {
				defined = append(defined, v)
			}
		}
		*value = Number(stat.Mean(defined, nil)) // NaN of none
		ci[name] = rangeOf(metrics.MeanInterval(defined, resampling))
	})
	return mean, ci
}

// compare tests every pair of series on their AUROC, the calibrated ones first.
func compare(all []series, auroc [][]float64, resampling metrics.Resampling) []Comparison {
	var out []Comparison
	for i := range all {
		for j := i + 1; j < len(all); j++ {
			a, b := j, i // the later series is the more elaborate one
			d := metrics.PairedDifference(auroc[a], auroc[b], resampling)
			if d.N == 0 {
				continue
			}
			out = append(out, Comparison{A: all[a].name, B: all[b].name, Metric: "auroc", Prompts: d.N,
				Mean: Number(d.Mean), CI: rangeOf(d.Interval), P: Number(d.P)})
		}
	}
	return out
}

// ideal returns the best-of-n curve of the labels themselves.
func (d *setData) ideal() []Number {
	var curves [][]float64
	for _, p := range d.prompts {
		positive, _, share := p.labels(p.scored)
		if len(positive) > 0 && share > 0 && share < 1 {
			labels := indicator(positive)
			curves = append(curves, metrics.BestOfN(labels, labels, bestOfNMax))
		}
	}
	return meanCurve(curves)
}

// meanCurve averages curves as far as all of them go.
func meanCurve(curves [][]float64) []Number {
	if len(curves) == 0 {
		return []Number{}
	}
	length := len(curves[0])
	for _, c := range curves {
		length = min(length, len(c))
	}
	mean := make([]Number, length)
	for n := range mean {
		for _, c := range curves {
			mean[n] += Number(c[n])
		}
		mean[n] /= Number(len(curves))
	}
	return mean
}

func indicator(b []bool) []float64 {
	v := make([]float64, len(b))
	for i := range b {
		if b[i] {
			v[i] = 1
		}
	}
	return v
}
