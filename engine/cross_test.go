package engine_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/png"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/tia2-engine/tia2-engine/engine"
	"github.com/tia2-engine/tia2-engine/internal/instrumented"
	"github.com/tia2-engine/tia2-engine/textnorm"
)

// crossTexts are of the tiny models' words; some are longer than their limit of 8 tokens, two are equal.
var crossTexts = []string{"a red circle", "a blue square", "a red circle and a blue square and a green ring", "", "A  Red circle", "rings of circles", "one"}

// crossRewards are the models with a cross encoder, by what their files call them.
var crossRewards = []string{"blip", "blip2", "imagereward"}

// severalModels opens one model of every family, the demo model's CLIP first, and an aesthetic head for that.
func severalModels(t testing.TB, opt engine.Options) []*engine.Model {
	t.Helper()
	models := []*engine.Model{openDemo(t, opt)}
	for _, reward := range crossRewards {
		models = append(models, newTinyCross(reward).open(t, opt))
	}
	return append(models, newTinyHead(uint64(models[0].Info().EmbedDim)).open(t, opt))
}

// severalNames are the rewards of severalModels.
var severalNames = []string{"clip", "blip_itc", "blip_itm", "blip2_itc", "blip2_itm", "imagereward", "aesthetic"}

// wantScores fails unless two lists of rewards have the same names, shapes and bits; NaN is NaN.
func wantScores(t testing.TB, what string, got, want []engine.Reward) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d rewards, want %d", what, len(got), len(want))
	}
	for k, w := range want {
		g := got[k]
		if g.Name != w.Name || g.Images != w.Images || g.Texts != w.Texts || len(g.Scores) != len(w.Scores) {
			t.Fatalf("%s: reward %s, %d x %d, %d scores; want %s, %d x %d, %d", what, g.Name, g.Images, g.Texts, len(g.Scores), w.Name, w.Images, w.Texts, len(w.Scores))
		}
		for i, v := range w.Scores {
			if d := math.Abs(float64(g.Scores[i]) - float64(v)); !(d <= 20*allowedDifference()*(1+math.Abs(float64(v)))) && (v == v || g.Scores[i] == g.Scores[i]) {
				t.Fatalf("%s: %s, score %d is %g, want %g", what, w.Name, i, g.Scores[i], v)
			}
		}
	}
}

func names(rewards []engine.Reward) []string {
	var all []string
	for _, r := range rewards {
		all = append(all, r.Name)
	}
	return all
}

func TestInfoOfCrossEncoders(t *testing.T) {
	for _, tt := range []struct {
		reward, family                 string
		rewards                        []string
		embed, vectors, width, outputs int
	}{
		{"blip", "blip", []string{"blip_itc", "blip_itm"}, tinyDim, 1, tinyWidth, 2},
		{"blip2", "blip2", []string{"blip2_itc", "blip2_itm"}, tinyDim, tinyQueries, tinyWidth, 2},
		{"imagereward", "blip", []string{"imagereward"}, 0, 1, tinyWidth, 1},
	} {
		i := newTinyCross(tt.reward).open(t, engine.Options{}).Info()
		if i.Family != tt.family || !slices.Equal(i.Rewards, tt.rewards) || i.EmbedDim != tt.embed || tt.embed > 0 && i.ImageVectors != tt.vectors ||
			i.StateWidth != tt.width || i.PairOutputs != tt.outputs || i.ImageTokens != 5 || i.LogitScale != 1 || i.HasEmbeddings() != (tt.embed > 0) {
			t.Errorf("%s: %+v", tt.reward, i)
		}
	}
	i := newTinyHead(6).open(t, engine.Options{DType: "int8"}).Info()
	if i.Family != "aesthetic" || !slices.Equal(i.Rewards, []string{"aesthetic"}) || i.EmbedDim != 6 || i.HasEmbeddings() || i.PairOutputs != 0 || i.Backend != "cpu" || i.DType != "f32" {
		t.Errorf("aesthetic: %+v", i)
	}
}

// Several models at once give what each gives alone, whatever the batches, in the order of the models.
func TestScoreOfSeveralModels(t *testing.T) {
	ctx, images := context.Background(), discs(t, 7)
	images[3] = engine.Image{Name: "broken", Data: []byte("no picture")}
	var want []engine.Reward
	models := severalModels(t, engine.Options{Threads: 1})
	for k, m := range models {
		alone := []*engine.Model{m}
		if k == len(models)-1 {
			alone = []*engine.Model{m, models[0]} // with its CLIP, whose reward comes last
		}
		rewards, err := engine.Score(ctx, alone, images, crossTexts)
		if items, other := engine.SplitItemErrors(err); other != nil || len(items) != 1 || items[0].Index != 3 || !errors.Is(items[0], engine.ErrImage) {
			t.Fatalf("%s: error %v, want one of picture 3", m.Info().Spec, err)
		}
		want = append(want, rewards[:len(m.Info().Rewards)]...)
	}
	if !slices.Equal(names(want), severalNames) {
		t.Fatalf("rewards %v", names(want))
	}
	for _, r := range want {
		for i, v := range r.Scores {
			if (v != v) != (i/len(crossTexts) == 3) {
				t.Fatalf("%s: score %d is %g, want NaN for picture 3 alone", r.Name, i, v)
			}
			if i%len(crossTexts) == 4 && v == v && r.Scores[i-4] != v && r.Name != "clip" { // as BERT reads it the text is the first
				t.Errorf("%s: equal texts have the scores %g and %g", r.Name, r.Scores[i-4], v)
			}
		}
	}
	for _, opt := range []engine.Options{{Threads: 1}, {Batch: 1, Threads: 2}, {Batch: 2, Threads: 1}, {Batch: 5, Threads: 3}} {
		rewards, err := engine.Score(ctx, severalModels(t, opt), images, crossTexts)
		if items, other := engine.SplitItemErrors(err); other != nil || len(items) != 1 || items[0].Index != 3 {
			t.Fatalf("%+v: error %v, want one of picture 3", opt, err)
		}
		wantScores(t, fmt.Sprintf("batch %d, %d threads", opt.Batch, opt.Threads), rewards, want)
	}
}

