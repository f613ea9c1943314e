package engine

import (
	"context"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"
)

// EncodeImages returns the L2-normalised embeddings of pictures, f32 [len(images), EmbedDim].
//
// Pictures are decoded and resized on all threads while the batch before is being encoded. One that cannot be read
// fails alone: its row is NaN and the error is ItemErrors. A context that ends stops the call between two batches.
func (m *Model) EncodeImages(ctx context.Context, images []Image) (Embeddings, error) {
	out := m.embeddings(len(images))
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	batches := m.imageBatches(ctx, images)
	var failed ItemErrors
	m.opt.Progress("images", 0, len(images))
	for done := 0; done < len(images); {
		b, ok := <-batches
		if !ok {
			return Embeddings{}, ctx.Err()
		}
		if err := m.encodeImageBatch(ctx, b, out); err != nil {
			return Embeddings{}, fmt.Errorf("tia2: images %d to %d: %w", b.first, b.first+b.n-1, err)
		}
		failed = append(failed, b.failed...)
		done += b.n
		m.opt.Progress("images", done, len(images))
	}
	if len(failed) > 0 {
		return out, failed
	}
	return out, nil
}

// imageBatch is a run of pictures ready to be encoded.
type imageBatch struct {
	first, n int    // pictures [first, first+n) of the call
	good     []int  // the index of each picture that could be read
	pixels   Pixels // of the good ones
	failed   ItemErrors
}

// imageBatches preprocesses pictures batch by batch, one batch ahead of whoever receives them.
func (m *Model) imageBatches(ctx context.Context, images []Image) <-chan imageBatch {
	batches := make(chan imageBatch)
	go func() {
		defer close(batches)
		for first := 0; first < len(images) && ctx.Err() == nil; first += m.opt.Batch {
			b := m.prepareImages(images[first:min(first+m.opt.Batch, len(images))], first)
			select {
			case batches <- b:
			case <-ctx.Done():
			}
		}
	}()
	return batches
}

// prepareImages decodes and resizes a batch on all threads.
func (m *Model) prepareImages(images []Image, first int) imageBatch {
	errs := make([]error, len(images))
	u8, f32 := make([][]uint8, len(images)), make([][]float32, len(images))
	var group errgroup.Group
	group.SetLimit(m.opt.Threads)
	for i, img := range images {
		group.Go(func() error {
			data, err := img.read(m.preprocess.Limits)
			if err == nil && m.preprocess.isFloat() {
				f32[i], err = m.preprocess.F32(data)
			} else if err == nil {
				u8[i], err = m.preprocess.U8(data)
			}
			errs[i] = err
			return nil
		})
	}
	_ = group.Wait() // the workers keep their errors in errs

	b := imageBatch{first: first, n: len(images)}
	for i, err := range errs {
		if err != nil {
			b.failed = append(b.failed, &ItemError{Index: first + i, Name: images[i].Name, Err: err})
			continue
		}
		b.good = append(b.good, first+i)
		b.pixels.U8 = append(b.pixels.U8, u8[i]...)
		b.pixels.F32 = append(b.pixels.F32, f32[i]...)
	}
	b.pixels.N = len(b.good)
	return b
}

// read returns the picture's bytes, at most as many as the limits allow.
func (img Image) read(limits ImageLimits) ([]byte, error) {
	if img.Data != nil {
		return img.Data, nil
	}
	f, err := os.Open(img.Path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	most := limits.bytesMax()
	data, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(data)) > most {
		err = fmt.Errorf("the file has more than %d bytes, the limit: %w", most, ErrImage)
	}
	return data, err
}

// encodeImageBatch puts the embeddings of a batch where they belong in out.
func (m *Model) encodeImageBatch(ctx context.Context, b imageBatch, out Embeddings) error {
	for _, f := range b.failed {
		fill(out.Row(f.Index), float32(math.NaN()))
	}
	e, err := m.EncodePixels(ctx, b.pixels)
	if err != nil {
		return err
	}
	for k, i := range b.good {
		copy(out.Row(i), e.Row(k))
	}
	return nil
}

func fill(row []float32, v float32) {
	for i := range row {
		row[i] = v
	}
}

