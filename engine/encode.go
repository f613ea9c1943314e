package engine

import (
	"context"
	"fmt"
	"sync"

	"github.com/tia2-engine/tia2-engine/cgo"
)

// EncodeImages returns the L2-normalised embeddings of pictures, f32 [len(images), EmbedDim]; of BLIP-2 ImageVectors of
// them a picture, one after another, f32 [len(images), ImageVectors * EmbedDim]. ErrInvalid if the model has none
// (Info.HasEmbeddings).
//
// Pictures are read, decoded and resized on all threads: on the CPU between two batches, which need the same cores, on
// other devices while the batch before is being encoded. One that cannot be read fails alone: its row is NaN and the
// error is ItemErrors. A context that ends stops the call between two batches.
func (m *Model) EncodeImages(ctx context.Context, images []Image) (Embeddings, error) {
	if err := m.needEmbeddings(); err != nil {
		return Embeddings{}, err
	}
	out := m.imageRows(len(images))
	pipe, err := newImagePipe(images, []*tower{{m: m, out: out}})
	if err != nil {
		return Embeddings{}, err
	}
	failed, err := pipe.run(ctx, counter{m.opt.Progress, "images", 0, len(images)})
	if err != nil {
		return Embeddings{}, err
	}
	if len(failed) > 0 {
		return out, failed
	}
	return out, nil
}

// counter tells of a stage of a call.
type counter struct {
	tell          func(stage string, done, total int)
	stage         string
	before, total int // items that were done before those that are counted, and all
}

func (c counter) at(done int) { c.tell(c.stage, c.before+done, c.total) }

// EncodePixels returns the L2-normalised embeddings of preprocessed pictures, f32 [px.N, ImageVectors * EmbedDim].
func (m *Model) EncodePixels(ctx context.Context, px Pixels) (Embeddings, error) {
	if err := m.checkPixels(px); err != nil { // before N has memory allocated
		return Embeddings{}, err
	}
	out := m.imageRows(px.N)
	if err := m.EncodePixelsInto(ctx, px, out.Data); err != nil {
		return Embeddings{}, err
	}
	return out, nil
}

// EncodePixelsInto does the same and writes the embeddings to dst, f32 [px.N, ImageVectors * EmbedDim], without allocating
// memory. After an error dst holds nothing of use.
func (m *Model) EncodePixelsInto(ctx context.Context, px Pixels, dst []float32) error {
	if err := m.needEmbeddings(); err != nil {
		return err
	}
	if err := m.checkPixels(px); err != nil {
		return err
	}
	if err := checkRows(dst, px.N, m.imageWidth()); err != nil {
		return err
	}
	return m.encodePixels(ctx, px, dst, nil)
}

// EncodeStatesInto writes what the cross encoder reads of preprocessed pictures to states, f32 [px.N, ImageTokens,
// StateWidth], and their embeddings to dst, as EncodePixelsInto does, or nothing where dst is nil. It allocates no memory.
// ErrInvalid if the model has no cross encoder.
func (m *Model) EncodeStatesInto(ctx context.Context, px Pixels, dst, states []float32) error {
	if err := m.needPairs(); err != nil {
		return err
	}
	if err := m.checkPixels(px); err != nil {
		return err
	}
	if dst != nil {
		if err := m.needEmbeddings(); err != nil {
			return err
		}
		if err := checkRows(dst, px.N, m.imageWidth()); err != nil {
			return err
		}
	}
	if err := checkRows(states, px.N, m.stateSize()); err != nil {
		return err
	}
	return m.encodePixels(ctx, px, dst, states)
}

// encodePixels runs the image tower batch by batch. dst, f32 [px.N, imageWidth], or states, f32 [px.N, stateSize], may be
// empty.
func (m *Model) encodePixels(ctx context.Context, px Pixels, dst, states []float32) error {
	size, width, stateSize := m.preprocess.values(), m.imageWidth(), m.stateSize()
	c := pixelCalls.Get().(*pixelCall)
	defer c.release()
	c.native, c.normalize = m.native, !m.opt.NoNormalize
	for first := 0; first < px.N; first += m.opt.Batch {
		c.n = min(m.opt.Batch, px.N-first)
		if len(dst) > 0 {
			c.dst = dst[first*width : (first+c.n)*width]
		}
		if len(states) > 0 {
			c.states = states[first*stateSize : (first+c.n)*stateSize]
		}
		if len(px.U8) > 0 {
			c.u8 = px.U8[first*size : (first+c.n)*size]
		} else {
			c.f32 = px.F32[first*size : (first+c.n)*size]
		}
		if err := m.exec.run(ctx, c); err != nil {
			return err
		}
	}
	return nil
}

// imageWidth returns how many values the embeddings of a picture are, and stateSize how many its states.
func (m *Model) imageWidth() int { return m.info.ImageVectors * m.info.EmbedDim }

func (m *Model) stateSize() int { return m.info.ImageTokens * m.info.StateWidth }

// checkPixels refuses pixels that are not px.N pictures.
func (m *Model) checkPixels(px Pixels) error {
	if m.native == nil {
		return m.needEmbeddings()
	}
	if px.N < 0 || len(px.U8)+len(px.F32) != px.N*m.preprocess.values() || len(px.U8) > 0 && len(px.F32) > 0 {
		return fmt.Errorf("tia2: %d u8 and %d f32 pixels: expected one of them with %d x 3 x %d x %d: %w",
			len(px.U8), len(px.F32), px.N, m.info.ImageSize, m.info.ImageSize, ErrInvalid)
	}
	return nil
}

