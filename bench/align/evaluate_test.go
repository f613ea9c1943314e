package align

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tia2-engine/tia2-engine/bench/metrics"
	"github.com/tia2-engine/tia2-engine/bench/tia2"
	"github.com/tia2-engine/tia2-engine/internal/sharedtest"
	"github.com/tia2-engine/tia2-engine/textnorm"
)

const tolerance = 1e-9

// hashed is splitmix64, as a number in [0, 1).
func hashed(x uint64) float64 {
	x += 0x9E3779B97F4A7C15
	x = (x ^ x>>30) * 0xBF58476D1CE4E5B9
	x = (x ^ x>>27) * 0x94D049BB133111EB
	return float64((x^x>>31)>>11) / (1 << 53)
}

// madeUp returns scores for a whole set by the formula of made_up in testdata/reference.py: reward a is continuous, b has
// many ties, and both are right more often than not.
func madeUp(t testing.TB, set *tia2.Set) *tia2.Scores {
	t.Helper()
	scores := tia2.NewScores()
	for p, prompt := range set.Prompts {
		texts := prompt.Texts()
		for i, image := range prompt.Images {
			a, b := make([]float64, len(texts)), make([]float64, len(texts))
			for text := range texts {
				code := uint64(p)*1_000_000 + uint64(i)*1000 + uint64(text)
				a[text], b[text] = hashed(code), hashed(1_000_000_000+code)
				if text == 0 && image.Positive() {
					a[0] += 0.25
					b[0] += 0.25
				}
				b[text] = math.Floor(b[text] * 8)
			}
			line := tia2.Line{Image: image.Name, Prompt: prompt.Caption, Texts: texts, Rewards: map[string][]float64{"a": a, "b": b}}
			if err := scores.Add(line); err != nil {
				t.Fatal(err)
			}
		}
	}
	return scores
}

func smallSet(t testing.TB) *tia2.Set {
	t.Helper()
	sets, err := tia2.Open(filepath.Join("testdata", "small"), tia2.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return sets[0]
}

func readJSON(t testing.TB, path string, into any) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, into); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

// few keeps tests fast where intervals do not matter.
var few = metrics.Resampling{Resamples: 20}

// values returns the figures by name.
func values(f Figures) map[string]float64 {
	m := map[string]float64{}
	f.each(func(name string, v *Number) { m[name] = float64(*v) })
	return m
}

// far reports whether two figures differ; NaN equals NaN only.
func far(a, b float64) bool {
	return math.IsNaN(a) != math.IsNaN(b) || math.Abs(a-b) > tolerance
}

// TestSmallSetMatchesReference compares every figure of every score, under each protocol, with scikit-learn and scipy.
func TestSmallSetMatchesReference(t *testing.T) {
	var reference map[string]map[string]map[string]map[string]Number
	readJSON(t, filepath.Join("testdata", "small.json"), &reference)
	set := smallSet(t)
	scores := madeUp(t, set)
	for _, protocol := range []textnorm.Protocol{textnorm.Fixed, textnorm.CrossValidated, textnorm.Oracle} {
		for _, minmax := range []textnorm.MinMax{textnorm.PerImage, textnorm.PerSet} {
			name := fmt.Sprintf("%s %s", protocol, minmax)
			want := reference[name]
			report, err := Evaluate([]*tia2.Set{set}, scores, Options{Protocol: protocol, MinMax: minmax, Resampling: few})
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if len(want) != 6 || len(report.Sets[0].Rewards) != len(want) {
				t.Fatalf("%s: %d scores, want %d", name, len(report.Sets[0].Rewards), len(want))
			}
			for _, reward := range report.Sets[0].Rewards {
				compareReward(t, name, reward, want[reward.Name])
			}
		}
	}
}

