package serve

import (
	"context"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/tia2-engine/tia2-engine/engine"
	"github.com/tia2-engine/tia2-engine/textnorm"
)

func TestScore(t *testing.T) {
	two := pictures("p", 2)
	for name, c := range map[string]struct {
		in      ScoreRequest
		rewards []string
		pairs   []engine.Pair
		errors  []ItemError
	}{
		"as many of each": {in: ScoreRequest{Images: two, Texts: []string{"a", "b"}}, pairs: pairsAt(0, 0, 1, 1)},
		"one text":        {in: ScoreRequest{Images: two, Texts: []string{"a"}}, pairs: pairsAt(0, 0, 1, 0)},
		"one image":       {in: ScoreRequest{Images: two[:1], Texts: []string{"a", "b", "c"}}, pairs: pairsAt(0, 0, 0, 1, 0, 2)},
		"all":             {in: ScoreRequest{Images: two, Texts: []string{"a", "b"}, All: true}, pairs: pairsAt(0, 0, 0, 1, 1, 0, 1, 1)},
		"named pairs":     {in: ScoreRequest{Images: two, Texts: []string{"a", "b"}, Pairs: pairsAt(1, 0, 0, 1, 1, 0)}, pairs: pairsAt(1, 0, 0, 1, 1, 0)},
		"nothing":         {in: ScoreRequest{}, pairs: pairsAt()},
		"rewards in the order asked": {in: ScoreRequest{Images: two, Texts: []string{"a"}, Rewards: []string{"hpsv2", "clip", "hpsv2"}},
			rewards: []string{"hpsv2", "clip", "hpsv2"}, pairs: pairsAt(0, 0, 1, 0)},
		"the same picture twice": {in: ScoreRequest{Images: []engine.Image{two[0], two[1], two[0]}, Texts: []string{"a"}}, pairs: pairsAt(0, 0, 1, 0, 2, 0)},
		"bad pictures": {in: ScoreRequest{Images: []engine.Image{picture("bad"), two[0], {}, picture("bad")}, Texts: []string{"a"}},
			pairs:  pairsAt(0, 0, 1, 0, 2, 0, 3, 0),
			errors: []ItemError{{0, "it is bad"}, {2, "the picture is empty"}, {3, "it is bad"}}},
		"only an empty picture": {in: ScoreRequest{Images: []engine.Image{{}}, Texts: []string{"a"}}, pairs: pairsAt(0, 0), errors: []ItemError{{0, "the picture is empty"}}},
	} {
		t.Run(name, func(t *testing.T) {
			s := New(newFake(), Options{})
			out, err := s.Score(t.Context(), c.in)
			must(t, err)
			if c.rewards == nil {
				c.rewards = []string{"clip", "pickscore", "hpsv2"}
			}
			if !slices.Equal(out.Rewards, c.rewards) || !slices.Equal(out.Pairs, c.pairs) || !slices.Equal(out.Errors, c.errors) {
				t.Errorf("got rewards %v, pairs %v, errors %v: expected %v, %v, %v", out.Rewards, out.Pairs, out.Errors, c.rewards, c.pairs, c.errors)
			}
			for r, reward := range out.Rewards {
				for i, p := range out.Pairs {
					want := fakeScore(reward, c.in.Images[p.Image].Data, c.in.Texts[p.Text])
					if len(c.in.Images[p.Image].Data) == 0 {
						want = float32(math.NaN())
					}
					if math.Float32bits(out.Scores[r][i]) != math.Float32bits(want) {
						t.Errorf("%s of pair %v is %g: expected %g", reward, p, out.Scores[r][i], want)
					}
				}
			}
			checkIdle(t, s)
		})
	}
}

func TestLargePictureFailsAlone(t *testing.T) {
	s := New(newFake(), Options{MaxImageBytes: 500})
	imgs := []engine.Image{{Data: make([]byte, 501)}, picture("x")}
	out, err := s.Score(t.Context(), ScoreRequest{Images: imgs, Texts: []string{"a"}, Rewards: []string{"clip"}})
	must(t, err)
	if !slices.Equal(out.Errors, []ItemError{{0, "the picture has 501 bytes: expected at most 500"}}) {
		t.Errorf("errors %v", out.Errors)
	}
	if got := out.Scores[0]; !math.IsNaN(float64(got[0])) || math.IsNaN(float64(got[1])) {
		t.Errorf("scores %v: expected NaN and a number", got)
	}
	checkIdle(t, s)
}

