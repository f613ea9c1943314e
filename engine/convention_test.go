package engine

import (
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
)

func TestConventions(t *testing.T) {
	info := Info{LogitScale: 50}
	for _, c := range []struct {
		name, reward string
		raw, want    float32
	}{
		{"raw", "clip", 20, 20},
		{"raw", "imagereward", -1.5, -1.5},
		{"cosine", "clip", 20, 0.4},
		{"cosine", "pickscore", 20, 0.4},
		{"cosine", "hpsv2", 0.25, 0.25},
		{"cosine", "blip_itc", 0.25, 0.25},
		{"cosine", "blip2_itc", 0.25, 0.25},
		{"/100", "clip", 20, 0.2},
		{"/26", "pickscore", 13, 0.5},
		{"/1e-2", "hpsv2", 0.25, 25},
		{"/2", "imagereward", -3, -1.5},
		{"mixgrpo", "pickscore", 22, 0.5},
		{"torchmetrics", "clip", 20, 40},
		{"torchmetrics", "clip", -20, 0},
		{"clipscore", "clip", 20, 1},
		{"clipscore", "clip", -20, 0},
	} {
		convention, err := ParseConvention(c.name)
		if err != nil || convention.String() != c.name || !convention.Knows(c.reward) {
			t.Errorf("%s of %s: %q, known %v, %v", c.name, c.reward, convention, convention.Knows(c.reward), err)
			continue
		}
		scores := []float32{c.raw, float32(math.NaN())}
		convention.Convert(scores, c.reward, info)
		if d := math.Abs(float64(scores[0] - c.want)); d > 1e-7*math.Abs(float64(c.want)) || !math.IsNaN(float64(scores[1])) {
			t.Errorf("%s of %s: %g becomes %g, NaN %g; want %g and NaN", c.name, c.reward, c.raw, scores[0], scores[1], c.want)
		}
	}
}

func TestConventionOfNoName(t *testing.T) {
	scores := []float32{3}
	Convention{}.Convert(scores, "clip", Info{LogitScale: 100})
	if scores[0] != 3 || (Convention{}).String() != "raw" || !(Convention{}).Knows("aesthetic") {
		t.Errorf("the zero value is %s and gives %v", Convention{}, scores)
	}
}

func TestConventionsOfARewardAndUnknownOnes(t *testing.T) {
	for reward, want := range map[string]string{
		"clip": "raw cosine torchmetrics clipscore /N", "pickscore": "raw cosine mixgrpo /N", "hpsv2": "raw cosine /N",
		"blip_itm": "raw /N", "aesthetic": "raw /N", "": "raw cosine mixgrpo torchmetrics clipscore /N",
	} {
		if got := Conventions(reward); !slices.Equal(got, strings.Fields(want)) {
			t.Errorf("%s: %q, want %s", reward, got, want)
		}
	}
	for _, name := range []string{"", "RAW", "/", "/0", "/-3", "/nan", "/inf", "/x", "26", "/N"} {
		if c, err := ParseConvention(name); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "clipscore, /N") {
			t.Errorf("%q: %s, %v", name, c, err)
		}
	}
}

func TestScales(t *testing.T) {
	rewards := []string{"clip", "pickscore", "imagereward"}
	for _, c := range []struct {
		values, want string // conventions of rewards, or a part of the error
	}{
		{"", "raw raw raw"},
		{"cosine", "cosine cosine raw"},
		{"torchmetrics", "torchmetrics raw raw"},
		{"/10", "/10 /10 /10"},
		{"pickscore=/26", "raw /26 raw"},
		{"cosine pickscore=/26", "cosine /26 raw"},
		{"clip=raw cosine pickscore=mixgrpo", "raw mixgrpo raw"},
		{"nope", `scale-convention "nope": expected one of raw, cosine`},
		{"clip=", `scale-convention ""`},
		{"cosine raw", `"raw": there is one already`},
		{"clip=/2 clip=/3", `"clip=/3": there is one already`},
		{"hpsv2=cosine", `of "hpsv2": expected one of the rewards clip, pickscore, imagereward`},
		{"=cosine", `of "": expected one of the rewards`},
		{"clip=mixgrpo", "mixgrpo: clip knows raw, cosine, torchmetrics, clipscore, /N"},
	} {
		scales, err := ParseScales(strings.Fields(c.values))
		if err == nil {
			err = scales.Check(rewards)
		}
		if err != nil {
			if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%q: error %v, want %s", c.values, err, c.want)
			}
			continue
		}
		var got []string
		for _, reward := range rewards {
			got = append(got, scales.Of(reward).String())
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%q: %s, want %s", c.values, got, c.want)
		}
	}
	scales, _ := ParseScales([]string{"mixgrpo"})
	if err := scales.Check([]string{"blip_itc", "blip_itm"}); err == nil || !strings.Contains(err.Error(), "blip_itc knows raw, cosine, /N; blip_itm knows raw, /N") {
		t.Errorf("a convention that no reward knows: %v", err)
	}
	if err := (Scales{}).Check([]string{"clip"}); err != nil {
		t.Error(err)
	}
}
