package align

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/tia2-engine/tia2-engine/bench/tia2"
	"github.com/tia2-engine/tia2-engine/engine"
)

// lengthModels score an image by the length of its data and of the text, so that a score tells what it was given. Their
// rewards differ by 1.
type lengthModels struct {
	columns [][]Column
	calls   []string // models and images of each call: "0 1: 1.jpg 2.jpg"
	cancel  func()   // called in the second call
}

func (m *lengthModels) Columns() [][]Column { return m.columns }

func (m *lengthModels) Score(ctx context.Context, models []int, images []engine.Image, texts []string) ([]engine.Reward, error) {
	call := strings.Trim(fmt.Sprint(models), "[]") + ":"
	for _, image := range images {
		call += " " + image.Name
	}
	m.calls = append(m.calls, call)
	if len(m.calls) == 2 && m.cancel != nil {
		m.cancel()
		return nil, ctx.Err()
	}
	var rewards []engine.Reward
	for _, i := range models {
		for _, c := range m.columns[i] {
			rewards = append(rewards, engine.Reward{Name: c.Reward, Images: len(images), Texts: len(texts)})
		}
	}
	var failed engine.ItemErrors
	for i, image := range images {
		bad := string(image.Data) == "broken"
		if bad {
			failed = append(failed, &engine.ItemError{Index: i, Name: image.Name, Err: errors.New("no picture")})
		}
		for _, text := range texts {
			for k := range rewards {
				score := float32(100*len(image.Data) + len(text) + k)
				if bad {
					score = float32(math.NaN())
				}
				rewards[k].Scores = append(rewards[k].Scores, score)
			}
		}
	}
	if failed != nil {
		return rewards, failed
	}
	return rewards, nil
}

const tinyIdentity = "tiny sha256:0011223344556677 f32"

// of returns models with these rewards, separated by spaces, one string a model.
func of(rewards ...string) *lengthModels {
	m := &lengthModels{}
	for _, names := range rewards {
		var columns []Column
		for name := range strings.FieldsSeq(names) {
			columns = append(columns, Column{name, tinyIdentity})
		}
		m.columns = append(m.columns, columns)
	}
	return m
}

// pictureSet has two prompts; one of the five images is broken and one is missing.
func pictureSet(t *testing.T) *tia2.Set {
	t.Helper()
	fsys := fstest.MapFS{
		"prompts/prompt_set_x.json": {Data: []byte(`{"a cat": ["a dog", "two cats"], "a bird": ["a bee"]}`)},
		"human_annotations/human_labels_x.json": {Data: []byte(`{
			"1.jpg": {"caption": "a cat", "human_labels": [1]}, "2.jpg": {"caption": "a cat", "human_labels": [0]},
			"3.jpg": {"caption": "a cat", "human_labels": [1]}, "4.jpg": {"caption": "a bird", "human_labels": [1]},
			"5.jpg": {"caption": "a bird", "human_labels": [0]}}`)},
		"images/x/1.jpg": {Data: []byte("1")}, "images/x/2.jpg": {Data: []byte("broken")},
		"images/x/4.jpg": {Data: []byte("4444")}, "images/x/5.jpg": {Data: []byte("55555")},
	}
	set, err := tia2.Load(fsys, "x")
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func newWriter(t *testing.T, path string) *tia2.ScoreWriter {
	t.Helper()
	w, err := tia2.CreateScores(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	return w
}

func TestScoreSet(t *testing.T) {
	set, models := pictureSet(t), of("clip", "blip_itc blip_itm")
	w := newWriter(t, filepath.Join(t.TempDir(), "s.jsonl"))
	var progress []int
	summary, err := ScoreSet(t.Context(), set, models, w,
		ScoreOptions{Progress: func(done, total int) { progress = append(progress, done, total) }})
	if err != nil {
		t.Fatal(err)
	}
	if summary.Scored != 3 || summary.Resumed != 0 || len(summary.Failed) != 2 {
		t.Errorf("summary: %+v", summary)
	}
	names := []string{summary.Failed[0].Name, summary.Failed[1].Name}
	slices.Sort(names)
	if diff := cmp.Diff([]string{"2.jpg", "3.jpg"}, names); diff != "" || !errors.Is(summary.Failed, fs.ErrNotExist) {
		t.Errorf("failed: %v (-want +got):\n%s", summary.Failed, diff)
	}
	want := map[string]map[string][]float64{
		"1.jpg": {"clip": {105, 105, 108}, "blip_itc": {106, 106, 109}, "blip_itm": {107, 107, 110}},
	}
	if diff := cmp.Diff(want, w.Scores().Prompt("a cat").Images); diff != "" {
		t.Errorf("scores (-want +got):\n%s", diff)
	}
	// One call a prompt, for all models: each picture is read once.
	if diff := cmp.Diff([]string{"0 1: 1.jpg 2.jpg", "0 1: 4.jpg 5.jpg"}, models.calls); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]int{3, 5, 5, 5}, progress); diff != "" {
		t.Errorf("progress (-want +got):\n%s", diff)
	}
	if got := w.Scores().Model("blip_itm"); got != tinyIdentity {
		t.Errorf("model of blip_itm: %q", got)
	}
}

