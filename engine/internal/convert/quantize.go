package convert

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math"

	"github.com/tia2-engine/tia2-engine/engine/internal/floats"
	"github.com/tia2-engine/tia2-engine/engine/internal/gguf"
)

// Quantize writes the GGUF file dst from src with its matrices in another type. q8_0 values were rounded already and
// cannot be made into anything else; f16 and bf16 can, though nothing comes back by making them larger.
func Quantize(ctx context.Context, src, dst string, opt Options) error {
	dtype, err := parseDType(opt.DType)
	if err != nil {
		return err
	}
	g, err := gguf.Open(src)
	if err != nil {
		return err
	}
	defer g.Close()
	if !isOurs(g) {
		return fmt.Errorf("%s: not a model of this engine (architecture %q)", src, g.Str("general.architecture"))
	}
	if err := refuseOverwrite(dst, []string{src}); err != nil {
		return err
	}
	tensors := make([]gguf.Tensor, len(g.Tensors))
	for i, t := range g.Tensors {
		tensors[i] = gguf.Tensor{Name: t.Name, Dims: t.Dims, Type: typeOf(len(t.Dims) == 2 && isMatrix(t.Name), t.Dims[0], dtype)}
		if err := castable(&t, tensors[i].Type); err != nil {
			return fmt.Errorf("%s: %w", src, err)
		}
	}
	w, err := gguf.Create(dst, g.KVs, tensors)
	if err != nil {
		return err
	}
	defer w.Abort()
	if !g.HasData() {
		return w.Commit()
	}
	job := newJob(ctx, opt, nil, dtype)
	job.expect(nil, tensors)
	for i := range g.Tensors {
		t := &g.Tensors[i]
		data, err := g.Data(t)
		if err != nil {
			return err
		}
		e := encoder{job: job, dtype: tensors[i].Type, source: src + ": tensor " + t.Name}
		if err := w.WriteTensor(func(out io.Writer) error { e.w = out; return e.recode(data, t) }); err != nil {
			return err
		}
	}
	return w.Commit()
}

// isOurs tells whether this engine wrote a file.
func isOurs(g *gguf.File) bool {
	return knownArch(g.Str("general.architecture")) && g.Value("tia2.format") != nil
}

// castable refuses the casts that make no sense.
func castable(t *gguf.Tensor, to gguf.Type) error {
	switch t.Type {
	case gguf.F32, gguf.F16, gguf.BF16:
		return nil
	case gguf.Q8_0:
		if to == gguf.Q8_0 {
			return nil
		}
	}
	return fmt.Errorf("tensor %s is %s: expected f32, f16 or bf16 to make it %s", t.Name, t.Type, to)
}

// recode copies a tensor's values in the encoder's type, some rows at a time.
func (e *encoder) recode(r io.Reader, t *gguf.Tensor) error {
	if t.Type == gguf.Q8_0 { // castable: the target is q8_0 too
		n, err := io.Copy(e.w, r)
		e.job.advance(n)
		return err
	}
	size, err := t.Type.Size([]uint64{1})
	if err != nil {
		return err
	}
	cols := t.Dims[0]
	rows := t.Elements() / cols
	step := max(1, (1<<20)/cols)
	raw, values := make([]byte, min(step, rows)*cols*size), make([]float32, min(step, rows)*cols)
	for ; rows > 0; rows -= min(step, rows) {
		n := min(step, rows) * cols
		if _, err := io.ReadFull(r, raw[:n*size]); err != nil {
			return fmt.Errorf("%s: %w", e.source, err)
		}
		for i := range values[:n] {
			switch t.Type {
			case gguf.F32:
				values[i] = math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:]))
			case gguf.F16:
				values[i] = floats.FromF16(binary.LittleEndian.Uint16(raw[2*i:]))
			default:
				values[i] = floats.FromBF16(binary.LittleEndian.Uint16(raw[2*i:]))
			}
		}
		if err := e.values(values[:n]); err != nil {
			return err
		}
	}
	return nil
}
