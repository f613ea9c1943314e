package engine

import (
	"context"
	"fmt"
	"sync"

	"github.com/tia2-engine/tia2-engine/cgo"
)

// EncodeImages returns the L2-normalised embeddings of pictures, f32 [len(images), EmbedDim].
//
// Pictures are read, decoded and resized on all threads: on the CPU between two batches, which need the same cores, on
// other devices while the batch before is being encoded. One that cannot be read fails alone: its row is NaN and the
// error is ItemErrors. A context that ends stops the call between two batches.
func (m *Model) EncodeImages(ctx context.Context, images []Image) (Embeddings, error) {
	out := m.embeddings(len(images))
	pipe, err := m.prepare(ctx, images, out)
	if err != nil {
		return Embeddings{}, err
	}
	defer pipe.stop()
	var failed ItemErrors
	m.opt.Progress("images", 0, len(images))
	for done := 0; done < len(images); {
		w, ok := <-pipe.ready
		if !ok {
			return Embeddings{}, ctx.Err()
		}
		if err := m.encodeWindow(ctx, w, out); err != nil {
			return Embeddings{}, err
		}
		failed = w.appendFailed(failed, out)
		done = w.done
		pipe.free <- w
	}
	if len(failed) > 0 {
		return out, failed
	}
	return out, nil
}

// encodeWindow embeds the pictures of a window batch by batch, puts the embeddings where they belong in out, and keeps them.
func (m *Model) encodeWindow(ctx context.Context, w *imageWindow, out Embeddings) error {
	before := w.done - len(w.pictures) // pictures that were done before
	for k := 0; k < len(w.good); k += m.opt.Batch {
		end := min(k+m.opt.Batch, len(w.good))
		px, rows := w.batch(k, end, out.Dim)
		if err := m.EncodePixelsInto(ctx, px, rows); err != nil {
			return fmt.Errorf("tia2: images %d to %d: %w", w.pictures[w.good[k]].index, w.pictures[w.good[end-1]].index, err)
		}
		w.spread(k, rows, out)
		if m.cached.images.on() {
			m.cached.images.put(w.keys[k:end], rows)
		}
		if end < len(w.good) {
			m.opt.Progress("images", before+w.good[end-1]+1, out.N)
		}
	}
	m.opt.Progress("images", w.done, out.N)
	return nil
}

// EncodePixels returns the L2-normalised embeddings of preprocessed pictures, f32 [px.N, EmbedDim].
func (m *Model) EncodePixels(ctx context.Context, px Pixels) (Embeddings, error) {
	if err := m.checkPixels(px); err != nil { // before N has memory allocated
		return Embeddings{}, err
	}
	out := m.embeddings(px.N)
	if err := m.EncodePixelsInto(ctx, px, out.Data); err != nil {
		return Embeddings{}, err
	}
	return out, nil
}

