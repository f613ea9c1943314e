package tia2

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
)

// lineBytesMax is the longest line of scores.jsonl that is read: 64 MiB, some 20,000 times a line of TIA2.
const lineBytesMax = 64 << 20

// Line is one line of scores.jsonl: the rewards of one image for the texts of one prompt.
type Line struct {
	Image   string               `json:"image"`
	Prompt  string               `json:"prompt"`
	Texts   []string             `json:"texts"`            // Texts[0] is the prompt, the rest are its contrastive prompts
	Rewards map[string][]float64 `json:"rewards"`          // by name, one value for each text; finite
	Models  map[string]string    `json:"models,omitempty"` // by reward: what computed it, so that no file mixes two models
}

// Scores are the lines of one or more files of scores, by prompt.
type Scores struct {
	prompts map[string]*PromptScores
	models  map[string]string
}

// PromptScores are the rewards of one prompt's images.
type PromptScores struct {
	Texts  []string                        // [P], Texts[0] is the prompt
	Images map[string]map[string][]float64 // by image, then by reward: [P]
}

// NewScores returns scores without a line.
func NewScores() *Scores {
	return &Scores{prompts: map[string]*PromptScores{}, models: map[string]string{}}
}

// Prompt returns the scores of a prompt, nil if there are none. They belong to s and are not to be modified.
func (s *Scores) Prompt(prompt string) *PromptScores { return s.prompts[prompt] }

// Prompts returns the prompts that have scores, ascending.
func (s *Scores) Prompts() []string { return slices.Sorted(maps.Keys(s.prompts)) }

// Rewards returns the names of all rewards, ascending.
func (s *Scores) Rewards() []string {
	names := map[string]bool{}
	for _, p := range s.prompts {
		for _, rewards := range p.Images {
			for name := range rewards {
				names[name] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// Model returns what computed a reward, "" if the lines do not say.
func (s *Scores) Model(reward string) string { return s.models[reward] }

// Add checks a line and adds its rewards to those of the same image and prompt; a reward that is there already is
// replaced. All lines of a prompt must have the same texts, and all lines of a reward the same model. On an error
// nothing is added. The scores keep the line's slices.
func (s *Scores) Add(line Line) error {
	if err := line.check(); err != nil {
		return err
	}
	p := s.prompts[line.Prompt]
	if p != nil && !slices.Equal(p.Texts, line.Texts) {
		return fmt.Errorf("%w: other texts than an earlier line of prompt %q has", ErrFormat, line.Prompt)
	}
	for name, model := range line.Models {
		if have := s.models[name]; have != "" && have != model {
			return fmt.Errorf("%w: reward %s is from model %s, on an earlier line from %s", ErrFormat, name, model, have)
		}
	}
	if p == nil {
		p = &PromptScores{Texts: line.Texts, Images: map[string]map[string][]float64{}}
		s.prompts[line.Prompt] = p
	}
	maps.Copy(s.models, line.Models)
	if have := p.Images[line.Image]; have != nil {
		maps.Copy(have, line.Rewards)
	} else {
		p.Images[line.Image] = line.Rewards
	}
	return nil
}

func (l *Line) check() error {
	switch {
	case l.Image == "":
		return fmt.Errorf("%w: no image", ErrFormat)
	case l.Prompt == "":
		return fmt.Errorf("%w: no prompt", ErrFormat)
	case len(l.Texts) == 0 || l.Texts[0] != l.Prompt:
		return fmt.Errorf("%w: the first of the texts is not the prompt %q", ErrFormat, l.Prompt)
	case len(l.Rewards) == 0:
		return fmt.Errorf("%w: no rewards", ErrFormat)
	}
	for name, values := range l.Rewards {
		if name == "" {
			return fmt.Errorf("%w: a reward without a name", ErrFormat)
		}
		if len(values) != len(l.Texts) {
			return fmt.Errorf("%w: %d values of reward %q for %d texts", ErrFormat, len(values), name, len(l.Texts))
		}
	}
	return nil
}

// UnmarshalJSON reads a line. It refuses a null among the rewards, which encoding/json takes for a 0.
func (l *Line) UnmarshalJSON(data []byte) error {
	var raw struct {
		Image, Prompt string
		Texts         []string
		Rewards       map[string]json.RawMessage
		Models        map[string]string
	}
	if err := json.Unmarshal(data, &raw); err != nil {
		return err
	}
	rewards := make(map[string][]float64, len(raw.Rewards))
	for name, value := range raw.Rewards {
		if bytes.Contains(value, []byte("null")) {
			return fmt.Errorf("reward %q has a null", name)
		}
		var values []float64
		if err := json.Unmarshal(value, &values); err != nil {
			return fmt.Errorf("reward %q: %w", name, err)
		}
		rewards[name] = values
	}
	*l = Line{Image: raw.Image, Prompt: raw.Prompt, Texts: raw.Texts, Rewards: rewards, Models: raw.Models}
	return nil
}

// ReadScores adds all lines of r to the scores, one line in memory at a time. Empty lines are skipped. Errors name the
// file, as given, and the line; damage wraps [ErrFormat]. What was read before the error stays.
func (s *Scores) ReadScores(r io.Reader, file string) error {
	_, err := s.read(r, file, false)
	return err
}

// read returns the number of bytes of whole lines. If torn, a last line without line feed that makes no sense is what
// a killed writer left: it is not counted and not an error.
func (s *Scores) read(r io.Reader, file string, torn bool) (int64, error) {
	buffered := bufio.NewReaderSize(r, 1<<16)
	var whole int64
	var buf []byte
	for number := 1; ; number++ {
		var err error
		buf, err = readLine(buffered, buf[:0])
		if err != nil && err != io.EOF {
			return whole, fmt.Errorf("%s:%d: %w", file, number, err)
		}
		last := err == io.EOF
		if text := bytes.TrimSpace(buf); len(text) > 0 {
			var line Line
			if err := decodeLine(text, &line); err != nil {
				if torn && last {
					return whole, nil
				}
				return whole, fmt.Errorf("%s:%d: %w", file, number, err)
			}
			if err := s.Add(line); err != nil {
				return whole, fmt.Errorf("%s:%d: %w", file, number, err)
			}
		}
		whole += int64(len(buf))
		if last {
			return whole, nil
		}
	}
}

func decodeLine(text []byte, line *Line) error {
	err := json.Unmarshal(text, line)
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		return fmt.Errorf("%w: byte %d: %w", ErrFormat, syntax.Offset, err)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrFormat, err)
	}
	return nil
}

// readLine appends a line with its line feed to buf, or the rest of the file with io.EOF.
func readLine(r *bufio.Reader, buf []byte) ([]byte, error) {
	for {
		part, err := r.ReadSlice('\n')
		buf = append(buf, part...)
		if len(buf) > lineBytesMax {
			return buf, fmt.Errorf("%w: the line is longer than %d bytes", ErrFormat, lineBytesMax)
		}
		if err != bufio.ErrBufferFull {
			return buf, err
		}
	}
}
