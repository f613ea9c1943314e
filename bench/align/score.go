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

// Scorer gives one or more rewards for all pairs of images and texts; *engine.Model is one. Images that fail are NaN and
// named in an engine.ItemErrors; any other error ends the run.
type Scorer interface {
	Score(ctx context.Context, images []engine.Image, texts []string) ([]engine.Reward, error)
}

// informed is a Scorer that knows before its first image what it computes.
type informed interface{ Info() engine.Info }

// Rename returns a Scorer whose single reward has another name, so that two models of one kind fit into one file.
func Rename(s Scorer, reward string) Scorer { return &renamed{s, reward} }

type renamed struct {
	Scorer
	reward string
}

func (r *renamed) Score(ctx context.Context, images []engine.Image, texts []string) ([]engine.Reward, error) {
	rewards, err := r.Scorer.Score(ctx, images, texts)
	if len(rewards) > 1 {
		return nil, fmt.Errorf("a model with %d rewards cannot be renamed to %s", len(rewards), r.reward)
	}
	for i := range rewards {
		rewards[i].Name = r.reward
	}
	return rewards, err
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
// and writes the lines to w, flushed after each prompt. Rewards that w has already are not computed again, so a run
// that was ended goes on where it stopped. An image that fails is in the summary and costs only itself.
//
// The error is that which ended the run: ctx.Err() after cancellation, a failed write, a model that could do nothing, a
// file whose rewards are of other texts or another model. What was finished is in w in any case; the caller commits or
// closes it.
func ScoreSet(ctx context.Context, set *tia2.Set, models []Scorer, w *tia2.ScoreWriter, opt ScoreOptions) (ScoreSummary, error) {
	run, err := newScoreRun(set, models, w)
	if err != nil {
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
	models  []*modelRun
	out     *tia2.ScoreWriter
	summary ScoreSummary

	promptFailures int // len(summary.Failed) before the current prompt
}

// modelRun is a model with what is known of it.
type modelRun struct {
	Scorer
	rewards  []string // names of its rewards; empty until its first answer if it does not say before
	identity string   // which weights and number type computed them; "" if it does not say
}

func newScoreRun(set *tia2.Set, models []Scorer, w *tia2.ScoreWriter) (*scoreRun, error) {
	run := &scoreRun{set: set, out: w}
	for _, m := range models {
		r := &modelRun{Scorer: m}
		inner, name := m, ""
		if alias, ok := m.(*renamed); ok {
			inner, name = alias.Scorer, alias.reward
		}
		if i, ok := inner.(informed); ok {
			info := i.Info()
			if name == "" {
				name = info.Reward
			}
			r.identity = identity(info)
		}
		run.models = append(run.models, r)
		if name == "" {
			continue
		}
		if err := run.learn(r, []string{name}); err != nil {
			return nil, err
		}
	}
	return run, nil
}

// identity tells two models apart whose scores must not be mixed in one file.
func identity(info engine.Info) string {
	sum := info.SourceSHA256
	return fmt.Sprintf("%s sha256:%s %s", info.Name, sum[:min(16, len(sum))], info.DType)
}

// learn notes which rewards a model gives, and refuses a name that another one has.
func (r *scoreRun) learn(m *modelRun, rewards []string) error {
	for _, name := range rewards {
		for _, other := range r.models {
			for _, taken := range other.rewards {
				if other != m && taken == name {
					return fmt.Errorf("two models give the reward %s: rename one or score them into separate files", name)
				}
			}
		}
		if have := r.out.Scores().Model(name); have != "" && m.identity != "" && have != m.identity {
			return fmt.Errorf("the file has the reward %s of another model, %s: this one is %s", name, have, m.identity)
		}
	}
	m.rewards = rewards
	return nil
}

// prompt scores the images of one prompt that lack a reward, and writes their lines.
func (r *scoreRun) prompt(ctx context.Context, p tia2.Prompt) error {
	texts := p.Texts()
	if have := r.out.Scores().Prompt(p.Caption); have != nil && !slices.Equal(have.Texts, texts) {
		return errors.New("the file has its scores for other contrastive prompts")
	}
	r.promptFailures = len(r.summary.Failed)
	lines := make([]map[string][]float64, len(p.Images))
	models := map[string]string{}
	var failure error
	for _, m := range r.models {
		todo := r.missing(p, m)
		if len(todo) == 0 {
			continue
		}
		if failure = r.score(ctx, p, texts, m, todo, lines); failure != nil {
			break // after writing what the models before it found
		}
		for _, name := range m.rewards {
			if m.identity != "" {
				models[name] = m.identity
			}
		}
	}
	for i, rewards := range lines {
		if len(rewards) == 0 {
			if r.complete(p, p.Images[i].Name) {
				r.summary.Resumed++
			}
			continue
		}
		r.summary.Scored++
		line := tia2.Line{Image: p.Images[i].Name, Prompt: p.Caption, Texts: texts, Rewards: rewards}
		for name := range rewards {
			if models[name] != "" {
				if line.Models == nil {
					line.Models = map[string]string{}
				}
				line.Models[name] = models[name]
			}
		}
		if err := r.out.Write(line); err != nil {
			return errors.Join(failure, err)
		}
	}
	return failure
}

// missing returns the indexes of the images that lack a reward of the model.
func (r *scoreRun) missing(p tia2.Prompt, m *modelRun) []int {
	var todo []int
	for i, image := range p.Images {
		if !r.has(p, image.Name, m) {
			todo = append(todo, i)
		}
	}
	return todo
}

func (r *scoreRun) has(p tia2.Prompt, image string, m *modelRun) bool {
	s := r.out.Scores().Prompt(p.Caption)
	if s == nil || len(m.rewards) == 0 {
		return false
	}
	for _, name := range m.rewards {
		if s.Images[image][name] == nil {
			return false
		}
	}
	return true
}

func (r *scoreRun) complete(p tia2.Prompt, image string) bool {
	for _, m := range r.models {
		if !r.has(p, image, m) {
			return false
		}
	}
	return true
}

// score adds the rewards of one model for the images todo to lines.
func (r *scoreRun) score(ctx context.Context, p tia2.Prompt, texts []string, m *modelRun, todo []int, lines []map[string][]float64) error {
	images := make([]engine.Image, 0, len(todo))
	index := make([]int, 0, len(todo)) // of images in p.Images
	for _, i := range todo {
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
	rewards, err := m.Score(ctx, images, texts)
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
	return r.collect(p, m, rewards, index, len(texts), lines)
}

// collect checks the shape of a model's answer and copies its finite rows.
func (r *scoreRun) collect(p tia2.Prompt, m *modelRun, rewards []engine.Reward, index []int, texts int, lines []map[string][]float64) error {
	names := make([]string, len(rewards))
	for k, reward := range rewards {
		if reward.Images != len(index) || reward.Texts != texts || len(reward.Scores) != len(index)*texts {
			return fmt.Errorf("reward %s has %d x %d scores, want %d images x %d texts", reward.Name, reward.Images, reward.Texts, len(index), texts)
		}
		names[k] = reward.Name
	}
	if !slices.Equal(m.rewards, names) {
		if err := r.learn(m, names); err != nil {
			return err
		}
	}
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
	return nil
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
			return // a model said already why
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
