package throughput

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// around returns n times spread evenly over +-2 % of ms.
func around(ms float64, n int) []float64 {
	out := make([]float64, n)
	for i := range out {
		out[i] = ms * (0.98 + 0.04*float64(i)/float64(max(n-1, 1)))
	}
	return out
}

// timed returns a run of one image a call with the given times.
func timed(ms []float64) Run {
	r := Run{Model: "m", Tower: TowerImage, Backend: "cpu", DType: "f32", Batch: 1, Threads: 2, Item: "image",
		ItemsPS: 1e3 / median(ms), SamplesMS: ms, Calls: len(ms), GFLOPPerItem: 1, RSSPeakMB: 100}
	if rel := medianSpread(ms); rel != spreadUnknown {
		r.Spread = &rel
	}
	return r
}

func TestVerdicts(t *testing.T) {
	spread := func(x float64) *float64 { return &x }
	noSamples := func(itemsPS float64, s *float64) Run {
		r := timed(around(100, 10))
		r.ItemsPS, r.Spread, r.SamplesMS = itemsPS, s, nil
		return r
	}
	with := func(r Run, change func(*Run)) Run { change(&r); return r }
	tests := []struct {
		name        string
		old, latest Run
		want        Verdict
	}{
		{"the same", timed(around(100, 10)), timed(around(100, 10)), Same},
		{"twice as fast", timed(around(100, 10)), timed(around(50, 10)), Faster},
		{"half as fast", timed(around(50, 10)), timed(around(100, 10)), Slower},
		{"ten percent faster, quiet", timed(around(100, 10)), timed(around(91, 10)), Faster},
		{"two percent, significant but below what counts", timed(around(100, 1000)), timed(around(98, 1000)), Same},
		{"ten percent, as noisy", timed([]float64{60, 70, 80, 90, 100, 100, 110, 120, 130, 140}),
			timed([]float64{55, 65, 75, 80, 90, 92, 100, 110, 120, 130}), Same},
		{"medians apart, samples mixed", with(timed(around(100, 10)), func(r *Run) { r.ItemsPS = 8 }), timed(around(100, 10)), Same},
		{"three calls tell nothing", timed(around(100, 3)), timed(around(50, 3)), Unclear},
		{"three calls without a difference", timed(around(100, 3)), timed(around(100, 3)), Unclear},
		{"four calls, all apart", timed(around(100, 4)), timed(around(50, 4)), Unclear},
		{"four calls against many", timed(around(50, 4)), timed(around(100, 50)), Unclear},
		{"many calls against four", timed(around(100, 50)), timed(around(50, 4)), Unclear},
		{"five calls, all apart", timed(around(100, 5)), timed(around(50, 5)), Faster},
		{"no samples, spreads small", noSamples(10, spread(0.01)), noSamples(12, spread(0.01)), Faster},
		{"no samples, spreads wide", noSamples(10, spread(0.2)), noSamples(12, spread(0.2)), Same},
		{"no samples, no spreads", noSamples(10, nil), noSamples(12, nil), Unclear},
		{"other texts", timed(around(100, 10)), with(timed(around(50, 10)), func(r *Run) { r.Texts = 5 }), Differs},
		{"other work", timed(around(100, 10)), with(timed(around(50, 10)), func(r *Run) { r.GFLOPPerItem = 2 }), Differs},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := Compare(&Report{Runs: []Run{tt.old}}, &Report{Runs: []Run{tt.latest}})
			if got := c.Changes[0]; got.Verdict != tt.want {
				t.Errorf("verdict %s, want %s: %+v", got.Verdict, tt.want, got)
			}
			if note := c.Changes[0].Note; (note != "") != (tt.want == Unclear || tt.want == Differs) {
				t.Errorf("note %q with verdict %s", note, tt.want)
			}
		})
	}
}

func TestCompareKeepsSamples(t *testing.T) {
	run := timed([]float64{3, 1, 2, 5, 4, 6})
	Compare(&Report{Runs: []Run{run}}, &Report{Runs: []Run{run}})
	if want := []float64{3, 1, 2, 5, 4, 6}; !slices.Equal(run.SamplesMS, want) {
		t.Errorf("samples now %v", run.SamplesMS)
	}
}

func TestCompareMatches(t *testing.T) {
	a := timed(around(100, 10))
	b, c := a, a
	b.DType, c.Batch = "bf16", 8
	got := Compare(&Report{Runs: []Run{a, b}}, &Report{Runs: []Run{c, a}})
	if len(got.Changes) != 1 || got.Changes[0].Key != a.Key() {
		t.Errorf("changes %+v", got.Changes)
	}
	if diff := cmp.Diff([]Key{b.Key()}, got.OnlyOld); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]Key{c.Key()}, got.OnlyNew); diff != "" {
		t.Error(diff)
	}
	remarks := strings.Join(got.Remarks(), "\n")
	for _, want := range []string{
		"only in the older report: m image, cpu bf16, batch 1, 2 threads", "only in the new report: m image, cpu f32, batch 8",
		"1 same; geometric mean of the ratios 1.000",
	} {
		if !strings.Contains(remarks, want) {
			t.Errorf("no %q in\n%s", want, remarks)
		}
	}
	if s := Compare(&Report{}, &Report{}).Summary(); s != "no run of both reports can be compared" {
		t.Errorf("nothing to compare: %q", s)
	}
}

