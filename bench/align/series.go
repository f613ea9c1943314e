package align

import (
	"fmt"
	"slices"

	"github.com/tia2-engine/tia2-engine/bench/metrics"
	"github.com/tia2-engine/tia2-engine/bench/tia2"
	"github.com/tia2-engine/tia2-engine/textnorm"
)

// Names of the scores that TextNorm adds to the raw rewards.
const (
	textnormSuffix    = "_textnorm"
	ensembleMean      = "textnorm_mean"
	ensemblePenalised = "textnorm_ur"
)

// setData are the scores of one set, brought into the order of its annotations.
type setData struct {
	prompts []promptData // those of the set that have scores
	rewards []string     // names, ascending
	notes   []string
}

type promptData struct {
	caption string
	images  []tia2.Image
	scored  []int                  // indexes of the images that have a score of any reward
	texts   int                    // P, each text once
	rewards map[string][][]float64 // by reward and image: [P], nil where the image has no score
}

// labels returns what people say of the given images, and the share of positive ones.
func (p *promptData) labels(images []int) (positive []bool, graded []float64, share float64) {
	n := 0
	for _, i := range images {
		positive = append(positive, p.images[i].Positive())
		graded = append(graded, p.images[i].Graded())
		if p.images[i].Positive() {
			n++
		}
	}
	return positive, graded, float64(n) / float64(max(1, len(images)))
}

// gather collects the scores of a set, of all rewards or of those in only. Texts that occur twice in a prompt's list count
// once, as in textnorm.PromptSet.
func gather(set *tia2.Set, scores *tia2.Scores, only []string) *setData {
	d := &setData{}
	var noScores, noImage, foreign, oneClass []string
	names := map[string]bool{}
	for _, p := range set.Prompts {
		s := scores.Prompt(p.Caption)
		if s == nil {
			noScores = append(noScores, p.Caption)
			continue
		}
		columns := distinct(s.Texts)
		data := promptData{caption: p.Caption, images: p.Images, texts: len(columns), rewards: map[string][][]float64{}}
		annotated := map[string]bool{}
		for i, image := range p.Images {
			annotated[image.Name] = true
			rewards := pick(s.Images[image.Name], only)
			if len(rewards) == 0 {
				noImage = append(noImage, image.Name)
				continue
			}
			data.scored = append(data.scored, i)
			for name, values := range rewards {
				names[name] = true
				if data.rewards[name] == nil {
					data.rewards[name] = make([][]float64, len(p.Images))
				}
				row := make([]float64, len(columns))
				for t, c := range columns {
					row[t] = values[c]
				}
				data.rewards[name][i] = row
			}
		}
		for name := range s.Images {
			if !annotated[name] {
				foreign = append(foreign, name)
			}
		}
		if _, _, share := data.labels(data.scored); share == 0 || share == 1 {
			oneClass = append(oneClass, p.Caption)
		}
		d.prompts = append(d.prompts, data)
	}
	for name := range names {
		d.rewards = append(d.rewards, name)
	}
	slices.Sort(d.rewards)
	slices.Sort(foreign)
	d.notes = note(d.notes, noScores, "prompts have no scores")
	d.notes = note(d.notes, noImage, "images have no scores")
	d.notes = note(d.notes, foreign, "images of the scores are not annotated for their prompt")
	d.notes = note(d.notes, oneClass, "prompts have images of one class only and are left out")
	return d
}

// pick returns the rewards in only, all if that is empty.
func pick(rewards map[string][]float64, only []string) map[string][]float64 {
	if len(only) == 0 {
		return rewards
	}
	picked := map[string][]float64{}
	for _, name := range only {
		if values, ok := rewards[name]; ok {
			picked[name] = values
		}
	}
	return picked
}

// distinct returns the indexes of the first occurrence of each text.
func distinct(texts []string) []int {
	seen := map[string]bool{}
	var columns []int
	for i, t := range texts {
		if !seen[t] {
			seen[t] = true
			columns = append(columns, i)
		}
	}
	return columns
}

// series is one score of every image: a raw reward, its TextNorm, or an ensemble.
type series struct {
	name                  string
	calibrated, penalised bool
	prompts               []promptSeries // one for each of setData.prompts
}

type promptSeries struct {
	images  []int     // indexes of the images that have this score
	scores  []float64 // one for each of images
	setting textnorm.Setting
}

