package main

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"codeberg.org/sbinet/npyio/npz"

	"github.com/tia2-engine/tia2-engine/internal/sharedtest"
)

func textsFile(t *testing.T, lines ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "texts.txt")
	if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func readArray(t *testing.T, path, name string) (shape []int, data []float32) {
	t.Helper()
	r, err := npz.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	key := name + ".npy"
	h := r.Header(key)
	if h == nil {
		t.Fatalf("%s: no array %s among %q", path, name, r.Keys())
	}
	if err := r.Read(key, &data); err != nil {
		t.Fatalf("%s: %s: %v", path, name, err)
	}
	return h.Descr.Shape, data
}

func hasArray(t *testing.T, path, name string) bool {
	t.Helper()
	r, err := npz.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	return r.Header(name+".npy") != nil
}

func TestTokenize(t *testing.T) {
	in := `{"text":"a cat","n":1.50}` + "\n\n" + `{"ids":[7],"text":"a"}` + "\n"
	want := `{"text":"a cat","n":1.50,"ids":[49406,320,2368,49407]}` + "\n" + `{"ids":[49406,320,49407],"text":"a"}` + "\n"
	if got := must(t, in, "tokenize"); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got := must(t, `{"text":"a b c d"}`, "tokenize", "--tokenizer", "bert", "--max-length", "3"); got != `{"text":"a b c d","ids":[101,1037,102]}`+"\n" {
		t.Errorf("bert: %s", got)
	}
	path := filepath.Join(t.TempDir(), "out.jsonl")
	must(t, in, "tokenize", "-", "--out", path)
	if got, _ := os.ReadFile(path); string(got) != want {
		t.Errorf("file: %s", got)
	}
}

func TestTokenizeNamesBadLines(t *testing.T) {
	r := command(t, `{"text":"a"}`+"\n[]\n"+`{"text":null}`+"\n"+`{"text":"b"}`, "tokenize")
	if r.code != exitFailed || strings.Count(r.out, "\n") != 2 {
		t.Errorf("status %d, stdout %s", r.code, r.out)
	}
	for _, want := range []string{"tia2-engine: stdin:2: expected a JSON object", `tia2-engine: stdin:3: expected {"text":"…"}`} {
		if !strings.Contains(r.err, want) {
			t.Errorf("stderr %q: want %q in it", r.err, want)
		}
	}
}

