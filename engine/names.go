package engine

import (
	"path/filepath"
	"strings"

	"github.com/tia2-engine/tia2-engine/internal/distinct"
)

// Title returns the model's name, or that of its file where it has none.
func (i Info) Title() string {
	if i.Name != "" {
		return i.Name
	}
	return strings.TrimSuffix(filepath.Base(i.Spec), filepath.Ext(i.Spec))
}

// RewardNames returns names for the rewards of models that go into one result, [models][rewards], all distinct: a reward
// keeps its own unless several models give it, and then has the model's title behind it.
func RewardNames(infos []Info) [][]string {
	givers := map[string]int{}
	for _, info := range infos {
		for _, reward := range info.Rewards {
			givers[reward]++
		}
	}
	taken := map[string]bool{}
	names := make([][]string, len(infos))
	for i, info := range infos {
		for _, reward := range info.Rewards {
			if givers[reward] > 1 {
				reward += "_" + plain(info.Title())
			}
			names[i] = append(names[i], distinct.Name(reward, taken))
		}
	}
	return names
}

// plain is a model's title without what would be odd in the name of a reward.
func plain(title string) string {
	return strings.Map(func(r rune) rune {
		if r == ' ' || r == '/' || r == ',' || r < ' ' {
			return '-'
		}
		return r
	}, title)
}
