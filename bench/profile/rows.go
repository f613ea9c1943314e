package profile

import (
	"cmp"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/tia2-engine/tia2-engine/engine"
)

// Roof is what the machine can do, measured; 0: unknown.
type Roof struct {
	F32GFLOPS, BF16GFLOPS, Int8GOPS float64
	BandwidthGBs                    float64
	DType                           string // of ops whose shape does not end in one
	CPU                             bool   // the samples are of the CPU, whose roof this is
}

// Row is all runs of one op with one shape, the numbered blocks of a tower taken together unless they were to be apart.
type Row struct {
	Op     string  `json:"op"`    // "image/blk.*/attn/qkv", apart "image/blk.3/attn/qkv"
	Shape  string  `json:"shape"` // "1600x768x2304 f32"
	Count  uint64  `json:"count"`
	TimeMS float64 `json:"time_ms"` // all runs together
	Share  float64 `json:"share"`   // of the time of all ops
	GFLOPS float64 `json:"gflops"`
	GBs    float64 `json:"gb_s"` // operands read and written once, 1e9 bytes a second
	// RoofFraction is the op's speed over the most that its arithmetic intensity allows: min(peak, intensity *
	// bandwidth). It passes 1 where operands were still in the cache. Of the total it is the time that all ops would
	// take at their roofs over the time that they took. Null where the roof is not known.
	RoofFraction *float64 `json:"roof_fraction"`
	Bound        string   `json:"bound,omitempty"` // which of the two is lower: "compute" or "memory"
}

// total is what samples of one row add up to.
type total struct {
	op, shape    string
	count        uint64
	time         time.Duration
	flops, bytes float64
	limit        float64 // seconds at the roof; NaN where it is not known
	bound        string
}

func (t *total) add(s engine.OpSample) {
	t.count += s.Count
	t.time += s.Time
	t.flops += s.FLOPs
	t.bytes += s.Bytes
}

// Rows groups samples by op and shape, the slowest first, with a last row "total". With layers the numbered blocks stay
// apart, in the order of the samples.
func Rows(samples []engine.OpSample, roof Roof, layers bool) []Row {
	type key struct{ op, shape string }
	index := map[key]int{}
	var groups []*total
	all := &total{op: "total"}
	for _, s := range samples {
		k := key{s.Name, s.Shape}
		if !layers {
			k.op = mergedName(s.Name)
		}
		if _, seen := index[k]; !seen {
			index[k] = len(groups)
			groups = append(groups, &total{op: k.op, shape: k.shape})
		}
		groups[index[k]].add(s)
		all.add(s)
	}
	if len(groups) == 0 {
		return nil
	}
	var rows []Row
	for _, g := range groups {
		g.limit, g.bound = roof.seconds(g.flops, g.bytes, g.shape)
		all.limit += g.limit
		rows = append(rows, g.row(all.time))
	}
	if !layers {
		slices.SortFunc(rows, func(a, b Row) int {
			return cmp.Or(cmp.Compare(b.TimeMS, a.TimeMS), cmp.Compare(a.Op, b.Op), cmp.Compare(a.Shape, b.Shape))
		})
	}
	return append(rows, all.row(all.time))
}

func (t *total) row(all time.Duration) Row {
	row := Row{Op: t.op, Shape: t.shape, Count: t.count, TimeMS: float64(t.time) / float64(time.Millisecond)}
	if all > 0 {
		row.Share = float64(t.time) / float64(all)
	}
	if t.time <= 0 {
		return row
	}
	ns := float64(t.time.Nanoseconds())
	row.GFLOPS, row.GBs = t.flops/ns, t.bytes/ns
	if !math.IsNaN(t.limit) {
		fraction := t.limit / (ns / 1e9)
		row.RoofFraction, row.Bound = &fraction, t.bound
	}
	return row
}

// seconds returns the least time in which the machine can do the given work and what bounds it; NaN when unknown.
func (r Roof) seconds(flops, bytes float64, shape string) (limit float64, bound string) {
	peak := r.peak(shape)
	if !r.CPU || r.BandwidthGBs <= 0 || flops > 0 && peak <= 0 {
		return math.NaN(), ""
	}
	compute, memory := 0.0, bytes/r.BandwidthGBs/1e9
	if flops > 0 {
		compute = flops / peak / 1e9
	}
	if compute >= memory {
		return compute, "compute"
	}
	return memory, "memory"
}

// peak returns the peak of the dtype that ends the shape, else of the model's. The CPU computes f16 in f32.
func (r Roof) peak(shape string) float64 {
	dtype := r.DType
	if fields := strings.Fields(shape); len(fields) > 1 {
		dtype = fields[len(fields)-1]
	}
	switch dtype {
	case "bf16":
		return r.BF16GFLOPS
	case "int8", "q8_0", "s8", "u8":
		return r.Int8GOPS
	case "f32", "f16":
		return r.F32GFLOPS
	}
	return 0
}

// mergedName replaces the number of each block by a star: "image/blk.*/attn/qkv".
func mergedName(op string) string {
	parts := strings.Split(op, "/")
	for i, part := range parts {
		if isBlock(part) {
			name, _, _ := strings.Cut(part, ".")
			parts[i] = name + ".*"
		}
	}
	return strings.Join(parts, "/")
}
