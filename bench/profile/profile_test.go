package profile

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/pprof/profile"

	"github.com/tia2-engine/tia2-engine/engine"
)

// samples are two blocks of a tower and an op outside of them.
var samples = []engine.OpSample{
	{Name: "image/patch_embed", Shape: "1568x3072x768 bf16", Count: 1, Time: 10 * time.Millisecond, FLOPs: 4e9, Bytes: 2e7},
	{Name: "image/blk.0/attn/qkv", Shape: "1600x768x2304 bf16", Count: 1, Time: 20 * time.Millisecond, FLOPs: 6e9, Bytes: 1e7},
	{Name: "image/blk.1/attn/qkv", Shape: "1600x768x2304 bf16", Count: 1, Time: 30 * time.Millisecond, FLOPs: 6e9, Bytes: 1e7},
	{Name: "image/blk.1/attn/qkv", Shape: "32x768x2304 bf16", Count: 2, Time: 1 * time.Millisecond, FLOPs: 1e8, Bytes: 5e6},
	{Name: "image/blk.1/ln1", Shape: "1600x768 f32", Count: 1, Time: 4 * time.Millisecond, FLOPs: 0, Bytes: 2e8},
}

var recordings = []Recording{{Model: "random:vit-b-32", Labels: map[string]string{"batch": "32"}, Samples: samples}}

func write(t *testing.T) []byte {
	t.Helper()
	var buf bytes.Buffer
	if err := Write(&buf, recordings, time.Unix(1700000000, 0)); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func TestFrames(t *testing.T) {
	tests := []struct{ op, want string }{
		{"image/blk.3/attn/qkv", "m image image/blk.3 image/attn image/attn/qkv"},
		{"text/post_ln", "m text text/post_ln"},
		{"text/blk.11/ln1", "m text text/blk.11 text/ln1"},
		{"decode", "m decode"},
		{"image//x/", "m image image/x"},
		{"image/v1.x/fc", "m image image/v1.x image/v1.x/fc"}, // no number: no block
	}
	for _, tt := range tests {
		if got := strings.Join(frames("m", tt.op), " "); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.op, got, tt.want)
		}
	}
}

func TestWriteRoundTrip(t *testing.T) {
	p, err := profile.ParseData(write(t))
	if err != nil {
		t.Fatal(err)
	}
	var types []string
	for _, s := range p.SampleType {
		types = append(types, s.Type+"/"+s.Unit)
	}
	if diff := cmp.Diff([]string{"time/nanoseconds", "flops/count", "bytes/bytes", "runs/count"}, types); diff != "" {
		t.Error(diff)
	}
	if len(p.Sample) != len(samples) || p.DurationNanos != (65*time.Millisecond).Nanoseconds() || p.TimeNanos != 1700000000e9 {
		t.Errorf("%d samples, %d ns from %d", len(p.Sample), p.DurationNanos, p.TimeNanos)
	}
	s := p.Sample[1]
	if diff := cmp.Diff([]int64{20e6, 6e9, 1e7, 1}, s.Value); diff != "" {
		t.Error(diff)
	}
	want := map[string][]string{"shape": {"1600x768x2304 bf16"}, "batch": {"32"}}
	if diff := cmp.Diff(want, s.Label); diff != "" {
		t.Error(diff)
	}
	var stack []string // leaf first
	for _, loc := range s.Location {
		stack = append(stack, loc.Line[0].Function.Name)
	}
	if diff := cmp.Diff([]string{"image/attn/qkv", "image/attn", "image/blk.0", "image", "random:vit-b-32"}, stack); diff != "" {
		t.Error(diff)
	}
}

func TestWriteRefuses(t *testing.T) {
	for _, bad := range []engine.OpSample{
		{Name: ""}, {Name: "image/a", Time: -1}, {Name: "image/a", FLOPs: -1}, {Name: "image/a", Bytes: math.NaN()},
		{Name: "image/a", FLOPs: math.Inf(1)},
	} {
		var buf bytes.Buffer
		if err := Write(&buf, []Recording{{Model: "m", Samples: []engine.OpSample{bad}}}, time.Now()); err == nil || buf.Len() > 0 {
			t.Errorf("%+v: error %v, %d bytes written", bad, err, buf.Len())
		}
	}
}

func TestWriteNothing(t *testing.T) {
	var buf bytes.Buffer
	if err := Write(&buf, nil, time.Now()); err != nil {
		t.Fatal(err)
	}
	if _, err := profile.ParseData(buf.Bytes()); err != nil {
		t.Errorf("an empty profile does not parse: %v", err)
	}
}

// TestPprofTop asks the tool itself, as a user does.
func TestPprofTop(t *testing.T) {
	goTool, err := exec.LookPath("go")
	if err != nil {
		t.Skip("no go command on this machine")
	}
	path := filepath.Join(t.TempDir(), "ops.pb.gz")
	if err := os.WriteFile(path, write(t), 0o600); err != nil {
		t.Fatal(err)
	}
	top := func(args ...string) string {
		cmd := exec.Command(goTool, append(append([]string{"tool", "pprof", "-top"}, args...), path)...)
		cmd.Env = append(os.Environ(), "PPROF_TMPDIR="+t.TempDir())
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("go tool pprof %v: %v\n%s", args, err, out)
		}
		return string(out)
	}
	tests := []struct {
		args []string
		want string // a line: flat, flat %, sum %, cumulative, its %, name
	}{
		{nil, `51ms +78\.46% +\S+ +51ms +78\.46% +image/attn/qkv`},
		{nil, `0 +0% +\S+ +35ms +53\.85% +image/blk\.1\n`},
		{nil, `0 +0% +\S+ +65ms +100% +random:vit-b-32`},
		{[]string{"-sample_index=flops"}, `12100000000 +75\.16% +\S+ +12100000000 +75\.16% +image/attn/qkv`},
		{[]string{"-sample_index=bytes"}, `190\.73MB +81\.63% +\S+ +190\.73MB +81\.63% +image/ln1`},
		{[]string{"-tagfocus=shape=32x768x2304 bf16"}, `1ms +1\.54% +\S+ +1ms +1\.54% +image/attn/qkv`},
	}
	for _, tt := range tests {
		if out := top(tt.args...); !regexp.MustCompile(tt.want).MatchString(out) {
			t.Errorf("go tool pprof -top %v: no line %s in\n%s", tt.args, tt.want, out)
		}
	}
}

