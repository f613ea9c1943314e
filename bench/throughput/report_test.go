package throughput

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/tia2-engine/tia2-engine/bench/report"
	"github.com/tia2-engine/tia2-engine/engine"
)

var update = flag.Bool("update", false, "write the golden files anew")

// fakeReport is the same on every machine.
func fakeReport(t testing.TB) *Report {
	t.Helper()
	f := newFake(steady...)
	opt := Options{Towers: []string{TowerImage, TowerPair}, Batches: []int{4}, PerPair: 3, Threads: 2, Ops: true,
		Peak: Peaks{F32: 215, BF16: 433, Int8: 880}, Bandwidth: 40}
	runs, err := measure(t.Context(), f, opt, f.now)
	if err != nil {
		t.Fatal(err)
	}
	for i := range runs {
		runs[i].RSSPeakMB = 123.456
	}
	peak := engine.Peak{F32GFLOPS: 215.0000004, BF16GFLOPS: 433, Int8GOPS: 880, BandwidthGBs: 40}
	r := NewReport(peak, 2, engine.Versions{Engine: "0.1.0", GGML: "0.27", OneDNN: "3.7.2", ISA: "avx512vnni"})
	r.Machine.CPU, r.Machine.Cores, r.Machine.LogicalCPUs, r.Machine.OS, r.Machine.Arch = "Test CPU", 2, 4, "linux", "amd64"
	r.Started = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	r.Alignment = []map[string]any{{"set": "demo"}}
	r.Runs = runs
	return r
}

// asJSON returns value as the command writes it.
func asJSON(t testing.TB, value any) []byte {
	t.Helper()
	var buf bytes.Buffer
	if err := report.Write(&buf, "json", value); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got; go test -update rewrites it):\n%s", path, diff)
	}
}

func TestReportGolden(t *testing.T) {
	golden(t, "report.json", asJSON(t, fakeReport(t)))
}

// TestReportContract checks the names that scripts rely on, whatever the golden file says.
func TestReportContract(t *testing.T) {
	var doc any
	if err := json.Unmarshal(asJSON(t, fakeReport(t)), &doc); err != nil {
		t.Fatal(err)
	}
	paths := []string{
		"machine.cpu", "machine.cores", "machine.peak_gflops.f32", "machine.peak_gflops.bf16", "machine.peak_gflops.int8",
		"machine.bandwidth_gbs", "engine.version", "engine.ggml", "engine.onednn", "engine.isa", "alignment", "runs",
	}
	for _, name := range []string{"model", "tower", "backend", "dtype", "batch", "threads", "items_per_s", "latency_ms.p50",
		"latency_ms.p90", "latency_ms.p99", "gflop_per_item", "gflops", "peak_fraction", "rss_peak_mb"} {
		paths = append(paths, "runs.0."+name)
	}
	for _, path := range paths {
		if lookUp(doc, strings.Split(path, ".")) == nil {
			t.Errorf("no %s in the report", path)
		}
	}
}

func lookUp(doc any, path []string) any {
	for _, name := range path {
		switch node := doc.(type) {
		case map[string]any:
			doc = node[name]
		case []any:
			doc = node[0]
		default:
			return nil
		}
	}
	return doc
}

func TestEmptyReportHasLists(t *testing.T) {
	if s := string(asJSON(t, NewReport(engine.Peak{}, 1, engine.Versions{}))); !strings.Contains(s, `"alignment": []`) || !strings.Contains(s, `"runs": []`) {
		t.Errorf("null instead of []:\n%s", s)
	}
}

