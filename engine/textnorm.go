package engine

import (
	"context"
	"fmt"

	"github.com/tia2-engine/tia2-engine/cgo"
	"github.com/tia2-engine/tia2-engine/textnorm"
)

// PromptImages are the pictures that were generated for one prompt.
type PromptImages struct {
	Texts  []string // the prompt, then its contrastive prompts: what textnorm.PromptSet returns; at least 2
	Images []Image
}

// TextNormScores are the scores of the pictures of one prompt, both [len(Images)].
type TextNormScores struct {
	Raw        []float32 // the reward for the prompt itself
	Confidence []float32 // its TextNorm, in (0, 1]
}

// TextNorm returns, for every prompt, the rewards of its pictures and their calibrated confidence. It embeds all
// pictures and texts once and then does similarity, min-max and softmax in one fused pass over all prompts; package
// textnorm defines the result.
//
// Pictures that cannot be read have NaN, and the error is ItemErrors, whose indices count the pictures of all prompts.
func (m *Model) TextNorm(ctx context.Context, prompts []PromptImages, opt textnorm.Options) ([]TextNormScores, error) {
	if m.opt.NoNormalize {
		return nil, fmt.Errorf("tia2: a model opened with NoNormalize has no scores: %w", ErrInvalid)
	}
	minMax := cgo.MinMaxImage
	switch opt.MinMax {
	case "", textnorm.PerImage:
	case textnorm.PerSet:
		minMax = cgo.MinMaxSet
	default:
		return nil, fmt.Errorf("tia2: min-max mode %q: expected %q or %q: %w", opt.MinMax, textnorm.PerImage, textnorm.PerSet, ErrInvalid)
	}
	var images []Image
	var texts []string
	var setOf []int32
	setOffsets := []int32{0}
	for s, p := range prompts {
		if len(p.Texts) < 2 {
			return nil, fmt.Errorf("tia2: prompt %d has %d texts: expected the prompt and at least one contrastive prompt: %w", s, len(p.Texts), ErrInvalid)
		}
		for range p.Images {
			setOf = append(setOf, int32(s))
		}
		images, texts = append(images, p.Images...), append(texts, p.Texts...)
		setOffsets = append(setOffsets, int32(len(texts)))
	}
	imageEmbeds, textEmbeds, items, err := m.embedPairs(ctx, images, texts)
	if err != nil {
		return nil, err
	}
	scores := TextNormScores{Raw: make([]float32, len(images)), Confidence: make([]float32, len(images))}
	args := cgo.TextNormArgs{Images: imageEmbeds.Data, Texts: textEmbeds.Data, D: m.info.EmbedDim, SetOf: setOf, SetOffsets: setOffsets,
		RewardScale: m.rewardScale(), Scale: textnorm.DefaultScale, MinMax: minMax}
	if opt.Scale != 0 {
		args.Scale = float32(opt.Scale)
	}
	if err := cgo.TextNorm(scores.Raw, scores.Confidence, args); err != nil {
		return nil, err
	}
	split := scores.split(prompts)
	if len(items) > 0 {
		return split, items
	}
	return split, nil
}

// split cuts the scores of all pictures into those of each prompt.
func (s TextNormScores) split(prompts []PromptImages) []TextNormScores {
	all := make([]TextNormScores, len(prompts))
	first := 0
	for i, p := range prompts {
		end := first + len(p.Images)
		all[i] = TextNormScores{Raw: s.Raw[first:end:end], Confidence: s.Confidence[first:end:end]}
		first = end
	}
	return all
}
