package align

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
)

// Formats are the formats of [Report.Write].
var Formats = []string{"table", "json", "csv", "markdown"}

// Write writes the report in one of the Formats: "json" has everything, "csv" the means with the bounds of their
// intervals, unrounded, "table" and "markdown" the rounded means, the comparisons and the notes.
func (r *Report) Write(w io.Writer, format string) error {
	switch format {
	case "json":
		enc := json.NewEncoder(w)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", " ")
		return enc.Encode(r)
	case "csv":
		_, err := fmt.Fprintln(w, r.csv().RenderCSV())
		return err
	case "table", "markdown":
		return r.WriteTable(w, format)
	}
	return fmt.Errorf("format %q: want one of %s", format, strings.Join(Formats, ", "))
}

// WriteTable writes the table of means, the paired comparisons and the notes, as "table" or "markdown". AUROC carries
// its confidence interval; the intervals of the other metrics are in the JSON and CSV.
func (r *Report) WriteTable(w io.Writer, format string) error {
	var b strings.Builder
	render := func(t table.Writer) {
		if format == "markdown" {
			b.WriteString(t.RenderMarkdown())
		} else {
			b.WriteString(t.Render())
		}
		b.WriteString("\n")
	}
	render(r.means())
	if t := r.comparisons(); t.Length() > 0 {
		fmt.Fprintf(&b, "\nPaired differences in AUROC (sign-flip test over prompts, p not adjusted for their number):\n%s\n", r.which())
		render(t)
	}
	fmt.Fprintf(&b, "\n%s\n", r.Settings.describe())
	for _, s := range r.Sets {
		for _, n := range s.Notes {
			fmt.Fprintf(&b, "%s: %s\n", s.Set, n)
		}
	}
	for _, n := range r.Notes {
		fmt.Fprintln(&b, n)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// describe says in a line how the figures came about.
func (s Settings) describe() string {
	var protocol string
	switch s.Protocol {
	case "cv":
		protocol = "scale and penalty chosen on the other prompts (cv)"
	case "oracle":
		protocol = "scale and penalty chosen on each prompt's own labels (oracle, as published: an upper bound)"
	default:
		protocol = "same scale and penalty for all prompts (fixed)"
		if s.Scale != nil && s.Penalty != nil {
			protocol = fmt.Sprintf("scale %g and penalty %g for all prompts (fixed)", *s.Scale, *s.Penalty)
		}
	}
	return fmt.Sprintf("TextNorm: %s, min-max per %s.\nIntervals: %g %%, BCa bootstrap over prompts.",
		protocol, s.MinMax, 100*s.Level)
}

// which is a line that says which pairs of raw rewards are left out, where some are.
func (r *Report) which() string {
	for i := range r.Sets {
		if n, _ := r.Sets[i].raw(); n > pairsMost {
			return "Of raw rewards the best one with each other one; the JSON has all pairs.\n"
		}
	}
	return ""
}

// newTable returns an empty table whose first columns, labels of them, are left-aligned words and the rest numbers.
func newTable(labels int) table.Writer {
	t := table.NewWriter()
	style := table.StyleLight
	style.Format.Header = text.FormatDefault
	style.Options = table.OptionsNoBordersAndSeparators
	style.Options.SeparateHeader = true
	style.Options.SeparateRows = false
	t.SetStyle(style)
	t.SuppressTrailingSpaces()
	var columns []table.ColumnConfig
	for c := labels + 1; c <= labels+10; c++ {
		columns = append(columns, table.ColumnConfig{Number: c, Align: text.AlignRight, AlignHeader: text.AlignRight})
	}
	t.SetColumnConfigs(columns)
	return t
}

func (r *Report) means() table.Writer {
	t := newTable(2)
	t.AppendHeader(table.Row{"set", "reward", "prompts", fmt.Sprintf("AUROC [%g %%]", 100*r.Settings.Level), "AUPRC", "AP@5",
		"AP@10", "AP@25", "Spearman", "Kendall"})
	for i, s := range r.Sets {
		if i > 0 {
			t.AppendRow(table.Row{""}) // a separator line is lost without borders
		}
		for _, reward := range s.Rewards {
			m := reward.Mean
			t.AppendRow(table.Row{s.Set, reward.Name, reward.Scored, withRange(m.AUROC, reward.CI["auroc"]), short(m.AUPRC, 3),
				short(m.AP5, 3), short(m.AP10, 3), short(m.AP25, 3), short(m.Spearman, 3), short(m.Kendall, 3)})
		}
	}
	return t
}

func (r *Report) comparisons() table.Writer {
	t := newTable(3)
	t.AppendHeader(table.Row{"set", "reward", "minus", "prompts", fmt.Sprintf("difference [%g %%]", 100*r.Settings.Level), "p"})
	for i, s := range r.Sets {
		if i > 0 && len(s.Comparisons) > 0 {
			t.AppendRow(table.Row{""})
		}
		for _, c := range s.Comparisons {
			if !s.telling(c) {
				continue
			}
			t.AppendRow(table.Row{s.Set, c.A, c.B, c.Prompts, withRange(c.Mean, c.CI), pValue(c.P)})
		}
	}
	return t
}

// pairsMost is the number of raw rewards of which all pairs are listed.
const pairsMost = 4

// telling picks the comparisons worth a line: a score with a raw reward, unless that is the TextNorm of another. Of many
// raw rewards the best one is compared with the others. The JSON has all pairs.
func (s *SetReport) telling(c Comparison) bool {
	if !s.isRaw(c.B) {
		return false
	}
	if !s.isRaw(c.A) {
		return c.A == c.B+textnormSuffix || s.isEnsemble(c.A)
	}
	n, best := s.raw()
	return n <= pairsMost || c.A == best || c.B == best
}

// raw returns the number of raw rewards, and the name of the one with the highest mean AUROC.
func (s *SetReport) raw() (n int, best string) {
	top := Number(math.Inf(-1))
	for _, reward := range s.Rewards {
		if !s.isRaw(reward.Name) {
			continue
		}
		n++
		if auroc := reward.Mean.AUROC; auroc > top {
			best, top = reward.Name, auroc
		}
	}
	return n, best
}

func (s *SetReport) isRaw(name string) bool {
	return !s.isEnsemble(name) && (!strings.HasSuffix(name, textnormSuffix) || s.Reward(strings.TrimSuffix(name, textnormSuffix)) == nil)
}

func (s *SetReport) isEnsemble(name string) bool {
	return name == ensembleMean || name == ensemblePenalised
}

// csv has every number in full, a line for each set and score.
func (r *Report) csv() table.Writer {
	t := table.NewWriter()
	header := table.Row{"set", "reward", "prompts", "human"}
	new(Figures).each(func(name string, _ *Number) { header = append(header, name, name+"_low", name+"_high") })
	t.AppendHeader(header)
	for _, s := range r.Sets {
		for _, reward := range s.Rewards {
			row := table.Row{s.Set, reward.Name, reward.Scored, full(reward.Human)}
			reward.Mean.each(func(name string, v *Number) {
				ci := reward.CI[name]
				row = append(row, full(*v), full(ci[0]), full(ci[1]))
			})
			t.AppendRow(row)
		}
	}
	return t
}

func full(n Number) string {
	if math.IsNaN(float64(n)) {
		return ""
	}
	return strconv.FormatFloat(float64(n), 'g', -1, 64)
}

// short drops the zero before the point, as tables of correlations do: .747, -.012, 1.000.
func short(n Number, digits int) string {
	if math.IsNaN(float64(n)) {
		return "-"
	}
	s := strconv.FormatFloat(float64(n), 'f', digits, 64)
	if strings.Trim(s, "-0.") == "" {
		s = strings.TrimPrefix(s, "-") // a rounded -0.0001 is no -.000
	}
	if rest, negative := strings.CutPrefix(s, "-0."); negative {
		return "-." + rest
	}
	return strings.TrimPrefix(s, "0")
}

// withRange shows a figure and its interval: .747 [.711, .783].
func withRange(n Number, r Range) string {
	return fmt.Sprintf("%s [%s, %s]", short(n, 3), short(r[0], 3), short(r[1], 3))
}

func pValue(p Number) string {
	if p < 0.001 {
		return "< .001"
	}
	return short(p, 3)
}