// The parts that scores are made of give the scores.
func TestScoresOfCrossEncoders(t *testing.T) {
	ctx, images := context.Background(), discs(t, 4)
	for _, reward := range crossRewards {
		m := newTinyCross(reward).open(t, engine.Options{Batch: 3})
		rewards, err := m.Score(ctx, images, crossTexts)
		if err != nil {
			t.Fatal(err)
		}
		outputs := outputsOf(t, m, images, crossTexts)
		pairs := rewards[len(rewards)-1]
		for i, got := range pairs.Scores {
			want := float64(outputs[i*m.Info().PairOutputs])
			if m.Info().PairOutputs == 2 {
				no, yes := math.Exp(float64(outputs[2*i])), math.Exp(float64(outputs[2*i+1]))
				want = yes / (no + yes)
			}
			if !(math.Abs(float64(got)-want) <= 1e-6+20*allowedDifference()) {
				t.Errorf("%s: pair %d is %g, want %g", pairs.Name, i, got, want)
			}
		}
		if !m.Info().HasEmbeddings() {
			continue
		}
		logit := newTinyCross(reward).open(t, engine.Options{ITMOutput: "logit"})
		logits, err := logit.Score(ctx, images, crossTexts)
		if err != nil {
			t.Fatal(err)
		}
		for i, got := range logits[1].Scores {
			if want := outputs[2*i+1]; !(math.Abs(float64(got-want)) <= 20*allowedDifference()) {
				t.Errorf("%s: logit %d is %g, want %g", pairs.Name, i, got, want)
			}
		}
		checkITC(t, m, images, rewards[0])
	}
}

// outputsOf are the outputs of all pairs, by the Into forms.
func outputsOf(t *testing.T, m *engine.Model, images []engine.Image, texts []string) []float32 {
	t.Helper()
	ctx, i := context.Background(), m.Info()
	p := engine.Preprocess{Pipeline: i.Pipeline, Size: i.ImageSize, Mean: i.Mean, Std: i.Std}
	px := engine.Pixels{N: len(images)}
	var imageOf, textOf []int32
	for k, img := range images {
		u8, err := p.U8(img.Data)
		if err != nil {
			t.Fatal(err)
		}
		px.U8 = append(px.U8, u8...)
		for text := range texts {
			imageOf, textOf = append(imageOf, int32(k)), append(textOf, int32(text))
		}
	}
	ids, err := m.Tokenize(texts)
	if err != nil {
		t.Fatal(err)
	}
	states, dst := make([]float32, px.N*i.ImageTokens*i.StateWidth), make([]float32, len(imageOf)*i.PairOutputs)
	if err := errors.Join(m.EncodeStatesInto(ctx, px, nil, states), m.MatchInto(ctx, states, px.N, ids, imageOf, textOf, dst)); err != nil {
		t.Fatal(err)
	}
	return dst
}

// checkITC compares a reward with the largest cosine of a picture's vectors.
func checkITC(t *testing.T, m *engine.Model, images []engine.Image, got engine.Reward) {
	t.Helper()
	i, x := encode(t, m, images, crossTexts, false)
	dim := m.Info().EmbedDim
	if i.Dim != m.Info().ImageVectors*dim || x.Dim != dim {
		t.Fatalf("%s: embeddings of %d and %d values", got.Name, i.Dim, x.Dim)
	}
	for k, score := range got.Scores {
		want := math.Inf(-1)
		for from := 0; from < i.Dim; from += dim {
			want = max(want, dot(i.Row(k / x.N)[from:from+dim], x.Row(k%x.N)))
		}
		if !(math.Abs(float64(score)-want) <= 2e-6) {
			t.Errorf("%s: picture %d, text %d: %g, want %g", got.Name, k/x.N, k%x.N, score, want)
		}
	}
	wantScores(t, "Similarity", []engine.Reward{m.Similarity(i, x)}, []engine.Reward{got})
}

