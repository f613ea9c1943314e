package main

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tia2-engine/tia2-engine/internal/sharedtest"
)

// blipFolder is that of the small BLIP models which the reference libraries made.
func blipFolder(t *testing.T) string { return sharedtest.Path(t, "golden", "blip") }

// blipInputs returns the pictures and texts that they were computed for, as flags.
func blipInputs(t *testing.T) []string {
	t.Helper()
	var expect struct {
		Images []struct{ File string }
		Texts  []string
	}
	data, err := os.ReadFile(filepath.Join(blipFolder(t), "expect.json"))
	if err == nil {
		err = json.Unmarshal(data, &expect)
	}
	if err != nil {
		t.Fatal(err)
	}
	flags := []string{"--texts", textsFile(t, expect.Texts...)}
	for _, image := range expect.Images {
		flags = append(flags, "--images", filepath.Join(blipFolder(t), "images", image.File))
	}
	return flags
}

// reference is an expected array; part takes this value of the last axis, of width parts.
type reference struct {
	array       string
	part, parts int
}

func (r reference) read(t *testing.T, path string) []float32 {
	t.Helper()
	_, data := readArray(t, path, r.array)
	if r.parts == 0 {
		return data
	}
	var picked []float32
	for i := r.part; i < len(data); i += r.parts {
		picked = append(picked, data[i])
	}
	return picked
}

// Every reward of the BLIP family as its reference gives it, with each flag that chooses between references.
func TestScoreBLIPGolden(t *testing.T) {
	inputs := blipInputs(t)
	for _, c := range []struct {
		model, flags string
		want         map[string]reference // by reward
	}{
		{"blip_pth", "", map[string]reference{"blip_itc": {array: "itc"}, "blip_itm": {array: "itm_prob_cls"}}},
		{"blip_pth", "--itm-token cls --itm-output probability --max-length 35 --text-cleaning none --image-size 80",
			map[string]reference{"blip_itc": {array: "itc"}, "blip_itm": {array: "itm_prob_cls"}}},
		{"blip_pth", "--itm-token enc", map[string]reference{"blip_itc": {array: "itc"}, "blip_itm": {array: "itm_prob_enc"}}},
		{"blip_pth", "--itm-token enc --itm-output logit", map[string]reference{"blip_itm": {"itm_logits_enc", 1, 2}}},
		{"blip_pth", "--itm-token enc --itm-output logit --text-cleaning blip_caption",
			map[string]reference{"blip_itc": {array: "itc_caption"}, "blip_itm": {"itm_logits_enc_caption", 1, 2}}},
		{"blip_pth", "--image-size 96 --itm-output logit",
			map[string]reference{"blip_itc": {array: "resized_itc"}, "blip_itm": {"resized_itm_logits_cls", 1, 2}}},
		{"blip_hf", "--itm-output logit", map[string]reference{"blip_itc": {array: "itc_notrunc"}, "blip_itm": {"itm_logits_cls_notrunc", 1, 2}}},
		{"blip_hf", "--itm-output logit --max-length 35", map[string]reference{"blip_itc": {array: "itc"}, "blip_itm": {"itm_logits_cls", 1, 2}}},
		{"blip2_hf", "", map[string]reference{"blip2_itc": {array: "itc_notrunc"}}},
		{"blip2_lavis", "--text-cleaning none", map[string]reference{"blip2_itc": {array: "itc"}, "blip2_itm": {array: "itm_prob"}}},
		{"blip2_lavis", "--text-cleaning none --max-length 35 --itm-output logit", map[string]reference{"blip2_itm": {array: "itm_logit1_pad35"}}},
		{"blip2_lavis", "--max-length -1", map[string]reference{"blip2_itc": {array: "itc_caption"}}},
		{"imagereward", "--max-length 35 --text-cleaning none", map[string]reference{"imagereward": {array: "rewards"}}},
	} {
		out := filepath.Join(t.TempDir(), "s.npz")
		args := slices.Concat([]string{"score", "--model", filepath.Join(blipFolder(t), c.model), "--out", out}, strings.Fields(c.flags), inputs)
		must(t, "", args...)
		for reward, array := range c.want {
			shape, got := readArray(t, out, reward)
			if !slices.Equal(shape, []int{6, 12}) {
				t.Errorf("%s %s: %s has shape %v", c.model, c.flags, reward, shape)
			}
			want := array.read(t, filepath.Join(blipFolder(t), c.model, "expect.npz"))
			compareRows(t, fmt.Sprintf("%s %s: %s", c.model, c.flags, reward), got, want, 12, -1, 1e-4)
		}
	}
}

