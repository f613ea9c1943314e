package throughput

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/tia2-engine/tia2-engine/bench/profile"
	"github.com/tia2-engine/tia2-engine/engine"
)

// Report is the document of `tia2-engine bench`. Scripts rely on its JSON names: they may be added to, not changed.
type Report struct {
	Machine Machine         `json:"machine"`
	Engine  engine.Versions `json:"engine"`
	// Alignment is the agreement with people, a list of whatever the alignment package reports.
	Alignment any   `json:"alignment"`
	Runs      []Run `json:"runs"`

	// Started says when the measurement began.
	Started time.Time `json:"started"`
}

// Machine describes what a report was measured on.
type Machine struct {
	CPU          string  `json:"cpu"`
	Cores        int     `json:"cores"` // physical ones that this process may use
	PeakGFLOPS   Peaks   `json:"peak_gflops"`
	BandwidthGBs float64 `json:"bandwidth_gbs"` // read from memory, 1e9 bytes a second

	LogicalCPUs int    `json:"logical_cpus"`
	OS          string `json:"os"`
	Arch        string `json:"arch"`
	PeakThreads int    `json:"peak_threads"` // threads that the peaks and the bandwidth were measured with
}

// Peaks are the most operations a second that the CPU reached, 1e9, a multiply and an add counted as two; 0 where it
// lacks the instruction.
type Peaks struct {
	F32  float64 `json:"f32"`
	BF16 float64 `json:"bf16"`
	Int8 float64 `json:"int8"`
}

// Run is one tower measured with one batch size.
type Run struct {
	Model   string  `json:"model"` // its spec, as given to engine.Open
	Tower   string  `json:"tower"`
	Backend string  `json:"backend"`
	DType   string  `json:"dtype"`
	Batch   int     `json:"batch"` // images a call; for the text tower, texts a call
	Threads int     `json:"threads"`
	ItemsPS float64 `json:"items_per_s"` // by the median call; what an item is says Item
	Latency Latency `json:"latency_ms"`  // of one call, that is of a whole batch

	// GFLOPPerItem is the architecture's cost of one item, 1e9 operations, with every token of a text computed once
	// for this text. An engine that shares the prefixes of texts does less, so GFLOPS of text may pass the peak.
	GFLOPPerItem float64 `json:"gflop_per_item"`
	GFLOPS       float64 `json:"gflops"` // ItemsPS * GFLOPPerItem
	// PeakFraction is GFLOPS over the machine's peak for DType, that of f32 for f16, whose weights the CPU widens and
	// computes in f32; null where no such peak was measured (a GPU).
	PeakFraction *float64 `json:"peak_fraction"`
	RSSPeakMB    float64  `json:"rss_peak_mb"` // most resident memory of the process during these calls, 1e6 bytes

	Device    string    `json:"device"`
	Item      string    `json:"item"`            // "image", "text" or "pair"
	Texts     int       `json:"texts,omitempty"` // texts a call of pair and e2e
	WeightsMB float64   `json:"weights_mb"`      // of the model on its device, 1e6 bytes
	Calls     int       `json:"calls"`           // timed ones
	Spread    *float64  `json:"spread"`          // half width of the median's 95 % interval over the median; null below 6 calls
	Stop      string    `json:"stop"`            // why the repetition ended: "spread", "time" or "runs"
	TimeS     float64   `json:"time_s"`          // all timed calls together
	WarmUpS   float64   `json:"warm_up_s"`       // the calls before them
	SamplesMS []float64 `json:"samples_ms"`      // each timed call, in order

	// PromptsPerImage is how many texts a cross encoder reads with each image, of its tower pair, which is measured with
	// several numbers.
	PromptsPerImage int `json:"prompts_per_image,omitempty"`

	// Ops is where the time of a profiled call went, and OpSamples what it is made of: medians of a few calls after the
	// timed ones; only when asked for.
	Ops       []profile.Row     `json:"ops,omitempty"`
	OpSamples []engine.OpSample `json:"-"`
}

// Latency are percentiles of the time of one call in milliseconds: each a time that occurred, but for the median.
type Latency struct {
	P50 float64 `json:"p50"`
	P90 float64 `json:"p90"`
	P99 float64 `json:"p99"`
}

// NewReport starts a report of this machine. peak is what the CPU reached on the given number of threads, measured by
// the caller in the same process just before.
func NewReport(peak engine.Peak, threads int, versions engine.Versions) *Report {
	m := hostMachine()
	m.PeakGFLOPS = Peaks{F32: round(peak.F32GFLOPS), BF16: round(peak.BF16GFLOPS), Int8: round(peak.Int8GOPS)}
	m.BandwidthGBs = round(peak.BandwidthGBs)
	m.PeakThreads = threads
	return &Report{
		Machine: m, Engine: versions, Started: time.Now().UTC().Truncate(time.Second),
		Alignment: []any{}, Runs: []Run{}, // null would break scripts that walk them
	}
}

// Remarks returns the lines to print under the table of runs: what the pairs of a cross encoder cost beside its image
// tower, and which runs were too noisy to be trusted to the last digit. None: nil.
func (r *Report) Remarks() []string {
	out := r.pairCosts()
	for i := range r.Runs {
		run := &r.Runs[i]
		if run.Stop == reasonSpread {
			continue
		}
		known := "too few to tell the spread"
		if run.Spread != nil {
			known = "the median is known to within " + percent(run.Spread)
		}
		out = append(out, fmt.Sprintf("%s: ended after %d calls, %s s; %s", run.Key(), run.Calls, digits(run.TimeS), known))
	}
	return out
}

