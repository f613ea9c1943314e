package engine

import (
	"context"
	"fmt"
	"math"

	"github.com/tia2-engine/tia2-engine/cgo"
	"github.com/tia2-engine/tia2-engine/textnorm"
)

// PromptImages are the pictures that were generated for one prompt.
type PromptImages struct {
	Texts  []string // the prompt, then its contrastive prompts: what textnorm.PromptSet returns; at least 2
	Images []Image
}

// TextNormScores are the scores of the pictures of one prompt by one reward, both [len(Images)].
type TextNormScores struct {
	Reward     string    // its name
	Raw        []float32 // the reward for the prompt itself
	Confidence []float32 // its TextNorm, in (0, 1]
}

// TextNorm returns, for every prompt, the rewards of its pictures and their calibrated confidence, by the model's first
// reward: of BLIP and BLIP-2 that is itc.
//
// Pictures that cannot be read have NaN, and the error is ItemErrors, whose indices count the pictures of all prompts.
func (m *Model) TextNorm(ctx context.Context, prompts []PromptImages, opt textnorm.Options) ([]TextNormScores, error) {
	all, err := TextNorm(ctx, []*Model{m}, prompts, opt, m.info.Rewards[0])
	if all == nil {
		return nil, err
	}
	return all[0], err
}

// TextNorm does so for all rewards of all models, [rewards][prompts], in the order of Score; or for those that are named.
// Pictures and texts are encoded once, and texts are scored with the pictures of their own prompt only. Rewards that
// are a product of two embeddings are computed and normalised in one fused pass over all prompts; package textnorm defines
// the result.
func TextNorm(ctx context.Context, models []*Model, prompts []PromptImages, opt textnorm.Options, rewards ...string) ([][]TextNormScores, error) {
	s, err := newScoring(models, rewards)
	if err != nil {
		return nil, err
	}
	sets, err := newPromptSets(prompts, opt)
	if err != nil {
		return nil, err
	}
	failed, err := s.run(ctx, sets.images, sets.texts, sets.pairs)
	if err != nil {
		return nil, err
	}
	var all [][]TextNormScores
	for _, part := range s.parts {
		for _, name := range part.rewards {
			norm := sets.calibrate
			if kindOf(name) == ofEmbeddings && part.m.info.ImageVectors == 1 {
				norm = sets.fused
			}
			scores := TextNormScores{Reward: name, Raw: make([]float32, len(sets.images)), Confidence: make([]float32, len(sets.images))}
			if err := norm(part, scores); err != nil {
				return nil, err
			}
			all = append(all, scores.split(prompts))
		}
	}
	if len(failed) > 0 {
		return all, failed
	}
	return all, nil
}

// promptSets are the pictures and texts of all prompts, one after another.
type promptSets struct {
	prompts []PromptImages
	opt     textnorm.Options
	images  []Image
	texts   []string
	setOf   []int32 // [images] the prompt of each
	offsets []int32 // [prompts+1] the texts of prompt s are those from offsets[s] to offsets[s+1]
	pairs   *pairing
}

// newPromptSets checks prompts and options.
func newPromptSets(prompts []PromptImages, opt textnorm.Options) (*promptSets, error) {
	switch opt.MinMax {
	case "", textnorm.PerImage, textnorm.PerSet:
	default:
		return nil, fmt.Errorf("tia2: min-max mode %q: expected %q or %q: %w", opt.MinMax, textnorm.PerImage, textnorm.PerSet, ErrInvalid)
	}
	s := &promptSets{prompts: prompts, opt: opt, offsets: []int32{0}}
	var pairs []Pair
	for set, p := range prompts {
		if len(p.Texts) < 2 {
			return nil, fmt.Errorf("tia2: prompt %d has %d texts: expected the prompt and at least one contrastive prompt: %w", set, len(p.Texts), ErrInvalid)
		}
		for i := range p.Images {
			s.setOf = append(s.setOf, int32(set))
			for t := range p.Texts {
				pairs = append(pairs, Pair{len(s.images) + i, len(s.texts) + t})
			}
		}
		s.images, s.texts = append(s.images, p.Images...), append(s.texts, p.Texts...)
		s.offsets = append(s.offsets, int32(len(s.texts)))
	}
	var err error
	s.pairs, err = somePairs(len(s.images), len(s.texts), pairs)
	return s, err
}

// fused computes the scores of a model's embeddings in C.
func (s *promptSets) fused(part *scoredModel, scores TextNormScores) error {
	args := cgo.TextNormArgs{Images: part.images.Data, Texts: part.texts.Data, D: part.m.info.EmbedDim, SetOf: s.setOf, SetOffsets: s.offsets,
		RewardScale: part.m.rewardScale(), Scale: textnorm.DefaultScale, MinMax: cgo.MinMaxImage}
	if s.opt.Scale != 0 {
		args.Scale = float32(s.opt.Scale)
	}
	if s.opt.MinMax == textnorm.PerSet {
		args.MinMax = cgo.MinMaxSet
	}
	return cgo.TextNorm(scores.Raw, scores.Confidence, args)
}

// calibrate computes the scores of any reward, prompt by prompt. Pictures without rewards have NaN and count for nothing.
func (s *promptSets) calibrate(part *scoredModel, scores TextNormScores) error {
	rewards := part.scores(scores.Reward)
	first, at := 0, 0 // picture of the prompt, and its reward
	for _, p := range s.prompts {
		var rows [][]float32
		var places []int
		for i := range p.Images {
			row := rewards[at : at+len(p.Texts)]
			at += len(row)
			scores.Raw[first+i], scores.Confidence[first+i] = row[0], float32(math.NaN())
			if row[0] == row[0] {
				rows, places = append(rows, row), append(places, first+i)
			}
		}
		confidence, err := textnorm.Calibrate(rows, s.opt)
		if err != nil {
			return fmt.Errorf("tia2: %w", err)
		}
		for k, place := range places {
			scores.Confidence[place] = float32(confidence[k])
		}
		first += len(p.Images)
	}
	return nil
}

// split cuts the scores of all pictures into those of each prompt.
func (s TextNormScores) split(prompts []PromptImages) []TextNormScores {
	all := make([]TextNormScores, len(prompts))
	first := 0
	for i, p := range prompts {
		end := first + len(p.Images)
		all[i] = TextNormScores{Reward: s.Reward, Raw: s.Raw[first:end:end], Confidence: s.Confidence[first:end:end]}
		first = end
	}
	return all
}