func TestRepeatedRewardIsACopy(t *testing.T) {
	s := New(newFake(), Options{})
	out, err := s.Score(t.Context(), ScoreRequest{Images: pictures("p", 1), Texts: []string{"a"}, Rewards: []string{"clip", "clip"}})
	must(t, err)
	if out.Scores[0][0]++; out.Scores[0][0] == out.Scores[1][0] {
		t.Error("both columns share memory")
	}
	checkIdle(t, s)
}

func TestRefusedRequests(t *testing.T) {
	one := pictures("p", 1)
	opt := Options{MaxImages: 3, MaxTexts: 4, MaxTextBytes: 10, MaxImageBytes: 500, QueueItems: 6, QueueBytes: 1000}
	heavy := engine.Image{Data: make([]byte, 400)}
	for name, c := range map[string]struct {
		ask  func(*Server, context.Context) error
		kind error
		text string
	}{
		"counts":              {score(ScoreRequest{Images: pictures("p", 2), Texts: []string{"a", "b", "c"}}), ErrBadRequest, "2 images and 3 texts"},
		"no text":             {score(ScoreRequest{Images: one}), ErrBadRequest, "1 images and 0 texts"},
		"pair":                {score(ScoreRequest{Images: one, Texts: []string{"a"}, Pairs: pairsAt(0, 1)}), ErrBadRequest, "pair 0 is of image 0 and text 1"},
		"negative pair":       {score(ScoreRequest{Images: one, Texts: []string{"a"}, Pairs: pairsAt(-1, 0)}), ErrBadRequest, "image -1"},
		"pairs and all":       {score(ScoreRequest{Images: one, Texts: []string{"a"}, Pairs: pairsAt(0, 0), All: true}), ErrBadRequest, "not both"},
		"reward":              {score(ScoreRequest{Images: one, Texts: []string{"a"}, Rewards: []string{"beauty"}}), ErrUnknownReward, `no reward "beauty": expected some of clip, pickscore, hpsv2`},
		"path":                {score(ScoreRequest{Images: []engine.Image{engine.File("/etc/passwd")}, Texts: []string{"a"}}), ErrBadRequest, "reads no files"},
		"not UTF-8":           {score(ScoreRequest{Images: one, Texts: []string{"\xff"}}), ErrBadRequest, "text 0: expected UTF-8"},
		"images":              {score(ScoreRequest{Images: pictures("p", 4), Texts: []string{"a"}}), ErrTooLarge, "4 images: expected at most 3"},
		"texts":               {score(ScoreRequest{Images: one, Texts: make([]string, 5)}), ErrTooLarge, "5 texts"},
		"text bytes":          {score(ScoreRequest{Images: one, Texts: []string{"12345678901"}}), ErrTooLarge, "text 0 has 11 bytes"},
		"all bytes":           {score(ScoreRequest{Images: []engine.Image{heavy, heavy, heavy}, Texts: []string{"a"}}), ErrTooLarge, "1201 bytes"},
		"all pairs":           {score(ScoreRequest{Images: pictures("p", 3), Texts: make([]string, 4), All: true}), ErrTooLarge, "at most 6 pairs"},
		"items":               {score(ScoreRequest{Images: one, Texts: []string{"a"}, Pairs: make([]engine.Pair, 7)}), ErrTooLarge, "7 items"},
		"model":               {embed(EmbedRequest{Model: "huge", Texts: []string{"a"}}), ErrBadRequest, `no model "huge" with embeddings: expected one of tiny`},
		"contrastive prompts": {norm(TextNormRequest{Images: one, Prompt: "a", Contrastive: []string{"a"}}), ErrBadRequest, "at least one that is not the prompt"},
		"scale":               {norm(TextNormRequest{Images: one, Prompt: "a", Contrastive: []string{"b"}, Scale: -1}), ErrBadRequest, "softmax scale -1"},
		"min-max":             {norm(TextNormRequest{Images: one, Prompt: "a", Contrastive: []string{"b"}, MinMax: "all"}), ErrBadRequest, `min-max mode "all"`},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake()
			s := New(f, opt)
			err := c.ask(s, t.Context())
			if !errors.Is(err, c.kind) || !strings.Contains(err.Error(), c.text) {
				t.Errorf("got %v: expected %v with %q", err, c.kind, c.text)
			}
			if len(f.seen()) > 0 {
				t.Error("the backend was asked")
			}
			checkIdle(t, s)
		})
	}
}