// BLIP-2 has several embeddings a picture; models without any say so.
func TestEmbedBLIP(t *testing.T) {
	inputs := blipInputs(t)
	for model, vectors := range map[string]int{"blip2_lavis": 12 * 96, "blip_pth": 256} {
		out := filepath.Join(t.TempDir(), "e.npz")
		must(t, "", append([]string{"embed", "--model", filepath.Join(blipFolder(t), model), "--text-cleaning", "none", "--out", out}, inputs...)...)
		for array, feats := range map[string]string{"image_embeds": "image_feats", "text_embeds": "text_feats"} {
			shape, got := readArray(t, out, array)
			if array == "image_embeds" && !slices.Equal(shape, []int{6, vectors}) {
				t.Errorf("%s: %s has shape %v, want 6 x %d", model, array, shape, vectors)
			}
			_, want := readArray(t, filepath.Join(blipFolder(t), model, "expect.npz"), feats)
			compareRows(t, model+" "+array, got, want, shape[1], -1, 2e-5)
		}
	}
	r := command(t, "", append([]string{"score", "--model", filepath.Join(blipFolder(t), "imagereward"), "--itm-output", "logit"}, inputs...)...)
	if r.code != exitFailed || !strings.Contains(r.err, "expected a BLIP or BLIP-2") {
		t.Errorf("imagereward with --itm-output: status %d, stderr %s", r.code, r.err)
	}
	out := filepath.Join(t.TempDir(), "none.npz")
	r = command(t, "", append([]string{"embed", "--model", filepath.Join(blipFolder(t), "imagereward"), "--out", out}, inputs...)...)
	if r.code != exitUsage || !strings.Contains(r.err, "imagereward gives imagereward and has no embeddings: expected a CLIP, BLIP or BLIP-2") {
		t.Errorf("imagereward: status %d, stderr %s", r.code, r.err)
	}
}

func TestEmbedNeedsAModelWithEmbeddings(t *testing.T) {
	texts := textsFile(t, "a")
	r := command(t, "", "embed", "--model", "random:aesthetic", "--texts", texts, "--out", filepath.Join(t.TempDir(), "e.npz"))
	if r.code != exitUsage || !strings.Contains(r.err, "random:aesthetic gives aesthetic and has no embeddings") {
		t.Errorf("aesthetic: status %d, stderr %s", r.code, r.err)
	}
	r = command(t, "", "embed", "--model", "demo", "--model", "demo", "--texts", texts, "--out", filepath.Join(t.TempDir(), "e.npz"))
	if r.code != exitUsage || !strings.Contains(r.err, "embed: 2 models: expected one") {
		t.Errorf("two models: status %d, stderr %s", r.code, r.err)
	}
}