func TestReportRoundTrip(t *testing.T) {
	want := fakeReport(t)
	path := filepath.Join(t.TempDir(), "old.json")
	if err := os.WriteFile(path, asJSON(t, want), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := ReadReport(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := range want.Runs {
		want.Runs[i].OpSamples = nil // not part of the JSON
	}
	want.Alignment = []any{map[string]any{"set": "demo"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// damaged are reports that must not be read, each with a part of the error.
var damaged = []struct{ name, json, want string }{
	{"empty", ``, "cut off"},
	{"cut off", `{"machine":{"cpu":"x"},"runs":[{"model":"m",`, "cut off"},
	{"no JSON", "{\n\"runs\": [\n}", "line 3"},
	{"another document", `{"sets":[]}`, `no "runs"`},
	{"a list", `[1,2]`, "JSON array"},
	{"two documents", `{"runs":[]}{"runs":[]}`, "after the end"},
	{"text for a number", `{"runs":[{"model":"m","tower":"image","batch":"8"}]}`, `"runs.batch" is a JSON string`},
	{"no model", `{"runs":[{"tower":"image","batch":1,"items_per_s":1}]}`, `runs[0]: "model"`},
	{"no batch", `{"runs":[{"model":"m","tower":"image","items_per_s":1}]}`, `runs[0]: "batch" 0`},
	{"no speed", `{"runs":[{"model":"m","tower":"image","batch":1}]}`, `"items_per_s" 0`},
	{"negative speed", `{"runs":[{"model":"m","tower":"image","batch":1,"items_per_s":-3}]}`, `"items_per_s" -3`},
	{"huge number", `{"runs":[{"model":"m","tower":"image","batch":1,"items_per_s":1e999}]}`, "items_per_s"},
	{"negative spread", `{"runs":[{"model":"m","tower":"image","batch":1,"items_per_s":1,"spread":-1}]}`, `"spread" -1`},
	{"sample of 0", `{"runs":[{"model":"m","tower":"image","batch":1,"items_per_s":1,"samples_ms":[1,0]}]}`, `"samples_ms"[1] 0`},
	{"the same twice", `{"runs":[{"model":"m","tower":"image","batch":1,"items_per_s":1},` +
		`{"model":"m","tower":"image","batch":1,"items_per_s":2}]}`, "runs[1]: the same"},
}

func TestParseReportRefuses(t *testing.T) {
	for _, tt := range damaged {
		t.Run(tt.name, func(t *testing.T) {
			_, err := ParseReport([]byte(tt.json))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one with %q", err, tt.want)
			}
		})
	}
}

func TestReadReportNamesFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "old.json")
	if _, err := ReadReport(path); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("missing file: %v", err)
	}
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadReport(path); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("damaged file: %v", err)
	}
}