func TestTokenizeGolden(t *testing.T) {
	data, err := os.ReadFile(sharedtest.Path(t, "golden", "tokens", "tokens.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	out := must(t, string(data), "tokenize", "--tokenizer", "clip-hf", "--max-length", "77")
	n := 0
	for line := range strings.Lines(out) {
		var got struct {
			IDs []int32
			HF  []int32 `json:"hf_clip"`
			Cat string
		}
		if err := json.Unmarshal([]byte(line), &got); err != nil {
			t.Fatal(err)
		}
		n++
		if got.HF == nil {
			t.Fatalf("no reference in %s", line)
		}
		if got.Cat != "new_unicode" && !slices.Equal(got.IDs, got.HF) {
			t.Errorf("ids %v, want %v", got.IDs, got.HF)
		}
	}
	if n != strings.Count(string(data), "\n") {
		t.Errorf("%d lines came out", n)
	}
}

func TestPreprocess(t *testing.T) {
	files := sharedtest.Path(t, "golden", "clip", "images")
	bad := textsFile(t, "no picture")
	out := filepath.Join(t.TempDir(), "x.npz")
	r := command(t, "", "preprocess", filepath.Join(files, "jpeg_420.jpg"), bad, filepath.Join(files, "png_rgba.png"),
		"--size", "32", "--type", "f32", "--out", out)
	if r.code != exitFailed || !strings.HasPrefix(r.err, "tia2-engine: "+bad+": ") || strings.Count(r.err, "\n") != 1 {
		t.Errorf("status %d, stderr %s", r.code, r.err)
	}
	for _, name := range []string{"jpeg_420.jpg", "png_rgba.png"} {
		if shape, _ := readArray(t, out, name); !slices.Equal(shape, []int{3, 32, 32}) {
			t.Errorf("%s: shape %v", name, shape)
		}
	}
	none := filepath.Join(t.TempDir(), "none.npz")
	if r := command(t, "", "preprocess", bad, "--out", none); r.code != exitFailed || !strings.Contains(r.err, "no picture could be read") {
		t.Errorf("only a bad file: status %d, stderr %s", r.code, r.err)
	}
	if _, err := os.Stat(none); err == nil {
		t.Error("an empty archive was written")
	}
	twice := command(t, "", "preprocess", filepath.Join(files, "jpeg_420.jpg"), filepath.Join(files, "jpeg_420.jpg"), "--out", none)
	if twice.code != exitFailed || !strings.Contains(twice.err, "no other array") {
		t.Errorf("one base name twice: status %d, stderr %s", twice.code, twice.err)
	}
}

// The whole path from files to numbers, against what the Python reference gives; a bad picture costs only itself.
func TestEmbedAndScoreGolden(t *testing.T) {
	golden := sharedtest.Path(t, "golden", "clip")
	var expect struct{ Images, Texts []string }
	data, err := os.ReadFile(filepath.Join(golden, "expect.json"))
	if err == nil {
		err = json.Unmarshal(data, &expect)
	}
	if err != nil {
		t.Fatal(err)
	}
	texts := expect.Texts[:6] // without one that holds a line feed
	model := filepath.Join(t.TempDir(), "m.gguf")
	must(t, "", "convert", filepath.Join(golden, "checkpoints", "hf_openai"), model)
	bad := textsFile(t, "no picture")
	args := []string{"--model", model, "--texts", textsFile(t, texts...)}
	for i, image := range expect.Images {
		args = append(args, "--images", filepath.Join(golden, image))
		if i == 0 {
			args = append(args, "--images", bad)
		}
	}
	dir := t.TempDir()
	for name, flags := range map[string][]string{"image_embeds_norm": {"embed"}, "image_embeds": {"embed", "--no-normalize"}} {
		out := filepath.Join(dir, name+".npz")
		r := command(t, "", append(append(flags, args...), "--out", out)...)
		if r.code != exitFailed || !strings.HasPrefix(r.err, "tia2-engine: "+bad+": ") {
			t.Fatalf("status %d, stderr %s", r.code, r.err)
		}
		_, got := readArray(t, out, "image_embeds")
		_, want := readArray(t, filepath.Join(golden, "expected", "hf_openai.npz"), name)
		tolerance := 2e-5
		if name == "image_embeds" {
			tolerance = 2e-4 // their length is about 10
		}
		compareRows(t, name, got, want, 48, 1, tolerance)
		_, got = readArray(t, out, "text_embeds")
		_, want = readArray(t, filepath.Join(golden, "expected", "hf_openai.npz"), strings.Replace(name, "image", "text", 1))
		compareRows(t, "text", got, want[:len(got)], 48, -1, tolerance)
	}
	out := filepath.Join(dir, "scores.npz")
	if r := command(t, "", append(append([]string{"score"}, args...), "--out", out)...); r.code != exitFailed {
		t.Fatalf("score: status %d, stderr %s", r.code, r.err)
	}
	shape, got := readArray(t, out, "clip")
	if !slices.Equal(shape, []int{len(expect.Images) + 1, len(texts)}) {
		t.Fatalf("scores have shape %v", shape)
	}
	_, all := readArray(t, filepath.Join(golden, "expected", "hf_openai.npz"), "logits_per_image")
	var want []float32
	for i := range expect.Images {
		want = append(want, all[i*len(expect.Texts):][:len(texts)]...)
	}
	compareRows(t, "scores", got, want, len(texts), 1, 1e-3)
}

// compareRows compares rows, of which got has one more: that of a failed item, which must be NaN. failed < 0: none.
func compareRows(t *testing.T, what string, got, want []float32, width, failed int, tolerance float64) {
	t.Helper()
	if failed >= 0 {
		for _, v := range got[failed*width : (failed+1)*width] {
			if !math.IsNaN(float64(v)) {
				t.Errorf("%s: the failed row holds %g", what, v)
			}
		}
		got = slices.Concat(got[:failed*width], got[(failed+1)*width:])
	}
	if len(got) != len(want) {
		t.Fatalf("%s: %d values, want %d", what, len(got), len(want))
	}
	for i := range got {
		if d := math.Abs(float64(got[i]) - float64(want[i])); !(d <= tolerance) {
			t.Fatalf("%s: value %d is %g, want %g", what, i, got[i], want[i])
		}
	}
}

func TestScoreOnStdout(t *testing.T) {
	image := filepath.Join(sharedtest.Path(t, "golden", "clip", "images"), "jpeg_420.jpg")
	out := must(t, "a red circle\r\n\nlast", "score", "--model", "demo", "--model", "demo", "--images", image, "--texts", "-")
	var got struct {
		Images, Texts []string
		Rewards       map[string][][]float32
	}
	if err := json.Unmarshal([]byte(out), &got); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got.Texts, []string{"a red circle", "", "last"}) || !slices.Equal(got.Images, []string{image}) {
		t.Errorf("images %q, texts %q", got.Images, got.Texts)
	}
	if len(got.Rewards) != 2 { // two models of one kind have two names
		t.Errorf("rewards %v", got.Rewards)
	}
}

func TestConvertQuantizeInspect(t *testing.T) {
	golden := sharedtest.Path(t, "golden", "clip", "checkpoints", "openai_jit", "model.pt")
	dir := t.TempDir()
	full, small := filepath.Join(dir, "full.gguf"), filepath.Join(dir, "small.gguf")
	must(t, "", "convert", golden, full, "--dtype", "f32", "--name", "jit")
	must(t, "", "quantize", full, small)
	var a, b struct {
		Container, Family, Name, Reward, Problem string
		Parameters                               uint64
		Tensors                                  []struct{ Name, DType string }
	}
	for path, v := range map[string]any{full: &a, small: &b} {
		if err := json.Unmarshal([]byte(must(t, "", "inspect", path, "--format", "json")), v); err != nil {
			t.Fatal(err)
		}
	}
	if a.Container != "gguf" || a.Name != "jit" || a.Reward != "clip" || a.Problem != "" || a.Parameters != b.Parameters {
		t.Errorf("%+v", a)
	}
	q8 := 0
	for _, tensor := range b.Tensors {
		if tensor.DType == "q8_0" {
			q8++
		}
	}
	if q8 == 0 {
		t.Errorf("no tensor of the quantized file is q8_0: %+v", b.Tensors[:3])
	}
	if out := must(t, "", "inspect", full, "--tensors"); !strings.Contains(out, "v.patch_embd.weight") {
		t.Errorf("%s", out)
	}
	if r := command(t, "", "convert", textsFile(t, "no checkpoint"), full); r.code != exitFailed {
		t.Errorf("a text file was converted: %s", r.err)
	}
}

func TestBenchJSON(t *testing.T) {
	dir := t.TempDir()
	first := filepath.Join(dir, "first.json")
	args := []string{"bench", "--no-alignment", "--tower", "image,text", "--batches", "2", "--batches", "4", "--min-time", "10ms", "--max-time", "100ms"}
	must(t, "", append(args, "--format", "json", "--out", first, "--opprofile", filepath.Join(dir, "ops.pprof"))...)
	data, err := os.ReadFile(first)
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Machine struct {
			CPU   string
			Cores int
		}
		Engine struct{ GGML, ISA string }
		Runs   []struct {
			Model, Tower string
			Batch        int
			ItemsPS      float64 `json:"items_per_s"`
		}
	}
	if err := json.Unmarshal(data, &doc); err != nil {
		t.Fatal(err)
	}
	if len(doc.Runs) != 4 || doc.Runs[0].ItemsPS <= 0 || doc.Machine.Cores == 0 || doc.Engine.GGML == "" {
		t.Errorf("%s", data)
	}
	if info, err := os.Stat(filepath.Join(dir, "ops.pprof")); err != nil || info.Size() == 0 {
		t.Errorf("no op profile: %v", err)
	}
	out := must(t, "", append(args, "--compare", first)...)
	if !strings.Contains(out, "image") || !strings.Contains(out, "items/s") {
		t.Errorf("%s", out)
	}
}

