package profile

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/google/pprof/profile"

	"github.com/tia2-engine/tia2-engine/engine"
)

// The sample types of a written profile, in their order; the first is what pprof shows unless told otherwise.
var sampleTypes = []*profile.ValueType{
	{Type: "time", Unit: "nanoseconds"},
	{Type: "flops", Unit: "count"},
	{Type: "bytes", Unit: "bytes"},
	{Type: "runs", Unit: "count"},
}

// Recording is the op samples of one model's run.
type Recording struct {
	Model   string            // the root frame
	Labels  map[string]string // put on every sample, for pprof's -tagfocus; the key "shape" is taken
	Samples []engine.OpSample
}

// Write writes the recordings as one gzipped pprof profile: one sample for each op and shape, with its time in
// nanoseconds, its floating-point operations, its bytes read and written and how often it ran. Samples carry the label
// "shape" and the recording's own. taken is when they were recorded. `go tool pprof -sample_index=flops` chooses another value.
func Write(w io.Writer, recordings []Recording, taken time.Time) error {
	p, err := build(recordings, taken)
	if err != nil {
		return err
	}
	return p.Write(w)
}

func build(recordings []Recording, taken time.Time) (*profile.Profile, error) {
	b := builder{
		// pprof looks for a program to read names from unless a mapping says that they are all here
		p: &profile.Profile{
			SampleType: sampleTypes, DefaultSampleType: "time", TimeNanos: taken.UnixNano(),
			PeriodType: &profile.ValueType{Type: "time", Unit: "nanoseconds"}, Period: 1,
			Mapping: []*profile.Mapping{{ID: 1, Start: 1, Limit: 1 << 32, File: "tia2-engine ops", HasFunctions: true}},
		},
		locations: map[string]*profile.Location{},
	}
	for _, r := range recordings {
		for _, op := range r.Samples {
			if op.Name == "" || op.Time < 0 || !countable(op.FLOPs) || !countable(op.Bytes) {
				return nil, fmt.Errorf("op %q %s of %s: expected a name, and time, flops and bytes from 0 to 2^63", op.Name, op.Shape, r.Model)
			}
			b.add(r, op)
		}
	}
	return b.p, b.p.CheckValid()
}

// countable tells whether x can be written as an int64 of 0 or more.
func countable(x float64) bool { return x >= 0 && x < 1<<63 }

type builder struct {
	p         *profile.Profile
	locations map[string]*profile.Location
}

func (b *builder) add(r Recording, op engine.OpSample) {
	names := frames(r.Model, op.Name)
	sample := &profile.Sample{
		Value: []int64{op.Time.Nanoseconds(), int64(op.FLOPs), int64(op.Bytes), int64(op.Count)},
		Label: map[string][]string{},
	}
	for key, value := range r.Labels {
		sample.Label[key] = []string{value}
	}
	if op.Shape != "" {
		sample.Label["shape"] = []string{op.Shape}
	}
	for i := len(names) - 1; i >= 0; i-- { // pprof wants the leaf first
		sample.Location = append(sample.Location, b.location(names[i]))
	}
	b.p.Sample = append(b.p.Sample, sample)
	b.p.DurationNanos += op.Time.Nanoseconds()
}

// location returns the frame of the given name, made at its first use.
func (b *builder) location(name string) *profile.Location {
	if loc, ok := b.locations[name]; ok {
		return loc
	}
	id := uint64(len(b.locations) + 1)
	fn := &profile.Function{ID: id, Name: name, SystemName: name}
	loc := &profile.Location{ID: id, Mapping: b.p.Mapping[0], Address: id, Line: []profile.Line{{Function: fn}}}
	b.p.Function = append(b.p.Function, fn)
	b.p.Location = append(b.p.Location, loc)
	b.locations[name] = loc
	return loc
}

// frames returns the stack of an op, root first: "m", "image/blk.3/attn/qkv" gives m, image, image/blk.3, image/attn,
// image/attn/qkv. Only the block's own frame names the block.
func frames(model, op string) []string {
	stack := []string{model}
	path := ""
	for _, part := range strings.Split(op, "/") {
		if part == "" {
			continue
		}
		full := part
		if path != "" {
			full = path + "/" + part
		}
		stack = append(stack, full)
		if !isBlock(part) {
			path = full
		}
	}
	return stack
}

// isBlock tells whether a part of an op's path is a numbered layer: "blk.3".
func isBlock(part string) bool {
	_, number, ok := strings.Cut(part, ".")
	if !ok || number == "" {
		return false
	}
	return strings.Trim(number, "0123456789") == ""
}
