package align

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tia2-engine/tia2-engine/engine"
)

func info(name, family string, embedDim int, rewards ...string) engine.Info {
	return engine.Info{Name: name, Spec: name + ".gguf", Family: family, EmbedDim: embedDim, Rewards: rewards, DType: "f32",
		SourceSHA256: name + "-0011223344556677", LogitScale: 100}
}

func scales(t *testing.T, values ...string) engine.Scales {
	t.Helper()
	s, err := engine.ParseScales(values)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestNamesOfRewards(t *testing.T) {
	for _, c := range []struct {
		infos []engine.Info
		want  string
	}{
		{[]engine.Info{info("a", "clip", 8, "clip"), info("b", "blip", 8, "blip_itc", "blip_itm")}, "clip blip_itc blip_itm"},
		{[]engine.Info{info("a", "clip", 8, "clip"), info("b", "clip", 8, "clip"), info("c", "clip", 8, "hpsv2")}, "clip_a clip_b hpsv2"},
		{[]engine.Info{info("a", "blip", 8, "blip_itc", "blip_itm"), info("a", "blip", 8, "blip_itc", "blip_itm")},
			"blip_itc_a blip_itm_a blip_itc_a_2 blip_itm_a_2"},
		{[]engine.Info{info("x/y z,1", "clip", 8, "clip"), info("", "clip", 8, "clip")}, "clip_x-y-z-1 clip_"},
		{[]engine.Info{{Spec: "dir/m.gguf", Rewards: []string{"clip"}}, info("b", "clip", 8, "clip")}, "clip_m clip_b"},
	} {
		m, err := newModels(c.infos, engine.Options{}, engine.Scales{})
		if err != nil {
			t.Fatal(err)
		}
		if got := m.Names(); !slices.Equal(got, strings.Fields(c.want)) {
			t.Errorf("%q, want %s", got, c.want)
		}
	}
	if _, err := newModels([]engine.Info{info("a", "clip", 8, "clip")}, engine.Options{}, scales(t, "mixgrpo")); !errors.Is(err, engine.ErrInvalid) {
		t.Errorf("a convention that no reward knows: %v", err)
	}
}

// What changes a reward is part of its identity, and nothing else.
func TestIdentity(t *testing.T) {
	clip, blip, blip2 := info("c", "clip", 8, "clip"), info("b", "blip", 8, "blip_itc", "blip_itm"), info("q", "blip2", 8, "blip2_itc", "blip2_itm")
	reward, head := info("i", "blip", 0, "imagereward"), info("h", "aesthetic", 8, "aesthetic")
	blip.ImageSize = 224
	plain := func(name string) string { return name + " sha256:" + name + "-00112233445566 f32" }
	all := engine.Options{ITMToken: "enc", ITMOutput: "logit", MaxLength: -1, TextCleaning: "none", ImageSize: 224, Batch: 4}
	usual := engine.Options{ITMToken: "cls", ITMOutput: "probability", Batch: 4}
	text := ", max-length -1, text-cleaning none"
	for _, c := range []struct {
		infos  []engine.Info
		opt    engine.Options
		scales []string
		want   []string
	}{
		{[]engine.Info{clip, blip, reward}, usual, nil, []string{plain("c"), plain("b"), plain("b"), plain("i")}},
		{[]engine.Info{clip}, all, []string{"/100"}, []string{plain("c") + ", scale /100"}},
		{[]engine.Info{blip}, all, nil, []string{plain("b") + ", image-size 224" + text, plain("b") + ", image-size 224" + text + ", itm-token enc, itm-output logit"}},
		{[]engine.Info{blip2}, engine.Options{ITMToken: "enc", ITMOutput: "logit"}, []string{"blip2_itc=/2"},
			[]string{plain("q") + ", scale /2", plain("q") + ", itm-output logit"}},
		{[]engine.Info{reward}, engine.Options{ITMToken: "enc", ITMOutput: "logit", MaxLength: 40}, nil, []string{plain("i") + ", max-length 40"}},
		{[]engine.Info{head, clip}, usual, nil, []string{plain("h") + " on " + plain("c"), plain("c")}},
		{[]engine.Info{head, info("p", "clip", 8, "pickscore"), clip}, usual, nil, []string{plain("h") + " on " + plain("c"), plain("p"), plain("c")}},
		{[]engine.Info{head, info("w", "clip", 9, "clip")}, usual, nil, []string{plain("h"), plain("w")}},
	} {
		m, err := newModels(c.infos, c.opt, scales(t, c.scales...))
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, column := range slices.Concat(m.Columns()...) {
			got = append(got, column.Model)
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
}

func TestModelsScore(t *testing.T) {
	infos := []engine.Info{info("h", "aesthetic", 8, "aesthetic"), info("c", "clip", 8, "clip"), info("w", "clip", 9, "clip"),
		info("b", "blip", 8, "blip_itc", "blip_itm")}
	m, err := newModels(infos, engine.Options{}, scales(t, "cosine"))
	if err != nil {
		t.Fatal(err)
	}
	var asked []int
	bad := engine.ItemErrors{{Index: 0, Name: "x", Err: errors.New("bad")}}
	m.score = func(_ context.Context, models []int, images []engine.Image, texts []string) (rewards []engine.Reward, err error) {
		asked = models
		for _, i := range models {
			for _, name := range infos[i].Rewards {
				rewards = append(rewards, engine.Reward{Name: name, Images: 1, Texts: 1, Scores: []float32{50}})
			}
		}
		return rewards, bad
	}
	for _, c := range []struct {
		models, run []int
		want        string // reward and value, cosines of CLIP a hundredth
	}{
		{[]int{0, 1, 2, 3}, []int{0, 1, 2, 3}, "aesthetic 50 clip_c 0.5 clip_w 0.5 blip_itc 50 blip_itm 50"},
		{[]int{3}, []int{3}, "blip_itc 50 blip_itm 50"},
		{[]int{0}, []int{0, 1}, "aesthetic 50"}, // runs its CLIP, too
		{[]int{0, 3}, []int{0, 3, 1}, "aesthetic 50 blip_itc 50 blip_itm 50"},
	} {
		rewards, err := m.Score(t.Context(), c.models, make([]engine.Image, 1), make([]string, 1))
		var got []string
		for _, r := range rewards {
			got = append(got, r.Name, trimmed(r.Scores[0]))
		}
		if !slices.Equal(asked, c.run) || strings.Join(got, " ") != c.want || len(err.(engine.ItemErrors)) != 1 {
			t.Errorf("models %v: ran %v, %q, %v; want %v, %s", c.models, asked, got, err, c.run, c.want)
		}
	}
	m.score = func(context.Context, []int, []engine.Image, []string) ([]engine.Reward, error) {
		return []engine.Reward{{Name: "blip_itc", Scores: []float32{1}}}, nil
	}
	if _, err := m.Score(t.Context(), []int{3}, nil, nil); err == nil || !strings.Contains(err.Error(), "the reward blip_itm of b.gguf is missing") {
		t.Errorf("a reward too few: %v", err)
	}
	m.score = func(context.Context, []int, []engine.Image, []string) ([]engine.Reward, error) {
		return nil, context.Canceled
	}
	if _, err := m.Score(t.Context(), m.All(), nil, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("an error that ended the call: %v", err)
	}
}

func trimmed(v float32) string { return full(Number(v)) }