// benchRuns runs bench with a short time and returns the runs of its JSON, each by its tower.
func benchRuns(t *testing.T, stdin string, args ...string) map[string]benchRun {
	t.Helper()
	var doc struct{ Runs []benchRun }
	args = append([]string{"bench", "--no-alignment", "--max-time", "50ms", "--format", "json"}, args...)
	if err := json.Unmarshal([]byte(must(t, stdin, args...)), &doc); err != nil {
		t.Fatal(err)
	}
	runs := map[string]benchRun{}
	for _, r := range doc.Runs {
		runs[r.Tower] = r
	}
	return runs
}

type benchRun struct {
	Tower        string
	Texts, Calls int
	GFLOP        float64 `json:"gflop_per_item"`
	Ops          []struct {
		Op, Shape string
		Count     int
		TimeMS    float64 `json:"time_ms"`
		Share     float64
		GFLOPS    float64  `json:"gflops"`
		GBs       float64  `json:"gb_s"`
		Roof      *float64 `json:"roof_fraction"`
	}
}

// --ops puts the ops of every run into the table and the JSON, and only then.
func TestBenchOps(t *testing.T) {
	if runs := benchRuns(t, "", "--tower", "image", "--batches", "2", "--max-calls", "1"); runs["image"].Ops != nil || runs["image"].Calls != 1 {
		t.Errorf("without --ops, --max-calls 1: %+v", runs)
	}
	runs := benchRuns(t, "", "--tower", "image,text", "--batches", "2", "--ops")
	for tower, run := range runs {
		if len(run.Ops) < 5 {
			t.Fatalf("%s: %d ops", tower, len(run.Ops))
		}
		share, layers := 0.0, 0
		last := run.Ops[len(run.Ops)-1]
		for _, o := range run.Ops[:len(run.Ops)-1] {
			share += o.Share
			if !strings.HasPrefix(o.Op, tower+"/") || o.Shape == "" || o.TimeMS <= 0 || o.GBs <= 0 || o.Roof == nil {
				t.Errorf("%s: %+v", tower, o)
			}
			if strings.Contains(o.Op, "/blk.*/") {
				layers = max(layers, o.Count)
			}
		}
		if last.Op != "total" || math.Abs(share-1) > 1e-3 || layers < 2 {
			t.Errorf("%s: the shares add up to %g, %d layers in a row, the last op is %s", tower, share, layers, last.Op)
		}
	}
	merged := len(runs["image"].Ops)
	if n := len(benchRuns(t, "", "--tower", "image", "--batches", "2", "--ops-layers")["image"].Ops); n <= merged {
		t.Errorf("%d rows with each layer by itself, %d with layers together", n, merged)
	}
	out := must(t, "", "bench", "--no-alignment", "--tower", "image", "--batches", "2", "--max-time", "50ms", "--ops")
	_, table, ok := strings.Cut(out, "ops of demo image, cpu ")
	if !ok || !strings.Contains(table, "of roof") || !strings.Contains(table, "image/blk.*/") || !strings.Contains(table, "\ntotal ") {
		t.Errorf("%s", out)
	}
	for line := range strings.Lines(table) {
		if n := utf8.RuneCountInString(line) - 1; n > 120 {
			t.Errorf("a line of %d characters: %s", n, line)
		}
	}
}

