package engine

import (
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Convention is the scale in which a reward is written. Programs that train with one and the same reward write it in
// different scales; those that are known:
//
//	raw           what the reward's authors report, and [Model.Score] gives; the zero value
//	cosine        the cosine of picture and text (PickScore in DanceGRPO, train_grpo_flux.py)
//	/N            raw / N: PickScore /100 (TIA2, rewards.py), /26 (flow_grpo, UniRL, verl-omni); CLIP /100 (TIA2;
//	              DiffusionNFT, clip_scorer.py), /30 (UniRL); HPSv2 /0.01 (the tables of its authors)
//	mixgrpo       (raw - 18) / 8 of PickScore (MixGRPO, pick_score.py)
//	torchmetrics  max(100 cosine, 0) of CLIP (torchmetrics, functional/multimodal/clip_score.py, of one pair)
//	clipscore     2.5 max(cosine, 0) of CLIP (jmhessel/clipscore, clipscore.py, which puts "A photo depicts " before
//	              every text: who wants its scores does so, too)
type Convention struct{ rule *conventionRule }

// conventionRule is one line of the table above.
type conventionRule struct {
	name    string
	rewards []string // that know it; nil: all
	convert func(raw, cosine float64) float64
}

// cosineRewards are those that are a cosine, or a cosine times the model's logit scale.
var cosineRewards = []string{"clip", "pickscore", "hpsv2", "blip_itc", "blip2_itc"}

var conventionRules = []conventionRule{
	{"raw", nil, func(raw, _ float64) float64 { return raw }},
	{"cosine", cosineRewards, func(_, cosine float64) float64 { return cosine }},
	{"mixgrpo", []string{"pickscore"}, func(raw, _ float64) float64 { return (raw - 18) / 8 }},
	{"torchmetrics", []string{"clip"}, func(_, cosine float64) float64 { return max(100*cosine, 0) }},
	{"clipscore", []string{"clip"}, func(_, cosine float64) float64 { return 2.5 * max(cosine, 0) }},
}

// ParseConvention returns the convention of that name. Its error, of the kind ErrInvalid, lists those there are.
func ParseConvention(name string) (Convention, error) {
	for i := range conventionRules {
		if conventionRules[i].name == name {
			return Convention{&conventionRules[i]}, nil
		}
	}
	if digits, ok := strings.CutPrefix(name, "/"); ok {
		if n, err := strconv.ParseFloat(digits, 64); err == nil && n > 0 && !math.IsInf(n, 0) {
			return Convention{&conventionRule{name: name, convert: func(raw, _ float64) float64 { return raw / n }}}, nil
		}
	}
	return Convention{}, ofKind(ErrInvalid, "scale-convention %q: expected one of %s", name, strings.Join(Conventions(""), ", "))
}

// Conventions returns the names of the conventions that a reward knows, "/N" among them; of all for the reward "".
func Conventions(reward string) []string {
	var names []string
	for i := range conventionRules {
		if c := (Convention{&conventionRules[i]}); reward == "" || c.Knows(reward) {
			names = append(names, c.String())
		}
	}
	return append(names, "/N")
}

// String returns the convention's name.
func (c Convention) String() string {
	if c.rule == nil {
		return "raw"
	}
	return c.rule.name
}

// Knows tells whether the reward of that name can be written so.
func (c Convention) Knows(reward string) bool {
	return c.rule == nil || c.rule.rewards == nil || slices.Contains(c.rule.rewards, reward)
}

// Convert rewrites raw scores of a reward that knows the convention, in place. info is that of the model which computed
// them. NaN stays NaN.
func (c Convention) Convert(scores []float32, reward string, info Info) {
	if c.rule == nil {
		return
	}
	scale := 1.0
	if reward == "clip" || reward == "pickscore" { // the others are the cosine itself
		scale = float64(info.LogitScale)
	}
	for i, raw := range scores {
		scores[i] = float32(c.rule.convert(float64(raw), float64(raw)/scale))
	}
}

// Scales say in which convention each reward is written. The zero value leaves all as they are.
type Scales struct {
	all Convention            // of every reward that knows it
	of  map[string]Convention // by reward
}

// ParseScales reads values of the form NAME, for every reward that knows this convention, or REWARD=NAME for one reward,
// which comes first. Errors are of the kind ErrInvalid.
func ParseScales(values []string) (Scales, error) {
	s := Scales{of: map[string]Convention{}}
	general := false
	for _, value := range values {
		reward, name, single := strings.Cut(value, "=")
		if !single {
			name = value
		}
		c, err := ParseConvention(name)
		if err != nil {
			return Scales{}, err
		}
		if _, twice := s.of[reward]; single && twice || !single && general {
			return Scales{}, ofKind(ErrInvalid, "scale-convention %q: there is one already", value)
		}
		if !single {
			s.all, general = c, true
			continue
		}
		s.of[reward] = c
	}
	return s, nil
}

// Check refuses what does not fit the rewards that there are: a convention of another reward, or one that none, or not
// the reward named, knows. Its error, of the kind ErrInvalid, lists what would fit.
func (s Scales) Check(rewards []string) error {
	for _, reward := range slices.Sorted(maps.Keys(s.of)) {
		if !slices.Contains(rewards, reward) {
			return ofKind(ErrInvalid, "scale-convention of %q: expected one of the rewards %s", reward, strings.Join(rewards, ", "))
		}
		if c := s.of[reward]; !c.Knows(reward) {
			return ofKind(ErrInvalid, "scale-convention %s: %s knows %s", c, reward, strings.Join(Conventions(reward), ", "))
		}
	}
	if slices.ContainsFunc(rewards, s.all.Knows) {
		return nil
	}
	known := make([]string, len(rewards))
	for i, reward := range rewards {
		known[i] = reward + " knows " + strings.Join(Conventions(reward), ", ")
	}
	return ofKind(ErrInvalid, "scale-convention %s: %s", s.all, strings.Join(known, "; "))
}

// Of returns the convention of a reward.
func (s Scales) Of(reward string) Convention {
	if c, ok := s.of[reward]; ok {
		return c
	}
	if s.all.Knows(reward) {
		return s.all
	}
	return Convention{}
}
