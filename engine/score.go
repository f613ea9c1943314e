package engine

import (
	"context"
	"slices"
	"strings"

	"gonum.org/v1/gonum/blas/blas32"
)

// Score returns all rewards of all models for every picture and every text, in the order of models and of their
// Info.Rewards:
//
//	clip, pickscore        exp(logit scale) * cosine similarity
//	hpsv2, blip_itc        cosine similarity
//	blip2_itc              the largest cosine similarity of the picture's query vectors
//	blip_itm, blip2_itm    probability of a match, or its logit (Options.ITMOutput)
//	imagereward            reward, standardised as its authors do
//	aesthetic              LAION's score of the picture, the same for every text
//
// A picture is read once, decoded and resized once for each distinct preprocessing, and encoded once by each model. An
// aesthetic head takes the embeddings of the CLIP that it was trained on: the one among models of the head's width, of
// several the one whose reward is clip.
//
// Pictures that cannot be read have NaN in every reward whose preprocessing refused them, and the error is ItemErrors, one
// for each picture. A score depends on its picture and its text alone. A context that ends stops the call between two
// batches. Any other error, of whichever model, ends it.
func Score(ctx context.Context, models []*Model, images []Image, texts []string) ([]Reward, error) {
	return score(ctx, models, images, texts, allPairs(len(images), len(texts)), nil)
}

// Score is Score of one model.
func (m *Model) Score(ctx context.Context, images []Image, texts []string) ([]Reward, error) {
	return Score(ctx, []*Model{m}, images, texts)
}

// ScorePairs is Score for the pairs named, in their order: a Reward has the Scores [len(pairs)]. Rewards, where some are
// named, are the only ones that are computed and returned, in the order of Score. ErrInvalid if a pair's picture or text
// is none, or no model has a reward of that name.
func ScorePairs(ctx context.Context, models []*Model, images []Image, texts []string, pairs []Pair, rewards ...string) ([]Reward, error) {
	p, err := somePairs(len(images), len(texts), pairs)
	if err != nil {
		return nil, err
	}
	return score(ctx, models, images, texts, p, rewards)
}

func score(ctx context.Context, models []*Model, images []Image, texts []string, pairs *pairing, rewards []string) ([]Reward, error) {
	s, err := newScoring(models, rewards)
	if err != nil {
		return nil, err
	}
	failed, err := s.run(ctx, images, texts, pairs)
	if err != nil {
		return nil, err
	}
	var all []Reward
	for _, part := range s.parts {
		for _, name := range part.rewards {
			r := Reward{Name: name, Scores: part.scores(name)}
			r.Images, r.Texts = pairs.shape()
			all = append(all, r)
		}
	}
	if len(failed) > 0 {
		return all, failed
	}
	return all, nil
}

// scoring is one call of Score or TextNorm.
type scoring struct {
	parts []*scoredModel // one for each model
	pairs *pairing
}

// scoredModel is what one model is to do in a call, and what came out.
type scoredModel struct {
	m       *Model
	rewards []string     // that are wanted of it
	embeds  bool         // embeddings of pictures are wanted, for its own reward or for a head
	on      *scoredModel // of an aesthetic head: its CLIP

	images, texts Embeddings
	matching      *matching // nil where no pairs are wanted
	pairs         *pairing
}

// wants tells whether rewards of a kind are wanted of the model.
func (s *scoredModel) wants(kind rewardKind) bool {
	return slices.ContainsFunc(s.rewards, func(r string) bool { return kindOf(r) == kind })
}

// newScoring finds out what each model is to do. No names stand for all rewards.
func newScoring(models []*Model, names []string) (*scoring, error) {
	if len(models) == 0 {
		return nil, ofKind(ErrInvalid, "tia2: no models: expected at least one")
	}
	s := &scoring{}
	first := map[*Model]*scoredModel{} // whose embeddings a head takes, if its model is there twice
	var have []string
	for _, m := range models {
		if m.opt.NoNormalize {
			return nil, ofKind(ErrInvalid, "tia2: a model opened with NoNormalize has no scores")
		}
		if m.closed.Load() {
			return nil, ErrClosed
		}
		part := &scoredModel{m: m}
		for _, r := range m.info.Rewards {
			have = append(have, r)
			if len(names) == 0 || slices.Contains(names, r) {
				part.rewards = append(part.rewards, r)
			}
		}
		part.embeds = part.wants(ofEmbeddings)
		s.parts = append(s.parts, part)
		if first[m] == nil {
			first[m] = part
		}
	}
	for _, name := range names {
		if !slices.Contains(have, name) {
			return nil, ofKind(ErrInvalid, "tia2: reward %q: expected one of %s", name, strings.Join(have, ", "))
		}
	}
	for _, part := range s.parts {
		if part.wants(ofHead) {
			clip, err := embedderOf(part.m, models)
			if err != nil {
				return nil, err
			}
			part.on = first[clip]
			part.on.embeds = true
		}
	}
	return s, nil
}

