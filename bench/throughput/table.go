package throughput

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/tia2-engine/tia2-engine/bench/profile"
	"github.com/tia2-engine/tia2-engine/bench/report"
)

// column makes one column of a table of T.
type column[T any] struct {
	name    string
	numeric bool
	cell    func(T) string
}

func makeTable[T any](title string, items []T, columns []column[T]) report.Table {
	t := report.Table{Title: title}
	for _, c := range columns {
		t.Header = append(t.Header, c.name)
		t.Numeric = append(t.Numeric, c.numeric)
	}
	for _, item := range items {
		row := make([]string, len(columns))
		for i, c := range columns {
			row[i] = c.cell(item)
		}
		t.Rows = append(t.Rows, row)
	}
	return t
}

// Heading describes the machine and the engine in two lines.
func (r *Report) Heading() string {
	m, e := r.Machine, r.Engine
	isa := e.ISA
	if isa == "" {
		isa = "unknown"
	}
	return fmt.Sprintf("%s, %d cores, %s/%s; with %d threads f32 %s, bf16 %s GFLOP/s, int8 %s GOP/s, memory %s GB/s\n"+
		"tia2-engine %s, ggml %s, oneDNN %s, kernels %s",
		m.CPU, m.Cores, m.OS, m.Arch, m.PeakThreads, orDash(m.PeakGFLOPS.F32), orDash(m.PeakGFLOPS.BF16),
		orDash(m.PeakGFLOPS.Int8), orDash(m.BandwidthGBs), dash(e.Engine), dash(e.GGML), dash(e.OneDNN), isa)
}

// hoist moves columns whose cells are all alike into the title, so that a terminal is wide enough for the table. A cell
// that says little without its column's name takes that along.
func hoist(t report.Table) report.Table {
	words := map[string]string{"model": "%s", "backend": "%s", "dtype": "%s", "batch": "batch %s", "threads": "%s threads"}
	if len(t.Rows) == 0 {
		return t
	}
	var said []string
	for c := len(t.Header) - 1; c >= 0; c-- {
		word, movable := words[t.Header[c]]
		same := func(row []string) bool { return row[c] == t.Rows[0][c] }
		if !movable || slices.ContainsFunc(t.Rows, func(row []string) bool { return !same(row) }) {
			continue
		}
		said = append(said, fmt.Sprintf(word, t.Rows[0][c]))
		t.Header, t.Numeric = slices.Delete(t.Header, c, c+1), slices.Delete(t.Numeric, c, c+1)
		for i := range t.Rows {
			t.Rows[i] = slices.Delete(t.Rows[i], c, c+1)
		}
	}
	if len(said) > 0 {
		slices.Reverse(said)
		t.Title += ": " + strings.Join(said, ", ")
	}
	return t
}

// towerCell adds the number of texts an image to the tower pair of a cross encoder.
func towerCell(tower string, texts int) string {
	if texts > 0 {
		return fmt.Sprintf("%s %d", tower, texts)
	}
	return tower
}

// RunsTable lists the runs as people read them: four digits, percent, and only the columns that a terminal is wide
// enough for. The threads are in the heading; the CSV and the JSON have everything.
func (r *Report) RunsTable() report.Table {
	return hoist(makeTable("throughput", r.Runs, []column[Run]{
		{"model", false, func(r Run) string { return r.Model }},
		{"tower", false, func(r Run) string { return towerCell(r.Tower, r.PromptsPerImage) }},
		{"backend", false, func(r Run) string { return r.Backend }},
		{"dtype", false, func(r Run) string { return r.DType }},
		{"batch", true, func(r Run) string { return strconv.Itoa(r.Batch) }},
		{"items/s", true, func(r Run) string { return digits(r.ItemsPS) }},
		{"item", false, func(r Run) string { return r.Item }},
		{"±", true, func(r Run) string { return percent(r.Spread) }},
		{"p50 ms", true, func(r Run) string { return digits(r.Latency.P50) }},
		{"p99 ms", true, func(r Run) string { return digits(r.Latency.P99) }},
		{"GFLOP/s", true, func(r Run) string { return digits(r.GFLOPS) }},
		{"of peak", true, func(r Run) string { return percent(r.PeakFraction) }},
		{"RSS MB", true, func(r Run) string { return orDash(r.RSSPeakMB) }},
		{"calls", true, func(r Run) string { return strconv.Itoa(r.Calls) }},
	}))
}

