package convert

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"os"
	"runtime"
	"sync"

	"github.com/tia2-engine/tia2-engine/engine/internal/floats"
	"github.com/tia2-engine/tia2-engine/engine/internal/gguf"
	"github.com/tia2-engine/tia2-engine/engine/internal/tensorfile"
)

// job is one conversion under way.
type job struct {
	ctx     context.Context
	opt     Options
	outputs []output
	dtype   gguf.Type
	done    int64 // bytes
	total   int64
	buf     []byte
}

func newJob(ctx context.Context, opt Options, outputs []output, dtype gguf.Type) *job {
	return &job{ctx: ctx, opt: opt, outputs: outputs, dtype: dtype}
}

func (j *job) note(format string, args ...any) {
	if j.opt.Note != nil {
		j.opt.Note(fmt.Sprintf(format, args...))
	}
}

func (j *job) advance(n int64) {
	j.done += n
	if j.opt.Progress != nil {
		j.opt.Progress(j.done, max(j.done, j.total))
	}
}

// expect sets the total that progress is told against.
func (j *job) expect(parts []string, tensors []gguf.Tensor) {
	for _, p := range parts {
		if st, err := os.Stat(p); err == nil {
			j.total += st.Size()
		}
	}
	for _, t := range tensors {
		if n, err := t.Type.Size(t.Dims); err == nil {
			j.total += int64(n)
		}
	}
}

// typeOf returns the type that a tensor gets: f32 unless it is a matrix; f16 where q8_0's blocks do not fit its rows.
func typeOf(matrix bool, cols uint64, dtype gguf.Type) gguf.Type {
	switch {
	case !matrix:
		return gguf.F32
	case dtype == gguf.Q8_0 && cols%floats.Q8Values != 0:
		return gguf.F16
	}
	return dtype
}

// tensors returns the infos of the GGUF file, in ggml's order of dimensions.
func (j *job) tensors() []gguf.Tensor {
	out := make([]gguf.Tensor, len(j.outputs))
	for i, o := range j.outputs {
		out[i] = gguf.Tensor{Name: o.name, Dims: []uint64{uint64(o.cols)}, Type: typeOf(o.matrix(), uint64(o.cols), j.dtype)}
		if o.rows > 0 {
			out[i].Dims = append(out[i].Dims, uint64(o.rows))
		}
	}
	return out
}

// write writes the values of output i.
func (j *job) write(w io.Writer, i int, f *tensorfile.File) error {
	o := &j.outputs[i]
	e := encoder{job: j, w: w, dtype: typeOf(o.matrix(), uint64(o.cols), j.dtype)}
	if err := e.output(o, f); err != nil {
		return err
	}
	if e.odd > 0 {
		j.note("%s: %d values are NaN or infinite", e.source, e.odd)
	}
	return nil
}

// output writes what an output's inputs hold, or what is computed of it.
func (e *encoder) output(o *output, f *tensorfile.File) error {
	var values [][]float32
	for _, in := range o.inputs {
		t := f.Tensor(in.name)
		e.source = t.String()
		if o.compute == nil {
			if err := t.Stream(o.cols, e.values); err != nil {
				return err
			}
			continue
		}
		all, err := t.Floats()
		if err != nil {
			return err
		}
		values = append(values, all)
	}
	if o.compute == nil {
		return nil
	}
	return e.pieces(o.compute(values), int(o.cols))
}

// encoder writes float32 values in a tensor's type. Pieces must hold whole rows, so that q8_0's blocks are whole.
type encoder struct {
	job    *job
	w      io.Writer
	dtype  gguf.Type
	source string // what the values come from, for messages
	odd    int    // NaN and infinite values so far
}

// pieces passes on whole rows, some at a time, so that the buffer stays small and cancelling is quick.
func (e *encoder) pieces(x []float32, cols int) error {
	step := max(1, (1<<20)/cols) * cols
	for ; len(x) > 0; x = x[min(step, len(x)):] {
		if err := e.values(x[:min(step, len(x))]); err != nil {
			return err
		}
	}
	return nil
}

// values encodes and writes one piece.
func (e *encoder) values(x []float32) error {
	if err := e.job.ctx.Err(); err != nil {
		return err
	}
	size, err := e.dtype.Size([]uint64{uint64(len(x))})
	if err != nil {
		return fmt.Errorf("%s: %w", e.source, err)
	}
	if uint64(cap(e.job.buf)) < size {
		e.job.buf = make([]byte, size)
	}
	out := e.job.buf[:size]
	odd, over := encode(out, x, e.dtype)
	e.odd += odd
	if over > 0 {
		return fmt.Errorf("%s: values up to %g do not fit f16: choose bf16 or f32", e.source, largest(x))
	}
	e.job.advance(int64(size))
	_, err = e.w.Write(out)
	return err
}

// encode converts x to a type, on all processors. It returns how many values are NaN or infinite, and how many are
// finite but too large for the half floats of the result.
func encode(dst []byte, x []float32, dtype gguf.Type) (odd, over int) {
	const least = 1 << 15 // values for which a goroutine pays
	parts := max(1, min(runtime.GOMAXPROCS(0), len(x)/least))
	if parts == 1 {
		return encodePart(dst, x, dtype)
	}
	step := (len(x)/parts + floats.Q8Values - 1) / floats.Q8Values * floats.Q8Values
	counts := make([][2]int, parts)
	var wait sync.WaitGroup
	for p := range parts {
		lo, hi := min(p*step, len(x)), min((p+1)*step, len(x))
		if p == parts-1 {
			hi = len(x)
		}
		from, _ := dtype.Size([]uint64{uint64(max(lo, 1))})
		to, _ := dtype.Size([]uint64{uint64(hi)})
		if lo == 0 {
			from = 0
		}
		wait.Go(func() { counts[p][0], counts[p][1] = encodePart(dst[from:to], x[lo:hi], dtype) })
	}
	wait.Wait()
	for _, c := range counts {
		odd, over = odd+c[0], over+c[1]
	}
	return odd, over
}

func encodePart(dst []byte, x []float32, dtype gguf.Type) (odd, over int) {
	le := binary.LittleEndian
	odd = floats.NonFinite(x)
	switch dtype {
	case gguf.F32:
		for i, v := range x {
			le.PutUint32(dst[4*i:], math.Float32bits(v))
		}
	case gguf.F16:
		for i, v := range x {
			h := floats.ToF16(v)
			if h&0x7fff == 0x7c00 && !math.IsInf(float64(v), 0) {
				over++
			}
			le.PutUint16(dst[2*i:], h)
		}
	case gguf.BF16:
		for i, v := range x {
			le.PutUint16(dst[2*i:], floats.ToBF16(v))
		}
	case gguf.Q8_0:
		floats.ToQ8(dst, x)
	}
	return odd, over
}

// largest returns the largest finite magnitude.
func largest(x []float32) (m float32) {
	for _, v := range x {
		if a := float32(math.Abs(float64(v))); !math.IsInf(float64(a), 0) && a > m {
			m = a
		}
	}
	return m
}
