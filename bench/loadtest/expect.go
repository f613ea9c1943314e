package loadtest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/tia2-engine/tia2-engine/bench/tia2"
	"github.com/tia2-engine/tia2-engine/engine"
)

// Expected are the scores that answers should have.
type Expected struct {
	scores map[imageText]map[string]float64
	from   string // where they come from, for people
}

type imageText struct{ image, text string }

func (e *Expected) put(image, text, reward string, score float64) {
	key := imageText{image, text}
	if e.scores[key] == nil {
		e.scores[key] = map[string]float64{}
	}
	e.scores[key][reward] = score
}

// of returns the scores of a pair by reward, nil where none are expected.
func (e *Expected) of(w *Workload, p engine.Pair) map[string]float64 {
	if e == nil {
		return nil
	}
	return e.scores[imageText{w.Images[p.Image].Name, w.Texts[p.Text]}]
}

// ReadExpected reads a file that `tia2-engine score` wrote: .jsonl of a set, or .json of all pairs. Pictures are known by
// their base names.
func ReadExpected(path string) (*Expected, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	e := &Expected{map[imageText]map[string]float64{}, path}
	switch strings.ToLower(filepath.Ext(path)) {
	case ".jsonl":
		err = e.readSet(data, path)
	case ".json":
		err = e.readPairs(data, path)
	default:
		err = fmt.Errorf("%s: expected a file name that ends in .jsonl or .json", path)
	}
	return e, err
}

func (e *Expected) readSet(data []byte, path string) error {
	scores := tia2.NewScores()
	if err := scores.ReadScores(bytes.NewReader(data), path); err != nil {
		return err
	}
	for _, caption := range scores.Prompts() {
		prompt := scores.Prompt(caption)
		for image, rewards := range prompt.Images {
			for reward, values := range rewards {
				for i, text := range prompt.Texts {
					e.put(filepath.Base(image), text, reward, values[i])
				}
			}
		}
	}
	return nil
}

func (e *Expected) readPairs(data []byte, path string) error {
	var v struct {
		Images, Texts []string
		Rewards       map[string][]numbers
	}
	if err := json.Unmarshal(data, &v); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	for reward, rows := range v.Rewards {
		if len(rows) != len(v.Images) {
			return fmt.Errorf("%s: %d rows of %s for %d images", path, len(rows), reward, len(v.Images))
		}
		for i, row := range rows {
			if row != nil && len(row) != len(v.Texts) {
				return fmt.Errorf("%s: row %d of %s has %d scores for %d texts", path, i, reward, len(row), len(v.Texts))
			}
			for t, score := range row.values() {
				e.put(filepath.Base(v.Images[i]), v.Texts[t], reward, score)
			}
		}
	}
	return nil
}

// check returns an error unless some pair of the workload has an expected score of one of the rewards; none are all.
func (e *Expected) check(w *Workload, rewards []string) error {
	for _, pair := range w.Pairs {
		for name := range e.of(w, pair) {
			if len(rewards) == 0 || slices.Contains(rewards, name) {
				return nil
			}
		}
	}
	return fmt.Errorf("%s has no score of any picture with the text that it is sent with", e.from)
}

// compare returns how many scores of an answer could be checked, and what is wrong with those that differ from what is
// expected by more than tolerance * max(1, |expected|).
func (e *Expected) compare(w *Workload, pairs []engine.Pair, got answer, tolerance float64) (checked int, wrong []string) {
	for i, pair := range pairs {
		for reward, want := range e.of(w, pair) {
			scores, asked := got[reward]
			if !asked || math.IsNaN(want) {
				continue
			}
			checked++
			if diff := math.Abs(scores[i] - want); !(diff <= tolerance*max(1, math.Abs(want))) {
				wrong = append(wrong, fmt.Sprintf("%s of %s with %.60q: %.7g, expected %.7g", reward, w.Images[pair.Image].Name, w.Texts[pair.Text], scores[i], want))
			}
		}
	}
	return checked, wrong
}
