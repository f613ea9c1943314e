package loadtest

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tia2-engine/tia2-engine/bench/report"
)

// Report is the result of a run: the JSON document of `tia2-engine loadtest`.
type Report struct {
	Started  time.Time `json:"started"`
	Target   string    `json:"target"`
	Protocol string    `json:"protocol"`
	Rewards  []string  `json:"rewards"` // asked for; none: all, or the first
	Items    int       `json:"items_per_request"`
	Pairs    int       `json:"pairs"` // distinct ones that requests are made of
	SLOMS    float64   `json:"slo_ms"`
	WarmupS  float64   `json:"warmup_s"`
	Seed     uint64    `json:"seed"`
	Expected string    `json:"expected,omitempty"` // where expected scores come from
	Steps    []*Step   `json:"steps"`
	Search   *Search   `json:"search,omitempty"`
}

func newReport(r *runner) *Report {
	report := &Report{
		Started: time.Now().UTC().Truncate(time.Second), Target: r.base.Redacted(), Protocol: r.opt.Protocol, Rewards: slices.Concat([]string{}, r.opt.Rewards),
		Items: r.opt.Items, Pairs: len(r.w.Pairs), SLOMS: milliseconds(r.opt.SLO), WarmupS: r.opt.Warmup.Seconds(), Seed: r.opt.Seed, Steps: []*Step{},
	}
	switch {
	case r.expected != nil:
		report.Expected = r.expected.from
	case r.opt.Verify:
		report.Expected = "the first pass"
	}
	return report
}

// add adds a step that was not cut short.
func (r *Report) add(step *Step, err error) error {
	if err == nil {
		r.Steps = append(r.Steps, step)
	}
	return err
}

// Failures says what the server did that it must not do under any load: wrong scores, answers that never came, bad
// requests answered otherwise than they must be. Refusals and slow answers are none.
func (r *Report) Failures() []string {
	var lines []string
	answered := 0
	for _, s := range r.Steps {
		answered += s.Answered
		if s.Wrong > 0 {
			lines = append(lines, fmt.Sprintf("%s: %d of %d scores are wrong: %s", s.Name, s.Wrong, s.Checked, strings.Join(s.WrongExamples, "; ")))
		}
		if s.Lost > 0 {
			lines = append(lines, fmt.Sprintf("%s: %d of %d requests got no answer: %s", s.Name, s.Lost, s.Sent, s.errorsLine()))
		}
		for _, b := range s.Bad {
			if b.Wrong > 0 {
				lines = append(lines, fmt.Sprintf("%s: %d of %d requests of the kind %q were answered with %s: expected %s", s.Name, b.Wrong, b.Sent, b.Kind, b.answersLine(), b.Must))
			}
		}
	}
	if answered == 0 && len(r.Steps) > 0 && len(lines) == 0 {
		lines = append(lines, "no request was answered")
	}
	return lines
}

func (b *BadResult) answersLine() string {
	var parts []string
	for _, what := range slices.Sorted(maps.Keys(b.Answers)) {
		parts = append(parts, fmt.Sprintf("%s (%d)", what, b.Answers[what]))
	}
	return strings.Join(parts, ", ")
}

// Heading says what was measured.
func (r *Report) Heading() string {
	rewards := strings.Join(r.Rewards, ", ")
	switch {
	case rewards == "" && r.Protocol == "pickle":
		rewards = "the server's first reward"
	case rewards == "":
		rewards = "all rewards"
	}
	return fmt.Sprintf("%s, protocol %s, %s, %s a request, SLO %s ms", r.Target, r.Protocol, rewards, plural(r.Items, "picture"), number(r.SLOMS))
}

// column makes one column of a table of steps.
type column struct {
	name    string
	numeric bool
	cell    func(*Step) string
}

var columns = []column{
	{"load", false, func(s *Step) string { return s.Name }},
	{"sent", true, func(s *Step) string { return strconv.Itoa(s.Sent) }},
	{"answers/s", true, func(s *Step) string { return number(s.AnswersPS) }},
	{"pictures/s", true, func(s *Step) string { return number(s.ItemsPS) }},
	{"in SLO/s", true, func(s *Step) string { return number(s.GoodputPS) }},
	{"in SLO", true, func(s *Step) string { return percent(s.GoodShare) }},
	{"p50 ms", true, func(s *Step) string { return s.latency(s.Latency.P50) }},
	{"p90", true, func(s *Step) string { return s.latency(s.Latency.P90) }},
	{"p99", true, func(s *Step) string { return s.latency(s.Latency.P99) }},
	{"p99.9", true, func(s *Step) string { return s.latency(s.Latency.P999) }},
	{"max", true, func(s *Step) string { return s.latency(s.Latency.Max) }},
	{"429", true, func(s *Step) string { return strconv.Itoa(s.Refused429) }},
	{"503", true, func(s *Step) string { return strconv.Itoa(s.Refused503) }},
	{"lost", true, func(s *Step) string { return strconv.Itoa(s.Lost) }},
	{"wrong", true, func(s *Step) string { return strconv.Itoa(s.Wrong) }},
	{"other errors", false, func(s *Step) string { return s.otherErrors() }},
}