// RunsCSV lists the runs for programs: the names and numbers of the JSON.
func (r *Report) RunsCSV() report.Table {
	return makeTable("", r.Runs, []column[Run]{
		{"model", false, func(r Run) string { return r.Model }},
		{"tower", false, func(r Run) string { return r.Tower }},
		{"backend", false, func(r Run) string { return r.Backend }},
		{"device", false, func(r Run) string { return r.Device }},
		{"dtype", false, func(r Run) string { return r.DType }},
		{"batch", true, func(r Run) string { return strconv.Itoa(r.Batch) }},
		{"texts", true, func(r Run) string { return strconv.Itoa(r.Texts) }},
		{"threads", true, func(r Run) string { return strconv.Itoa(r.Threads) }},
		{"item", false, func(r Run) string { return r.Item }},
		{"items_per_s", true, func(r Run) string { return number(r.ItemsPS) }},
		{"spread", true, func(r Run) string { return optional(r.Spread) }},
		{"latency_ms_p50", true, func(r Run) string { return number(r.Latency.P50) }},
		{"latency_ms_p90", true, func(r Run) string { return number(r.Latency.P90) }},
		{"latency_ms_p99", true, func(r Run) string { return number(r.Latency.P99) }},
		{"gflop_per_item", true, func(r Run) string { return number(r.GFLOPPerItem) }},
		{"gflops", true, func(r Run) string { return number(r.GFLOPS) }},
		{"peak_fraction", true, func(r Run) string { return optional(r.PeakFraction) }},
		{"rss_peak_mb", true, func(r Run) string { return number(r.RSSPeakMB) }},
		{"weights_mb", true, func(r Run) string { return number(r.WeightsMB) }},
		{"calls", true, func(r Run) string { return strconv.Itoa(r.Calls) }},
		{"stop", false, func(r Run) string { return r.Stop }},
		{"prompts_per_image", true, func(r Run) string { return strconv.Itoa(r.PromptsPerImage) }},
	})
}

// OpsTable lists where the time of a profiled run went; without rows when the run was not profiled. Its numbers have as
// many decimals as a column needs to be read downwards, not four digits each.
func (r *Run) OpsTable() report.Table {
	title := "ops of " + r.Key().String()
	if n := len(r.Ops); n > 0 { // the last row is the total
		title += fmt.Sprintf(": %s ms op by op, %s ms timed", digits(r.Ops[n-1].TimeMS), digits(r.Latency.P50))
	}
	return makeTable(title, r.Ops, []column[profile.Row]{
		{"op", false, func(o profile.Row) string { return o.Op }},
		{"shape", false, func(o profile.Row) string { return o.Shape }},
		{"runs", true, func(o profile.Row) string { return strconv.FormatUint(o.Count, 10) }},
		{"ms", true, func(o profile.Row) string { return strconv.FormatFloat(o.TimeMS, 'f', 3, 64) }},
		{"share", true, func(o profile.Row) string { return percent(&o.Share) }},
		{"GFLOP/s", true, func(o profile.Row) string { return decimals(o.GFLOPS, 1) }},
		{"GB/s", true, func(o profile.Row) string { return decimals(o.GBs, 2) }},
		{"of roof", true, func(o profile.Row) string { return percent(o.RoofFraction) }},
		{"bound", false, func(o profile.Row) string { return o.Bound }},
	})
}