func score(in ScoreRequest) func(*Server, context.Context) error {
	return func(s *Server, ctx context.Context) error { _, err := s.Score(ctx, in); return err }
}

func embed(in EmbedRequest) func(*Server, context.Context) error {
	return func(s *Server, ctx context.Context) error { _, err := s.Embed(ctx, in); return err }
}

func norm(in TextNormRequest) func(*Server, context.Context) error {
	return func(s *Server, ctx context.Context) error { _, err := s.TextNorm(ctx, in); return err }
}

func TestTextNorm(t *testing.T) {
	s := New(newFake(), Options{})
	imgs := []engine.Image{picture("x"), picture("bad"), picture("y")}
	for _, minMax := range []textnorm.MinMax{"", textnorm.PerImage, textnorm.PerSet} {
		in := TextNormRequest{Rewards: []string{"pickscore"}, Images: imgs, Prompt: "a", Contrastive: []string{"c", "b", "c", "a"}, Scale: 3, MinMax: string(minMax)}
		out, err := s.TextNorm(t.Context(), in)
		must(t, err)
		if !slices.Equal(out.Errors, []ItemError{{1, "it is bad"}}) || !slices.Equal(out.Rewards, in.Rewards) {
			t.Fatalf("errors %v, rewards %v", out.Errors, out.Rewards)
		}
		var table [][]float32 // of the whole pictures and the distinct texts
		for i, img := range imgs {
			for k, text := range []string{"a", "c", "b", "c", "a"} {
				if got, want := out.Scores[0][i][k], fakeScore("pickscore", img.Data, text); math.Float32bits(got) != math.Float32bits(want) {
					t.Errorf("score of image %d for %q is %g: expected %g", i, text, got, want)
				}
			}
			if i != 1 {
				row := out.Scores[0][i]
				table = append(table, []float32{row[0], row[2], row[1]})
			}
		}
		want, err := textnorm.Calibrate(table, textnorm.Options{Scale: 3, MinMax: minMax})
		must(t, err)
		got := out.Confidence[0]
		if got[0] != float32(want[0]) || got[2] != float32(want[1]) || !math.IsNaN(float64(got[1])) {
			t.Errorf("confidence %v: expected %v with NaN between", got, want)
		}
	}
	checkIdle(t, s)
}

func TestEmbed(t *testing.T) {
	f := newFake()
	f.models = append(f.models, engine.Info{Name: "scorer", Spec: "ir.gguf", Family: "blip", Rewards: []string{"imagereward"}})
	s := New(f, Options{})
	imgs := []engine.Image{picture("x"), {}, picture("bad"), picture("y"), picture("x")}
	for _, model := range []string{"", "tiny", "tiny.gguf", "clip"} {
		out, err := s.Embed(t.Context(), EmbedRequest{Model: model, Images: imgs, Texts: []string{"a", "b", "a"}})
		must(t, err)
		if out.Model != "tiny" || out.Images.N != 5 || out.Images.Dim != 2 || out.Texts.N != 3 || out.Texts.Dim != 2 {
			t.Fatalf("got %s, images %d x %d, texts %d x %d", out.Model, out.Images.N, out.Images.Dim, out.Texts.N, out.Texts.Dim)
		}
		if !slices.Equal(out.Errors, []ItemError{{1, "the picture is empty"}, {2, "it is bad"}}) {
			t.Errorf("errors %v", out.Errors)
		}
		for i, img := range imgs {
			got, want := out.Images.Row(i)[0], fakeScore("tiny", img.Data, "")
			if bad := len(img.Data) == 0 || isBad(img.Data); bad != math.IsNaN(float64(got)) || !bad && got != want {
				t.Errorf("image %d: %g: expected %g", i, got, want)
			}
		}
		for i, text := range []string{"a", "b", "a"} {
			if got, want := out.Texts.Row(i)[1], -fakeScore("tiny", nil, text); got != want {
				t.Errorf("text %d: %g: expected %g", i, got, want)
			}
		}
	}
	if _, err := s.Embed(t.Context(), EmbedRequest{Model: "imagereward", Texts: []string{"a"}}); !errors.Is(err, ErrBadRequest) {
		t.Errorf("a model without embeddings: got %v", err)
	}
	checkIdle(t, s)
}
