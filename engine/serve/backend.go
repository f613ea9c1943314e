package serve

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/tia2-engine/tia2-engine/engine"
	"github.com/tia2-engine/tia2-engine/internal/distinct"
)

// OpenBackend opens the models that specs name, as engine.Open does, and makes a backend of them.
func OpenBackend(ctx context.Context, specs []string, opt engine.Options) (Backend, error) {
	var models []*engine.Model
	for _, spec := range specs {
		m, err := engine.Open(ctx, spec, opt)
		if err != nil {
			return nil, errors.Join(err, closeModels(models))
		}
		models = append(models, m)
	}
	return NewBackend(models)
}

// NewBackend makes a backend of open models, which it closes at its end; if it fails, they are closed as well. A reward
// that several models give has the model's name behind its own.
func NewBackend(models []*engine.Model) (Backend, error) {
	b := &engineBackend{models: models}
	infos := make([]engine.Info, len(models))
	for i, m := range models {
		infos[i] = m.Info()
	}
	b.infos = serveNames(infos)
	for i, info := range b.infos {
		for k, name := range info.Rewards {
			b.rewards = append(b.rewards, served{name, infos[i].Rewards[k], i})
		}
	}
	// Scoring nothing finds what can never be scored: a head without its CLIP, a model that does not normalise.
	if _, err := engine.ScorePairs(context.Background(), models, nil, nil, nil); err != nil {
		return nil, errors.Join(err, closeModels(models))
	}
	return b, nil
}

func closeModels(models []*engine.Model) error {
	var err error
	for _, m := range models {
		err = errors.Join(err, m.Close())
	}
	return err
}

// engineBackend is a Backend of the engine's models.
type engineBackend struct {
	models  []*engine.Model
	infos   []engine.Info // [models], with the names by which they are served
	rewards []served
}

// served is one reward.
type served struct {
	name  string // by which it is served
	own   string // that the model gives it
	model int
}

func (b *engineBackend) Close() error          { return closeModels(b.models) }
func (b *engineBackend) Models() []engine.Info { return slices.Clone(b.infos) }

func (b *engineBackend) Rewards() []string {
	names := make([]string, len(b.rewards))
	for i, r := range b.rewards {
		names[i] = r.name
	}
	return names
}

func (b *engineBackend) Score(ctx context.Context, images []engine.Image, texts []string, pairs []engine.Pair, rewards []string) ([]engine.Reward, error) {
	wanted := make([]served, len(rewards))
	for i, name := range rewards {
		at := slices.IndexFunc(b.rewards, func(r served) bool { return r.name == name })
		if at < 0 {
			return nil, fmt.Errorf("no reward %q: %w", name, engine.ErrInvalid)
		}
		wanted[i] = b.rewards[at]
	}
	chosen, own := b.choose(wanted)
	models := make([]*engine.Model, len(chosen))
	for i, k := range chosen {
		models[i] = b.models[k]
	}
	all, err := engine.ScorePairs(ctx, models, images, texts, pairs, own...)
	items, err := engine.SplitItemErrors(err)
	if err != nil {
		return nil, err
	}
	out := make([]engine.Reward, len(wanted))
	for i, r := range wanted {
		out[i] = all[b.place(chosen, own, r)]
		out[i].Name = r.name
	}
	if len(items) > 0 {
		return out, items
	}
	return out, nil
}

// choose returns the models that some rewards need, in their order, and the rewards' own names. An aesthetic head needs
// the CLIP whose embeddings it takes: it is given all that the engine would choose from.
func (b *engineBackend) choose(wanted []served) (models []int, own []string) {
	for _, r := range wanted {
		models = append(models, r.model)
		own = append(own, r.own)
		head := b.infos[r.model]
		if head.Family != "aesthetic" {
			continue
		}
		for i, info := range b.infos {
			if info.Family == "clip" && info.EmbedDim == head.EmbedDim {
				models = append(models, i)
			}
		}
	}
	slices.Sort(models)
	slices.Sort(own)
	return slices.Compact(models), slices.Compact(own)
}

// place returns where among all rewards that the chosen models give under their own names r stands.
func (b *engineBackend) place(chosen []int, own []string, r served) int {
	n := 0
	for _, model := range chosen {
		for _, name := range b.models[model].Info().Rewards {
			if model == r.model && name == r.own {
				return n
			}
			if slices.Contains(own, name) {
				n++
			}
		}
	}
	panic("serve: a reward of a model that was not chosen")
}

func (b *engineBackend) EncodeImages(ctx context.Context, model string, images []engine.Image) (engine.Embeddings, error) {
	m, err := b.model(model)
	if err != nil {
		return engine.Embeddings{}, err
	}
	return m.EncodeImages(ctx, images)
}

func (b *engineBackend) EncodeTexts(ctx context.Context, model string, texts []string) (engine.Embeddings, error) {
	m, err := b.model(model)
	if err != nil {
		return engine.Embeddings{}, err
	}
	return m.EncodeTexts(ctx, texts)
}

func (b *engineBackend) model(name string) (*engine.Model, error) {
	for i, info := range b.infos {
		if info.Name == name {
			return b.models[i], nil
		}
	}
	return nil, fmt.Errorf("no model %q: %w", name, engine.ErrInvalid)
}

// serveNames returns infos with the names by which models and rewards are served, all distinct.
func serveNames(infos []engine.Info) []engine.Info {
	taken, rewards := map[string]bool{}, engine.RewardNames(infos)
	out := slices.Clone(infos)
	for i := range out {
		out[i].Name, out[i].Rewards = distinct.Name(infos[i].Title(), taken), rewards[i]
	}
	return out
}