// EncodePixels returns the L2-normalised embeddings of preprocessed pictures, f32 [px.N, EmbedDim].
func (m *Model) EncodePixels(ctx context.Context, px Pixels) (Embeddings, error) {
	size := 3 * m.info.ImageSize * m.info.ImageSize
	if len(px.U8)+len(px.F32) != px.N*size || len(px.U8) > 0 && len(px.F32) > 0 {
		return Embeddings{}, fmt.Errorf("tia2: %d u8 and %d f32 pixels: expected one of them with %d x 3 x %d x %d: %w",
			len(px.U8), len(px.F32), px.N, m.info.ImageSize, m.info.ImageSize, ErrInvalid)
	}
	out := m.embeddings(px.N)
	for first := 0; first < px.N; first += m.opt.Batch {
		n := min(m.opt.Batch, px.N-first)
		dst := out.Data[first*out.Dim : (first+n)*out.Dim]
		err := m.exec.do(ctx, func() error {
			if px.U8 != nil {
				return m.native.EncodeImagesU8(dst, px.U8[first*size:(first+n)*size], n, !m.opt.NoNormalize)
			}
			return m.native.EncodeImagesF32(dst, px.F32[first*size:(first+n)*size], n, !m.opt.NoNormalize)
		})
		if err != nil {
			return Embeddings{}, err
		}
	}
	return out, nil
}

// EncodeTexts returns the L2-normalised embeddings of texts, f32 [len(texts), EmbedDim]. A text that is longer than the
// model's context is truncated as the model's own tokenizer does it. Equal texts are encoded once.
func (m *Model) EncodeTexts(ctx context.Context, texts []string) (Embeddings, error) {
	slot := make(map[string]int, len(texts)) // text -> row of ids
	var ids [][]int32
	rows := make([]int, len(texts))
	for i, text := range texts {
		k, seen := slot[text]
		if !seen {
			k = len(ids)
			slot[text] = k
			ids = append(ids, m.tokenizer.Encode(text, m.info.Context))
		}
		rows[i] = k
	}
	distinct, err := m.EncodeTokens(ctx, ids)
	if err != nil {
		return Embeddings{}, err
	}
	out := m.embeddings(len(texts))
	for i, k := range rows {
		copy(out.Row(i), distinct.Row(k))
	}
	return out, nil
}

// EncodeTokens returns the L2-normalised embeddings of texts given as token ids, f32 [len(ids), EmbedDim]. What follows
// a text's first end-of-text token has no effect: CLIP's text tower is causal and pooled there.
func (m *Model) EncodeTokens(ctx context.Context, ids [][]int32) (Embeddings, error) {
	order := make([]int, len(ids))
	texts := make([][]int32, len(ids))
	for i, text := range ids {
		order[i] = i
		if end := slices.Index(text, m.tokenizer.EOT()); end >= 0 {
			text = text[:end+1]
		}
		texts[i] = text
	}
	// Texts of like length share a batch, so that little is computed for padding.
	slices.SortStableFunc(order, func(a, b int) int { return len(texts[a]) - len(texts[b]) })

	out := m.embeddings(len(ids))
	m.opt.Progress("texts", 0, len(ids))
	for first := 0; first < len(order); first += m.opt.Batch {
		batch := order[first:min(first+m.opt.Batch, len(order))]
		if err := m.encodeTokenBatch(ctx, texts, batch, out); err != nil {
			return Embeddings{}, fmt.Errorf("tia2: texts: %w", err)
		}
		m.opt.Progress("texts", first+len(batch), len(order))
	}
	return out, nil
}

// tokenBatch is one batch of texts laid out for C, kept for the next call.
type tokenBatch struct {
	ids, offsets []int32
	rows         []float32
}

var tokenBatches = sync.Pool{New: func() any { return new(tokenBatch) }}

func (m *Model) encodeTokenBatch(ctx context.Context, texts [][]int32, batch []int, out Embeddings) error {
	b := tokenBatches.Get().(*tokenBatch)
	defer tokenBatches.Put(b)
	b.ids, b.offsets = b.ids[:0], append(b.offsets[:0], 0)
	for _, i := range batch {
		b.ids = append(b.ids, texts[i]...)
		b.offsets = append(b.offsets, int32(len(b.ids)))
	}
	b.rows = slices.Grow(b.rows[:0], len(batch)*out.Dim)[:len(batch)*out.Dim]
	err := m.exec.do(ctx, func() error { return m.native.EncodeTexts(b.rows, b.ids, b.offsets, !m.opt.NoNormalize) })
	if err != nil {
		return err
	}
	for k, i := range batch {
		copy(out.Row(i), b.rows[k*out.Dim:])
	}
	return nil
}

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