// EncodePixelsInto does the same and writes the embeddings to dst, f32 [px.N, EmbedDim], without allocating memory. After
// an error dst holds nothing of use.
func (m *Model) EncodePixelsInto(ctx context.Context, px Pixels, dst []float32) error {
	if err := m.checkPixels(px); err != nil {
		return err
	}
	if err := m.checkRows(dst, px.N); err != nil {
		return err
	}
	size := m.preprocess.values()
	c := pixelCalls.Get().(*pixelCall)
	defer c.release()
	c.native, c.normalize = m.native, !m.opt.NoNormalize
	for first := 0; first < px.N; first += m.opt.Batch {
		c.n = min(m.opt.Batch, px.N-first)
		c.dst = dst[first*m.info.EmbedDim : (first+c.n)*m.info.EmbedDim]
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

// checkPixels refuses pixels that are not px.N pictures.
func (m *Model) checkPixels(px Pixels) error {
	if len(px.U8)+len(px.F32) != px.N*m.preprocess.values() || len(px.U8) > 0 && len(px.F32) > 0 {
		return fmt.Errorf("tia2: %d u8 and %d f32 pixels: expected one of them with %d x 3 x %d x %d: %w",
			len(px.U8), len(px.F32), px.N, m.info.ImageSize, m.info.ImageSize, ErrInvalid)
	}
	return nil
}

// checkRows refuses a destination that does not hold n embeddings.
func (m *Model) checkRows(dst []float32, n int) error {
	if len(dst) != n*m.info.EmbedDim {
		return fmt.Errorf("tia2: dst holds %d values: expected %d x %d: %w", len(dst), n, m.info.EmbedDim, ErrInvalid)
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
	dst       []float32 // [n, EmbedDim]
}

var pixelCalls = sync.Pool{New: func() any { return new(pixelCall) }}

func (c *pixelCall) run() error {
	if c.u8 != nil {
		return c.native.EncodeImagesU8(c.dst, c.u8, c.n, c.normalize)
	}
	return c.native.EncodeImagesF32(c.dst, c.f32, c.n, c.normalize)
}

// release forgets what belongs to the caller and keeps c for another call.
func (c *pixelCall) release() {
	*c = pixelCall{}
	pixelCalls.Put(c)
}

// EncodeTexts returns the L2-normalised embeddings of texts, f32 [len(texts), EmbedDim]. A text that is longer than the
// model's context is truncated as the model's own tokenizer does it.
func (m *Model) EncodeTexts(ctx context.Context, texts []string) (Embeddings, error) {
	seen := make(map[string][]int32, len(texts)) // equal texts are tokenized once
	ids := make([][]int32, len(texts))
	for i, text := range texts {
		known, ok := seen[text]
		if !ok {
			known = m.tokenizer.Encode(text, m.info.Context)
			seen[text] = known
		}
		ids[i] = known
	}
	return m.EncodeTokens(ctx, ids)
}

// EncodeTokens returns the L2-normalised embeddings of texts given as token ids, f32 [len(ids), EmbedDim]. What follows
// a text's first end-of-text token has no effect: CLIP's text tower is causal and pooled there. Equal texts are encoded
// once, and what texts of a batch begin with alike is computed once.
func (m *Model) EncodeTokens(ctx context.Context, ids [][]int32) (Embeddings, error) {
	out := m.embeddings(len(ids))
	if err := m.EncodeTokensInto(ctx, ids, out.Data); err != nil {
		return Embeddings{}, err
	}
	return out, nil
}

// EncodeTokensInto does the same and writes the embeddings to dst, f32 [len(ids), EmbedDim], without allocating memory
// once calls of this size have been made before. After an error dst holds nothing of use.
func (m *Model) EncodeTokensInto(ctx context.Context, ids [][]int32, dst []float32) error {
	if err := m.checkRows(dst, len(ids)); err != nil {
		return err
	}
	out := Embeddings{N: len(ids), Dim: m.info.EmbedDim, Data: dst}
	c := textCalls.Get().(*textCall)
	defer c.release()
	c.native, c.normalize = m.native, !m.opt.NoNormalize
	c.plan.reset(ids, m.tokenizer.EOT())
	budget := textBudget(m.opt.Batch, m.info.Context, m.onCPU())
	if m.cached.texts.on() {
		if err := ctx.Err(); err != nil { // even where nothing is left to be encoded
			return fmt.Errorf("tia2: texts: %w", err)
		}
		c.lookUp(&m.cached.texts, out)
	}
	found := len(ids) - len(c.plan.order)
	m.opt.Progress("texts", found, len(ids))
	for from := 0; from < c.plan.distinct(); {
		to := c.plan.end(from, budget)
		if err := c.encode(ctx, m.exec, from, to, out); err != nil {
			return fmt.Errorf("tia2: texts: %w", err)
		}
		if m.cached.texts.on() {
			m.cached.texts.put(c.keys[from:to], c.rows)
		}
		m.opt.Progress("texts", found+c.plan.start[to], len(ids))
		from = to
	}
	return nil
}

// onCPU tells whether the model computes on the cores that also decode and resize pictures.
func (m *Model) onCPU() bool { return m.info.Backend == "cpu" }

func (m *Model) embeddings(n int) Embeddings {
	return Embeddings{N: n, Dim: m.info.EmbedDim, Data: make([]float32, n*m.info.EmbedDim)}
}

// Tokenize returns the ids of texts as EncodeTexts uses them: from the first special token to the last, truncated to
// the model's context, not padded.
func (m *Model) Tokenize(texts []string) ([][]int32, error) {
	ids := make([][]int32, len(texts))
	for i, text := range texts {
		ids[i] = m.tokenizer.Encode(text, m.info.Context)
	}
	return ids, nil
}