func compareReward(t *testing.T, name string, got RewardReport, want map[string]map[string]Number) {
	t.Helper()
	gotPrompts, wantPrompts := slices.Sorted(maps.Keys(got.Prompts)), slices.Sorted(maps.Keys(want))
	if diff := cmp.Diff(wantPrompts, gotPrompts); diff != "" {
		t.Errorf("%s: %s: prompts (-want +got):\n%s", name, got.Name, diff)
		return
	}
	for caption, p := range got.Prompts {
		for metric, v := range values(p.Figures) {
			if w := float64(want[caption][metric]); far(v, w) {
				t.Errorf("%s: %s: %q: %s is %.12g, want %.12g", name, got.Name, caption, metric, v, w)
			}
		}
		if scale, calibrated := want[caption]["scale"]; calibrated && (p.Scale == nil || *p.Scale != float64(scale)) {
			t.Errorf("%s: %s: %q: scale %v, want %g", name, got.Name, caption, p.Scale, scale)
		}
		if got.Name == "textnorm_ur" && (p.Penalty == nil || *p.Penalty != float64(want[caption]["penalty"])) {
			t.Errorf("%s: %q: penalty %v, want %g", name, caption, p.Penalty, want[caption]["penalty"])
		}
	}
}

// TestReleaseMatchesReference does the same on the three public sets: all figures of 525 prompts for two rewards, and
// the means of all scores.
func TestReleaseMatchesReference(t *testing.T) {
	sets, err := tia2.Open(sharedtest.Path(t, "tia2"), tia2.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var reference map[string]struct {
		Prompts   map[string]map[string][]float64
		Fixed, CV map[string]map[string]float64
	}
	readJSON(t, filepath.Join("testdata", "release.json"), &reference)
	prompts := 0
	for _, set := range sets {
		scores, want := madeUp(t, set), reference[set.Name]
		for protocol, means := range map[textnorm.Protocol]map[string]map[string]float64{textnorm.Fixed: want.Fixed, textnorm.CrossValidated: want.CV} {
			report, err := Evaluate([]*tia2.Set{set}, scores, Options{Protocol: protocol, Resampling: few})
			if err != nil {
				t.Fatal(err)
			}
			if len(report.Sets[0].Rewards) != 6 || len(means) != 6 {
				t.Fatalf("%s: %d scores, want 6", set.Name, len(report.Sets[0].Rewards))
			}
			for _, reward := range report.Sets[0].Rewards {
				for metric, v := range values(reward.Mean) {
					if w := means[reward.Name][metric]; far(v, w) {
						t.Errorf("%s: %s: %s: mean %s is %.12g, want %.12g", set.Name, protocol, reward.Name, metric, v, w)
					}
				}
				if per := want.Prompts[reward.Name]; per != nil {
					prompts += comparePrompts(t, set.Name, reward, per)
				}
			}
		}
	}
	if prompts != 2*2*525 {
		t.Errorf("%d prompts compared, want %d", prompts, 2*2*525)
	}
}

func comparePrompts(t *testing.T, set string, got RewardReport, want map[string][]float64) int {
	t.Helper()
	if len(got.Prompts) != len(want) {
		t.Errorf("%s: %s: %d prompts, want %d", set, got.Name, len(got.Prompts), len(want))
	}
	for caption, p := range got.Prompts {
		i := 0
		p.Figures.each(func(metric string, v *Number) {
			if len(want[caption]) <= i || far(float64(*v), want[caption][i]) {
				t.Errorf("%s: %s: %q: %s is %.12g, want %v", set, got.Name, caption, metric, float64(*v), want[caption])
			}
			i++
		})
	}
	return len(got.Prompts)
}

// published are the means of the paper's tables, averaged over the prompts of the release's alignment_scores.
var published = map[string]map[string][]float64{
	"comprehensive": {
		"clip":        {.671, .6112, .6744, .6673, .6349, .2350, .1868},
		"blip2":       {.6825, .6031, .6478, .6423, .6157, .2332, .1854},
		"imagereward": {.761, .6741, .7547, .7403, .7078, .3614, .2892},
		"pickscore":   {.7471, .6749, .779, .7627, .7056, .3249, .2576},
		"textnorm_ur": {.7733, .6885, .808, .773, .7316, .3576, .2852},
	},
	"composition": {
		"clip":          {.7167, .6066, .737, .6989, .6405, .4311, .3327},
		"blip2":         {.6128, .5058, .5786, .5542, .5158, .2461, .1859},
		"imagereward":   {.7735, .6745, .7846, .7473, .6994, .538, .4232},
		"pickscore":     {.7848, .6955, .8478, .8107, .7413, .5206, .4067},
		"textnorm_mean": {.8435, .7865, .9436, .9058, .8275, .6223, .4953},
	},
	"counting": {
		"clip":        {.5952, .522, .6209, .6007, .5499, .1355, .1071},
		"blip2":       {.5647, .499, .5699, .5562, .5194, .0722, .056},
		"imagereward": {.6572, .5426, .6114, .6053, .5701, .2079, .1659},
		"pickscore":   {.7305, .6138, .7109, .7016, .65, .3397, .2727},
		"textnorm_ur": {.8071, .7185, .877, .8412, .7628, .4429, .3556},
	},
}

// TestPublishedMeans averages the published figures of each prompt as Evaluate averages its own.
func TestPublishedMeans(t *testing.T) {
	for set, rewards := range published {
		var prompts map[string]map[string]json.RawMessage
		readJSON(t, sharedtest.Path(t, "tia2", "alignment_scores", "alignment_scores_"+set+".json"), &prompts)
		for reward, want := range rewards {
			columns := map[string][]float64{}
			for _, caption := range slices.Sorted(maps.Keys(prompts)) {
				var f Figures
				if err := json.Unmarshal(prompts[caption][reward], &f); err != nil {
					t.Fatalf("%s: %s: %q: %v", set, reward, caption, err)
				}
				f.each(func(name string, v *Number) { columns[name] = append(columns[name], float64(*v)) })
			}
			mean, _ := summarise(columns, few)
			i := 0
			mean.each(func(name string, v *Number) {
				if math.Abs(float64(*v)-want[i]) > 5.1e-5 { // they are rounded to four digits
					t.Errorf("%s: %s: mean %s is %g, published %g", set, reward, name, float64(*v), want[i])
				}
				i++
			})
		}
	}
}

func TestReportSaysWhatIsLeftOut(t *testing.T) {
	set := smallSet(t)
	full := madeUp(t, set)
	scores := tia2.NewScores()
	for i, p := range set.Prompts {
		for j, image := range p.Images {
			rewards := maps.Clone(full.Prompt(p.Caption).Images[image.Name])
			if i == 1 || i == 0 && j == 0 { // a prompt and an image without scores
				continue
			}
			if i == 2 { // a prompt that one reward lacks
				delete(rewards, "b")
			}
			constant := make([]float64, len(p.Texts())) // a reward of the image alone
			for t := range constant {
				constant[t] = float64(j % 3)
			}
			rewards["looks"] = constant
			add(t, scores, tia2.Line{Image: image.Name, Prompt: p.Caption, Texts: p.Texts(), Rewards: rewards})
		}
	}
	add(t, scores, tia2.Line{Image: "other.jpg", Prompt: set.Prompts[0].Caption, Texts: set.Prompts[0].Texts(),
		Rewards: map[string][]float64{"a": make([]float64, len(set.Prompts[0].Texts()))}})
	add(t, scores, tia2.Line{Image: "z.jpg", Prompt: "unheard of", Texts: []string{"unheard of"}, Rewards: map[string][]float64{"a": {1}}})
	report, err := Evaluate([]*tia2.Set{set}, scores, Options{Resampling: few})
	if err != nil {
		t.Fatal(err)
	}
	r := report.Sets[0]
	notes := strings.Join(append(r.Notes, report.Notes...), "\n")
	for _, want := range []string{
		"1 prompts have no scores: two cats", "1 images have no scores: image_0_0.jpg",
		"1 images of the scores are not annotated for their prompt: other.jpg",
		"1 prompts have images of one class only and are left out: always right",
		"reward looks is the same for all texts of a prompt: it has no TextNorm",
		"1 prompts of the scores are in none of the sets: unheard of",
	} {
		if !strings.Contains(notes, want) {
			t.Errorf("the notes lack %q:\n%s", want, notes)
		}
	}
	scored := map[string]int{}
	for _, reward := range r.Rewards {
		scored[reward.Name] = reward.Scored
	}
	want := map[string]int{"a": 5, "b": 4, "looks": 5, "a_textnorm": 4, "b_textnorm": 3, "textnorm_mean": 3, "textnorm_ur": 3}
	if diff := cmp.Diff(want, scored); diff != "" {
		t.Errorf("scored prompts (-want +got):\n%s", diff)
	}
	if got := r.Reward("a").Prompts[set.Prompts[0].Caption].Images; got != len(set.Prompts[0].Images)-1 {
		t.Errorf("%d images of the first prompt, want all but one", got)
	}
}

func add(t *testing.T, s *tia2.Scores, line tia2.Line) {
	t.Helper()
	if err := s.Add(line); err != nil {
		t.Fatal(err)
	}
}

// everyReward are the names of all rewards of the engine. The last one looks at the picture alone.
var everyReward = []string{"blip2_itc", "blip2_itm", "blip_itc", "blip_itm", "clip", "hpsv2", "imagereward", "pickscore", "aesthetic"}

// scoresOf returns made-up scores of every reward for a set.
func scoresOf(t testing.TB, set *tia2.Set) *tia2.Scores {
	t.Helper()
	scores := tia2.NewScores()
	for p, prompt := range set.Prompts {
		texts := prompt.Texts()
		for i, image := range prompt.Images {
			rewards := map[string][]float64{}
			for k, name := range everyReward {
				values := make([]float64, len(texts))
				for text := range texts {
					code := uint64(k)<<40 + uint64(p)*1_000_000 + uint64(i)*1000
					if name != "aesthetic" {
						code += uint64(text)
					}
					values[text] = hashed(code)
				}
				rewards[name] = values
			}
			if err := scores.Add(tia2.Line{Image: image.Name, Prompt: prompt.Caption, Texts: texts, Rewards: rewards}); err != nil {
				t.Fatal(err)
			}
		}
	}
	return scores
}

// All rewards, TextNorm of each, and the ensembles: of all rewards, or of those that are chosen.
func TestEveryReward(t *testing.T) {
	set := smallSet(t)
	scores := scoresOf(t, set)
	names := func(opt Options) []string {
		t.Helper()
		opt.Resampling = few
		report, err := Evaluate([]*tia2.Set{set}, scores, opt)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, r := range report.Sets[0].Rewards {
			names = append(names, r.Name)
		}
		return names
	}
	all := append([]string{"aesthetic"}, everyReward[:8]...)
	for _, name := range everyReward[:8] {
		all = append(all, name+"_textnorm")
	}
	all = append(all, "textnorm_mean", "textnorm_ur")
	for _, c := range []struct {
		opt  Options
		want []string
	}{
		{Options{}, all},
		{Options{Members: []string{"pickscore", "imagereward"}}, all},
		{Options{Rewards: []string{"pickscore", "clip"}}, []string{"clip", "pickscore", "clip_textnorm", "pickscore_textnorm", "textnorm_mean", "textnorm_ur"}},
		{Options{Rewards: []string{"aesthetic", "clip"}}, []string{"aesthetic", "clip", "clip_textnorm"}},
		{Options{Rewards: []string{"clip", "hpsv2"}, Members: []string{"hpsv2"}}, []string{"clip", "hpsv2", "clip_textnorm", "hpsv2_textnorm"}},
	} {
		if diff := cmp.Diff(c.want, names(c.opt)); diff != "" {
			t.Errorf("%+v (-want +got):\n%s", c.opt, diff)
		}
	}
	// The ensemble of chosen members is that of a file with these alone.
	ensemble := func(opt Options) Figures {
		t.Helper()
		opt.Resampling = few
		report, err := Evaluate([]*tia2.Set{set}, scores, opt)
		if err != nil {
			t.Fatal(err)
		}
		return report.Sets[0].Reward("textnorm_ur").Mean
	}
	two := []string{"imagereward", "pickscore"}
	if a, b, c := ensemble(Options{Members: two}), ensemble(Options{Rewards: two}), ensemble(Options{}); a != b || a == c {
		t.Errorf("textnorm_ur of two members: %v, of two rewards: %v, of all: %v", a, b, c)
	}
}

func TestBestOfNOfReport(t *testing.T) {
	set := smallSet(t)
	report, err := Evaluate([]*tia2.Set{set}, madeUp(t, set), Options{Resampling: few})
	if err != nil {
		t.Fatal(err)
	}
	r := report.Sets[0]
	a := r.Reward("a")
	if len(a.BestOfN) != 12 || len(r.BestOfNIdeal) != 12 { // the smallest prompt has 12 images
		t.Fatalf("curves of %d and %d points, want 12", len(a.BestOfN), len(r.BestOfNIdeal))
	}
	if far(float64(a.BestOfN[0]), float64(a.Human)) || far(float64(r.BestOfNIdeal[0]), float64(a.Human)) {
		t.Errorf("best of 1 is %g and %g, human %g", a.BestOfN[0], r.BestOfNIdeal[0], a.Human)
	}
	for n := range a.BestOfN {
		if a.BestOfN[n] > r.BestOfNIdeal[n]+tolerance {
			t.Errorf("best of %d is %g, above the ideal %g", n+1, a.BestOfN[n], r.BestOfNIdeal[n])
		}
	}
	if len(r.Comparisons) != 15 {
		t.Errorf("%d comparisons, want the 15 pairs of 6 scores", len(r.Comparisons))
	}
}

func TestEvaluateErrors(t *testing.T) {
	set := smallSet(t)
	scores := madeUp(t, set)
	negative := -1.0
	for _, c := range []struct {
		name string
		opt  Options
	}{
		{"protocol", Options{Protocol: "best"}},
		{"scale", Options{Scale: -1}},
		{"minmax", Options{MinMax: "row"}},
		{"penalty", Options{Penalty: &negative}},
	} {
		if _, err := Evaluate([]*tia2.Set{set}, scores, c.opt); !errors.Is(err, textnorm.ErrOption) {
			t.Errorf("%s: got %v, want ErrOption", c.name, err)
		}
	}
	for want, opt := range map[string]Options{
		`member of the ensembles "c": expected some of a, b`: {Members: []string{"a", "c"}},
		`member of the ensembles "b": expected some of a`:    {Rewards: []string{"a"}, Members: []string{"b"}},
		`member of the ensembles "a": it is named twice`:     {Members: []string{"a", "a"}},
		`reward to evaluate "c": expected some of a, b`:      {Rewards: []string{"c"}},
		`reward to evaluate "b": it is named twice`:          {Rewards: []string{"b", "b"}},
	} {
		if _, err := Evaluate([]*tia2.Set{set}, scores, opt); err == nil || err.Error() != want {
			t.Errorf("%+v: got %v, want %s", opt, err, want)
		}
	}
	if _, err := Evaluate([]*tia2.Set{set}, tia2.NewScores(), Options{}); err == nil || !strings.Contains(err.Error(), "small") {
		t.Errorf("no scores: got %v", err)
	}
}

func TestJSONIsTheDocumentedOne(t *testing.T) {
	set := smallSet(t)
	report, err := Evaluate([]*tia2.Set{set}, madeUp(t, set), Options{Resampling: few})
	if err != nil {
		t.Fatal(err)
	}
	var first, second strings.Builder
	if err := report.Write(&first, "json"); err != nil {
		t.Fatal(err)
	}
	var documented struct {
		Sets []struct {
			Set     string
			Rewards []struct {
				Name    string
				Mean    map[string]float64
				Prompts map[string]map[string]float64
			}
		}
	}
	if err := json.Unmarshal([]byte(first.String()), &documented); err != nil {
		t.Fatal(err)
	}
	a := documented.Sets[0].Rewards[0]
	if documented.Sets[0].Set != "small" || a.Name != "a" || len(a.Mean) != 7 {
		t.Errorf("unexpected JSON: %+v", documented.Sets[0])
	}
	for _, key := range []string{"auroc", "auprc", "ap5", "ap10", "ap25", "spearman", "kendall", "human"} {
		if _, found := a.Prompts["a red cube"][key]; !found {
			t.Errorf("a prompt lacks %s: %v", key, a.Prompts["a red cube"])
		}
	}
	again, err := Evaluate([]*tia2.Set{set}, madeUp(t, set), Options{Resampling: few})
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Write(&second, "json"); err != nil || first.String() != second.String() {
		t.Errorf("two evaluations differ (%v)", err)
	}
	var back Report
	if err := json.Unmarshal([]byte(first.String()), &back); err != nil {
		t.Errorf("the report does not read its own JSON: %v", err)
	}
}
