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

// lengthModel scores an image by the length of its data and of the text, so that a score tells what it was given.
type lengthModel struct {
	info   engine.Info
	seen   []string // images asked for, in order
	cancel func()   // called in the second call
	calls  int
}

func (m *lengthModel) Info() engine.Info { return m.info }

func (m *lengthModel) Score(ctx context.Context, images []engine.Image, texts []string) ([]engine.Reward, error) {
	m.calls++
	if m.calls == 2 && m.cancel != nil {
		m.cancel()
		return nil, ctx.Err()
	}
	r := engine.Reward{Name: m.info.Reward, Images: len(images), Texts: len(texts)}
	var failed engine.ItemErrors
	for i, image := range images {
		m.seen = append(m.seen, image.Name)
		bad := string(image.Data) == "broken"
		if bad {
			failed = append(failed, &engine.ItemError{Index: i, Name: image.Name, Err: errors.New("no picture")})
		}
		for _, text := range texts {
			score := float32(100*len(image.Data) + len(text))
			if bad {
				score = float32(math.NaN())
			}
			r.Scores = append(r.Scores, score)
		}
	}
	if failed != nil {
		return []engine.Reward{r}, failed
	}
	return []engine.Reward{r}, nil
}

func clipModel() *lengthModel {
	return &lengthModel{info: engine.Info{Name: "tiny", Reward: "clip", DType: "f32", SourceSHA256: "00112233445566778899aabbccddeeff"}}
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
	set, model := pictureSet(t), clipModel()
	w := newWriter(t, filepath.Join(t.TempDir(), "s.jsonl"))
	var progress []int
	summary, err := ScoreSet(t.Context(), set, []Scorer{model, Rename(model, "other")}, w,
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
		"1.jpg": {"clip": {105, 105, 108}, "other": {105, 105, 108}},
	}
	if diff := cmp.Diff(want, w.Scores().Prompt("a cat").Images); diff != "" {
		t.Errorf("scores (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]int{3, 5, 5, 5}, progress); diff != "" {
		t.Errorf("progress (-want +got):\n%s", diff)
	}
	if got := w.Scores().Model("clip"); got != "tiny sha256:0011223344556677 f32" {
		t.Errorf("model of clip: %q", got)
	}
}

func TestScoreSetResumes(t *testing.T) {
	set, path := pictureSet(t), filepath.Join(t.TempDir(), "s.jsonl")
	ctx, cancel := context.WithCancel(t.Context())
	first := clipModel()
	first.cancel = cancel
	w := newWriter(t, path)
	if _, err := ScoreSet(ctx, set, []Scorer{first}, w, ScoreOptions{}); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v, want context.Canceled", err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	second, added := clipModel(), clipModel()
	added.info.Reward = "hpsv2"
	w = newWriter(t, path)
	summary, err := ScoreSet(t.Context(), set, []Scorer{second, added}, w, ScoreOptions{})
	if err != nil {
		t.Fatal(err)
	}
	// 1.jpg is done for clip; the broken one is tried again; the added model sees all that exist.
	if diff := cmp.Diff([]string{"2.jpg", "4.jpg", "5.jpg"}, second.seen); diff != "" {
		t.Errorf("the first model saw (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"1.jpg", "2.jpg", "4.jpg", "5.jpg"}, added.seen); diff != "" {
		t.Errorf("the added model saw (-want +got):\n%s", diff)
	}
	if summary.Scored != 3 || len(summary.Failed) != 2 {
		t.Errorf("summary: %+v", summary)
	}
	if err := w.Commit(); err != nil {
		t.Fatal(err)
	}
	w = newWriter(t, path)
	third := clipModel()
	summary, err = ScoreSet(t.Context(), set, []Scorer{third}, w, ScoreOptions{})
	if err != nil || summary.Scored != 0 || summary.Resumed != 3 || !slices.Equal(third.seen, []string{"2.jpg"}) {
		t.Errorf("third run: %+v, %v, saw %v", summary, err, third.seen)
	}
}

func TestScoreSetRefuses(t *testing.T) {
	set := pictureSet(t)
	path := filepath.Join(t.TempDir(), "s.jsonl")
	w := newWriter(t, path)
	if _, err := ScoreSet(t.Context(), set, []Scorer{clipModel(), clipModel()}, w, ScoreOptions{}); err == nil || !strings.Contains(err.Error(), "two models give the reward clip") {
		t.Errorf("two models of one reward: %v", err)
	}
	if _, err := ScoreSet(t.Context(), set, []Scorer{clipModel()}, w, ScoreOptions{}); err != nil {
		t.Fatal(err)
	}
	other := clipModel()
	other.info.DType = "int8"
	if _, err := ScoreSet(t.Context(), set, []Scorer{other}, w, ScoreOptions{}); err == nil || !strings.Contains(err.Error(), "another model") {
		t.Errorf("another model: %v", err)
	}
	set.Prompts[1].Contrastive = []string{"a wasp"}
	if _, err := ScoreSet(t.Context(), set, []Scorer{clipModel()}, w, ScoreOptions{}); err == nil || !strings.Contains(err.Error(), `"a bird"`) {
		t.Errorf("other contrastive prompts: %v", err)
	}
	for _, wrong := range []Scorer{
		scorerFunc(func([]engine.Image, []string) ([]engine.Reward, error) {
			return []engine.Reward{{Name: "x", Images: 1, Texts: 1, Scores: []float32{1}}}, nil
		}),
		scorerFunc(func([]engine.Image, []string) ([]engine.Reward, error) { return nil, errors.New("device lost") }),
	} {
		if _, err := ScoreSet(t.Context(), pictureSet(t), []Scorer{wrong}, w, ScoreOptions{}); err == nil || !strings.Contains(err.Error(), `set x: prompt "a cat"`) {
			t.Errorf("wrong answer: %v", err)
		}
	}
}

type scorerFunc func([]engine.Image, []string) ([]engine.Reward, error)

func (f scorerFunc) Score(_ context.Context, images []engine.Image, texts []string) ([]engine.Reward, error) {
	return f(images, texts)
}

// TestScoreSetWithoutInfo uses a model that does not say what it computes, and that gives a NaN without a word.
func TestScoreSetWithoutInfo(t *testing.T) {
	calls := 0
	model := scorerFunc(func(images []engine.Image, texts []string) ([]engine.Reward, error) {
		calls++
		r := engine.Reward{Name: "fancy", Images: len(images), Texts: len(texts), Scores: make([]float32, len(images)*len(texts))}
		r.Scores[0] = float32(math.Inf(1))
		return []engine.Reward{r}, nil
	})
	w := newWriter(t, filepath.Join(t.TempDir(), "s.jsonl"))
	summary, err := ScoreSet(t.Context(), pictureSet(t), []Scorer{model}, w, ScoreOptions{})
	if err != nil || calls != 2 || summary.Scored != 2 || len(summary.Failed) != 3 {
		t.Errorf("%d calls, %+v, %v", calls, summary, err)
	}
	if text := fmt.Sprint(summary.Failed); !strings.Contains(text, "1.jpg: its reward fancy is not a finite number") {
		t.Errorf("failures: %s", text)
	}
}