// aestheticFor writes an aesthetic head over embeddings of this width, one Linear of LAION's V1.
func aestheticFor(t *testing.T, width int) string {
	t.Helper()
	header := fmt.Sprintf(`{"weight":{"dtype":"F32","shape":[1,%d],"data_offsets":[0,%d]},"bias":{"dtype":"F32","shape":[1],"data_offsets":[%d,%d]}}`,
		width, 4*width, 4*width, 4*width+4)
	file := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	file = append(file, header...)
	for i := range width + 1 {
		file = binary.LittleEndian.AppendUint32(file, math.Float32bits(float32(i%5)-2))
	}
	path := filepath.Join(t.TempDir(), "head.safetensors")
	if err := os.WriteFile(path, file, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// everyModel names small models that give every kind of reward.
func everyModel(t *testing.T) []string {
	var flags []string
	for _, path := range []string{
		aestheticFor(t, 48), sharedtest.Path(t, "golden", "clip", "checkpoints", "hf_openai"),
		filepath.Join(blipFolder(t), "blip_pth"), filepath.Join(blipFolder(t), "blip2_lavis"), filepath.Join(blipFolder(t), "imagereward"),
	} {
		flags = append(flags, "--model", path)
	}
	return flags
}

var everyReward = []string{"aesthetic", "blip2_itc", "blip2_itm", "blip_itc", "blip_itm", "clip", "imagereward"}

// lines reads scores.jsonl.
func lines(t *testing.T, path string) (all []struct {
	Rewards map[string][]float64
	Models  map[string]string
}) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		all = append(all, struct {
			Rewards map[string][]float64
			Models  map[string]string
		}{})
		if err := json.Unmarshal([]byte(line), &all[len(all)-1]); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// evaluated returns the names of the scores that eval gives, in its order.
func evaluated(t *testing.T, args ...string) []string {
	t.Helper()
	var result struct {
		Sets []struct{ Rewards []struct{ Name string } }
	}
	out := must(t, "", append([]string{"eval", "--resamples", "50", "--format", "json"}, args...)...)
	if err := json.Unmarshal([]byte(out), &result); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, r := range result.Sets[0].Rewards {
		names = append(names, r.Name)
	}
	return names
}

// A set scored with every model: by one line a picture with all rewards, which are then evaluated, all of them or some.
func TestSetOfEveryReward(t *testing.T) {
	set := smallSet(t, 2, 4)
	out := filepath.Join(t.TempDir(), "s.jsonl")
	score := append([]string{"score", "--set", set, "--out", out}, everyModel(t)...)
	must(t, "", score...)
	all := lines(t, out)
	if len(all) != 8 {
		t.Fatalf("%d lines, want 8", len(all))
	}
	for _, line := range all {
		if names := slices.Sorted(maps.Keys(line.Rewards)); !slices.Equal(names, everyReward) || len(line.Models) != len(everyReward) {
			t.Fatalf("rewards %q, models %q; want %q of both", names, line.Models, everyReward)
		}
		if a := line.Rewards["aesthetic"]; slices.Max(a) != slices.Min(a) {
			t.Errorf("aesthetic depends on the text: %v", a)
		}
	}
	if on := all[0].Models["aesthetic"]; !strings.Contains(on, " on ") {
		t.Errorf("the identity of aesthetic lacks its CLIP: %s", on)
	}
	want := slices.Clone(everyReward)
	for _, name := range everyReward[1:] {
		want = append(want, name+"_textnorm")
	}
	want = append(want, "textnorm_mean", "textnorm_ur")
	if got := evaluated(t, "--set", set, "--scores", out); !slices.Equal(got, want) {
		t.Errorf("eval gives %q, want %q", got, want)
	}
	some := []string{"blip_itm", "clip", "imagereward", "blip_itm_textnorm", "clip_textnorm", "imagereward_textnorm", "textnorm_mean", "textnorm_ur"}
	if got := evaluated(t, "--set", set, "--scores", out, "--rewards", "imagereward,clip,blip_itm", "--ensemble", "clip,blip_itm"); !slices.Equal(got, some) {
		t.Errorf("eval --rewards gives %q, want %q", got, some)
	}

	// Another option of the matching head is another reward; the rest of the file would fit.
	r := command(t, "", append(score, "--itm-output", "logit")...)
	if r.code != exitFailed || !strings.Contains(r.err, "the file has the reward blip_itm of another model") || !strings.Contains(r.err, ", itm-output logit") {
		t.Errorf("--itm-output: status %d, stderr %s", r.code, r.err)
	}
	r = command(t, "", append(score, "--scale-convention", "clip=/100")...)
	if r.code != exitFailed || !strings.Contains(r.err, "the file has the reward clip of another model") || !strings.Contains(r.err, ", scale /100") {
		t.Errorf("--scale-convention: status %d, stderr %s", r.code, r.err)
	}
	os.Remove(out + ".part") // the refused runs would go on there

	// aesthetic alone still needs its CLIP, and one that comes later finds it.
	later := filepath.Join(t.TempDir(), "later.jsonl")
	models := everyModel(t)
	must(t, "", append([]string{"score", "--set", set, "--out", later}, models[2:4]...)...)
	must(t, "", append([]string{"score", "--set", set, "--out", later}, models[:4]...)...)
	last := lines(t, later)
	if n := len(last); n != 16 || !slices.Equal(last[n-1].Rewards["aesthetic"], all[7].Rewards["aesthetic"]) || len(last[n-1].Rewards) != 1 {
		t.Errorf("%d lines, the last %v, want aesthetic %v", n, last[n-1].Rewards, all[7].Rewards["aesthetic"])
	}
	r = command(t, "", append([]string{"score", "--set", set, "--out", filepath.Join(t.TempDir(), "x.jsonl")}, models[:2]...)...)
	if r.code != exitFailed || !strings.Contains(r.err, "CLIP") {
		t.Errorf("aesthetic without a CLIP: status %d, stderr %s", r.code, r.err)
	}
}

// The pairs of every model come from one call, with the same scores as of each alone.
func TestPairsOfEveryReward(t *testing.T) {
	inputs := blipInputs(t)
	out := filepath.Join(t.TempDir(), "s.npz")
	models := everyModel(t)
	must(t, "", slices.Concat([]string{"score", "--out", out}, models, inputs)...)
	again := command(t, "", slices.Concat([]string{"score", "--out", out, "-v"}, models, inputs)...)
	if line := cacheLine(again.err); !strings.Contains(line, " found (100.0 %), texts 36 of 36 found (100.0 %)") { // the last model has none
		t.Errorf("the embedding cache of three models: %q", line)
	}
	compared := 0
	for k := 2; k < len(models); k += 2 {
		alone := filepath.Join(t.TempDir(), "alone.npz")
		must(t, "", slices.Concat([]string{"score", "--out", alone}, models[k:k+2], inputs)...)
		for _, reward := range everyReward[1:] {
			if !hasArray(t, alone, reward) {
				continue
			}
			compared++
			_, got := readArray(t, out, reward)
			_, want := readArray(t, alone, reward)
			compareRows(t, reward, got, want, 12, -1, 0)
		}
	}
	if compared != len(everyReward)-1 {
		t.Errorf("%d rewards compared, want %d", compared, len(everyReward)-1)
	}
	if _, a := readArray(t, out, "aesthetic"); len(a) != 6*12 || a[0] != a[11] || a[0] == a[12] {
		t.Errorf("aesthetic %v: want one value a picture", a)
	}
}

func TestScaleConventions(t *testing.T) {
	images := filepath.Join(smallSet(t, 1, 3), "images", "demo")
	texts := textsFile(t, "a red circle", "two blue squares")
	scores := func(flags ...string) [][]float32 {
		t.Helper()
		var got struct{ Rewards map[string][][]float32 }
		out := must(t, "", append([]string{"score", "--images", images, "--texts", texts}, flags...)...)
		if err := json.Unmarshal([]byte(out), &got); err != nil || len(got.Rewards["clip"]) != 3 {
			t.Fatalf("%v: %s", err, out)
		}
		return got.Rewards["clip"]
	}
	raw, cosine := scores(), scores("--scale-convention", "cosine")
	for flag, of := range map[string]func(raw, cosine float64) float64{
		"raw":          func(raw, _ float64) float64 { return raw },
		"clip=/100":    func(raw, _ float64) float64 { return raw / 100 },
		"/30":          func(raw, _ float64) float64 { return raw / 30 },
		"torchmetrics": func(_, cosine float64) float64 { return max(100*cosine, 0) },
		"clipscore":    func(_, cosine float64) float64 { return 2.5 * max(cosine, 0) },
	} {
		got := scores("--scale-convention", flag)
		for i, row := range got {
			for k, v := range row {
				want := of(float64(raw[i][k]), float64(cosine[i][k]))
				if math.Abs(float64(v)-want) > 1e-5*math.Abs(want) || math.Abs(float64(cosine[i][k])) > 1 {
					t.Errorf("%s: %g, want %g; cosine %g", flag, v, want, cosine[i][k])
				}
			}
		}
	}
	r := command(t, "", "score", "--images", images, "--texts", texts, "--scale-convention", "mixgrpo")
	if r.code != exitUsage || r.err != "tia2-engine: --scale-convention mixgrpo: clip knows raw, cosine, torchmetrics, clipscore, /N\nTry tia2-engine COMMAND --help.\n" {
		t.Errorf("mixgrpo of a CLIP: status %d, stderr %s", r.code, r.err)
	}
	// In a file of a set, too.
	set, out := smallSet(t, 1, 2), filepath.Join(t.TempDir(), "s.jsonl")
	must(t, "", "score", "--set", set, "--out", out)
	half := filepath.Join(t.TempDir(), "half.jsonl")
	must(t, "", "eval", "--set", set, "--resamples", "20", "--scale-convention", "/2", "--save-scores", half)
	a, b := lines(t, out)[0].Rewards["clip"][0], lines(t, half)[0].Rewards["clip"][0]
	if math.Abs(a/2-b) > 1e-5 {
		t.Errorf("%g, half of it is %g", a, b)
	}
}

func TestEvalNamesOfRewards(t *testing.T) {
	set, out := smallSet(t, 2, 4), filepath.Join(t.TempDir(), "s.jsonl")
	must(t, "", "score", "--set", set, "--out", out)
	for _, c := range []struct{ flags, want string }{
		{"--scores " + out + " --rewards clip,nope", `--rewards, --ensemble: reward to evaluate "nope": expected some of clip`},
		{"--scores " + out + " --ensemble nope", `member of the ensembles "nope": expected some of clip`},
		{"--rewards nope", `reward to evaluate "nope": expected some of clip`}, // before the set is scored
		{"--scores " + out + " --scale-convention /2", "expected no --scores"},
	} {
		r := command(t, "", append([]string{"eval", "--set", set}, strings.Fields(c.flags)...)...)
		if r.code != exitUsage || !strings.Contains(r.err, c.want) {
			t.Errorf("%s: status %d, stderr %s", c.flags, r.code, r.err)
		}
	}
	// A reward that an earlier run saved counts, too.
	more := filepath.Join(t.TempDir(), "more.jsonl")
	data, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(more, []byte(strings.ReplaceAll(string(data), `"clip"`, `"mine"`)), 0o644); err != nil {
		t.Fatal(err)
	}
	want := []string{"clip", "mine", "clip_textnorm", "mine_textnorm", "textnorm_mean", "textnorm_ur"}
	if got := evaluated(t, "--set", set, "--save-scores", more, "--rewards", "mine,clip"); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// A cross encoder is timed with several numbers of texts an image; what it does not have is a note.
func TestBenchOfACrossEncoder(t *testing.T) {
	model := filepath.Join(blipFolder(t), "imagereward")
	args := []string{"bench", "--no-alignment", "--model", model, "--batches", "2", "--max-time", "20ms"}
	dir := t.TempDir()
	first := filepath.Join(dir, "first.json")
	r := command(t, "", append(args, "--format", "json", "--out", first)...)
	if r.code != exitDone || r.err != "tia2-engine: note: "+model+" has no tower text: it has no embeddings, it reads picture and text together\n" {
		t.Fatalf("status %d, stderr %s", r.code, r.err)
	}
	data, err := os.ReadFile(first)
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Runs []struct {
			Tower, Item     string
			PromptsPerImage int     `json:"prompts_per_image"`
			GFLOP           float64 `json:"gflop_per_item"`
			ItemsPS         float64 `json:"items_per_s"`
		}
	}
	if err := json.Unmarshal(data, &doc); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, run := range doc.Runs {
		got = append(got, fmt.Sprintf("%s/%d %s", run.Tower, run.PromptsPerImage, run.Item))
		if run.GFLOP <= 0 || run.ItemsPS <= 0 {
			t.Errorf("%+v", run)
		}
	}
	if want := "image/0 image, pair/1 pair, pair/8 pair, pair/33 pair, e2e/0 image"; strings.Join(got, ", ") != want {
		t.Errorf("runs %q, want %s", got, want)
	}
	if a, b, c := doc.Runs[1].GFLOP, doc.Runs[2].GFLOP, doc.Runs[3].GFLOP; a <= b || b <= c {
		t.Errorf("GFLOP a pair: %g with 1 text, %g with 8, %g with 33: the encoding is shared", a, b, c)
	}
	r = command(t, "", append(args, "--compare", first)...)
	for _, want := range []string{"image with pairs of 1, 8, 33 texts takes ", "\npair 33 ", "compared with the older report: "} {
		if !strings.Contains(r.out, want) {
			t.Errorf("no %q in\n%s", want, r.out)
		}
	}
	r = command(t, "", "bench", "--no-alignment", "--model", "random:aesthetic", "--max-time", "20ms")
	if r.code != exitFailed || !strings.Contains(r.err, "note: random:aesthetic has no tower image: it is a head on the embeddings of a CLIP") ||
		!strings.Contains(r.err, "nothing was timed") {
		t.Errorf("aesthetic: status %d, stderr %s", r.code, r.err)
	}
}

func TestInspectListsWhatIsLeftOut(t *testing.T) {
	path := filepath.Join(blipFolder(t), "blip_pth", "model.pth")
	short := must(t, "", "inspect", path)
	if !strings.Contains(short, "are left out (-v lists them)") || strings.Contains(short, "image_queue") {
		t.Errorf("%s", short)
	}
	long := command(t, "", "inspect", path, "-v").out
	for _, want := range []string{"\nleft out\n", "image_queue", "two logits: no match, match; cross-attention in every layer", "cut to 35 tokens (--max-length)"} {
		if !strings.Contains(long, want) {
			t.Errorf("no %q in\n%s", want, long)
		}
	}
	for line := range strings.Lines(must(t, "", "inspect", aestheticFor(t, 8))) {
		if strings.Contains(line, "tower") || strings.Contains(line, "pixels") {
			t.Errorf("an aesthetic head has none: %s", line)
		}
	}
}

func TestConvertImageSize(t *testing.T) {
	model := filepath.Join(t.TempDir(), "m.gguf")
	must(t, "", "convert", filepath.Join(blipFolder(t), "blip_pth"), model, "--image-size", "96")
	if out := must(t, "", "inspect", model); !strings.Contains(out, "96 x 96 pixels in patches of 16") {
		t.Errorf("%s", out)
	}
}

// The list in the help text is the engine's.
func TestRandomNames(t *testing.T) {
	r := command(t, "", "embed", "--model", "random:nope", "--texts", textsFile(t, "a"), "--out", filepath.Join(t.TempDir(), "x.npz"))
	want := slices.Sorted(slices.Values(randomNames))
	if _, list, _ := strings.Cut(strings.TrimSpace(r.err), "expected one of "); list != strings.Join(want, ", ") {
		t.Errorf("%s: want the names %s", r.err, strings.Join(want, ", "))
	}
	help := strings.Join(strings.Fields(must(t, "", "bench", "--help")), " ")
	if !strings.Contains(help, strings.Join(randomNames, ", ")) {
		t.Errorf("%s", help)
	}
}