// Runs of another number of texts an image are other runs; reports from before there were any still compare.
func TestCompareTellsPromptsPerImageApart(t *testing.T) {
	one, many, before := timed(around(100, 10)), timed(around(100, 10)), timed(around(100, 10))
	one.Tower, many.Tower, before.Tower = TowerPair, TowerPair, TowerPair
	one.PromptsPerImage, many.PromptsPerImage, before.Texts, before.Model = 1, 33, 33, "clip"
	latest := &Report{Runs: []Run{one, many, before}}
	old, err := ParseReport([]byte(`{"runs":[{"model":"clip","tower":"pair","backend":"cpu","dtype":"f32","batch":1,"threads":2,` +
		`"items_per_s":10,"texts":33,"calls":10,"gflop_per_item":1}]}`))
	if err != nil {
		t.Fatal(err)
	}
	c := Compare(old, latest)
	if len(c.Changes) != 1 || c.Changes[0].Model != "clip" || c.Changes[0].Verdict != Same || len(c.OnlyNew) != 2 {
		t.Errorf("%+v", c)
	}
	if c := Compare(latest, latest); len(c.Changes) != 3 {
		t.Errorf("%+v", c)
	}
	if s := many.Key().String(); s != "m pair of 33 texts an image, cpu f32, batch 1, 2 threads" {
		t.Errorf("key %s", s)
	}
}

// A note stands under the table, which stays narrow, and in the CSV.
func TestCompareNotes(t *testing.T) {
	old, latest := timed(around(100, 10)), timed(around(100, 10))
	latest.Texts = 5
	c := Compare(&Report{Runs: []Run{old}}, &Report{Runs: []Run{latest}})
	want := "differs: m image, cpu f32, batch 1, 2 threads: texts a call: 0, now 5"
	if remarks := c.Remarks(); !slices.Contains(remarks, want) {
		t.Errorf("%q, want %q in it", remarks, want)
	}
	if table := c.Table().Render("table"); strings.Contains(table, "texts a call") || !strings.HasPrefix(table, "compared with the older report: m, cpu, f32, batch 1, 2 threads\n") {
		t.Errorf("%s", table)
	}
	if csv := c.CSV().Render("csv"); !strings.Contains(csv, `texts a call: 0`) || !strings.HasPrefix(csv, "model,tower,backend,dtype,batch,threads,old items/s") {
		t.Errorf("%s", csv)
	}
}

func TestCompareWarnsOfMachines(t *testing.T) {
	report := func() *Report {
		r := fakeReport(t)
		r.Runs = nil
		return r
	}
	if c := Compare(report(), report()); len(c.Warnings)+len(c.Notes) > 0 {
		t.Errorf("the same machine: %q %q", c.Warnings, c.Notes)
	}
	tests := []struct {
		change     func(*Report)
		warn, note string
	}{
		{func(r *Report) { r.Machine.CPU = "Other" }, "CPU: Test CPU, now Other", ""},
		{func(r *Report) { r.Machine.Cores = 8 }, "cores: 2, now 8", ""},
		{func(r *Report) { r.Machine.Arch = "arm64" }, "system: linux/amd64, now linux/arm64", ""},
		{func(r *Report) { r.Engine.ISA = "avx2" }, "CPU kernels: avx512vnni, now avx2", ""},
		{func(r *Report) { r.Machine.PeakGFLOPS.F32 = 150 }, "measured f32 peak: 215, now 150", ""},
		{func(r *Report) { r.Machine.PeakGFLOPS.BF16 = 0 }, "measured bf16 peak: 433, now 0", ""},
		{func(r *Report) { r.Machine.BandwidthGBs = 60 }, "measured bandwidth: 40, now 60", ""},
		{func(r *Report) { r.Engine.OneDNN = "" }, "", "oneDNN: 3.7.2, now none"},
	}
	for _, tt := range tests {
		latest := report()
		tt.change(latest)
		c := Compare(report(), latest)
		if got := strings.Join(c.Warnings, "|"); (got == "") != (tt.warn == "") || !strings.Contains(got, tt.warn) {
			t.Errorf("warnings %q, want %q", got, tt.warn)
		}
		if got := strings.Join(c.Notes, "|"); got != tt.note {
			t.Errorf("notes %q, want %q", got, tt.note)
		}
	}
}