func TestRows(t *testing.T) {
	rows := Rows(samples, Roof{F32GFLOPS: 200, BF16GFLOPS: 400, Int8GOPS: 800, BandwidthGBs: 100, DType: "bf16", CPU: true}, false)
	type brief struct {
		Op, Shape, Bound  string
		Count             uint64
		MS, Share, GFLOPS float64
		GBs, Roof         float64 // Roof -1: unknown
	}
	var got []brief
	for _, r := range rows {
		b := brief{r.Op, r.Shape, r.Bound, r.Count, r.TimeMS, round3(r.Share), round3(r.GFLOPS), round3(r.GBs), -1}
		if r.RoofFraction != nil {
			b.Roof = round3(*r.RoofFraction)
		}
		got = append(got, b)
	}
	want := []brief{
		// 12e9 / 50 ms = 240 of 400
		{"image/blk.*/attn/qkv", "1600x768x2304 bf16", "compute", 2, 50, 0.769, 240, 0.4, 0.6},
		// 4e9 / 10 ms = 400 of 400
		{"image/patch_embed", "1568x3072x768 bf16", "compute", 1, 10, 0.154, 400, 2, 1},
		// 2e8 bytes / 4 ms = 50 of 100 GB/s
		{"image/blk.*/ln1", "1600x768 f32", "memory", 1, 4, 0.062, 0, 50, 0.5},
		// 1e8 / 400e9 = 0.25 ms, 5e6 / 100e9 = 0.05 ms
		{"image/blk.*/attn/qkv", "32x768x2304 bf16", "compute", 2, 1, 0.015, 100, 5, 0.25},
		// 30 + 10 + 2 + 0.25 ms at the roofs, of 65 ms
		{"total", "", "", 6, 65, 1, 247.692, 3.769, 0.65},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// With layers every block has a row of its own, in the order in which the ops ran.
func TestRowsOfLayers(t *testing.T) {
	var got []string
	for _, r := range Rows(samples, Roof{}, true) {
		got = append(got, fmt.Sprintf("%s %s x%d", r.Op, r.Shape, r.Count))
	}
	want := []string{
		"image/patch_embed 1568x3072x768 bf16 x1", "image/blk.0/attn/qkv 1600x768x2304 bf16 x1", "image/blk.1/attn/qkv 1600x768x2304 bf16 x1",
		"image/blk.1/attn/qkv 32x768x2304 bf16 x2", "image/blk.1/ln1 1600x768 f32 x1", "total  x6",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func round3(x float64) float64 { return math.Round(x*1000) / 1000 }

func TestRoofUnknown(t *testing.T) {
	op := []engine.OpSample{{Name: "image/a", Shape: "1x1 bf16", Count: 1, Time: 1000, FLOPs: 10, Bytes: 10}}
	for name, roof := range map[string]Roof{
		"a GPU":          {F32GFLOPS: 1, BF16GFLOPS: 1, Int8GOPS: 1, BandwidthGBs: 1, DType: "bf16"},
		"no bf16 peak":   {F32GFLOPS: 1, BandwidthGBs: 1, DType: "f32", CPU: true},
		"no bandwidth":   {BF16GFLOPS: 1, CPU: true},
		"nothing at all": {},
	} {
		if rows := Rows(op, roof, false); rows[0].RoofFraction != nil || rows[0].Bound != "" || rows[1].RoofFraction != nil {
			t.Errorf("%s: roof %v, bound %q, want none", name, *rows[0].RoofFraction, rows[0].Bound)
		}
	}
	if rows := Rows(nil, Roof{}, false); len(rows) != 0 {
		t.Errorf("no samples: %d rows", len(rows))
	}
	untimed := Rows([]engine.OpSample{{Name: "image/a", FLOPs: 1}}, Roof{F32GFLOPS: 1, BandwidthGBs: 1, DType: "f32", CPU: true}, false)
	if untimed[0].GFLOPS != 0 || untimed[0].Share != 0 || untimed[0].RoofFraction != nil {
		t.Errorf("an op without time: %+v", untimed[0])
	}
}

func TestPeakOfDType(t *testing.T) {
	roof := Roof{F32GFLOPS: 1, BF16GFLOPS: 2, Int8GOPS: 3, DType: "int8"}
	for shape, want := range map[string]float64{"": 3, "4x4": 3, "4x4 f32": 1, "4x4 bf16": 2, "4x4 int8": 3, "4x4 q8_0": 3, "4x4 f16": 1, "4x4 q4_0": 0} {
		if got := roof.peak(shape); got != want {
			t.Errorf("%q: %v, want %v", shape, got, want)
		}
	}
}
