package serve

import (
	"context"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/tia2-engine/tia2-engine/engine"
	"github.com/tia2-engine/tia2-engine/textnorm"
)

// Score returns rewards of pairs. A picture that cannot be read fails alone; any other error is that of the request.
func (s *Server) Score(ctx context.Context, in ScoreRequest) (_ *ScoreResult, err error) {
	r := s.open(ctx, "score", in.Client)
	defer s.close(r, &err)
	asked, err := s.pairsOf(in)
	if err != nil {
		return nil, err
	}
	out := &ScoreResult{Pairs: asked}
	if out.Rewards, out.Scores, err = s.score(r, in.Rewards, in.Images, in.Texts, asked); err != nil {
		return nil, err
	}
	out.Errors = r.itemErrors()
	return out, nil
}

// pairsOf returns the pairs that a request asks for.
func (s *Server) pairsOf(in ScoreRequest) ([]engine.Pair, error) {
	n, m := len(in.Images), len(in.Texts)
	switch {
	case in.All && len(in.Pairs) > 0:
		return nil, ofKind(ErrBadRequest, "expected pairs or all pairs, not both")
	case in.All:
		return s.allPairs(n, m)
	case len(in.Pairs) > 0:
		for i, p := range in.Pairs {
			if p.Image < 0 || p.Image >= n || p.Text < 0 || p.Text >= m {
				return nil, ofKind(ErrBadRequest, "pair %d is of image %d and text %d: there are %d images and %d texts, counted from 0", i, p.Image, p.Text, n, m)
			}
		}
		return in.Pairs, nil
	case n == 1 && m > 0 || m == 1 && n > 0:
		return s.allPairs(n, m)
	case n != m:
		return nil, ofKind(ErrBadRequest, "%d images and %d texts: expected as many of each, or one of either, or the pairs", n, m)
	}
	out := make([]engine.Pair, n)
	for i := range out {
		out[i] = engine.Pair{Image: i, Text: i}
	}
	return out, nil
}

// allPairs returns the pairs of n images with m texts, image by image.
func (s *Server) allPairs(n, m int) ([]engine.Pair, error) {
	if m > 0 && n > s.opt.QueueItems/m {
		return nil, ofKind(ErrTooLarge, "%d images with %d texts: expected at most %d pairs", n, m, s.opt.QueueItems)
	}
	out := make([]engine.Pair, 0, n*m)
	for i := range n {
		for t := range m {
			out = append(out, engine.Pair{Image: i, Text: t})
		}
	}
	return out, nil
}

// score computes the named rewards, empty for all, of pairs: [rewards][pairs], NaN where a picture failed.
func (s *Server) score(r *request, asked []string, imgs []engine.Image, txts []string, of []engine.Pair) (names []string, scores [][]float32, err error) {
	items, err := s.pairItems(r, imgs, txts, of)
	if err != nil {
		return nil, nil, err
	}
	var columns []int
	err = s.submit(r, nil, func(w *worker) (_ []wish, err error) {
		names = slices.Clone(asked)
		if len(asked) == 0 {
			names = slices.Clone(w.rewards)
		}
		var t *target
		if t, columns, err = w.chosen(names); err != nil {
			return nil, err
		}
		r.scores = rows(len(t.rewards), len(of))
		return []wish{{t, items}}, nil
	})
	if err != nil {
		return nil, nil, err
	}
	for i, c := range columns {
		column := r.scores[c]
		if slices.Contains(columns[:i], c) {
			column = slices.Clone(column) // asked for twice: the caller may change what it gets
		}
		scores = append(scores, column)
	}
	return names, scores, nil
}

// chosen returns the target of some rewards, and the place of each in it.
func (w *worker) chosen(names []string) (*target, []int, error) {
	var in []string // in the order of the backend: sets of names have one target in whatever order they are asked for
	for _, reward := range w.rewards {
		if slices.Contains(names, reward) {
			in = append(in, reward)
		}
	}
	columns := make([]int, len(names))
	for i, name := range names {
		if columns[i] = slices.Index(in, name); columns[i] < 0 {
			return nil, nil, ofKind(ErrUnknownReward, "no reward %q: expected some of %s", name, strings.Join(w.rewards, ", "))
		}
	}
	return w.target(target{kind: pairs, rewards: in}), columns, nil
}

// pairItems returns the items of pairs, those of a picture together, without those of pictures that failed already.
func (s *Server) pairItems(r *request, imgs []engine.Image, txts []string, of []engine.Pair) ([]item, error) {
	digests, err := s.takeImages(r, imgs)
	if err != nil {
		return nil, err
	}
	if err := s.takeTexts(r, txts); err != nil {
		return nil, err
	}
	first := make(map[digest]int, len(imgs)) // where a picture is asked for first
	items := make([]item, 0, len(of))
	for place, p := range of {
		if _, failed := r.failed[p.Image]; failed {
			continue
		}
		d := digests[p.Image]
		if _, seen := first[d]; !seen {
			first[d] = place
		}
		items = append(items, item{image: d, data: imgs[p.Image].Data, text: txts[p.Text], place: place, index: p.Image})
	}
	slices.SortStableFunc(items, func(a, b item) int { return first[a.image] - first[b.image] })
	return items, nil
}

// itemErrors returns the pictures that failed, in order.
func (r *request) itemErrors() []ItemError {
	var out []ItemError
	for _, i := range slices.Sorted(maps.Keys(r.failed)) {
		out = append(out, ItemError{i, r.failed[i]})
	}
	return out
}

