package throughput

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	"golang.org/x/perf/benchmath"
)

// Key tells which runs of two reports are the same measurement.
type Key struct {
	Model   string `json:"model"`
	Tower   string `json:"tower"`
	Backend string `json:"backend"`
	DType   string `json:"dtype"`
	Batch   int    `json:"batch"`
	Threads int    `json:"threads"`

	PromptsPerImage int `json:"prompts_per_image,omitempty"`
}

func (k Key) String() string {
	if k.PromptsPerImage > 0 {
		k.Tower += " of " + perImage(k.PromptsPerImage)
	}
	return fmt.Sprintf("%s %s, %s %s, batch %d, %d threads", k.Model, k.Tower, k.Backend, k.DType, k.Batch, k.Threads)
}

// Key returns what identifies the run.
func (r *Run) Key() Key {
	return Key{r.Model, r.Tower, r.Backend, r.DType, r.Batch, r.Threads, r.PromptsPerImage}
}

// Verdict is what a comparison says of one run.
type Verdict string

// The verdicts of [Compare].
const (
	Faster  Verdict = "faster"
	Slower  Verdict = "slower"
	Same    Verdict = "same"    // no difference beyond the noise
	Unclear Verdict = "unclear" // too few timed calls to tell a difference from noise
	Differs Verdict = "differs" // the two did not do the same work
)

const (
	// effectMin is the least relative change that counts: below it lie alignment of code, page placement and the like.
	effectMin = 0.03
	// callsMin is how many timed calls each side needs before a difference is told from noise, or called none.
	callsMin = 5
	// machineDrift is the relative change of a measured peak from which the machine itself is said to differ.
	machineDrift = 0.10
)

// Change is one run of both reports.
type Change struct {
	Key
	Item       string   `json:"item"` // what an item is
	OldItemsPS float64  `json:"old_items_per_s"`
	NewItemsPS float64  `json:"new_items_per_s"`
	OldP50MS   float64  `json:"old_p50_ms"` // of one call
	NewP50MS   float64  `json:"new_p50_ms"`
	Ratio      float64  `json:"ratio"`     // new over old items a second: above 1 is faster
	Noise      *float64 `json:"noise"`     // relative change that the 95 % intervals of both medians allow; null: unknown
	P          *float64 `json:"p_value"`   // of the Mann-Whitney U test on the single calls; null without samples
	RSSRatio   *float64 `json:"rss_ratio"` // new over old peak memory; null where one is unknown
	Verdict    Verdict  `json:"verdict"`
	Note       string   `json:"note,omitempty"` // why the verdict is unclear or differs
}

// Comparison is a report set against an older one.
type Comparison struct {
	Warnings []string `json:"warnings"` // reasons to doubt the ratios: another machine, another CPU level, a drifted peak
	Notes    []string `json:"notes"`    // versions that changed
	Changes  []Change `json:"changes"`  // in the new report's order
	OnlyOld  []Key    `json:"only_old"`
	OnlyNew  []Key    `json:"only_new"`
}

// Compare matches the runs of two reports by their Key. A run is faster or slower when the change of its median is
// beyond the noise of both sides and beyond 3 %, and the single calls differ by a Mann-Whitney U test (p < 0.05) where
// both reports hold them. Where a side has fewer than 5 calls nothing is claimed. The test alone would call drifts of the machine within a minute a change.
func Compare(old, latest *Report) Comparison {
	c := Comparison{
		Warnings: machineWarnings(old, latest), Notes: versionNotes(old, latest),
		Changes: []Change{}, OnlyOld: []Key{}, OnlyNew: []Key{},
	}
	byKey := map[Key]*Run{}
	for i := range old.Runs {
		byKey[old.Runs[i].Key()] = &old.Runs[i]
	}
	for i := range latest.Runs {
		run := &latest.Runs[i]
		before, ok := byKey[run.Key()]
		if !ok {
			c.OnlyNew = append(c.OnlyNew, run.Key())
			continue
		}
		delete(byKey, run.Key())
		c.Changes = append(c.Changes, compareRuns(before, run))
	}
	for i := range old.Runs {
		if _, left := byKey[old.Runs[i].Key()]; left {
			c.OnlyOld = append(c.OnlyOld, old.Runs[i].Key())
		}
	}
	return c
}

func compareRuns(old, latest *Run) Change {
	c := Change{
		Key: latest.Key(), Item: latest.Item, OldItemsPS: old.ItemsPS, NewItemsPS: latest.ItemsPS,
		OldP50MS: old.Latency.P50, NewP50MS: latest.Latency.P50, Ratio: round(latest.ItemsPS / old.ItemsPS),
	}
	if old.RSSPeakMB > 0 && latest.RSSPeakMB > 0 {
		ratio := round(latest.RSSPeakMB / old.RSSPeakMB)
		c.RSSRatio = &ratio
	}
	if old.Spread != nil && latest.Spread != nil {
		noise := round(math.Hypot(*old.Spread, *latest.Spread)) // independent errors
		c.Noise = &noise
	}
	enough := false // samples for the test to find any difference
	if len(old.SamplesMS) > 0 && len(latest.SamplesMS) > 0 {
		test := uTest(old.SamplesMS, latest.SamplesMS)
		p := round(test.P)
		c.P = &p
		enough = len(test.Warnings) == 0
	}
	c.Verdict, c.Note = verdict(old, latest, &c, enough)
	return c
}