// allSeries returns the raw rewards, then their TextNorm, then the ensembles.
func (d *setData) allSeries(opt Options) ([]series, error) {
	var raw, calibrated []series
	var members []string
	for _, name := range d.rewards {
		raw = append(raw, d.raw(name))
		if !d.dependsOnText(name) {
			d.notes = append(d.notes, fmt.Sprintf("reward %s is the same for all texts of a prompt: it has no TextNorm", name))
			continue
		}
		members = append(members, name)
		s, err := d.calibrated(name+textnormSuffix, []string{name}, false, opt)
		if err != nil {
			return nil, err
		}
		calibrated = append(calibrated, s)
	}
	all := append(raw, calibrated...)
	if len(opt.Members) > 0 {
		for _, name := range opt.Members {
			if !slices.Contains(members, name) {
				return nil, fmt.Errorf("ensemble member %q is not among the rewards that depend on the text: %q", name, members)
			}
		}
		members = opt.Members
	}
	if len(members) < 2 {
		return all, nil
	}
	for _, ensemble := range []struct {
		name      string
		penalised bool
	}{{ensembleMean, false}, {ensemblePenalised, true}} {
		s, err := d.calibrated(ensemble.name, members, ensemble.penalised, opt)
		if err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	return all, nil
}

func (d *setData) raw(name string) series {
	s := series{name: name, prompts: make([]promptSeries, len(d.prompts))}
	for i, p := range d.prompts {
		for image, row := range p.rewards[name] {
			if row != nil {
				s.prompts[i].images = append(s.prompts[i].images, image)
				s.prompts[i].scores = append(s.prompts[i].scores, row[0])
			}
		}
	}
	return s
}

// dependsOnText tells rewards of image and text from those of an image alone, and from those scored without contrastive
// prompts.
func (d *setData) dependsOnText(name string) bool {
	for _, p := range d.prompts {
		for _, row := range p.rewards[name] {
			for _, v := range row {
				if v != row[0] {
					return true
				}
			}
		}
	}
	return false
}

// calibrated returns the TextNorm of one reward or the ensemble of several, with the settings that the protocol chooses.
// Prompts without contrastive prompts, or without a member, have no score.
func (d *setData) calibrated(name string, members []string, penalised bool, opt Options) (series, error) {
	s := series{name: name, calibrated: true, penalised: penalised, prompts: make([]promptSeries, len(d.prompts))}
	grid := textnorm.Grid(penalised)
	if opt.Protocol == textnorm.Fixed {
		grid = []textnorm.Setting{{Scale: opt.Scale}}
		if penalised {
			grid[0].Penalty = *opt.Penalty
		}
	}
	candidates := make([][][]float64, len(d.prompts)) // by prompt and setting: one score for each image
	quality := make([][]float64, len(d.prompts))
	for i := range d.prompts {
		p := &d.prompts[i]
		images := p.complete(members)
		s.prompts[i].images = images
		positive, _, _ := p.labels(images)
		for _, setting := range grid {
			scores, err := p.ensemble(members, images, setting, opt.MinMax)
			if err != nil {
				return s, fmt.Errorf("%s: prompt %q: %w", name, p.caption, err)
			}
			candidates[i] = append(candidates[i], scores)
			quality[i] = append(quality[i], metrics.AUROC(scores, positive)) // NaN where it says nothing
		}
	}
	choice, err := textnorm.Choose(opt.Protocol, quality)
	if err != nil {
		return s, err
	}
	for i, c := range choice {
		s.prompts[i].scores, s.prompts[i].setting = candidates[i][c], grid[c]
	}
	return s, nil
}

// complete returns the images that have a score of every member, none if there is nothing to contrast with.
func (p *promptData) complete(members []string) []int {
	if p.texts < 2 {
		return nil
	}
	var images []int
	for i := range p.images {
		if !slices.ContainsFunc(members, func(m string) bool { return p.rewards[m] == nil || p.rewards[m][i] == nil }) {
			images = append(images, i)
		}
	}
	return images
}

func (p *promptData) ensemble(members []string, images []int, setting textnorm.Setting, minmax textnorm.MinMax) ([]float64, error) {
	if len(images) == 0 {
		return nil, nil
	}
	confidences := make([][]float64, len(members))
	for k, m := range members {
		rows := make([][]float64, len(images))
		for i, image := range images {
			rows[i] = p.rewards[m][image]
		}
		var err error
		if confidences[k], err = textnorm.Calibrate(rows, textnorm.Options{Scale: setting.Scale, MinMax: minmax}); err != nil {
			return nil, err
		}
	}
	if len(members) == 1 {
		return confidences[0], nil
	}
	return textnorm.Penalised(confidences, setting.Penalty)
}
