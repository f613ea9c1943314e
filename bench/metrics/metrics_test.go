package metrics

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

// reference is testdata/reference.json, written by testdata/reference.py. A null is a value that is not defined.
type reference struct {
	Ranking []struct {
		Name                                             string
		Scores, Graded                                   []float64
		AUROC, AUPRC, AP5, AP10, AP25, Spearman, Kendall *float64
	}
	Curves []struct {
		Scores, Labels, Curve []float64
	}
	Paired []struct {
		A, B      []float64
		Mean, P   float64
		Low, High *float64
	}
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
	if len(ref.Ranking) == 0 || len(ref.Curves) == 0 || len(ref.Paired) == 0 {
		t.Fatal("testdata/reference.json is empty")
	}
	return ref
}

const tolerance = 1e-12 // the promise is 1e-9

// near treats NaN as equal to null and to nothing else.
func near(got float64, want *float64) bool {
	if want == nil {
		return math.IsNaN(got)
	}
	return math.Abs(got-*want) <= tolerance
}

func TestRankingMatchesScikitLearnAndScipy(t *testing.T) {
	for _, c := range loadReference(t).Ranking {
		positive := make([]bool, len(c.Graded))
		for i, g := range c.Graded {
			positive[i] = g > 0.5
		}
		for _, m := range []struct {
			name string
			got  float64
			want *float64
		}{
			{"auroc", AUROC(c.Scores, positive), c.AUROC},
			{"auprc", AUPRC(c.Scores, positive), c.AUPRC},
			{"ap5", APAt(5, c.Scores, positive), c.AP5},
			{"ap10", APAt(10, c.Scores, positive), c.AP10},
			{"ap25", APAt(25, c.Scores, positive), c.AP25},
			{"spearman", Spearman(c.Scores, c.Graded), c.Spearman},
			{"kendall", KendallTauB(c.Scores, c.Graded), c.Kendall},
		} {
			if !near(m.got, m.want) {
				want := math.NaN()
				if m.want != nil {
					want = *m.want
				}
				t.Errorf("%s: %s is %.17g, want %.17g", c.Name, m.name, m.got, want)
			}
		}
	}
}

func TestOrderOfItemsDoesNotMatter(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	scores, labels, positive := make([]float64, 40), make([]float64, 40), make([]bool, 40)
	for i := range scores {
		scores[i], labels[i] = float64(rng.IntN(7)), float64(rng.IntN(4))/3
		positive[i] = labels[i] > 0.5
	}
	all := func() []float64 {
		return append([]float64{AUROC(scores, positive), AUPRC(scores, positive), Spearman(scores, labels),
			KendallTauB(scores, labels)}, BestOfN(scores, labels, 40)...)
	}
	want := all()
	for range 20 {
		rng.Shuffle(len(scores), func(i, j int) {
			scores[i], scores[j] = scores[j], scores[i]
			labels[i], labels[j] = labels[j], labels[i]
			positive[i], positive[j] = positive[j], positive[i]
		})
		for i, v := range all() {
			if math.Abs(v-want[i]) > tolerance {
				t.Fatalf("figure %d is %g after a shuffle, %g before", i, v, want[i])
			}
		}
	}
}

func TestNaNScoresGiveNaN(t *testing.T) {
	scores, positive, labels := []float64{1, math.NaN(), 3}, []bool{true, false, true}, []float64{1, 0, 1}
	for name, v := range map[string]float64{
		"auroc": AUROC(scores, positive), "auprc": AUPRC(scores, positive), "ap": APAt(5, scores, positive),
		"spearman": Spearman(scores, labels), "kendall": KendallTauB(labels, scores), "best": BestOfN(scores, labels, 3)[2],
		"empty auroc": AUROC(nil, nil), "empty auprc": AUPRC(nil, nil), "empty spearman": Spearman(nil, nil),
	} {
		if !math.IsNaN(v) {
			t.Errorf("%s is %g, want NaN", name, v)
		}
	}
	if c := BestOfN(nil, nil, 5); len(c) != 0 {
		t.Errorf("curve of no items: %v", c)
	}
}