// [ENC] is another token than [CLS], for pairs alone.
func TestITMToken(t *testing.T) {
	images := discs(t, 2)
	cls, enc := newTinyCross("blip").open(t, engine.Options{ITMToken: "cls"}), newTinyCross("blip").open(t, engine.Options{ITMToken: "enc"})
	a, err1 := cls.Score(context.Background(), images, crossTexts)
	b, err2 := enc.Score(context.Background(), images, crossTexts)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	wantScores(t, "itc", b[:1], a[:1])
	if maxDiff(t, a[1].Scores, b[1].Scores) < 1e-4 {
		t.Error("the first token of pairs changes nothing")
	}
	ids, err := enc.Tokenize([]string{"a ring"})
	if err != nil || ids[0][0] != 2 {
		t.Errorf("ids %v (%v), want [CLS] first: EncodeTexts has it always", ids, err)
	}
}

// Texts are cut where the file says, where the options say, and at the context.
func TestMaxLength(t *testing.T) {
	long := strings.Repeat("red ", 30)
	for _, tt := range []struct{ max, want int }{{0, 8}, {-1, tinyBERTContext}, {2, 2}, {5, 5}, {10, 10}, {1000, tinyBERTContext}} {
		m := newTinyCross("blip").open(t, engine.Options{MaxLength: tt.max})
		ids, err := m.Tokenize([]string{long, "a"})
		if err != nil {
			t.Fatal(err)
		}
		if len(ids[0]) != tt.want || ids[0][0] != 2 || ids[0][tt.want-1] != 3 || len(ids[1]) != min(tt.want, 3) {
			t.Errorf("most %d tokens: ids %v", tt.max, ids)
		}
		if _, err := m.Score(context.Background(), discs(t, 1), []string{long}); err != nil {
			t.Errorf("most %d tokens: %v", tt.max, err)
		}
	}
	uncut := newTinyCross("imagereward")
	uncut.set("tokenizer.max_length", uint32(0))
	if ids, err := uncut.open(t, engine.Options{}).Tokenize([]string{long}); err != nil || len(ids[0]) != tinyBERTContext {
		t.Errorf("a file that cuts nothing: %v, %v", ids, err)
	}
}

func TestTextCleaning(t *testing.T) {
	for _, tt := range []struct {
		reward, cleaning string
		cleaned          bool
	}{{"blip", "", false}, {"blip", "blip_caption", true}, {"blip2", "", true}, {"blip2", "none", false}} {
		m := newTinyCross(tt.reward).open(t, engine.Options{TextCleaning: tt.cleaning})
		ids, err := m.Tokenize([]string{"a ring."})
		if err != nil {
			t.Fatal(err)
		}
		if want := map[bool]int{true: 4, false: 5}[tt.cleaned]; len(ids[0]) != want {
			t.Errorf("%s, cleaning %q: ids %v, want %d", tt.reward, tt.cleaning, ids[0], want)
		}
	}
}

// Options that a model has no use for are refused, or ignored where several models share them.
// Texts that are cut are named, each once, and not without end.
func TestCutTextsAreNamed(t *testing.T) {
	var mu sync.Mutex
	var notes []string
	m := newTinyCross("imagereward").open(t, engine.Options{Note: func(text string) {
		mu.Lock()
		defer mu.Unlock()
		notes = append(notes, text)
	}})
	long := func(n int) string { return strings.Repeat("red ", 20+n) }
	for range 2 {
		if _, err := m.Score(context.Background(), discs(t, 1), []string{"a", long(0), long(1), long(0)}); err != nil {
			t.Fatal(err)
		}
	}
	if len(notes) != 2 || !strings.Contains(notes[0], `imagereward: text "red red`) || !strings.Contains(notes[0], "longer than 8 tokens") {
		t.Errorf("notes %q: expected one for each of two texts", notes)
	}
	for n := range 30 {
		if _, err := m.Tokenize([]string{long(n)}); err != nil {
			t.Fatal(err)
		}
	}
	if len(notes) != 9 || !strings.Contains(notes[8], "more texts are longer than 8 tokens") {
		t.Errorf("%d notes, the last %q: expected 8 texts, and that there are more", len(notes), notes[len(notes)-1])
	}
}

func TestOptionsOfTextsAndPairs(t *testing.T) {
	models := map[string]*tinyModel{"clip": newTinyCLIP(516), "aesthetic": newTinyHead(8)}
	for _, reward := range crossRewards {
		models[reward] = newTinyCross(reward)
	}
	for _, tt := range []struct {
		opt    engine.Options
		fits   string // models
		shared bool   // the others ignore it
	}{
		{engine.Options{ITMToken: "cls", ITMOutput: "probability"}, "clip aesthetic blip blip2 imagereward", true},
		{engine.Options{ITMToken: "enc"}, "blip", true},
		{engine.Options{ITMOutput: "logit"}, "blip blip2", true},
		{engine.Options{MaxLength: 5}, "blip blip2 imagereward", true},
		{engine.Options{MaxLength: -1}, "blip blip2 imagereward", true},
		{engine.Options{TextCleaning: "none"}, "blip blip2 imagereward", true},
		{engine.Options{TextCleaning: "blip_caption"}, "blip blip2 imagereward", true},
		{engine.Options{ImageSize: tinyImage}, "clip blip blip2 imagereward", false},
		{engine.Options{ImageSize: 12}, "", false},
		{engine.Options{ITMToken: "dec"}, "", false},
		{engine.Options{ITMOutput: "odds"}, "", false},
		{engine.Options{MaxLength: 1}, "", false},
		{engine.Options{MaxLength: -2}, "", false},
		{engine.Options{TextCleaning: "all"}, "", false},
		{engine.Options{ImageSize: -1}, "", false},
	} {
		for name, model := range models {
			for _, shared := range []bool{false, true} {
				opt := tt.opt
				opt.Backend, opt.CacheDir, opt.Shared = "cpu", engine.CacheOff, shared
				m, err := engine.Open(context.Background(), model.write(t), opt)
				if err == nil {
					m.Close()
				}
				want := slices.Contains(strings.Fields(tt.fits), name) || shared && tt.shared
				if (err == nil) != want || err != nil && !errors.Is(err, engine.ErrInvalid) {
					t.Errorf("%s with %+v: error %v, want it to open: %t", name, opt, err, want)
				}
			}
		}
	}
}

