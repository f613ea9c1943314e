package align

import (
	"bytes"
	"encoding/csv"
	"image/png"
	"math"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/tia2-engine/tia2-engine/bench/metrics"
	"github.com/tia2-engine/tia2-engine/bench/tia2"
)

func smallReport(t *testing.T) *Report {
	t.Helper()
	set := smallSet(t)
	report, err := Evaluate([]*tia2.Set{set}, madeUp(t, set), Options{Resampling: metrics.Resampling{Resamples: 500}})
	if err != nil {
		t.Fatal(err)
	}
	return report
}

func TestShort(t *testing.T) {
	for v, want := range map[Number]string{0.7471: ".747", -0.0123: "-.012", 1: "1.000", 0: ".000", -0.0001: ".000",
		-1: "-1.000", 10.5: "10.500", Number(math.NaN()): "-"} {
		if got := short(v, 3); got != want {
			t.Errorf("%g: got %q, want %q", v, got, want)
		}
	}
	if got := pValue(0.0004); got != "< .001" {
		t.Errorf("p: %q", got)
	}
}

func TestTables(t *testing.T) {
	report := smallReport(t)
	for format, wants := range map[string][]string{
		"table":    {"set", "AUROC [95 %]", "textnorm_ur", "Paired differences", "scale 10 and penalty 0.1 for all prompts (fixed)", "always right"},
		"markdown": {"| set | reward |", "| ---:|", "textnorm_mean"},
	} {
		var b strings.Builder
		if err := report.Write(&b, format); err != nil {
			t.Fatal(err)
		}
		for _, want := range wants {
			if !strings.Contains(b.String(), want) {
				t.Errorf("%s lacks %q:\n%s", format, want, b.String())
			}
		}
		for _, line := range strings.Split(b.String(), "\n") {
			if strings.TrimRight(line, " ") != line {
				t.Errorf("%s: trailing spaces in %q", format, line)
			}
		}
	}
	if err := report.Write(&strings.Builder{}, "xml"); err == nil || !strings.Contains(err.Error(), "markdown") {
		t.Errorf("unknown format: %v", err)
	}
}

// A report of every reward stays readable: no line over 120 columns, and not all pairs of rewards.
func TestTableOfEveryReward(t *testing.T) {
	set := smallSet(t)
	set.Name = "comprehensive" // the longest of TIA2
	report, err := Evaluate([]*tia2.Set{set}, scoresOf(t, set), Options{Resampling: metrics.Resampling{Resamples: 500}})
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	if err := report.Write(&b, "table"); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(b.String()) {
		if n := utf8.RuneCountInString(line) - 1; n > 120 {
			t.Errorf("a line of %d characters: %s", n, line)
		}
	}
	// 8 TextNorms with their rewards, 2 ensembles with 9, the best reward with 8 others
	if n, want := report.comparisons().Length(), 8+2*9+8; n != want || !strings.Contains(b.String(), "the JSON has all pairs") {
		t.Errorf("%d comparisons, want %d:\n%s", n, want, b.String())
	}
	b.Reset()
	if err := report.WritePlot(&b, "svg"); err != nil || !strings.Contains(b.String(), "imagereward_textnorm") {
		t.Errorf("plot: %v", err)
	}
}

func TestCSVHoldsEverything(t *testing.T) {
	report := smallReport(t)
	var b strings.Builder
	if err := report.Write(&b, "csv"); err != nil {
		t.Fatal(err)
	}
	rows, err := csv.NewReader(strings.NewReader(b.String())).ReadAll()
	if err != nil || len(rows) != 7 {
		t.Fatalf("%d rows, %v; want a header and 6", len(rows), err)
	}
	if len(rows[0]) != 4+3*7 || rows[0][4] != "auroc" || rows[0][6] != "auroc_high" {
		t.Errorf("header: %v", rows[0])
	}
	if rows[1][1] != "a" || rows[1][4] != full(report.Sets[0].Rewards[0].Mean.AUROC) {
		t.Errorf("first row: %v", rows[1])
	}
}

func TestPlots(t *testing.T) {
	report := smallReport(t)
	var b bytes.Buffer
	if err := report.WritePlot(&b, "png"); err != nil {
		t.Fatal(err)
	}
	picture, err := png.Decode(&b)
	if err != nil {
		t.Fatal(err)
	}
	if size := picture.Bounds().Size(); size.X < 600 || size.Y < 400 {
		t.Errorf("the picture has %v pixels", size)
	}
	b.Reset()
	if err := report.WritePlot(&b, "svg"); err != nil || !strings.Contains(b.String(), "</svg>") || !strings.Contains(b.String(), "textnorm_ur") {
		t.Errorf("svg: %v, %d bytes", err, b.Len())
	}
	if err := report.WritePlot(&b, "gif"); err == nil {
		t.Error("gif is accepted")
	}
	if err := new(Report).WritePlot(&b, "png"); err == nil {
		t.Error("an empty report is drawn")
	}
}