// checkRows refuses a destination or source that does not hold n rows of so many values.
func checkRows(values []float32, n, width int) error {
	if len(values) != n*width {
		return fmt.Errorf("tia2: a slice of %d values: expected %d x %d: %w", len(values), n, width, ErrInvalid)
	}
	return nil
}

// pixelCall is the call into C of one batch of pictures, kept for the next one.
type pixelCall struct {
	native    *cgo.Model
	normalize bool
	n         int
	u8        []uint8   // [n, S, S, 3]
	f32       []float32 // or [n, 3, S, S]
	dst       []float32 // [n, ImageVectors, EmbedDim], or nil
	states    []float32 // [n, ImageTokens, StateWidth], or nil
}

var pixelCalls = sync.Pool{New: func() any { return new(pixelCall) }}

func (c *pixelCall) run() error {
	if c.u8 != nil {
		return c.native.EncodeImagesU8(c.dst, c.states, c.u8, c.n, c.normalize)
	}
	return c.native.EncodeImagesF32(c.dst, c.states, c.f32, c.n, c.normalize)
}

// release forgets what belongs to the caller and keeps c for another call.
func (c *pixelCall) release() {
	*c = pixelCall{}
	pixelCalls.Put(c)
}

// EncodeTexts returns the L2-normalised embeddings of texts, f32 [len(texts), EmbedDim]. A text that is longer than the
// model takes (its context, or Options.MaxLength) is truncated as the model's own tokenizer does it. ErrInvalid if the
// model has no embeddings.
func (m *Model) EncodeTexts(ctx context.Context, texts []string) (Embeddings, error) {
	if err := m.needEmbeddings(); err != nil {
		return Embeddings{}, err
	}
	return m.EncodeTokens(ctx, m.texts.read(texts))
}

// EncodeTokens returns the L2-normalised embeddings of texts given as token ids, f32 [len(ids), EmbedDim]. Equal texts are
// encoded once. In a CLIP what follows a text's first end-of-text token has no effect, since its text tower is causal and
// pooled there, and what texts of a batch begin with alike is computed once.
func (m *Model) EncodeTokens(ctx context.Context, ids [][]int32) (Embeddings, error) {
	out := m.textRows(len(ids))
	if err := m.EncodeTokensInto(ctx, ids, out.Data); err != nil {
		return Embeddings{}, err
	}
	return out, nil
}

// EncodeTokensInto does the same and writes the embeddings to dst, f32 [len(ids), EmbedDim], without allocating memory
// once calls of this size have been made before. After an error dst holds nothing of use.
func (m *Model) EncodeTokensInto(ctx context.Context, ids [][]int32, dst []float32) error {
	if err := m.needEmbeddings(); err != nil {
		return err
	}
	if err := checkRows(dst, len(ids), m.info.EmbedDim); err != nil {
		return err
	}
	return m.encodeTokens(ctx, ids, Embeddings{N: len(ids), Dim: m.info.EmbedDim, Data: dst}, counter{m.opt.Progress, "texts", 0, len(ids)})
}

// encodeTokens is EncodeTokensInto for a part of what is counted.
func (m *Model) encodeTokens(ctx context.Context, ids [][]int32, out Embeddings, count counter) error {
	c := textCalls.Get().(*textCall)
	defer c.release()
	c.native, c.normalize = m.native, !m.opt.NoNormalize
	c.plan.reset(ids, m.texts.end())
	budget := textBudget(m.opt.Batch, m.texts.limit, m.onCPU())
	if m.cached.texts.on() {
		if err := ctx.Err(); err != nil { // even where nothing is left to be encoded
			return fmt.Errorf("tia2: texts: %w", err)
		}
		c.lookUp(&m.cached.texts, out)
	}
	found := len(ids) - len(c.plan.order)
	count.at(found)
	for from := 0; from < c.plan.distinct(); {
		to := c.plan.end(from, budget)
		if err := c.encode(ctx, m.exec, from, to, out); err != nil {
			return fmt.Errorf("tia2: texts: %w", err)
		}
		if m.cached.texts.on() {
			m.cached.texts.put(c.keys[from:to], c.rows)
		}
		count.at(found + c.plan.start[to])
		from = to
	}
	return nil
}

// onCPU tells whether the model computes on the cores that also decode and resize pictures.
func (m *Model) onCPU() bool { return m.info.Backend == "cpu" }

func newEmbeddings(n, dim int) Embeddings {
	return Embeddings{N: n, Dim: dim, Data: make([]float32, n*dim)}
}

// imageRows and textRows make room for the embeddings of n pictures or texts.
func (m *Model) imageRows(n int) Embeddings { return newEmbeddings(n, m.imageWidth()) }

func (m *Model) textRows(n int) Embeddings { return newEmbeddings(n, m.info.EmbedDim) }

// Tokenize returns the ids of texts as EncodeTexts and Score use them: from the first special token to the last, truncated
// as the model does it, not padded. Equal texts share theirs. An aesthetic head reads no texts: ErrInvalid.
func (m *Model) Tokenize(texts []string) ([][]int32, error) {
	if m.texts.tokenizer == nil {
		return nil, ofKind(ErrInvalid, "tia2: %s, an aesthetic head, reads no texts", m.info.Spec)
	}
	return m.texts.read(texts), nil
}
