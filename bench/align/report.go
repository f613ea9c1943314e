package align

import (
	"encoding/json"
	"math"

	"github.com/tia2-engine/tia2-engine/bench/metrics"
)

// Number is a figure that JSON shows as null where it is not defined (NaN).
type Number float64

// MarshalJSON writes the shortest decimal that reads back as the same float64, or null.
func (n Number) MarshalJSON() ([]byte, error) {
	if v := float64(n); !math.IsNaN(v) && !math.IsInf(v, 0) {
		return json.Marshal(v)
	}
	return []byte("null"), nil
}

// UnmarshalJSON reads a number, or NaN for null.
func (n *Number) UnmarshalJSON(data []byte) error {
	if string(data) == "null" {
		*n = Number(math.NaN())
		return nil
	}
	return json.Unmarshal(data, (*float64)(n))
}

// Range is a confidence interval, [low, high] in JSON.
type Range [2]Number

func rangeOf(i metrics.Interval) Range { return Range{Number(i.Low), Number(i.High)} }

// Figures are the metrics of one score: of one prompt, or the mean over prompts. AUROC, AUPRC and the average precisions
// are taken against the positive images, the rank correlations (Spearman's rho, Kendall's tau-b) against the graded
// labels.
type Figures struct {
	AUROC    Number `json:"auroc"`
	AUPRC    Number `json:"auprc"`
	AP5      Number `json:"ap5"`
	AP10     Number `json:"ap10"`
	AP25     Number `json:"ap25"`
	Spearman Number `json:"spearman"`
	Kendall  Number `json:"kendall"`
}

// each calls f for every metric with its name in JSON and a pointer to its value.
func (m *Figures) each(f func(name string, value *Number)) {
	f("auroc", &m.AUROC)
	f("auprc", &m.AUPRC)
	f("ap5", &m.AP5)
	f("ap10", &m.AP10)
	f("ap25", &m.AP25)
	f("spearman", &m.Spearman)
	f("kendall", &m.Kendall)
}

// figures computes all metrics of the images of one prompt.
func figures(scores []float64, positive []bool, graded []float64) Figures {
	return Figures{
		AUROC:    Number(metrics.AUROC(scores, positive)),
		AUPRC:    Number(metrics.AUPRC(scores, positive)),
		AP5:      Number(metrics.APAt(5, scores, positive)),
		AP10:     Number(metrics.APAt(10, scores, positive)),
		AP25:     Number(metrics.APAt(25, scores, positive)),
		Spearman: Number(metrics.Spearman(scores, graded)),
		Kendall:  Number(metrics.KendallTauB(scores, graded)),
	}
}

// PromptReport is what one score reaches on one prompt.
type PromptReport struct {
	Figures
	Human   Number   `json:"human"`             // share of positive images, of those scored
	Images  int      `json:"images"`            // scored
	Scale   *float64 `json:"scale,omitempty"`   // softmax scale, of a TextNorm score
	Penalty *float64 `json:"penalty,omitempty"` // weight of the variance, of textnorm_ur
}

// RewardReport is what one score reaches on one set.
type RewardReport struct {
	Name    string                  `json:"name"`
	Model   string                  `json:"model,omitempty"` // what computed a raw reward, where the scores say it
	Mean    Figures                 `json:"mean"`            // over the prompts on which the figure is defined
	CI      map[string]Range        `json:"ci"`              // of the means, by metric
	Human   Number                  `json:"human"`           // mean share of positive images: what a random choice reaches
	BestOfN []Number                `json:"best_of_n"`       // [n-1]: share of positives among the best of n images by this score
	Scored  int                     `json:"scored_prompts"`
	Prompts map[string]PromptReport `json:"prompts"` // by caption; only those with images of both classes
}

// Comparison is a paired test of two scores on the prompts that both have: the sign-flip test on the differences A - B.
// P is not adjusted for the number of comparisons.
type Comparison struct {
	A       string `json:"a"`
	B       string `json:"b"`
	Metric  string `json:"metric"`
	Prompts int    `json:"prompts"`
	Mean    Number `json:"mean_difference"`
	CI      Range  `json:"ci"`
	P       Number `json:"p"`
}

// SetReport is what all scores reach on one set.
type SetReport struct {
	Set         string         `json:"set"`
	Prompts     int            `json:"prompts"` // of the set, with or without scores
	Rewards     []RewardReport `json:"rewards"`
	Comparisons []Comparison   `json:"comparisons,omitempty"`
	// BestOfNIdeal is the curve of a score that puts every positive image first: no reward can be above it.
	BestOfNIdeal []Number `json:"best_of_n_ideal"`
	Notes        []string `json:"notes,omitempty"` // what was left out and why
}

// Settings are the options that the figures depend on, as they were used.
type Settings struct {
	Protocol  string   `json:"protocol"`
	Scale     *float64 `json:"softmax_scale,omitempty"` // protocol fixed only
	Penalty   *float64 `json:"penalty,omitempty"`       // protocol fixed only
	MinMax    string   `json:"minmax"`
	Level     float64  `json:"ci_level"`
	Resamples int      `json:"resamples"`
	Seed      uint64   `json:"seed"`
}

// Report is the result of an evaluation. Its JSON is the one documented for the command eval.
type Report struct {
	Settings Settings    `json:"settings"`
	Sets     []SetReport `json:"sets"`
	Notes    []string    `json:"notes,omitempty"`
}

// Reward returns the report of a score by its name, nil if the set has none.
func (s *SetReport) Reward(name string) *RewardReport {
	for i := range s.Rewards {
		if s.Rewards[i].Name == name {
			return &s.Rewards[i]
		}
	}
	return nil
}
