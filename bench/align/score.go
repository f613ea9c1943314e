package align

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/tia2-engine/tia2-engine/bench/tia2"
	"github.com/tia2-engine/tia2-engine/engine"
)

// Column is one reward of a model, as a file of scores has it.
type Column struct {
	Reward string // its name in the file
	Model  string // what computes it: weights, number type and whatever else its value depends on
}

// Scorer scores with one model or several, which share the work on a picture; *Models is one.
type Scorer interface {
	// Columns returns the rewards of each model. The list and the names stay the same.
	Columns() [][]Column
	// Score gives the rewards of the models with these indexes, in their order, for all pairs of images and texts. Images
	// that fail are NaN and named in an engine.ItemErrors; any other error ends the run.
	Score(ctx context.Context, models []int, images []engine.Image, texts []string) ([]engine.Reward, error)
}

// ScoreOptions of [ScoreSet].
type ScoreOptions struct {
	// Progress is told after every prompt how many of the set's images are done, those of earlier runs included.
	Progress func(done, total int)
}

// ScoreSummary says what [ScoreSet] did.
type ScoreSummary struct {
	Scored  int               // images scored by at least one model in this run
	Resumed int               // images that had all their rewards already
	Failed  engine.ItemErrors // images that could not be read or scored; they have no line for that reward
}

// ScoreSet scores every image of the set against its prompt and contrastive prompts with every model, prompt by prompt,
// and writes the lines to w, flushed after each prompt. Models whose rewards w has already do not run again, so a run
// that was ended goes on where it stopped. Those that an image lacks run in one call, which reads it once. An image that
// fails is in the summary and costs only itself.
//
// The error is that which ended the run: ctx.Err() after cancellation, a failed write, a model that could do nothing, a
// file whose rewards are of other texts or another model. What was finished is in w in any case; the caller commits or
// closes it.
func ScoreSet(ctx context.Context, set *tia2.Set, models Scorer, w *tia2.ScoreWriter, opt ScoreOptions) (ScoreSummary, error) {
	run := &scoreRun{set: set, models: models, columns: models.Columns(), out: w}
	if err := run.checkColumns(); err != nil {
		return ScoreSummary{}, err
	}
	total, done := 0, 0
	for _, p := range set.Prompts {
		total += len(p.Images)
	}
	for _, p := range set.Prompts {
		if err := ctx.Err(); err != nil {
			return run.summary, err
		}
		err := run.prompt(ctx, p)
		if err := errors.Join(err, w.Flush()); err != nil {
			if ctx.Err() != nil {
				return run.summary, ctx.Err()
			}
			return run.summary, fmt.Errorf("set %s: prompt %q: %w", set.Name, p.Caption, err)
		}
		done += len(p.Images)
		if opt.Progress != nil {
			opt.Progress(done, total)
		}
	}
	return run.summary, nil
}

type scoreRun struct {
	set     *tia2.Set
	models  Scorer
	columns [][]Column // of models
	out     *tia2.ScoreWriter
	summary ScoreSummary

	promptFailures int // len(summary.Failed) before the current prompt
}

// checkColumns refuses a name that two models give, and a reward that the file has of another model.
func (r *scoreRun) checkColumns() error {
	seen := map[string]bool{}
	for _, columns := range r.columns {
		for _, c := range columns {
			if seen[c.Reward] {
				return fmt.Errorf("two models give the reward %s: score them into separate files", c.Reward)
			}
			seen[c.Reward] = true
			if have := r.out.Scores().Model(c.Reward); have != "" && c.Model != "" && have != c.Model {
				return fmt.Errorf("the file has the reward %s of another model, %s: this one is %s", c.Reward, have, c.Model)
			}
		}
	}
	return nil
}

// group are images of a prompt that lack the rewards of the same models.
type group struct{ models, images []int }

// prompt scores the images of one prompt that lack a reward, and writes their lines.
func (r *scoreRun) prompt(ctx context.Context, p tia2.Prompt) error {
	texts := p.Texts()
	if have := r.out.Scores().Prompt(p.Caption); have != nil && !slices.Equal(have.Texts, texts) {
		return errors.New("the file has its scores for other contrastive prompts")
	}
	r.promptFailures = len(r.summary.Failed)
	groups, complete := r.groups(p)
	r.summary.Resumed += complete
	lines := make([]map[string][]float64, len(p.Images))
	var failure error
	for _, g := range groups {
		if failure = r.score(ctx, p, texts, g, lines); failure != nil {
			break // after writing what was found before
		}
	}
	for i, rewards := range lines {
		if len(rewards) == 0 {
			continue
		}
		r.summary.Scored++
		line := tia2.Line{Image: p.Images[i].Name, Prompt: p.Caption, Texts: texts, Rewards: rewards, Models: r.modelsOf(rewards)}
		if err := r.out.Write(line); err != nil {
			return errors.Join(failure, err)
		}
	}
	return failure
}