func (s *Step) latency(ms float64) string {
	if s.Answered == 0 {
		return "-"
	}
	return number(ms)
}

// otherErrors are those without a column.
func (s *Step) otherErrors() string {
	rest := *s
	rest.Errors = maps.Clone(s.Errors)
	maps.DeleteFunc(rest.Errors, func(kind string, _ int) bool { return kind == "scores are wrong" })
	return rest.errorsLine()
}

// Tables lists the steps, and the bad requests of all steps where there were any.
func (r *Report) Tables() []report.Table {
	steps := report.Table{Title: "load"}
	for _, c := range columns {
		steps.Header, steps.Numeric = append(steps.Header, c.name), append(steps.Numeric, c.numeric)
	}
	for _, s := range r.Steps {
		row := make([]string, len(columns))
		for i, c := range columns {
			row[i] = c.cell(s)
		}
		steps.Rows = append(steps.Rows, row)
	}
	if bad := r.badTable(); len(bad.Rows) > 0 {
		return []report.Table{steps, bad}
	}
	return []report.Table{steps}
}

func (r *Report) badTable() report.Table {
	t := report.Table{Title: "bad requests", Header: []string{"kind", "sent", "must be answered with", "was answered with", "wrong"},
		Numeric: []bool{false, true, false, false, true}}
	for _, kind := range badKinds {
		sum := BadResult{Must: kind.must(), Answers: map[string]int{}}
		for _, s := range r.Steps {
			for _, b := range s.Bad {
				if b.Kind != kind.name {
					continue
				}
				sum.Sent, sum.Wrong = sum.Sent+b.Sent, sum.Wrong+b.Wrong
				for what, n := range b.Answers {
					sum.Answers[what] += n
				}
			}
		}
		if sum.Sent > 0 {
			t.Rows = append(t.Rows, []string{kind.name, strconv.Itoa(sum.Sent), sum.Must, sum.answersLine(), strconv.Itoa(sum.Wrong)})
		}
	}
	return t
}

// Remarks say what the tables do not.
func (r *Report) Remarks() []string {
	var lines []string
	if s := r.Search; s != nil {
		lines = append(lines, s.line(r.SLOMS))
	}
	few, repeats, noRetry, checked := 0, 0.0, 0, 0
	for _, s := range r.Steps {
		if s.Answered > 0 && s.Answered < 100 {
			few++
		}
		repeats = max(repeats, float64(s.Sent*r.Items)/float64(max(r.Pairs, 1)))
		noRetry, checked = noRetry+s.NoRetryAfter, checked+s.Checked
		if s.Loop == "open" && s.LateMS > max(5, s.Latency.P99/10) {
			lines = append(lines, fmt.Sprintf("%s: requests left up to %s ms late (p99): this machine, or the %d requests that may be under way, limit the load", s.Name, number(s.LateMS), inFlightMax))
		}
	}
	if few > 0 {
		lines = append(lines, fmt.Sprintf("%s with fewer than 100 answers: p99 is little more than the maximum there (--duration)", plural(few, "step")))
	}
	if repeats >= 2 {
		lines = append(lines, fmt.Sprintf("the %s were sent up to %s times a step: a server that keeps embeddings answers repeated ones faster", plural(r.Pairs, "pair"), number(repeats)))
	}
	if noRetry > 0 {
		lines = append(lines, fmt.Sprintf("%d refusals (429, 503) had no Retry-After", noRetry))
	}
	if r.Expected == "" {
		return append(lines, "scores were not compared with anything (--verify, --expect)")
	}
	lines = append(lines, fmt.Sprintf("%d scores were compared with those of %s", checked, r.Expected))
	return lines
}

// line says what a search found.
func (s *Search) line(sloMS float64) string {
	level := fmt.Sprintf("%s of requests are answered within %s ms", percent(searchShare), number(sloMS))
	switch {
	case s.RatePS == 0:
		return fmt.Sprintf("search: at no rate from %s/s on %s", number(s.FailsPS), level)
	case s.FailsPS == 0:
		return fmt.Sprintf("search: %s up to %s/s, the highest rate tried", level, number(s.RatePS))
	}
	return fmt.Sprintf("search: %s up to %s/s, not at %s/s", level, number(s.RatePS), number(s.FailsPS))
}

// number writes four digits.
func number(x float64) string {
	if x >= 1000 {
		return strconv.FormatFloat(x, 'f', 0, 64)
	}
	return strconv.FormatFloat(x, 'g', 4, 64)
}

// percent rounds down, so that 100 % is all.
func percent(share float64) string {
	if share == 1 {
		return "100 %"
	}
	return strconv.FormatFloat(float64(int(share*1e4+1e-6))/100, 'f', -1, 64) + " %"
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