// rows returns n rows of NaN.
func rows(n, width int) [][]float32 {
	out := make([][]float32, n)
	for i := range out {
		out[i] = slices.Repeat([]float32{float32(math.NaN())}, width)
	}
	return out
}

// TextNorm returns rewards of pictures for a prompt and its contrastive prompts, and the confidence that package textnorm
// makes of them, over the distinct texts.
func (s *Server) TextNorm(ctx context.Context, in TextNormRequest) (_ *TextNormResult, err error) {
	r := s.open(ctx, "textnorm", in.Client)
	defer s.close(r, &err)
	calibrate, err := calibration(in)
	if err != nil {
		return nil, err
	}
	all := append([]string{in.Prompt}, in.Contrastive...)
	of, err := s.allPairs(len(in.Images), len(all))
	if err != nil {
		return nil, err
	}
	names, scores, err := s.score(r, in.Rewards, in.Images, all, of)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	out := &TextNormResult{Rewards: names, Errors: r.itemErrors()}
	for _, column := range scores {
		table := slices.Collect(slices.Chunk(column, len(all)))
		confidence, err := calibrate(table)
		if err != nil {
			return nil, err
		}
		out.Scores, out.Confidence = append(out.Scores, table), append(out.Confidence, confidence)
	}
	s.stage(r, "softmax", began, time.Since(began))
	return out, nil
}

// calibration returns what makes confidences of [images][texts] rewards, with NaN for a picture that has none.
func calibration(in TextNormRequest) (func([][]float32) ([]float32, error), error) {
	opt := textnorm.Options{Scale: in.Scale, MinMax: textnorm.MinMax(in.MinMax)}
	if _, err := textnorm.Calibrate([][]float32{{0, 1}}, opt); err != nil {
		return nil, ofKind(ErrBadRequest, "%w", err)
	}
	set := textnorm.PromptSet(in.Prompt, in.Contrastive)
	if len(set) < 2 {
		return nil, ofKind(ErrBadRequest, "%d contrastive prompts: expected at least one that is not the prompt itself", len(in.Contrastive))
	}
	all := append([]string{in.Prompt}, in.Contrastive...)
	columns := make([]int, len(set))
	for i, text := range set {
		columns[i] = slices.Index(all, text)
	}
	return func(table [][]float32) ([]float32, error) {
		var whole []int // pictures with scores
		var chosen [][]float32
		for i, row := range table {
			if slices.ContainsFunc(row, func(v float32) bool { return math.IsNaN(float64(v)) }) {
				continue
			}
			picked := make([]float32, len(columns))
			for k, c := range columns {
				picked[k] = row[c]
			}
			whole, chosen = append(whole, i), append(chosen, picked)
		}
		values, err := textnorm.Calibrate(chosen, opt)
		if err != nil {
			return nil, ofKind(ErrBackend, "the batch failed: %w", err)
		}
		out := rows(1, len(table))[0]
		for k, i := range whole {
			out[i] = float32(values[k])
		}
		return out, nil
	}, nil
}

// Embed returns embeddings of pictures and texts by one model.
func (s *Server) Embed(ctx context.Context, in EmbedRequest) (_ *EmbedResult, err error) {
	r := s.open(ctx, "embed", in.Client)
	defer s.close(r, &err)
	digests, err := s.takeImages(r, in.Images)
	if err != nil {
		return nil, err
	}
	if err := s.takeTexts(r, in.Texts); err != nil {
		return nil, err
	}
	var ofImages, ofTexts []item
	for i, img := range in.Images {
		if _, failed := r.failed[i]; !failed {
			ofImages = append(ofImages, item{image: digests[i], data: img.Data, place: i, index: i})
		}
	}
	for i, text := range in.Texts {
		ofTexts = append(ofTexts, item{text: text, place: i})
	}
	out := &EmbedResult{}
	r.rows[images].N, r.rows[texts].N = len(in.Images), len(in.Texts)
	err = s.submit(r, nil, func(w *worker) (wishes []wish, err error) {
		if out.Model, err = w.model(in.Model); err != nil {
			return nil, err
		}
		return []wish{{w.target(target{kind: images, model: out.Model}), ofImages}, {w.target(target{kind: texts, model: out.Model}), ofTexts}}, nil
	})
	if err != nil {
		return nil, err
	}
	out.Images, out.Texts, out.Errors = r.rows[images], r.rows[texts], r.itemErrors()
	for _, e := range out.Errors {
		if out.Images.Dim > 0 {
			copy(out.Images.Row(e.Index), rows(1, out.Images.Dim)[0])
		}
	}
	return out, nil
}

// model returns the Name of the model that a request names.
func (w *worker) model(name string) (string, error) {
	var names, fits []string
	for _, m := range w.models {
		if m.Family == "aesthetic" || m.Family != "" && m.EmbedDim == 0 {
			continue // it has no embeddings
		}
		names = append(names, m.Name)
		if name == m.Name {
			return m.Name, nil
		}
		if name == "" || name == m.Spec || slices.Contains(m.Rewards, name) {
			fits = append(fits, m.Name)
		}
	}
	switch {
	case len(fits) == 1:
		return fits[0], nil
	case name == "":
		return "", ofKind(ErrBadRequest, "no model is named: expected one of %s", strings.Join(names, ", "))
	}
	return "", ofKind(ErrBadRequest, "no model %q with embeddings: expected one of %s", name, strings.Join(names, ", "))
}
