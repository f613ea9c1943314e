package align

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/tia2-engine/tia2-engine/engine"
)

// Models are open models whose rewards go into one result: under names that differ, in the scales that were asked for.
type Models struct {
	infos   []engine.Info
	columns [][]Column
	scales  engine.Scales
	score   func(ctx context.Context, models []int, images []engine.Image, texts []string) ([]engine.Reward, error)
}

// NewModels gives names to the rewards of models that were opened with opt. Where several give a reward of one name,
// the model's name is added to it. Scales that do not fit the rewards are an error (engine.ErrInvalid).
func NewModels(models []*engine.Model, opt engine.Options, scales engine.Scales) (*Models, error) {
	infos := make([]engine.Info, len(models))
	for i, m := range models {
		infos[i] = m.Info()
	}
	m, err := newModels(infos, opt, scales)
	if err != nil {
		return nil, err
	}
	m.score = func(ctx context.Context, which []int, images []engine.Image, texts []string) ([]engine.Reward, error) {
		picked := make([]*engine.Model, len(which))
		for i, k := range which {
			picked[i] = models[k]
		}
		return engine.Score(ctx, picked, images, texts)
	}
	return m, nil
}

func newModels(infos []engine.Info, opt engine.Options, scales engine.Scales) (*Models, error) {
	m := &Models{infos: infos, columns: make([][]Column, len(infos)), scales: scales}
	var rewards []string
	for _, info := range infos {
		for _, reward := range info.Rewards {
			if !slices.Contains(rewards, reward) {
				rewards = append(rewards, reward)
			}
		}
	}
	if err := scales.Check(rewards); err != nil {
		return nil, err
	}
	for i, names := range engine.RewardNames(infos) {
		for k, name := range names {
			m.columns[i] = append(m.columns[i], Column{Reward: name, Model: m.identity(infos[i], infos[i].Rewards[k], opt)})
		}
	}
	return m, nil
}

// identity tells two models apart whose scores must not be mixed in one file: weights, number type, and the options
// that change this reward, where they are not as the checkpoint has them.
func (m *Models) identity(info engine.Info, reward string, opt engine.Options) string {
	id := weights(info)
	if on := m.embedderOf(info); on != nil {
		id += " on " + weights(*on)
	}
	add := func(set bool, what string, value any) {
		if set {
			id += fmt.Sprintf(", %s %v", what, value)
		}
	}
	if info.Family == "blip" || info.Family == "blip2" {
		add(opt.ImageSize != 0, "image-size", info.ImageSize)
		add(opt.MaxLength != 0, "max-length", opt.MaxLength)
		add(opt.TextCleaning != "", "text-cleaning", opt.TextCleaning)
		add(reward == "blip_itm" && opt.ITMToken == "enc", "itm-token", opt.ITMToken)
		add(strings.HasSuffix(reward, "_itm") && opt.ITMOutput == "logit", "itm-output", opt.ITMOutput)
	}
	scale := m.scales.Of(reward).String()
	add(scale != "raw", "scale", scale)
	return id
}

func weights(info engine.Info) string {
	return fmt.Sprintf("%s sha256:%.16s %s", info.Name, info.SourceSHA256, info.DType)
}

// embedderOf returns the CLIP whose embeddings an aesthetic head takes, as engine.Score chooses it; nil if there is none,
// or if info is of a model with towers of its own.
func (m *Models) embedderOf(head engine.Info) *engine.Info {
	fitting := m.embedders(head)
	if len(fitting) > 1 {
		fitting = slices.DeleteFunc(fitting, func(i int) bool { return !slices.Contains(m.infos[i].Rewards, "clip") })
	}
	if len(fitting) != 1 {
		return nil
	}
	return &m.infos[fitting[0]]
}

// embedders returns the models whose embeddings an aesthetic head could take.
func (m *Models) embedders(head engine.Info) []int {
	if head.Family != "aesthetic" {
		return nil
	}
	var fitting []int
	for i, info := range m.infos {
		if info.Family == "clip" && info.EmbedDim == head.EmbedDim {
			fitting = append(fitting, i)
		}
	}
	return fitting
}

// Columns returns the rewards of each model.
func (m *Models) Columns() [][]Column { return m.columns }

// Names returns the names of all rewards, model by model.
func (m *Models) Names() []string {
	var names []string
	for _, c := range slices.Concat(m.columns...) {
		names = append(names, c.Reward)
	}
	return names
}

// All returns the indexes of all models, for Score.
func (m *Models) All() []int {
	all := make([]int, len(m.infos))
	for i := range all {
		all[i] = i
	}
	return all
}

// Score gives the rewards of the models with these indexes, in their order, for all pairs of images and texts: by
// engine.Score in one call, with the CLIP that an aesthetic head among them needs.
func (m *Models) Score(ctx context.Context, models []int, images []engine.Image, texts []string) ([]engine.Reward, error) {
	run := slices.Clone(models)
	for _, i := range models {
		for _, e := range m.embedders(m.infos[i]) {
			if !slices.Contains(run, e) {
				run = append(run, e)
			}
		}
	}
	rewards, err := m.score(ctx, run, images, texts)
	if _, fatal := engine.SplitItemErrors(err); fatal != nil {
		return nil, fatal
	}
	n := 0
	for _, i := range models {
		for k, reward := range m.infos[i].Rewards {
			if n == len(rewards) || rewards[n].Name != reward {
				return nil, fmt.Errorf("the reward %s of %s is missing", reward, m.infos[i].Spec)
			}
			m.scales.Of(reward).Convert(rewards[n].Scores, reward, m.infos[i])
			rewards[n].Name = m.columns[i][k].Reward
			n++
		}
	}
	return rewards[:n], err // those of a CLIP that was only needed come last
}
