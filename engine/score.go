package engine

import (
	"context"
	"fmt"

	"gonum.org/v1/gonum/blas/blas32"
)

// Score returns the model's rewards of every picture for every text. A dual encoder has one:
//
//	clip, pickscore   exp(logit scale) * cosine similarity
//	hpsv2             cosine similarity
//
// Pictures that cannot be read have rows of NaN, and the error is ItemErrors. A score depends on its picture and its
// text alone.
func (m *Model) Score(ctx context.Context, images []Image, texts []string) ([]Reward, error) {
	if m.opt.NoNormalize {
		return nil, fmt.Errorf("tia2: a model opened with NoNormalize has no scores: %w", ErrInvalid)
	}
	imageEmbeds, textEmbeds, items, err := m.embedPairs(ctx, images, texts)
	if err != nil {
		return nil, err
	}
	rewards := []Reward{m.Similarity(imageEmbeds, textEmbeds)}
	if len(items) > 0 {
		return rewards, items
	}
	return rewards, nil
}

// embedPairs embeds both sides and keeps apart the pictures that could not be read.
func (m *Model) embedPairs(ctx context.Context, images []Image, texts []string) (imageEmbeds, textEmbeds Embeddings, items ItemErrors, err error) {
	if textEmbeds, err = m.EncodeTexts(ctx, texts); err != nil {
		return
	}
	imageEmbeds, err = m.EncodeImages(ctx, images)
	items, err = SplitItemErrors(err)
	return
}

// Similarity returns the reward of every image embedding for every text embedding, both of this model.
func (m *Model) Similarity(images, texts Embeddings) Reward {
	scale := m.rewardScale()
	r := Reward{Name: m.info.Reward, Images: images.N, Texts: texts.N, Scores: make([]float32, images.N*texts.N)}
	for i := range images.N {
		for t := range texts.N {
			r.Scores[i*texts.N+t] = scale * blas32.Dot(vector(images.Row(i)), vector(texts.Row(t)))
		}
	}
	return r
}

// rewardScale is what a cosine is multiplied with: HPSv2's authors report the cosine itself.
func (m *Model) rewardScale() float32 {
	if m.info.Reward == "hpsv2" {
		return 1
	}
	return m.info.LogitScale
}

func vector(row []float32) blas32.Vector { return blas32.Vector{N: len(row), Inc: 1, Data: row} }