// run embeds texts, then takes the pictures through all models. It returns the pictures that could not be read.
func (s *scoring) run(ctx context.Context, images []Image, texts []string, pairs *pairing) (ItemErrors, error) {
	tell := s.parts[0].m.opt.Progress
	count := counter{tell, "texts", 0, 0}
	for _, part := range s.parts {
		if part.wants(ofEmbeddings) {
			count.total += len(texts)
		}
	}
	var towers []*tower
	for _, part := range s.parts {
		part.pairs = pairs
		if err := part.read(ctx, texts, &count); err != nil {
			return nil, err
		}
		if part.embeds {
			part.images = part.m.imageRows(len(images))
		}
		if part.embeds || part.matching != nil {
			towers = append(towers, &tower{m: part.m, out: part.images, pairs: part.matching})
		}
	}
	pipe, err := newImagePipe(images, towers)
	if err != nil {
		return nil, err
	}
	return pipe.run(ctx, counter{tell, "images", 0, len(images)})
}

// read does the model's part of texts: it embeds them, or plans how they are matched.
func (s *scoredModel) read(ctx context.Context, texts []string, count *counter) error {
	if s.m.head != nil || len(s.rewards) == 0 {
		return nil
	}
	ids := s.m.texts.read(texts)
	if s.wants(ofPairs) {
		s.matching = newMatching(s.m, ids, s.pairs)
	}
	if !s.wants(ofEmbeddings) {
		return nil
	}
	s.texts = s.m.textRows(len(texts))
	err := s.m.encodeTokens(ctx, ids, s.texts, *count)
	count.before += len(texts)
	return err
}

// scores returns one of the model's rewards for all pairs.
func (s *scoredModel) scores(reward string) []float32 {
	switch kindOf(reward) {
	case ofPairs:
		return s.matching.scores
	case ofHead:
		return s.m.head.scores(s.on.images, s.pairs)
	}
	return s.m.similarity(s.images, s.texts, s.pairs)
}

// scores returns the head's score of the picture of each pair.
func (h *aestheticHead) scores(images Embeddings, pairs *pairing) []float32 {
	scores := make([]float32, pairs.len())
	for i := range images.N {
		score := h.score(images.Row(i))
		pairs.each(i, func(_, at int) { scores[at] = score })
	}
	return scores
}

// Similarity returns the reward of every image embedding for every text embedding, both of this model: of BLIP the one
// called itc, of ImageReward and aesthetic heads, which have no embeddings, nothing.
func (m *Model) Similarity(images, texts Embeddings) Reward {
	if !m.info.HasEmbeddings() {
		return Reward{}
	}
	pairs := allPairs(images.N, texts.N)
	return Reward{Name: m.info.Rewards[0], Images: images.N, Texts: texts.N, Scores: m.similarity(images, texts, pairs)}
}

// similarity returns the scaled cosine of the embeddings of each pair; where a picture has several, the largest.
func (m *Model) similarity(images, texts Embeddings, pairs *pairing) []float32 {
	scale, dim := m.rewardScale(), m.info.EmbedDim
	scores := make([]float32, pairs.len())
	for i := range images.N {
		row := images.Row(i)
		pairs.each(i, func(text, at int) {
			t := vector(texts.Row(text))
			best := blas32.Dot(vector(row[:dim]), t)
			for from := dim; from < len(row); from += dim {
				best = max(best, blas32.Dot(vector(row[from:from+dim]), t))
			}
			scores[at] = scale * best
		})
	}
	return scores
}

func vector(row []float32) blas32.Vector { return blas32.Vector{N: len(row), Inc: 1, Data: row} }
