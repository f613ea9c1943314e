package engine

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// rewardsOf are the rewards of a model, by what its file calls it (tia2.reward).
var rewardsOf = map[string][]string{
	"clip": {"clip"}, "pickscore": {"pickscore"}, "hpsv2": {"hpsv2"},
	"blip": {"blip_itc", "blip_itm"}, "blip2": {"blip2_itc", "blip2_itm"}, "imagereward": {"imagereward"},
	"aesthetic": {"aesthetic"},
}

// rewardsIn are the names that a file of an architecture may have under tia2.reward.
var rewardsIn = map[string][]string{
	"clip": {"clip", "pickscore", "hpsv2"}, "blip": {"blip", "imagereward"}, "blip2": {"blip2"}, "aesthetic": {"aesthetic"},
}

// findRewards returns the rewards of a file by its general.architecture and tia2.reward.
func findRewards(arch, reward string) ([]string, error) {
	allowed, ok := rewardsIn[arch]
	if !ok {
		return nil, ofKind(ErrModel, "key general.architecture is %q: expected clip, blip, blip2 or aesthetic", arch)
	}
	if !slices.Contains(allowed, reward) {
		return nil, ofKind(ErrModel, "key tia2.reward is %q: expected %s", reward, strings.Join(allowed, " or "))
	}
	return slices.Clone(rewardsOf[reward]), nil
}

// Ways in which a reward comes about.
type rewardKind int

const (
	ofEmbeddings rewardKind = iota // products of the embeddings of a picture and of a text
	ofPairs                        // outputs of a cross encoder
	ofHead                         // an aesthetic head over the embedding of a picture
)

func kindOf(reward string) rewardKind {
	switch reward {
	case "blip_itm", "blip2_itm", "imagereward":
		return ofPairs
	case "aesthetic":
		return ofHead
	}
	return ofEmbeddings
}

// rewardScale is what a cosine is multiplied with: the authors of HPSv2 and of BLIP report the cosine itself.
func (m *Model) rewardScale() float32 {
	switch m.info.Rewards[0] {
	case "clip", "pickscore":
		return m.info.LogitScale
	}
	return 1
}

// pairScore is the reward of a pair by the outputs of the cross encoder: ImageReward's one, or of BLIP's two logits the
// probability of a match, as softmax gives it, or the logit of a match.
func (m *Model) pairScore(outputs []float32) float32 {
	switch {
	case len(outputs) == 1:
		return outputs[0]
	case m.opt.ITMOutput == "logit":
		return outputs[1]
	}
	return float32(1 / (1 + math.Exp(float64(outputs[0])-float64(outputs[1]))))
}

// needEmbeddings refuses a model that has none.
func (m *Model) needEmbeddings() error {
	if m.info.HasEmbeddings() {
		return nil
	}
	return ofKind(ErrInvalid, "tia2: %s (%s) has no embeddings: it only scores", m.info.Spec, strings.Join(m.info.Rewards, ", "))
}

// needPairs refuses a model without cross encoder.
func (m *Model) needPairs() error {
	if m.info.PairOutputs > 0 {
		return nil
	}
	return fmt.Errorf("tia2: %s (%s) has no cross encoder: expected a BLIP, BLIP-2 or ImageReward: %w", m.info.Spec, strings.Join(m.info.Rewards, ", "), ErrInvalid)
}