func TestScoreSetResumes(t *testing.T) {
	set, path := pictureSet(t), filepath.Join(t.TempDir(), "s.jsonl")
	run := func(ctx context.Context, models *lengthModels) (ScoreSummary, error) {
		t.Helper()
		w := newWriter(t, path)
		summary, err := ScoreSet(ctx, set, models, w, ScoreOptions{})
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return summary, err
	}
	ctx, cancel := context.WithCancel(t.Context())
	first := of("clip")
	first.cancel = cancel
	if _, err := run(ctx, first); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v, want context.Canceled", err)
	}
	// 1.jpg is done for clip; the broken one is tried again; the added model sees all that exist.
	second := of("clip", "hpsv2 other")
	summary, err := run(t.Context(), second)
	if err != nil || summary.Scored != 3 || summary.Resumed != 0 || len(summary.Failed) != 2 {
		t.Errorf("second run: %+v, %v", summary, err)
	}
	if diff := cmp.Diff([]string{"1: 1.jpg", "0 1: 2.jpg", "0 1: 4.jpg 5.jpg"}, second.calls); diff != "" {
		t.Errorf("calls of the second run (-want +got):\n%s", diff)
	}
	third := of("hpsv2 other", "clip")
	summary, err = run(t.Context(), third)
	if err != nil || summary.Scored != 0 || summary.Resumed != 3 || !slices.Equal(third.calls, []string{"0 1: 2.jpg"}) {
		t.Errorf("third run: %+v, %v, calls %q", summary, err, third.calls)
	}
	// A model that gives one reward more is run again.
	fourth := of("clip", "hpsv2 new")
	summary, err = run(t.Context(), fourth)
	want := []string{"1: 1.jpg", "0 1: 2.jpg", "1: 4.jpg 5.jpg"}
	if err != nil || summary.Scored != 3 || !slices.Equal(fourth.calls, want) {
		t.Errorf("fourth run: %+v, %v, calls %q, want %q", summary, err, fourth.calls, want)
	}
}

func TestScoreSetRefuses(t *testing.T) {
	set := pictureSet(t)
	path := filepath.Join(t.TempDir(), "s.jsonl")
	w := newWriter(t, path)
	refused := func(models Scorer, want string) {
		t.Helper()
		if _, err := ScoreSet(t.Context(), set, models, w, ScoreOptions{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
	refused(of("clip", "pickscore clip"), "two models give the reward clip")
	if _, err := ScoreSet(t.Context(), set, of("clip"), w, ScoreOptions{}); err != nil {
		t.Fatal(err)
	}
	other := of("clip")
	other.columns[0][0].Model = "tiny sha256:0011223344556677 int8"
	refused(other, "the file has the reward clip of another model, "+tinyIdentity+": this one is tiny sha256:0011223344556677 int8")
	set.Prompts[1].Contrastive = []string{"a wasp"}
	refused(of("clip"), `"a bird"`)
	set = pictureSet(t)
	for want, answer := range map[string]func(n int) ([]engine.Reward, error){
		"reward x has 1 x 1 scores, want 2 images x 3 texts": func(int) ([]engine.Reward, error) {
			return []engine.Reward{{Name: "x", Images: 1, Texts: 1, Scores: []float32{1}}}, nil
		},
		`the models gave the rewards ["y"], want ["x"]`: func(n int) ([]engine.Reward, error) {
			return []engine.Reward{{Name: "y", Images: n, Texts: 3, Scores: make([]float32, 3*n)}}, nil
		},
		"device lost": func(int) ([]engine.Reward, error) { return nil, errors.New("device lost") },
	} {
		refused(answers(answer), `set x: prompt "a cat": `+want)
	}
}

// answers is one model of the reward x and of no identity, which answers so.
type answers func(images int) ([]engine.Reward, error)

func (f answers) Columns() [][]Column { return [][]Column{{{Reward: "x"}}} }

func (f answers) Score(_ context.Context, _ []int, images []engine.Image, _ []string) ([]engine.Reward, error) {
	return f(len(images))
}

// A model may give a NaN without a word.
func TestScoreSetNamesNonFinite(t *testing.T) {
	calls := 0
	model := answers(func(images int) ([]engine.Reward, error) {
		calls++
		r := engine.Reward{Name: "x", Images: images, Texts: 4 - calls, Scores: make([]float32, images*(4-calls))}
		r.Scores[0] = float32(math.Inf(1))
		return []engine.Reward{r}, nil
	})
	w := newWriter(t, filepath.Join(t.TempDir(), "s.jsonl"))
	summary, err := ScoreSet(t.Context(), pictureSet(t), model, w, ScoreOptions{})
	if err != nil || calls != 2 || summary.Scored != 2 || len(summary.Failed) != 3 {
		t.Errorf("%d calls, %+v, %v", calls, summary, err)
	}
	if text := fmt.Sprint(summary.Failed); !strings.Contains(text, "1.jpg: its reward x is not a finite number") {
		t.Errorf("failures: %s", text)
	}
}