func TestBestOfNMatchesEnumeration(t *testing.T) {
	for i, c := range loadReference(t).Curves {
		got := BestOfN(c.Scores, c.Labels, 50)
		if len(got) != len(c.Curve) {
			t.Fatalf("case %d: %d points, want %d", i, len(got), len(c.Curve))
		}
		for n := range got {
			if math.Abs(got[n]-c.Curve[n]) > tolerance {
				t.Errorf("case %d: best of %d is %.17g, want %.17g", i, n+1, got[n], c.Curve[n])
			}
		}
	}
}

func TestPairedDifferenceMatchesScipy(t *testing.T) {
	for i, c := range loadReference(t).Paired {
		got := PairedDifference(c.A, c.B, Resampling{Seed: 1, Resamples: 50000})
		if got.N != len(c.A) || math.Abs(got.Mean-c.Mean) > tolerance {
			t.Errorf("case %d: %d pairs, mean %g; want %d, %g", i, got.N, got.Mean, len(c.A), c.Mean)
		}
		room := tolerance
		if len(c.A) > exactFlips { // both are random: five standard errors of 50,000 flips, and the 1 added
			room = 5*math.Sqrt(c.P*(1-c.P)/50000) + 5e-5
		}
		if math.Abs(got.P-c.P) > room {
			t.Errorf("case %d: p is %g, want %g within %g", i, got.P, c.P, room)
		}
		if c.Low == nil {
			continue
		}
		width := *c.High - *c.Low
		if math.Abs(got.Low-*c.Low) > 0.03*width || math.Abs(got.High-*c.High) > 0.03*width {
			t.Errorf("case %d: interval [%g, %g], want [%g, %g]", i, got.Low, got.High, *c.Low, *c.High)
		}
	}
}

func TestPairedDifferenceSkipsNaN(t *testing.T) {
	nan := math.NaN()
	got := PairedDifference([]float64{1, nan, 3}, []float64{0, 1, nan}, Resampling{})
	if got.N != 1 || got.Mean != 1 || got.P != 1 {
		t.Errorf("got %+v, want one pair with mean 1 and p 1", got)
	}
	if got := PairedDifference([]float64{nan}, []float64{1}, Resampling{}); got.N != 0 || !math.IsNaN(got.P) {
		t.Errorf("no pairs: got %+v", got)
	}
}

func TestResamplingIsSeeded(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	x := make([]float64, 100)
	for i := range x {
		x[i] = rng.Float64()
	}
	a, b, c := MeanInterval(x, Resampling{Seed: 5}), MeanInterval(x, Resampling{Seed: 5}), MeanInterval(x, Resampling{Seed: 6})
	if a != b {
		t.Errorf("the same seed gave %v and %v", a, b)
	}
	if a == c {
		t.Errorf("two seeds gave the same interval %v", a)
	}
	if narrow := MeanInterval(x, Resampling{Seed: 5, Level: 0.5}); narrow.Low <= a.Low || narrow.High >= a.High {
		t.Errorf("the 50 %% interval %v is not inside the 95 %% one %v", narrow, a)
	}
}

func TestMeanIntervalOfFewValues(t *testing.T) {
	if i := MeanInterval([]float64{0.4}, Resampling{}); !math.IsNaN(i.Low) || !math.IsNaN(i.High) {
		t.Errorf("one value: %v, want NaN", i)
	}
	if i := MeanInterval([]float64{0.4, 0.4, 0.4}, Resampling{}); i != (Interval{0.4, 0.4}) {
		t.Errorf("equal values: %v, want [0.4, 0.4]", i)
	}
	if i := MeanInterval([]float64{0, 1}, Resampling{}); !(i.Low >= 0 && i.Low < i.High && i.High <= 1) {
		t.Errorf("two values: %v", i)
	}
}