// pairCosts says, for each cross encoder whose towers image and pair were both measured, how much longer than encoding
// images it takes to encode them and score them against texts.
func (r *Report) pairCosts() []string {
	var out []string
	for i := range r.Runs {
		image := &r.Runs[i]
		if image.Tower != TowerImage {
			continue
		}
		var texts, costs []string
		for j := range r.Runs {
			pair := &r.Runs[j]
			key := image.Key()
			if key.Tower, key.PromptsPerImage = TowerPair, pair.PromptsPerImage; pair.PromptsPerImage > 0 && key == pair.Key() {
				texts = append(texts, strconv.Itoa(pair.PromptsPerImage))
				costs = append(costs, strconv.FormatFloat(pair.Latency.P50/image.Latency.P50, 'f', 2, 64))
			}
		}
		if len(costs) > 0 {
			out = append(out, fmt.Sprintf("%s, %s %s, batch %d: image with pairs of %s texts takes %s x the time of image",
				image.Model, image.Backend, image.DType, image.Batch, strings.Join(texts, ", "), strings.Join(costs, ", ")))
		}
	}
	return out
}

// Recordings returns the op samples of all profiled runs, for [profile.Write].
func (r *Report) Recordings() []profile.Recording {
	var out []profile.Recording
	for i := range r.Runs {
		if run := &r.Runs[i]; len(run.OpSamples) > 0 {
			out = append(out, profile.Recording{Model: run.Model, Samples: run.OpSamples, Labels: map[string]string{
				"run": run.Tower, "dtype": run.DType, "batch": strconv.Itoa(run.Batch), "device": run.Device,
			}})
		}
	}
	return out
}

// reportBytesMax bounds what is read of a report; a real one has a few hundred kilobytes.
const reportBytesMax = 64 << 20

// ReadReport reads the JSON report in a file and checks what a comparison relies on.
func ReadReport(path string) (*Report, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, reportBytesMax+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if len(data) > reportBytesMax {
		return nil, fmt.Errorf("%s: over %d MiB, expected the JSON of a bench run", path, reportBytesMax>>20)
	}
	r, err := ParseReport(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return r, nil
}

// ParseReport reads a report from its JSON. Unknown names are ignored, so that a newer program's report still compares;
// extensions may be missing. Errors name the run and the value.
func ParseReport(data []byte) (*Report, error) {
	var r Report
	dec := json.NewDecoder(bytes.NewReader(data))
	if err := dec.Decode(&r); err != nil {
		return nil, jsonError(err, data)
	}
	if rest := bytes.TrimSpace(data[dec.InputOffset():]); len(rest) > 0 {
		return nil, fmt.Errorf("line %d: text after the end of the report", lineAt(data, dec.InputOffset()))
	}
	if r.Runs == nil {
		return nil, errors.New(`no "runs": expected the JSON of a bench run`)
	}
	seen := map[Key]int{}
	for i := range r.Runs {
		run := &r.Runs[i]
		if err := run.check(); err != nil {
			return nil, fmt.Errorf("runs[%d]: %w", i, err)
		}
		if first, ok := seen[run.Key()]; ok {
			return nil, fmt.Errorf("runs[%d]: the same model, tower, backend, dtype, batch, threads and prompts an image as runs[%d]", i, first)
		}
		seen[run.Key()] = i
	}
	return &r, nil
}

// check says what is wrong with a run that was read.
func (r *Run) check() error {
	if r.Model == "" || r.Tower == "" {
		return errors.New(`"model" and "tower" must be given`)
	}
	if r.Batch < 1 || r.Threads < 0 || r.PromptsPerImage < 0 {
		return fmt.Errorf(`"batch" %d, "threads" %d, "prompts_per_image" %d: expected at least 1, 0 and 0`, r.Batch, r.Threads, r.PromptsPerImage)
	}
	if !(r.ItemsPS > 0) || math.IsInf(r.ItemsPS, 0) {
		return fmt.Errorf(`"items_per_s" %v: expected a number above 0`, r.ItemsPS)
	}
	if r.Spread != nil && !(*r.Spread >= 0) {
		return fmt.Errorf(`"spread" %v: expected a number of 0 or more`, *r.Spread)
	}
	for i, ms := range r.SamplesMS {
		if !(ms > 0) {
			return fmt.Errorf(`"samples_ms"[%d] %v: expected a time above 0`, i, ms)
		}
	}
	return nil
}

// jsonError adds the line to an error of encoding/json.
func jsonError(err error, data []byte) error {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		return fmt.Errorf("line %d: no JSON: %w", lineAt(data, syntax.Offset), err)
	case errors.As(err, &kind):
		return fmt.Errorf("line %d: %q is a JSON %s, expected %s", lineAt(data, kind.Offset), kind.Field, kind.Value, kind.Type)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("cut off: expected the JSON of a bench run")
	}
	return err
}

func lineAt(data []byte, offset int64) int {
	return 1 + bytes.Count(data[:min(max(offset, 0), int64(len(data)))], []byte("\n"))
}

// round keeps six digits: more than any of these measurements has, and a report stays readable.
func round(x float64) float64 {
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return 0
	}
	y, _ := strconv.ParseFloat(strconv.FormatFloat(x, 'g', 6, 64), 64)
	return y
}