// Pairs have the scores of Score, in any order and number, and the rewards that are named are computed alone.
func TestScorePairs(t *testing.T) {
	ctx, images := context.Background(), discs(t, 6)
	images[2] = engine.Image{Name: "broken"}
	models := severalModels(t, engine.Options{Batch: 2})
	all, err := engine.Score(ctx, models, images, crossTexts)
	if items, other := engine.SplitItemErrors(err); other != nil || len(items) != 1 {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{0, 1, 40} {
		pairs := make([]engine.Pair, n)
		want := make([]engine.Reward, len(all))
		for k, r := range all {
			want[k] = engine.Reward{Name: r.Name, Images: n, Texts: 1, Scores: []float32{}}
		}
		for p := range pairs {
			pairs[p] = engine.Pair{Image: rng.IntN(len(images)), Text: rng.IntN(len(crossTexts))}
			for k, r := range all {
				want[k].Scores = append(want[k].Scores, r.Scores[pairs[p].Image*r.Texts+pairs[p].Text])
			}
		}
		got, err := engine.ScorePairs(ctx, models, images, crossTexts, pairs)
		if items, other := engine.SplitItemErrors(err); other != nil || len(items) != 1 || items[0].Index != 2 {
			t.Fatalf("error %v, want one of picture 2", err)
		}
		wantScores(t, "all rewards", got, want)
		for _, named := range [][]string{{"imagereward"}, {"aesthetic", "blip2_itc"}, {"blip_itm", "clip"}} {
			got, err := engine.ScorePairs(ctx, models, images, crossTexts, pairs, named...)
			if _, other := engine.SplitItemErrors(err); other != nil {
				t.Fatal(err)
			}
			var some []engine.Reward
			for _, r := range want {
				if slices.Contains(named, r.Name) {
					some = append(some, r)
				}
			}
			wantScores(t, strings.Join(named, ", "), got, some)
		}
	}
	for _, pair := range []engine.Pair{{Image: -1}, {Image: 6}, {Text: -1}, {Text: len(crossTexts)}} {
		if _, err := engine.ScorePairs(ctx, models, images, crossTexts, []engine.Pair{{}, pair}); !errors.Is(err, engine.ErrInvalid) || !strings.Contains(err.Error(), "pair 1") {
			t.Errorf("%+v: error %v, want ErrInvalid naming pair 1", pair, err)
		}
	}
	if _, err := engine.ScorePairs(ctx, models, images, crossTexts, nil, "beauty"); !errors.Is(err, engine.ErrInvalid) || !strings.Contains(err.Error(), strings.Join(severalNames, ", ")) {
		t.Errorf("error %v, want ErrInvalid naming the rewards that there are", err)
	}
	if _, err := engine.Score(ctx, nil, images, crossTexts); !errors.Is(err, engine.ErrInvalid) {
		t.Errorf("no models: error %v, want ErrInvalid", err)
	}
}

// A picture that one preprocessing refuses has its other rewards, and is named once.
func TestPictureThatOnePipelineRefuses(t *testing.T) {
	var file bytes.Buffer
	if err := png.Encode(&file, image.NewRGBA(image.Rect(0, 0, 64, 40))); err != nil { // hpsv2 does not pad it
		t.Fatal(err)
	}
	images := []engine.Image{discs(t, 1)[0], {Name: "64 x 40", Data: file.Bytes()}, discs(t, 2)[1]}
	models := []*engine.Model{openDemoWith(t, map[string]any{"tia2.reward": "hpsv2", "preprocess.pipeline": "hpsv2"}), openDemo(t, engine.Options{})}
	rewards, err := engine.Score(context.Background(), models, images, crossTexts[:1])
	if items, other := engine.SplitItemErrors(err); other != nil || len(items) != 1 || items[0].Index != 1 || items[0].Name != "64 x 40" {
		t.Fatalf("error %v, want one of picture 1", err)
	}
	for k, want := range [][]bool{{false, true, false}, {false, false, false}} {
		for i, v := range rewards[k].Scores {
			if (v != v) != want[i] {
				t.Errorf("%s of picture %d is %g", rewards[k].Name, i, v)
			}
		}
	}
}

// What a model does not have it says, with the kind of error that tells so.
func TestWhatModelsLack(t *testing.T) {
	ctx, px := context.Background(), engine.Pixels{N: 1, U8: make([]uint8, 3*tinyImage*tinyImage)}
	clip, ir, head := newTinyCLIP(516).open(t, engine.Options{}), newTinyCross("imagereward").open(t, engine.Options{}), newTinyHead(tinyDim).open(t, engine.Options{})
	for name, call := range map[string]func() error{
		"imagereward, images": func() error { _, err := ir.EncodeImages(ctx, discs(t, 1)); return err },
		"imagereward, pixels": func() error { _, err := ir.EncodePixels(ctx, px); return err },
		"imagereward, into":   func() error { return ir.EncodePixelsInto(ctx, px, nil) },
		"imagereward, texts":  func() error { _, err := ir.EncodeTexts(ctx, crossTexts); return err },
		"imagereward, tokens": func() error { _, err := ir.EncodeTokens(ctx, [][]int32{{2, 3}}); return err },
		"imagereward, embeddings beside states": func() error {
			return ir.EncodeStatesInto(ctx, px, make([]float32, 8), make([]float32, 5*tinyWidth))
		},
		"head, images":   func() error { _, err := head.EncodeImages(ctx, discs(t, 1)); return err },
		"head, pixels":   func() error { _, err := head.EncodePixels(ctx, px); return err },
		"head, texts":    func() error { _, err := head.EncodeTexts(ctx, crossTexts); return err },
		"head, tokens":   func() error { _, err := head.EncodeTokens(ctx, [][]int32{{2, 3}}); return err },
		"head, tokenize": func() error { _, err := head.Tokenize(crossTexts); return err },
		"head, states":   func() error { return head.EncodeStatesInto(ctx, px, nil, nil) },
		"clip, states":   func() error { return clip.EncodeStatesInto(ctx, px, nil, make([]float32, 5*tinyWidth)) },
		"clip, pairs":    func() error { return clip.MatchInto(ctx, nil, 0, nil, nil, nil, nil) },
	} {
		if err := call(); !errors.Is(err, engine.ErrInvalid) {
			t.Errorf("%s: error %v, want ErrInvalid", name, err)
		}
	}
	if _, err := ir.Tokenize(crossTexts); err != nil {
		t.Errorf("imagereward reads texts: %v", err)
	}
	if r := ir.Similarity(engine.Embeddings{N: 1}, engine.Embeddings{N: 1}); r.Scores != nil || clip.MatchFLOPs(1, [][]int32{{1}}) != 0 || head.Profile() != nil {
		t.Errorf("similarity %+v of a model without embeddings", r)
	}
	head.SetProfile(true)
}

// The Into forms want room for exactly what they read and write.
func TestCrossIntoRefuses(t *testing.T) {
	ctx, m := context.Background(), newTinyCross("blip").open(t, engine.Options{})
	size := 5 * tinyWidth
	px := engine.Pixels{N: 2, U8: make([]uint8, 2*3*tinyImage*tinyImage)}
	states, ids, first := make([]float32, 2*size), [][]int32{{2, 4, 3}}, []int32{0}
	for name, err := range map[string]error{
		"short states":   m.EncodeStatesInto(ctx, px, nil, states[:size]),
		"short dst":      m.EncodeStatesInto(ctx, px, make([]float32, tinyDim), states),
		"short pixels":   m.EncodeStatesInto(ctx, engine.Pixels{N: 2, U8: px.U8[1:]}, nil, states),
		"other states":   m.MatchInto(ctx, states, 1, ids, first, first, make([]float32, 2)),
		"short outputs":  m.MatchInto(ctx, states, 2, ids, first, first, make([]float32, 1)),
		"no such image":  m.MatchInto(ctx, states, 2, ids, []int32{2}, first, make([]float32, 2)),
		"no such text":   m.MatchInto(ctx, states, 2, ids, first, []int32{1}, make([]float32, 2)),
		"more images":    m.MatchInto(ctx, states, 2, ids, []int32{0, 1}, first, make([]float32, 4)),
		"unknown id":     m.MatchInto(ctx, states, 2, [][]int32{{2, 99, 3}}, first, first, make([]float32, 2)),
		"empty text":     m.MatchInto(ctx, states, 2, [][]int32{{}}, first, first, make([]float32, 2)),
		"too long":       m.MatchInto(ctx, states, 2, [][]int32{make([]int32, tinyBERTContext+1)}, first, first, make([]float32, 2)),
		"too long alone": func() error { _, err := m.EncodeTokens(ctx, [][]int32{make([]int32, tinyBERTContext+1)}); return err }(),
	} {
		if !errors.Is(err, engine.ErrInvalid) {
			t.Errorf("%s: error %v, want ErrInvalid", name, err)
		}
	}
	if flops := m.MatchFLOPs(2, [][]int32{{2, 4, 3}, {2, 3}}); !(flops > m.MatchFLOPs(1, [][]int32{{2, 3}})) {
		t.Errorf("%g FLOPs", flops)
	}
}

// The cross encoder's Into forms take one call a batch, and allocate nothing.
func TestCrossIntoAllocatesNothing(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	m := newTinyCross("blip").open(t, engine.Options{Batch: 2, ITMToken: "enc"})
	px := engine.Pixels{N: 5, U8: make([]uint8, 5*3*tinyImage*tinyImage)}
	dst, states, outputs := make([]float32, 5*tinyDim), make([]float32, 5*5*tinyWidth), make([]float32, 2*10)
	ids := [][]int32{{2, 4, 5, 3}, {2, 6, 3}}
	imageOf, textOf := []int32{0, 0, 1, 1, 2, 2, 3, 3, 4, 4}, []int32{0, 1, 0, 1, 0, 1, 0, 1, 0, 1}
	for name, f := range map[string]struct {
		call  func() error
		calls int64
	}{
		"states": {func() error { return m.EncodeStatesInto(ctx, px, dst, states) }, 3},
		"pairs":  {func() error { return m.MatchInto(ctx, states, 5, ids, imageOf, textOf, outputs) }, 1},
	} {
		before := runtime.NumCgoCall()
		if err := f.call(); err != nil {
			t.Fatal(err)
		}
		if got := runtime.NumCgoCall() - before; got != f.calls {
			t.Errorf("%s: %d calls into C, want %d", name, got, f.calls)
		}
		if instrumented.On {
			continue // sync.Pool forgets on purpose under the race detector, and sanitizers allocate
		}
		if got := testing.AllocsPerRun(5, func() {
			if err := f.call(); err != nil {
				t.Fatal(err)
			}
		}); got != 0 {
			t.Errorf("%s: %g allocations a call, want 0", name, got)
		}
	}
}

// An aesthetic head takes the embeddings of its CLIP, found among the models.
func TestAestheticHead(t *testing.T) {
	ctx, images := context.Background(), discs(t, 3)
	clip, pick := openDemo(t, engine.Options{}), openDemoWith(t, map[string]any{"tia2.reward": "pickscore"})
	other := newTinyCLIP(516).open(t, engine.Options{})
	model := newTinyHead(uint64(clip.Info().EmbedDim))
	model.values["head.weight"] = 0.25
	head := model.open(t, engine.Options{})
	embeds, err := clip.EncodeImages(ctx, images)
	if err != nil {
		t.Fatal(err)
	}
	for _, models := range [][]*engine.Model{{head, clip}, {other, clip, head}, {pick, head, clip}, {head, pick}, {clip, clip, head}} {
		rewards, err := engine.Score(ctx, models, images, crossTexts[:2])
		if err != nil {
			t.Fatal(err)
		}
		r := rewards[slices.Index(names(rewards), "aesthetic")]
		for i, got := range r.Scores {
			var want float64 = 5
			for _, v := range embeds.Row(i / 2) {
				want += 0.25 * float64(v)
			}
			if !(math.Abs(float64(got)-want) <= 1e-6+allowedDifference()) {
				t.Errorf("score %d is %g, want %g", i, got, want)
			}
		}
	}
	pick2 := openDemoWith(t, map[string]any{"tia2.reward": "pickscore"})
	for what, models := range map[string][]*engine.Model{
		"none of the models is one":   {head},
		"128 values":                  {head, other},
		"2 of the models could be it": {head, pick, pick2},
		"aesthetic head":              {newTinyHead(tinyDim).open(t, engine.Options{}), newTinyCross("blip").open(t, engine.Options{})},
		"3 of the models could be it": {pick, clip, openDemo(t, engine.Options{}), head},
	} {
		if _, err := engine.Score(ctx, models, images, nil); !errors.Is(err, engine.ErrInvalid) || !strings.Contains(err.Error(), what) {
			t.Errorf("error %v, want ErrInvalid with %q", err, what)
		}
	}
	if err := head.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := engine.Score(ctx, []*engine.Model{clip, head}, images, nil); !errors.Is(err, engine.ErrClosed) {
		t.Errorf("a closed head: error %v, want ErrClosed", err)
	}
}

// TextNorm of any reward is that of its scores.
func TestTextNormOfSeveralModels(t *testing.T) {
	ctx, images := context.Background(), discs(t, 5)
	models := severalModels(t, engine.Options{})
	prompts := []engine.PromptImages{
		{Texts: crossTexts[:3], Images: images[:3]}, {Texts: crossTexts[1:6], Images: []engine.Image{images[3], {Name: "broken"}, images[0]}}, {Texts: crossTexts[:2]},
	}
	for _, opt := range []textnorm.Options{{}, {MinMax: textnorm.PerSet, Scale: 3}} {
		all, err := engine.TextNorm(ctx, models, prompts, opt)
		if items, other := engine.SplitItemErrors(err); other != nil || len(items) != 1 || items[0].Index != 4 {
			t.Fatalf("error %v, want one of picture 4", err)
		}
		if len(all) != len(severalNames) {
			t.Fatalf("%d rewards", len(all))
		}
		for set, p := range prompts {
			rewards, err := engine.Score(ctx, models, p.Images, p.Texts)
			if _, other := engine.SplitItemErrors(err); other != nil {
				t.Fatal(err)
			}
			for k, r := range rewards {
				checkTextNorm(t, all[k][set], r, opt)
			}
		}
	}
	one, err := models[2].TextNorm(ctx, prompts[:1], textnorm.Options{})
	if err != nil || len(one) != 1 || one[0].Reward != "blip2_itc" || len(one[0].Raw) != 3 {
		t.Errorf("of a model's first reward: %+v, %v", one, err)
	}
	if _, err := engine.TextNorm(ctx, models, prompts, textnorm.Options{}, "beauty"); !errors.Is(err, engine.ErrInvalid) {
		t.Errorf("error %v, want ErrInvalid", err)
	}
}

// checkTextNorm compares the scores of a prompt's pictures with what textnorm makes of a reward.
func checkTextNorm(t *testing.T, got engine.TextNormScores, r engine.Reward, opt textnorm.Options) {
	t.Helper()
	if got.Reward != r.Name || len(got.Raw) != r.Images || len(got.Confidence) != r.Images {
		t.Fatalf("%s has %d scores of %d pictures, want %s", got.Reward, len(got.Raw), r.Images, r.Name)
	}
	var rows [][]float32
	var places []int
	for i := range r.Images {
		row := r.Scores[i*r.Texts : (i+1)*r.Texts]
		if row[0] != row[0] {
			if got.Raw[i] == got.Raw[i] || got.Confidence[i] == got.Confidence[i] {
				t.Errorf("%s: the broken picture has %g and %g", r.Name, got.Raw[i], got.Confidence[i])
			}
			continue
		}
		rows, places = append(rows, row), append(places, i)
	}
	want, err := textnorm.Calibrate(rows, opt)
	if err != nil {
		t.Fatal(err)
	}
	for k, i := range places {
		tolerance := 1e-6 * (1 + math.Abs(float64(rows[k][0])))
		if !(math.Abs(float64(got.Raw[i]-rows[k][0])) <= tolerance) || !(math.Abs(float64(got.Confidence[i])-want[k]) <= 2e-5) {
			t.Errorf("%s, picture %d: %g and %g, want %g and %g", r.Name, i, got.Raw[i], got.Confidence[i], rows[k][0], want[k])
		}
	}
}

// Progress of several models rises to the number of items, once each.
func TestProgressOfSeveralModels(t *testing.T) {
	seen := map[string][]int{}
	models := severalModels(t, engine.Options{Batch: 1, Threads: 1, Progress: func(stage string, done, total int) {
		if want := map[string]int{"images": 9, "texts": 3 * len(crossTexts)}[stage]; total != want {
			t.Errorf("%s: %d of %d, want %d", stage, done, total, want)
		}
		seen[stage] = append(seen[stage], done)
	}})
	if _, err := engine.Score(context.Background(), models, discs(t, 9), crossTexts); err != nil {
		t.Fatal(err)
	}
	for stage, last := range map[string]int{"images": 9, "texts": 3 * len(crossTexts)} {
		if got := seen[stage]; len(got) < 4 || !slices.IsSorted(got) || stage == "images" && len(slices.Compact(slices.Clone(got))) != len(got) || got[len(got)-1] != last {
			t.Errorf("%s: %v, want rising numbers up to %d", stage, got, last)
		}
	}
}

// A context that ends, or a model that fails, ends the call of all models; the models go on working.
func TestScoreOfSeveralModelsEnds(t *testing.T) {
	var stop func(stage string, done int)
	models := severalModels(t, engine.Options{Batch: 1, Threads: 2, Progress: func(stage string, done, _ int) {
		if stop != nil {
			stop(stage, done)
		}
	}})
	images := discs(t, 20)
	for _, at := range []struct {
		stage string
		done  int
	}{{"texts", 2}, {"images", 0}, {"images", 3}, {"images", 8}, {"images", 9}} {
		ctx, cancel := context.WithCancel(context.Background())
		stop = func(stage string, done int) {
			if stage == at.stage && done >= at.done {
				cancel()
			}
		}
		if _, err := engine.Score(ctx, models, images, crossTexts); !errors.Is(err, context.Canceled) {
			t.Errorf("ended at %s %d: error %v, want context.Canceled", at.stage, at.done, err)
		}
		cancel()
	}
	stop = nil
	if _, err := engine.Score(context.Background(), models, images, crossTexts); err != nil {
		t.Fatal(err)
	}
	models[3].Close() // ImageReward
	if _, err := engine.Score(context.Background(), models, images, crossTexts); !errors.Is(err, engine.ErrClosed) {
		t.Errorf("error %v, want ErrClosed", err)
	}
	if _, err := engine.ScorePairs(context.Background(), models[:3], images, crossTexts, []engine.Pair{{}}); err != nil {
		t.Errorf("the others: %v", err)
	}
}

// Many goroutines, several models in each call.
func TestManyGoroutinesScoreSeveralModels(t *testing.T) {
	ctx, images := context.Background(), discs(t, 4)
	models := severalModels(t, engine.Options{Batch: 2, Threads: 2})
	want, err := engine.Score(ctx, models, images, crossTexts)
	if err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	for worker := range 6 {
		group.Go(func() {
			for range 2 {
				got, err := engine.Score(ctx, models, images, crossTexts)
				if err != nil {
					t.Error(err)
					return
				}
				for k := range want {
					if !slices.Equal(got[k].Scores, want[k].Scores) && allowedDifference() == 0 {
						t.Errorf("worker %d: %s differs", worker, got[k].Name)
					}
				}
			}
		})
	}
	group.Wait()
}

// However pictures and texts fall into calls, a pair has the same score: with more texts than a call takes, and with the
// states of few pictures at once.
func TestPairsInManyCalls(t *testing.T) {
	ctx, images := context.Background(), discs(t, 5)
	images[1] = engine.Image{Name: "broken"}
	rng := rand.New(rand.NewPCG(3, 4))
	texts := make([]string, 1200) // of 8 tokens mostly: 5 pictures are 45000 rows
	for i := range texts {
		for range 5 + rng.IntN(6) {
			texts[i] += tinyWords[4+rng.IntN(len(tinyWords)-4)] + " "
		}
	}
	copy(texts[1190:], texts[:10])
	for _, reward := range crossRewards {
		m := newTinyCross(reward).open(t, engine.Options{Batch: 2, Threads: 2, TextCleaning: "none"})
		before := runtime.NumCgoCall()
		got, err := m.Score(ctx, images, texts)
		if items, other := engine.SplitItemErrors(err); other != nil || len(items) != 1 {
			t.Fatal(err)
		}
		calls := runtime.NumCgoCall() - before
		r := got[len(got)-1]
		for range 30 {
			image, text := rng.IntN(5), rng.IntN(len(texts))
			one, err := m.Score(ctx, images[image:image+1], texts[text:text+1])
			if _, other := engine.SplitItemErrors(err); other != nil {
				t.Fatal(err)
			}
			v, w := r.Scores[image*len(texts)+text], one[len(one)-1].Scores[0]
			if d := math.Abs(float64(v - w)); !(d <= 20*allowedDifference()) && (v == v || w == w) {
				t.Errorf("%s: picture %d, text %d: %g among others, %g alone", r.Name, image, text, v, w)
			}
		}
		undo := engine.HoldStates(1) // one picture
		before = runtime.NumCgoCall()
		again, err := m.Score(ctx, images, texts)
		undo()
		if _, other := engine.SplitItemErrors(err); other != nil {
			t.Fatal(err)
		}
		wantScores(t, "picture by picture", again, got)
		if more := runtime.NumCgoCall() - before; more <= calls {
			t.Errorf("%s: %d calls into C for single pictures, %d for all", reward, more, calls)
		}
	}
}

// Each model's embeddings are kept: what all models find is neither decoded nor encoded, and a cross encoder, which needs
// its pictures for pairs, keeps them for when there are none.
func TestEmbeddingCacheOfSeveralModels(t *testing.T) {
	ctx, images := context.Background(), discs(t, 9)
	var pairs []engine.Pair
	for i := range images {
		pairs = append(pairs, engine.Pair{Image: i, Text: i % len(crossTexts)})
	}
	plain, err := engine.ScorePairs(ctx, severalModels(t, engine.Options{}), images, crossTexts, pairs)
	if err != nil {
		t.Fatal(err)
	}
	dual := []string{"clip", "blip_itc", "blip2_itc", "aesthetic"}
	models := severalModels(t, engine.Options{Batch: 4, Threads: 1, EmbeddingCache: t.TempDir()})
	if _, err := models[0].EncodeImages(ctx, images[3:5]); err != nil { // which the others do not know
		t.Fatal(err)
	}
	for run := range 2 {
		got, err := engine.ScorePairs(ctx, models, images, crossTexts, pairs)
		if err != nil {
			t.Fatal(err)
		}
		wantScores(t, fmt.Sprintf("run %d", run), got, plain)
		before := runtime.NumCgoCall()
		got, err = engine.ScorePairs(ctx, models, images, crossTexts, pairs, dual...)
		if err != nil {
			t.Fatal(err)
		}
		if calls := runtime.NumCgoCall() - before; calls != 0 {
			t.Errorf("run %d: %d calls into C for what is known", run, calls)
		}
		wantScores(t, fmt.Sprintf("run %d, embeddings alone", run), got, slices.DeleteFunc(slices.Clone(plain), func(r engine.Reward) bool { return !slices.Contains(dual, r.Name) }))
	}
	for k, want := range []engine.EmbeddingCacheCounts{{Asked: 2 + 4*9, Found: 2 + 3*9}, {Asked: 2 * 9, Found: 2 * 9}, {Asked: 2 * 9, Found: 2 * 9}} {
		if s := models[k].EmbeddingCacheStats(); s.Images != want {
			t.Errorf("%v: pictures %+v, want %+v", models[k].Info().Rewards, s.Images, want)
		}
	}
	for _, m := range models[3:] {
		if s := m.EmbeddingCacheStats(); s.Dir != "" {
			t.Errorf("%v: %+v of a model without embeddings", m.Info().Rewards, s)
		}
	}
}