func FuzzParseReport(f *testing.F) {
	for _, tt := range damaged {
		f.Add([]byte(tt.json))
	}
	if data, err := os.ReadFile("testdata/report.json"); err == nil {
		f.Add(data)
	}
	f.Add([]byte(`{"runs":[{"model":"m","tower":"image","batch":1,"items_per_s":1e-300,"samples_ms":[1e-300,1e300]}],"new":1}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := ParseReport(data)
		if err != nil {
			return
		}
		latest := fakeReport(t)
		latest.Runs = append(latest.Runs, r.Runs...)
		c := Compare(r, latest)
		if len(c.OnlyOld) > 0 {
			t.Errorf("runs without their equals: %v", c.OnlyOld)
		}
		asJSON(t, c)
		c.Table()
		c.Remarks()
	})
}

func TestParseCPUInfo(t *testing.T) {
	tests := []struct {
		name, text, cpu string
		cores           int
	}{
		{"two threads a core", "processor : 0\nmodel name\t: AMD  EPYC 9B14\nphysical id : 0\ncore id : 0\n\n" +
			"processor : 1\nmodel name\t: AMD  EPYC 9B14\nphysical id : 0\ncore id : 0\n\n" +
			"processor : 2\nmodel name\t: AMD  EPYC 9B14\nphysical id : 0\ncore id : 1\n", "AMD EPYC 9B14", 2},
		{"two sockets", "processor : 0\nphysical id : 0\ncore id : 0\nprocessor : 1\nphysical id : 1\ncore id : 0\n", "", 2},
		{"arm", "processor : 0\nCPU implementer : 0x41\nCPU part : 0xd0c\nprocessor : 1\nCPU implementer : 0x41\nCPU part : 0xd0c\n",
			"ARM (implementer 0x41, part 0xd0c)", 2},
		{"nothing", "garbage\n\n: :\n", "", 0},
	}
	for _, tt := range tests {
		if cpu, cores := parseCPUInfo(strings.NewReader(tt.text)); cpu != tt.cpu || cores != tt.cores {
			t.Errorf("%s: %q, %d cores, want %q, %d", tt.name, cpu, cores, tt.cpu, tt.cores)
		}
	}
	if m := hostMachine(); m.CPU == "" || m.Cores < 1 || m.Cores > m.LogicalCPUs {
		t.Errorf("this machine: %+v", m)
	}
}

func TestTables(t *testing.T) {
	r := fakeReport(t)
	for _, table := range []report.Table{r.RunsTable(), r.RunsCSV(), r.Runs[0].OpsTable(), Compare(r, r).Table(), Compare(r, r).CSV()} {
		if len(table.Rows) < 2 || len(table.Header) != len(table.Numeric) {
			t.Errorf("%s: %d rows, %d names, %d kinds", table.Title, len(table.Rows), len(table.Header), len(table.Numeric))
		}
		for _, row := range table.Rows {
			if len(row) != len(table.Header) {
				t.Errorf("%s: row %q under %q", table.Title, row, table.Header)
			}
		}
	}
	table := r.RunsTable()
	row := strings.Join(table.Rows[0], "|")
	if want := "image|40.00|image|0.1 %|100.0|100.1|80.00|37.2 %|123.5|10"; row != want || table.Title != "throughput: random:tiny, cpu, f32, batch 4" {
		t.Errorf("%s: row %s\nwant %s", table.Title, row, want)
	}
	if remarks := r.Remarks(); remarks != nil {
		t.Errorf("quiet runs: %q", remarks)
	}
	spread := 0.25
	r.Runs[0].Stop, r.Runs[0].Spread, r.Runs[1].Stop, r.Runs[1].Spread = reasonTime, &spread, reasonRuns, nil
	want := []string{
		"random:tiny image, cpu f32, batch 4, 2 threads: ended after 10 calls, 0.9999 s; the median is known to within 25.0 %",
		"random:tiny pair, cpu f32, batch 4, 2 threads: ended after 10 calls, 2.000 s; too few to tell the spread",
	}
	if diff := cmp.Diff(want, r.Remarks()); diff != "" {
		t.Error(diff)
	}
	if h := r.Heading(); !strings.Contains(h, "Test CPU, 2 cores, linux/amd64; with 2 threads f32 215.0, bf16 433.0") {
		t.Error(h)
	}
}

// wideReport has long names of models, several of everything, and a cross encoder.
func wideReport(t *testing.T) *Report {
	t.Helper()
	r := fakeReport(t)
	r.Runs = nil
	for _, model := range []string{"random:blip-itm-large", "random:imagereward"} {
		for _, dtype := range []string{"f32", "bf16"} {
			f := newCrossEncoder(model == "random:blip-itm-large", steady...)
			f.info.Spec, f.info.DType = model, dtype
			opt := Options{Towers: []string{TowerImage, TowerPair}, Batches: []int{1, 32}, Threads: 2, Peak: Peaks{F32: 215, BF16: 433}, Ops: true, MaxRuns: 10}
			runs, err := measure(t.Context(), f, opt, f.now)
			if err != nil {
				t.Fatal(err)
			}
			r.Runs = append(r.Runs, runs...)
		}
	}
	for i := range r.Runs {
		r.Runs[i].RSSPeakMB, r.Runs[i].ItemsPS, r.Runs[i].GFLOPS = 12345.6, 1234.5, 1234.5
	}
	return r
}

func TestTablesFitATerminal(t *testing.T) {
	r := wideReport(t)
	old := wideReport(t)
	for i := range old.Runs {
		old.Runs[i].Calls, old.Runs[i].Texts = 3, i%2*3
	}
	out := []string{r.RunsTable().Render("table"), Compare(old, r).Table().Render("table")}
	for i := range r.Runs {
		out = append(out, r.Runs[i].OpsTable().Render("table"))
	}
	out = append(out, r.pairCosts()...)
	for line := range strings.Lines(strings.Join(out, "\n")) {
		if n := utf8.RuneCountInString(strings.TrimSpace(line)); n > 120 {
			t.Errorf("a line of %d characters: expected 120 at most, the width of a terminal: %s", n, line)
		}
	}
	want := "random:blip-itm-large, cpu f32, batch 1: image with pairs of 1, 8, 33 texts takes 2.00, 2.00, 2.00 x the time of image"
	if costs := r.pairCosts(); len(costs) != 8 || costs[0] != want {
		t.Errorf("%q, want 8 lines, the first %q", costs, want)
	}
	if row := r.RunsTable().Rows[4]; !strings.HasPrefix(strings.Join(row, " "), "random:blip-itm-large pair 33 f32 1 ") {
		t.Errorf("row %q", row)
	}
}

func TestHoist(t *testing.T) {
	table := func(rows ...[]string) report.Table {
		return hoist(report.Table{Title: "t", Header: []string{"model", "tower", "batch", "threads"}, Numeric: []bool{false, false, true, true}, Rows: rows})
	}
	for _, c := range []struct {
		got           report.Table
		title, header string
	}{
		{table([]string{"m", "image", "1", "2"}, []string{"m", "image", "8", "2"}), "t: m, 2 threads", "tower batch"},
		{table([]string{"m", "image", "1", "2"}, []string{"n", "image", "1", "4"}), "t: batch 1", "model tower threads"},
		{table([]string{"m", "image", "1", "2"}, []string{"n", "text", "8", "4"}), "t", "model tower batch threads"},
		{table(), "t", "model tower batch threads"},
	} {
		n := len(c.got.Header)
		if c.got.Title != c.title || strings.Join(c.got.Header, " ") != c.header || len(c.got.Numeric) != n {
			t.Errorf("%+v, want %s: %s", c.got, c.title, c.header)
		}
		for _, row := range c.got.Rows {
			if len(row) != n {
				t.Errorf("row %q under %q", row, c.got.Header)
			}
		}
	}
}

func TestDigits(t *testing.T) {
	for x, want := range map[float64]string{
		0: "0", 12345.6: "12346", 999.96: "1000.0", 3.14159: "3.142", 0.00123456: "0.001235", 1e-12: "0.000000000", -25.5: "-25.50",
	} {
		if got := digits(x); got != want {
			t.Errorf("digits(%v) = %s, want %s", x, got, want)
		}
	}
}