// Table lists the changes as people read them. Warnings, notes, also those of single runs, and unmatched runs are the
// caller's to print, see [Comparison.Remarks].
func (c Comparison) Table() report.Table {
	return hoist(makeTable("compared with the older report", c.Changes, changeColumns()))
}

// CSV lists the changes for programs, each with its note.
func (c Comparison) CSV() report.Table {
	return makeTable("", c.Changes, append(changeColumns(), column[Change]{"note", false, func(c Change) string { return c.Note }}))
}

func changeColumns() []column[Change] {
	return []column[Change]{
		{"model", false, func(c Change) string { return c.Model }},
		{"tower", false, func(c Change) string { return towerCell(c.Tower, c.PromptsPerImage) }},
		{"backend", false, func(c Change) string { return c.Backend }},
		{"dtype", false, func(c Change) string { return c.DType }},
		{"batch", true, func(c Change) string { return strconv.Itoa(c.Batch) }},
		{"threads", true, func(c Change) string { return strconv.Itoa(c.Threads) }},
		{"old items/s", true, func(c Change) string { return digits(c.OldItemsPS) }},
		{"new items/s", true, func(c Change) string { return digits(c.NewItemsPS) }},
		{"ratio", true, func(c Change) string { return strconv.FormatFloat(c.Ratio, 'f', 3, 64) }},
		{"noise", true, func(c Change) string { return percent(c.Noise) }},
		{"p", true, func(c Change) string { return pValue(c.P) }},
		{"RSS ratio", true, func(c Change) string { return ratio(c.RSSRatio) }},
		{"verdict", false, func(c Change) string { return string(c.Verdict) }},
	}
}

// Remarks returns the lines to print with the table of changes: warnings first, then notes, why a verdict is unclear or
// differs, runs that only one report has, and the summary.
func (c Comparison) Remarks() []string {
	var out []string
	for _, w := range c.Warnings {
		out = append(out, "warning: "+w)
	}
	for _, n := range c.Notes {
		out = append(out, "note: "+n)
	}
	for _, change := range c.Changes {
		if change.Note != "" {
			out = append(out, fmt.Sprintf("%s: %s: %s", change.Verdict, change.Key, change.Note))
		}
	}
	for _, k := range c.OnlyOld {
		out = append(out, "only in the older report: "+k.String())
	}
	for _, k := range c.OnlyNew {
		out = append(out, "only in the new report: "+k.String())
	}
	return append(out, c.Summary())
}

// digits prints four significant digits, never fewer than the whole number and never an exponent.
func digits(x float64) string {
	if x == 0 || math.IsNaN(x) || math.IsInf(x, 0) {
		return strconv.FormatFloat(x, 'g', -1, 64)
	}
	decimals := 3 - int(math.Floor(math.Log10(math.Abs(x))))
	return strconv.FormatFloat(x, 'f', min(max(decimals, 0), 9), 64)
}

func number(x float64) string { return strconv.FormatFloat(x, 'f', -1, 64) }

func optional(x *float64) string {
	if x == nil {
		return ""
	}
	return number(*x)
}

func orDash(x float64) string {
	if x == 0 {
		return "-"
	}
	return digits(x)
}

// decimals prints a fixed number of decimals, and a dash for 0, which means that the op does none.
func decimals(x float64, n int) string {
	if x == 0 {
		return "-"
	}
	return strconv.FormatFloat(x, 'f', n, 64)
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func percent(x *float64) string {
	if x == nil {
		return "-"
	}
	return strconv.FormatFloat(*x*100, 'f', 1, 64) + " %"
}

func ratio(x *float64) string {
	if x == nil {
		return "-"
	}
	return strconv.FormatFloat(*x, 'f', 2, 64)
}

func pValue(p *float64) string {
	switch {
	case p == nil:
		return "-"
	case *p < 0.001:
		return "<0.001"
	}
	return strconv.FormatFloat(*p, 'f', 3, 64)
}
