package textnorm

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tia2-engine/tia2-engine/internal/sharedtest"
)

// reference is testdata/reference.json, written by testdata/reference.py.
type reference struct {
	Calibrate []struct {
		Name       string
		Scale      float64
		Rewards    [][]float64
		Image, Set []float64
	}
	Ensembles []struct {
		Members         [][]float64
		Penalty         float64
		Mean, Penalised []float64
	}
	PromptSets []struct {
		Prompt             string
		Contrastive, Texts []string
	} `json:"prompt_sets"`
}

func loadReference(t *testing.T) reference {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", "reference.json"))
	if err != nil {
		t.Fatal(err)
	}
	var ref reference
	if err := json.Unmarshal(data, &ref); err != nil {
		t.Fatal(err)
	}
	if len(ref.Calibrate) == 0 || len(ref.Ensembles) == 0 || len(ref.PromptSets) == 0 {
		t.Fatal("testdata/reference.json is empty")
	}
	return ref
}

// maxDiff is infinite where the lengths differ or a value is NaN, so that such results fail.
func maxDiff(got, want []float64) float64 {
	if len(got) != len(want) {
		return math.Inf(1)
	}
	worst := 0.0
	for i := range got {
		if d := math.Abs(got[i] - want[i]); !(d <= worst) {
			worst = d
		}
		if math.IsNaN(got[i]) {
			return math.Inf(1)
		}
	}
	return worst
}

func TestCalibrateMatchesNumpy(t *testing.T) {
	for _, c := range loadReference(t).Calibrate {
		for mode, want := range map[MinMax][]float64{PerImage: c.Image, PerSet: c.Set} {
			got, err := Calibrate(c.Rewards, Options{Scale: c.Scale, MinMax: mode})
			if err != nil {
				t.Errorf("%s, scale %g, %s: %v", c.Name, c.Scale, mode, err)
			}
			// 1e-12 leaves room for another order of summation; the promise is 1e-6.
			if d := maxDiff(got, want); d > 1e-12 {
				t.Errorf("%s, scale %g, %s: max difference %g\n got %v\nwant %v", c.Name, c.Scale, mode, d, got, want)
			}
		}
	}
}

func TestCalibrateFloat32(t *testing.T) {
	r := []float32{20.5, 21.25, 19}
	got, err := Calibrate([][]float32{r}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	want, err := Calibrate([][]float64{{20.5, 21.25, 19}}, Options{Scale: DefaultScale, MinMax: PerImage})
	if err != nil || maxDiff(got, want) != 0 {
		t.Errorf("float32 gives %v, float64 %v (%v)", got, want, err)
	}
	if r[0] != 20.5 || r[2] != 19 {
		t.Errorf("the rewards were modified: %v", r)
	}
}

func TestCalibrateRangeBeyondFloat64(t *testing.T) {
	got, err := Calibrate([][]float64{{1.7e308, -1.7e308}}, Options{Scale: 1})
	if want := math.E / (math.E + 1); err != nil || maxDiff(got, []float64{want}) > 1e-15 {
		t.Errorf("got %v, %v, want [%v]", got, err, want)
	}
}

func TestOrderOfContrastivePromptsDoesNotMatter(t *testing.T) {
	a := []float64{0.3, 0.1, 0.7, 0.2, 0.9, 0.4, 0.6, 0.55, 0.35}
	b := slices.Clone(a)
	for range len(a) - 2 {
		b = append(b[:1], append(b[2:], b[1])...) // turn the contrastive ones by one
		got, err := Calibrate([][]float64{a, b}, Options{Scale: 3})
		if err != nil || got[0] != got[1] {
			t.Fatalf("%v and %v: got %v, %v", a, b, got, err)
		}
	}
}

func TestCalibrateErrors(t *testing.T) {
	for _, c := range []struct {
		name    string
		rewards [][]float64
		opt     Options
		want    error
	}{
		{"one text", [][]float64{{1}}, Options{}, ErrShape},
		{"no text", [][]float64{{}}, Options{}, ErrShape},
		{"ragged", [][]float64{{1, 2}, {1, 2, 3}}, Options{}, ErrShape},
		{"nan", [][]float64{{1, 2}, {1, math.NaN()}}, Options{}, ErrNonFinite},
		{"infinity", [][]float64{{math.Inf(-1), 2}}, Options{MinMax: PerSet}, ErrNonFinite},
		{"negative scale", [][]float64{{1, 2}}, Options{Scale: -1}, ErrOption},
		{"nan scale", [][]float64{{1, 2}}, Options{Scale: math.NaN()}, ErrOption},
		{"infinite scale", [][]float64{{1, 2}}, Options{Scale: math.Inf(1)}, ErrOption},
		{"mode", [][]float64{{1, 2}}, Options{MinMax: "row"}, ErrOption},
	} {
		if got, err := Calibrate(c.rewards, c.opt); !errors.Is(err, c.want) || got != nil {
			t.Errorf("%s: got %v, %v, want %v", c.name, got, err, c.want)
		}
	}
	if got, err := Calibrate([][]float64{}, Options{}); err != nil || len(got) != 0 {
		t.Errorf("no image: got %v, %v", got, err)
	}
}

func TestEnsemblesMatchNumpy(t *testing.T) {
	for i, c := range loadReference(t).Ensembles {
		mean, err := Mean(c.Members)
		if d := maxDiff(mean, c.Mean); err != nil || d > 1e-12 {
			t.Errorf("case %d: mean: max difference %g, %v", i, d, err)
		}
		penalised, err := Penalised(c.Members, c.Penalty)
		if d := maxDiff(penalised, c.Penalised); err != nil || d > 1e-12 {
			t.Errorf("case %d: penalised: max difference %g, %v", i, d, err)
		}
	}
}

func TestEnsembleErrors(t *testing.T) {
	for _, c := range []struct {
		name    string
		members [][]float64
		penalty float64
		want    error
	}{
		{"none", nil, 0, ErrShape},
		{"ragged", [][]float64{{1, 2}, {1}}, 0, ErrShape},
		{"nan", [][]float64{{1, 2}, {1, math.NaN()}}, 0, ErrNonFinite},
		{"negative penalty", [][]float64{{1}}, -1, ErrOption},
		{"nan penalty", [][]float64{{1}}, math.NaN(), ErrOption},
	} {
		if _, err := Penalised(c.members, c.penalty); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", c.name, err, c.want)
		}
	}
}