func uTest(a, b []float64) benchmath.Comparison {
	sample := func(xs []float64) *benchmath.Sample {
		return benchmath.NewSample(slices.Clone(xs), &benchmath.DefaultThresholds)
	}
	return benchmath.AssumeNothing.Compare(sample(a), sample(b))
}

func verdict(old, latest *Run, c *Change, enough bool) (v Verdict, note string) {
	if old.Texts != latest.Texts {
		return Differs, fmt.Sprintf("texts a call: %d, now %d", old.Texts, latest.Texts)
	}
	if a, b := old.GFLOPPerItem, latest.GFLOPPerItem; a > 0 && b > 0 && math.Abs(b/a-1) > 0.01 {
		return Differs, fmt.Sprintf("GFLOP an item: %.4g, now %.4g", a, b)
	}
	if min(old.Calls, latest.Calls) < callsMin {
		return Unclear, fmt.Sprintf("%d and %d timed calls are too few", old.Calls, latest.Calls)
	}
	effect := math.Abs(math.Log(c.Ratio)) // the same for 2 x and 1/2 x
	noise := effectMin
	if c.Noise != nil {
		noise = max(noise, *c.Noise)
	}
	if effect <= noise {
		return Same, ""
	}
	switch {
	case c.P != nil && !enough, c.P == nil && c.Noise == nil:
		return Unclear, fmt.Sprintf("%d and %d timed calls are too few", len(old.SamplesMS), len(latest.SamplesMS))
	case c.P != nil && *c.P >= benchmath.DefaultThresholds.CompareAlpha:
		return Same, ""
	case c.Ratio > 1:
		return Faster, ""
	}
	return Slower, ""
}

// machineWarnings names what makes the two machines different.
func machineWarnings(old, latest *Report) []string {
	out := []string{}
	warn := func(what string, a, b any) {
		if a != b {
			out = append(out, fmt.Sprintf("%s: %v, now %v", what, a, b))
		}
	}
	a, b := old.Machine, latest.Machine
	warn("CPU", a.CPU, b.CPU)
	warn("cores", a.Cores, b.Cores)
	if a.OS != "" && a.Arch != "" {
		warn("system", a.OS+"/"+a.Arch, b.OS+"/"+b.Arch)
	}
	warn("CPU kernels", old.Engine.ISA, latest.Engine.ISA)
	drift := func(what string, a, b float64) {
		if (a > 0) != (b > 0) || a > 0 && math.Abs(b/a-1) > machineDrift {
			out = append(out, fmt.Sprintf("measured %s: %.4g, now %.4g: the machine itself runs at another speed", what, a, b))
		}
	}
	drift("f32 peak", a.PeakGFLOPS.F32, b.PeakGFLOPS.F32)
	drift("bf16 peak", a.PeakGFLOPS.BF16, b.PeakGFLOPS.BF16)
	drift("int8 peak", a.PeakGFLOPS.Int8, b.PeakGFLOPS.Int8)
	drift("bandwidth", a.BandwidthGBs, b.BandwidthGBs)
	return out
}

func versionNotes(old, latest *Report) []string {
	out := []string{}
	for _, v := range []struct{ what, old, latest string }{
		{"tia2-engine", old.Engine.Engine, latest.Engine.Engine},
		{"ggml", old.Engine.GGML, latest.Engine.GGML},
		{"oneDNN", old.Engine.OneDNN, latest.Engine.OneDNN},
	} {
		if v.old != v.latest {
			out = append(out, fmt.Sprintf("%s: %s, now %s", v.what, cmp.Or(v.old, "none"), cmp.Or(v.latest, "none")))
		}
	}
	return out
}

// Summary says in one line how many runs went which way, and the geometric mean of the ratios of comparable ones.
func (c Comparison) Summary() string {
	count := map[Verdict]int{}
	logs, n := 0.0, 0
	for _, change := range c.Changes {
		count[change.Verdict]++
		if change.Verdict != Differs {
			logs += math.Log(change.Ratio)
			n++
		}
	}
	var parts []string
	for _, v := range []Verdict{Faster, Slower, Same, Unclear, Differs} {
		if count[v] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", count[v], v))
		}
	}
	if n == 0 {
		return strings.Join(append(parts, "no run of both reports can be compared"), ", ")
	}
	return fmt.Sprintf("%s; geometric mean of the ratios %.3f", strings.Join(parts, ", "), math.Exp(logs/float64(n)))
}