// modelsOf returns what computed the rewards of a line, nil if no model says.
func (r *scoreRun) modelsOf(rewards map[string][]float64) map[string]string {
	var models map[string]string
	for _, c := range slices.Concat(r.columns...) {
		if rewards[c.Reward] == nil || c.Model == "" {
			continue
		}
		if models == nil {
			models = map[string]string{}
		}
		models[c.Reward] = c.Model
	}
	return models
}

// groups returns the images of a prompt that lack a reward, and the number of those that lack none.
func (r *scoreRun) groups(p tia2.Prompt) (groups []group, complete int) {
	for i, image := range p.Images {
		lacking := r.lacking(p, image.Name)
		if len(lacking) == 0 {
			complete++
			continue
		}
		at := slices.IndexFunc(groups, func(g group) bool { return slices.Equal(g.models, lacking) })
		if at < 0 {
			at, groups = len(groups), append(groups, group{models: lacking})
		}
		groups[at].images = append(groups[at].images, i)
	}
	return groups, complete
}

// lacking returns the models of which an image lacks a reward.
func (r *scoreRun) lacking(p tia2.Prompt, image string) []int {
	var have map[string][]float64
	if s := r.out.Scores().Prompt(p.Caption); s != nil {
		have = s.Images[image]
	}
	var models []int
	for m, columns := range r.columns {
		if slices.ContainsFunc(columns, func(c Column) bool { return have[c.Reward] == nil }) {
			models = append(models, m)
		}
	}
	return models
}

// score adds the rewards of a group to lines.
func (r *scoreRun) score(ctx context.Context, p tia2.Prompt, texts []string, g group, lines []map[string][]float64) error {
	images := make([]engine.Image, 0, len(g.images))
	index := make([]int, 0, len(g.images)) // of images in p.Images
	for _, i := range g.images {
		image, err := r.image(p.Images[i].Name)
		if err != nil {
			r.fail(i, p.Images[i].Name, err)
			continue
		}
		images, index = append(images, image), append(index, i)
	}
	if len(images) == 0 {
		return nil
	}
	rewards, err := r.models.Score(ctx, g.models, images, texts)
	failed, err := engine.SplitItemErrors(err)
	if err != nil {
		return err
	}
	for _, f := range failed {
		if f.Index < 0 || f.Index >= len(index) {
			return f // not an image: a text, say
		}
		r.fail(index[f.Index], p.Images[index[f.Index]].Name, f.Err)
	}
	if err := r.checkAnswer(g.models, rewards, len(index), len(texts)); err != nil {
		return err
	}
	r.collect(p, rewards, index, len(texts), lines)
	return nil
}

// checkAnswer compares names and shapes of an answer with what was asked for.
func (r *scoreRun) checkAnswer(models []int, rewards []engine.Reward, images, texts int) error {
	var want, got []string
	for _, m := range models {
		for _, c := range r.columns[m] {
			want = append(want, c.Reward)
		}
	}
	for _, reward := range rewards {
		got = append(got, reward.Name)
		if reward.Images != images || reward.Texts != texts || len(reward.Scores) != images*texts {
			return fmt.Errorf("reward %s has %d x %d scores, want %d images x %d texts", reward.Name, reward.Images, reward.Texts, images, texts)
		}
	}
	if !slices.Equal(want, got) {
		return fmt.Errorf("the models gave the rewards %q, want %q", got, want)
	}
	return nil
}

// collect copies the finite rows of an answer to the lines of their images.
func (r *scoreRun) collect(p tia2.Prompt, rewards []engine.Reward, index []int, texts int, lines []map[string][]float64) {
	for _, reward := range rewards {
		for i, at := range index {
			values, finite := widen(reward.Scores[i*texts : (i+1)*texts])
			if !finite {
				r.fail(at, p.Images[at].Name, fmt.Errorf("its reward %s is not a finite number", reward.Name))
				continue
			}
			if lines[at] == nil {
				lines[at] = map[string][]float64{}
			}
			lines[at][reward.Name] = values
		}
	}
}

// widen returns the scores as float64, and whether all are finite.
func widen(scores []float32) (values []float64, finite bool) {
	values, finite = make([]float64, len(scores)), true
	for t, v := range scores {
		values[t] = float64(v)
		finite = finite && !math.IsNaN(values[t]) && !math.IsInf(values[t], 0)
	}
	return values, finite
}

// fail notes a failed image, once for each prompt that it belongs to.
func (r *scoreRun) fail(index int, name string, err error) {
	for _, f := range slices.Backward(r.summary.Failed[r.promptFailures:]) {
		if f.Index == index {
			return // it is said already why
		}
	}
	r.summary.Failed = append(r.summary.Failed, &engine.ItemError{Index: index, Name: name, Err: err})
}

// image returns a picture by its path, so that the model reads it when it gets there, or from the embedded data.
func (r *scoreRun) image(name string) (engine.Image, error) {
	if path := r.set.ImagePath(name); path != "" {
		return engine.Image{Name: name, Path: path}, nil
	}
	data, err := r.set.ReadImage(name)
	return engine.Image{Name: name, Data: data}, err
}