func TestPromptSetMatchesPython(t *testing.T) {
	for _, c := range loadReference(t).PromptSets {
		if diff := cmp.Diff(c.Texts, PromptSet(c.Prompt, c.Contrastive)); diff != "" {
			t.Errorf("%q (-want +got):\n%s", c.Prompt, diff)
		}
	}
}

// TestPromptSetsOfTIA2 checks the number of texts of the public release: 7,830 distinct ones.
func TestPromptSetsOfTIA2(t *testing.T) {
	distinct := map[string]bool{}
	for _, name := range []string{"comprehensive", "composition", "counting"} {
		data, err := os.ReadFile(sharedtest.Path(t, "tia2", "prompts", "prompt_set_"+name+".json"))
		if err != nil {
			t.Fatal(err)
		}
		var prompts map[string][]string
		if err := json.Unmarshal(data, &prompts); err != nil {
			t.Fatal(err)
		}
		for prompt, contrastive := range prompts {
			for _, text := range PromptSet(prompt, contrastive) {
				distinct[text] = true
			}
		}
	}
	if len(distinct) != 7830 {
		t.Errorf("%d distinct texts, want 7830", len(distinct))
	}
}

func TestChoose(t *testing.T) {
	nan := math.NaN()
	quality := [][]float64{
		{0.9, 0.5, 0.9}, // oracle: a tie goes to the first
		{0.2, 0.3, 0.8},
		{nan, nan, nan}, // one class only: others decide under cv, the first setting under oracle
		{0.1, 0.95, 0.7},
	}
	for _, c := range []struct {
		protocol Protocol
		want     []int
	}{
		{Fixed, []int{0, 0, 0, 0}},
		{Oracle, []int{0, 2, 0, 1}},
		// without 0: .15 .625 .75; without 1: .5 .725 .8; all: .4 .583 .8; without 3: .55 .4 .85
		{CrossValidated, []int{2, 2, 2, 2}},
	} {
		got, err := Choose(c.protocol, quality)
		if diff := cmp.Diff(c.want, got); err != nil || diff != "" {
			t.Errorf("%s: %v (-want +got):\n%s", c.protocol, err, diff)
		}
	}
	// The prompt's own labels must not count: alone, each prompt would choose the other setting.
	got, err := Choose(CrossValidated, [][]float64{{1, 0}, {0, 1}})
	if diff := cmp.Diff([]int{1, 0}, got); err != nil || diff != "" {
		t.Errorf("cv looks at its own prompt: %v (-want +got):\n%s", err, diff)
	}
	if got, err := Choose(CrossValidated, [][]float64{{0, 1}}); err != nil || got[0] != 0 {
		t.Errorf("cv with one prompt: got %v, %v, want the first setting", got, err)
	}
	if _, err := Choose("best", quality); !errors.Is(err, ErrOption) {
		t.Errorf("unknown protocol: got %v", err)
	}
	if _, err := Choose(Oracle, [][]float64{{1}, {1, 2}}); !errors.Is(err, ErrShape) {
		t.Errorf("ragged: got %v", err)
	}
}

func TestGrid(t *testing.T) {
	plain, crossed := Grid(false), Grid(true)
	if len(plain) != 5 || len(crossed) != 20 {
		t.Fatalf("%d and %d settings, want 5 and 20", len(plain), len(crossed))
	}
	if plain[0] != (Setting{0.1, 0}) || crossed[0] != (Setting{0.1, 0.05}) || crossed[19] != (Setting{10, 1}) {
		t.Errorf("unexpected order: %v %v", plain, crossed)
	}
}

func TestParseProtocol(t *testing.T) {
	for _, name := range []string{"fixed", "cv", "oracle"} {
		if p, err := ParseProtocol(name); err != nil || string(p) != name {
			t.Errorf("%s: got %q, %v", name, p, err)
		}
	}
	if _, err := ParseProtocol("Fixed"); !errors.Is(err, ErrOption) {
		t.Errorf("got %v", err)
	}
}

func Example() {
	texts := PromptSet("two cats", []string{"three cats", "one cat", "two dogs"})
	fmt.Println(texts)

	// Two models scored two images against these texts, each in its own unit.
	pickscore := [][]float64{{21.0, 20.1, 20.4, 18.3}, {19.9, 18.0, 20.6, 17.8}}
	imagereward := [][]float64{{1.2, 0.9, 0.3, -1.1}, {0.4, 0.1, 1.0, -1.5}}
	a, _ := Calibrate(pickscore, Options{Scale: 5})
	b, _ := Calibrate(imagereward, Options{Scale: 5})
	joint, _ := Penalised([][]float64{a, b}, DefaultPenalty)
	fmt.Printf("%.3f\n%.3f\n%.3f\n", a, b, joint)
	// Output:
	// [two cats one cat three cats two dogs]
	// [0.656 0.220]
	// [0.599 0.204]
	// [0.627 0.212]
}