// --texts replaces the made-up prompts of every tower that has some.
func TestBenchTexts(t *testing.T) {
	short, long := "a", strings.Repeat("a red circle and a blue square ", 3)
	of := func(text string, n int, args ...string) map[string]benchRun {
		return benchRuns(t, strings.Repeat(text+"\n", n), append(args, "--texts", "-")...)
	}
	a := of(short, 40, "--tower", "text,pair,e2e", "--batches", "4")
	b := of(long, 40, "--tower", "text,pair,e2e", "--batches", "4")
	for _, tower := range []string{"text", "pair", "e2e"} {
		if a[tower].GFLOP <= 0 || a[tower].GFLOP >= b[tower].GFLOP {
			t.Errorf("%s: %g GFLOP an item for short texts, %g for long ones", tower, a[tower].GFLOP, b[tower].GFLOP)
		}
	}
	if a["pair"].Texts != 33 || a["e2e"].Texts != 33 {
		t.Errorf("pair %+v, e2e %+v: want 33 of 40 texts", a["pair"], a["e2e"])
	}
	if few := of(short, 5, "--tower", "pair", "--batches", "8"); few["pair"].Texts != 5 {
		t.Errorf("pair %+v: want the 5 texts that there are", few["pair"])
	}
	for _, args := range [][]string{{"--batches", "6"}, {"--batches", "1", "--batches", "6"}, {"--batch", "6"}} {
		r := command(t, "", append([]string{"bench", "--no-alignment", "--tower", "text", "--texts", textsFile(t, "a", "b", "c", "d", "e")}, args...)...)
		if r.code != exitUsage || !strings.Contains(r.err, ": 5 lines: expected at least 6, the texts of a batch (--batches)") {
			t.Errorf("%q: status %d, stderr %s", args, r.code, r.err)
		}
	}
	if r := command(t, "", "bench", "--no-alignment", "--tower", "text", "--texts", textsFile(t, "a")); !strings.Contains(r.err, "expected at least 32") {
		t.Errorf("the batch of no flag: stderr %s", r.err)
	}
}
