package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/tia2-engine/tia2-engine/bench/demo"
)

// TestMain keeps the user's cache folder out of it, and lets the test binary be the program that TestScoreSetKilled
// kills.
func TestMain(m *testing.M) {
	if args := os.Getenv("TIA2_TEST_ARGS"); args != "" {
		os.Exit(run(context.Background(), strings.Split(args, "\n"), stdio{os.Stdin, os.Stdout, os.Stderr}))
	}
	cache, err := os.MkdirTemp("", "tia2-engine-test-")
	if err != nil {
		panic(err)
	}
	os.Setenv("XDG_CACHE_HOME", cache)
	os.Setenv("HOME", cache)
	code := m.Run()
	os.RemoveAll(cache)
	os.Exit(code)
}

type outcome struct {
	code     int
	out, err string
}

// command runs the program in this process.
func command(t *testing.T, stdin string, args ...string) outcome {
	t.Helper()
	var out, errs bytes.Buffer
	code := run(t.Context(), args, stdio{in: strings.NewReader(stdin), out: &out, err: &errs})
	return outcome{code, out.String(), errs.String()}
}

// cutNote is what stderr has of a text that is longer than a model takes.
var cutNote = regexp.MustCompile(`(?m)^tia2-engine: note: .* is longer than \d+ tokens: the rest was cut off\n`)

// must fails the test unless the command exits with status 0 and says nothing on stderr but of texts that were cut.
func must(t *testing.T, stdin string, args ...string) string {
	t.Helper()
	r := command(t, stdin, args...)
	if r.code != exitDone || cutNote.ReplaceAllString(r.err, "") != "" {
		t.Fatalf("%q: status %d, stderr %s", args, r.code, r.err)
	}
	return r.out
}

func TestWrongUsage(t *testing.T) {
	for _, c := range []struct {
		args string
		want string // in stderr
	}{
		{"nope", `no command "nope": expected one of bench, embed`},
		{"embed --nope 1", "not defined"},
		{"embed --images x", "--out FILE is missing"},
		{"embed --out x.npz", "nothing to embed"},
		{"embed --images x --out x.csv", "expected a file name that ends in one of .npz, .npy, .jsonl, .parquet"},
		{"embed --images x --texts y --out t2.npy", "one array: expected --images or --texts, not both"},
		{"embed --images x --out x.npz y", "1 arguments"},
		{"embed --texts x --out x.npz --dtype f64", "f32, bf16, f16 or int8"},
		{"embed --texts x --out x.npz --threads two", "invalid value"},
		{"embed --texts x --out x.npz --itm-token sep", "--itm-token sep: expected cls or enc"},
		{"embed --texts x --out x.npz --itm-output score", "--itm-output score: expected probability or logit"},
		{"embed --texts x --out x.npz --text-cleaning all", "--text-cleaning all: expected none or blip_caption"},
		{"embed --texts x --out x.npz --max-length 1", "--max-length 1: expected 2 or more, for the special tokens, or -1"},
		{"embed --texts x --out x.npz --max-length 0", "--max-length 0: expected 2 or more"},
		{"embed --texts x --out x.npz --image-size 0", "--image-size 0: expected 1 to 4096"},
		{"convert a b --image-size 5000", "--image-size 5000: expected 1 to 4096"},
		{"score --images x --texts y --scale-convention best", `--scale-convention "best": expected one of raw, cosine, mixgrpo, torchmetrics, clipscore, /N`},
		{"score --set demo --out s.jsonl --scale-convention clip=/0", `--scale-convention "/0": expected one of raw`},
		{"eval --scale-convention /2 --scale-convention /3", `--scale-convention "/3": there is one already`},
		{"eval --scores x --scale-convention /2", "expected no --scores"},
		{"score --images x", "--images and --texts, or --set"},
		{"score --images x --texts y --out z.npy", ".npz, .json"},
		{"embed --texts x --out x.npz --embeddings-cache-size much", "--embeddings-cache-size much: expected a size above 0"},
		{"score --set demo", "--out FILE.jsonl is missing"},
		{"score --set demo --set-images x --out s.jsonl", "holds its pictures"},
		{"eval --scores x --model demo", "not both"},
		{"eval --protocol best", "--protocol"},
		{"eval --minmax all", "image or set"},
		{"eval --softmax-scale -1", "scale above 0"},
		{"eval --plot x.gif", ".svg or .png"},
		{"eval --format xml", "table, json, csv, markdown"},
		{"bench --tower nose", "--tower nose: expected some of image"},
		{"bench --batches 0", "--batches 0"},
		{"bench --max-calls 0", "--max-calls 0: expected a number >= 1"},
		{"bench --no-throughput --ops", "--ops is about the timings: expected no --no-throughput"},
		{"bench --no-throughput --ops-layers", "--ops-layers is about the timings"},
		{"bench --no-throughput --opprofile x", "--opprofile is about the timings"},
		{"bench --no-throughput --texts x", "--texts is about the timings"},
		{"bench --texts x --tower image,file", "the tower image,file takes none: expected one of text, pair, e2e in --tower"},
		{"convert x", "a checkpoint and the file to write"},
		{"quantize", "a GGUF file and the file to write"},
		{"inspect", "one file or folder"},
		{"pull", "one repository"},
		{"pull a/b --cache off", "expected a folder"},
		{"tokenize --tokenizer nope", "expected one of clip"},
		{"tokenize --max-length 1", "2 or more"},
		{"preprocess --out x.npz", "one file or more"},
		{"preprocess a.jpg", "--out FILE.npz is missing"},
		{"preprocess a.jpg --out x.npz --pipeline nope", "--pipeline nope"},
		{"preprocess a.jpg --out x.npz --pipeline hpsv2", "makes no bytes"},
		{"preprocess a.jpg --out x.npz --size 0", "1 to 4096"},
		{"preprocess a.jpg --out x.npz --type f32 --mean 1,2", "three numbers"},
		{"devices x", "expected none"},
		{"version --format yaml", "table, json"},
	} {
		args := strings.Fields(c.args)
		if len(args) > 1 && args[0] == "embed" && args[1] == "--texts" {
			args[2] = textsFile(t, "a")
		}
		r := command(t, "", args...)
		if r.code != exitUsage || !strings.HasPrefix(r.err, "tia2-engine: ") || !strings.Contains(r.err, c.want) || r.out != "" {
			t.Errorf("%s: status %d, stdout %q, stderr %q: want status 2 and %q", c.args, r.code, r.out, r.err, c.want)
		}
	}
}

func TestFailures(t *testing.T) {
	dir := t.TempDir()
	for _, args := range [][]string{
		{"embed", "--images", filepath.Join(dir, "*.jpg"), "--out", filepath.Join(dir, "x.npz")},
		{"embed", "--texts", filepath.Join(dir, "none"), "--out", filepath.Join(dir, "x.npz")},
		{"embed", "--texts", textsFile(t, "a"), "--model", filepath.Join(dir, "none.gguf"), "--out", filepath.Join(dir, "x.npz")},
		{"embed", "--texts", textsFile(t, "a"), "--backend", "abacus", "--out", filepath.Join(dir, "x.npz")},
		{"eval", "--set", filepath.Join(dir, "none")},
		{"eval", "--scores", filepath.Join(dir, "none.jsonl")},
		{"bench", "--compare", filepath.Join(dir, "none.json")},
		{"bench", "--texts", filepath.Join(dir, "none")},
		{"bench", "--texts", textsFile(t)},
		{"inspect", filepath.Join(dir, "none")},
		{"convert", filepath.Join(dir, "none"), filepath.Join(dir, "x.gguf")},
		{"quantize", filepath.Join(dir, "none"), filepath.Join(dir, "x.gguf")},
		{"tokenize", filepath.Join(dir, "none.jsonl")},
	} {
		r := command(t, "", args...)
		if r.code != exitFailed || !strings.HasPrefix(r.err, "tia2-engine: ") || strings.Contains(r.err, "tia2: ") || r.out != "" {
			t.Errorf("%q: status %d, stdout %q, stderr %q: want status 1 and a message", args, r.code, r.out, r.err)
		}
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("failed commands left %v", left)
	}
}

func TestFlagsMayFollowArguments(t *testing.T) {
	app := newApp(&console{})
	for in, want := range map[string]string{
		"convert A B --dtype f16":         "convert --dtype f16 -- A B",
		"convert --dtype=f16 A -v B":      "convert --dtype=f16 -v -- A B",
		"tokenize - --out x":              "tokenize --out x -- -",
		"preprocess --out x -- -a.jpg -v": "preprocess --out x -- -a.jpg -v",
		"version":                         "version --",
		"nope -x":                         "nope -x",
	} {
		if got := strings.Join(permute(app, strings.Fields(in)), " "); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}

func TestHelp(t *testing.T) {
	if out := must(t, ""); !strings.Contains(out, "preprocess") {
		t.Errorf("no command: %s", out)
	}
	for _, name := range commandNames(newApp(&console{})) {
		out := must(t, "", name, "--help")
		if !strings.Contains(out, "--cpuprofile") {
			t.Errorf("%s: %s", name, out)
		}
		for line := range strings.Lines(out) {
			if strings.Count(line, "(default: ") > 1 {
				t.Errorf("%s: two defaults: %s", name, line)
			}
		}
	}
}

func TestHelpTellsDefaults(t *testing.T) {
	help := strings.Join(strings.Fields(must(t, "", "bench", "--help")), " ")
	for _, want := range []string{
		"CPU threads (default: one for each CPU that this process may use)", "images or texts a call (default: 32)",
		"for downloads and converted checkpoints, or off", "for at least this long (default: 500ms)",
	} {
		if !strings.Contains(help, want) {
			t.Errorf("no %q in %s", want, help)
		}
	}
}

func TestUnknownBackend(t *testing.T) {
	r := command(t, "", "embed", "--texts", textsFile(t, "a"), "--backend", "abacus", "--out", filepath.Join(t.TempDir(), "x.npz"))
	if !strings.Contains(r.err, `no device or backend "abacus": expected auto or one of CPU (cpu)`) || strings.Contains(r.err, "failed") {
		t.Errorf("stderr %q", r.err)
	}
}

// Missing pictures are counted and named once, and cost only themselves.
func TestMissingPictures(t *testing.T) {
	set := smallSet(t, 2, 8)
	pictures, err := filepath.Glob(filepath.Join(set, "images", "demo", "*"))
	if err != nil || len(pictures) != 16 {
		t.Fatal(pictures, err)
	}
	for _, path := range pictures[:12] {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	out := filepath.Join(t.TempDir(), "s.jsonl")
	for _, args := range [][]string{
		{"eval", "--set", set, "--resamples", "100"},
		{"score", "--set", set, "--out", out},
	} {
		r := command(t, "", args...)
		if r.code != exitFailed || strings.Count(r.err, "\n") != 1 || !strings.Contains(r.err, "set demo: 12 annotated images are missing: ") ||
			!strings.Contains(r.err, " and 2 more") {
			t.Errorf("%q: status %d, stderr %s", args, r.code, r.err)
		}
	}
	if data, err := os.ReadFile(out); err != nil || bytes.Count(data, []byte("\n")) != 4 {
		t.Errorf("scores: %v, %s", err, data)
	}
}

func TestNoPictures(t *testing.T) {
	set := smallSet(t, 1, 4)
	folder := filepath.Join(set, "images", "demo")
	if err := os.RemoveAll(folder); err != nil {
		t.Fatal(err)
	}
	empty, out := t.TempDir(), filepath.Join(t.TempDir(), "s.jsonl")
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"eval", "--set", set}, folder + ": name their folder with --images"},
		{[]string{"bench", "--set", set, "--no-throughput"}, folder + ": name their folder with --images"},
		{[]string{"eval", "--set", set, "--images", empty}, empty + ": name their folder with --images"},
		{[]string{"score", "--set", set, "--out", out}, folder + ": name their folder with --images"},
		{[]string{"score", "--set", set, "--set-images", empty, "--out", out}, empty + ": name their folder with --set-images"},
	} {
		r := command(t, "", c.args...)
		if want := "tia2-engine: no pictures of the set in " + c.want + "\n"; r.code != exitFailed || r.err != want {
			t.Errorf("%q: status %d, stderr %q, want %q", c.args, r.code, r.err, want)
		}
	}
}

// Only what takes long is shown, unless its reports come seldom.
func TestProgressIsShown(t *testing.T) {
	for _, eager := range []bool{false, true} {
		var out bytes.Buffer
		bar := &progress{w: &out, eager: eager}
		bar.items("demo image, batch 32", 0, 4)
		bar.items("demo text, batch 32", 1, 4)
		if shown := strings.Contains(out.String(), "demo image, batch 32") && strings.Contains(out.String(), "(1/4)"); shown != eager {
			t.Errorf("eager %v: %q", eager, out.String())
		}
		bar.done()
	}
}

func TestVersionAndDevices(t *testing.T) {
	var v map[string]string
	if err := json.Unmarshal([]byte(must(t, "", "version", "--format", "json")), &v); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"version", "ggml", "isa", "libjpeg_turbo", "libpng", "libwebp", "go"} {
		if v[key] == "" {
			t.Errorf("version without %s: %v", key, v)
		}
	}
	var d struct {
		Devices []struct{ Name, Backend string }
	}
	if err := json.Unmarshal([]byte(must(t, "", "devices", "--format", "json")), &d); err != nil || len(d.Devices) == 0 {
		t.Errorf("devices: %+v, %v", d, err)
	}
}

func TestProfileIsWritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "cpu.pprof")
	must(t, "", "version", "--cpuprofile", path)
	if b, err := os.ReadFile(path); err != nil || !bytes.HasPrefix(b, []byte{0x1f, 0x8b}) {
		t.Errorf("profile of %d bytes, %v", len(b), err)
	}
}

// smallSet writes a part of the demo set to a folder in the layout of the release.
func smallSet(t *testing.T, prompts, images int) string {
	t.Helper()
	dir := t.TempDir()
	read := func(name string, v any) {
		data, err := fs.ReadFile(demo.Set(), name)
		if err == nil {
			err = json.Unmarshal(data, v)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	write := func(name string, data []byte) {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var texts map[string][]string
	var labels map[string]struct {
		Image   string `json:"image"`
		Caption string `json:"caption"`
		Labels  []int  `json:"human_labels"`
	}
	read("prompts/prompt_set_demo.json", &texts)
	read("human_annotations/human_labels_demo.json", &labels)
	count := map[string]int{}
	for name, label := range labels {
		if _, known := count[label.Caption]; !known && len(count) == prompts || count[label.Caption] == images {
			delete(labels, name)
			continue
		}
		count[label.Caption]++
		data, err := fs.ReadFile(demo.Set(), "images/demo/"+name)
		if err != nil {
			t.Fatal(err)
		}
		write("images/demo/"+name, data)
	}
	for caption := range texts {
		if count[caption] == 0 {
			delete(texts, caption)
		}
	}
	for name, v := range map[string]any{"prompts/prompt_set_demo.json": texts, "human_annotations/human_labels_demo.json": labels} {
		data, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		write(name, data)
	}
	return dir
}

// A scoring run that is killed leaves no file under the final name, and the same command goes on where it was.
func TestScoreSetKilled(t *testing.T) {
	set := smallSet(t, 8, 6)
	out := filepath.Join(t.TempDir(), "scores.jsonl")
	args := []string{"score", "--set", set, "--out", out, "--embeddings-cache", "off", "-v"} // else it could be done before it is killed
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), "TIA2_TEST_ARGS="+strings.Join(args, "\n"))
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(60 * time.Second); ; time.Sleep(time.Millisecond) {
		if info, err := os.Stat(out + ".part"); err == nil && info.Size() > 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("no line was written")
		}
	}
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = child.Wait()
	if _, err := os.Stat(out); err == nil {
		t.Fatal("the killed run left the final file: it ended before it was killed, or the file is half")
	}
	r := command(t, "", args...)
	if r.code != exitDone {
		t.Fatalf("status %d, stderr %s", r.code, r.err)
	}
	var scored, resumed, failed int
	for line := range strings.Lines(r.err) {
		_, _ = fmt.Sscanf(line, "tia2-engine: set demo: %d images scored, %d were there already, %d failed", &scored, &resumed, &failed)
	}
	if resumed == 0 || scored+resumed != 8*6 {
		t.Errorf("%d images scored, %d were there already: want %d together, and some of both", scored, resumed, 8*6)
	}
	whole := filepath.Join(t.TempDir(), "whole.jsonl")
	must(t, "", "score", "--set", set, "--out", whole, "--embeddings-cache", "off")
	a, _ := os.ReadFile(out)
	b, _ := os.ReadFile(whole)
	if len(a) == 0 || !bytes.Equal(a, b) {
		t.Error("the continued file differs from one written in one go")
	}
	alignment := must(t, "", "eval", "--set", set, "--scores", out, "--resamples", "200", "--format", "csv")
	if again := must(t, "", "eval", "--set", set, "--resamples", "200", "--format", "csv"); again != alignment {
		t.Errorf("eval of a model:\n%s\nof its scores:\n%s", again, alignment)
	}
	checkEvalJSON(t, set, out)
}

// checkEvalJSON looks for the names that scripts rely on, and for the picture.
func checkEvalJSON(t *testing.T, set, scores string) {
	t.Helper()
	plot := filepath.Join(t.TempDir(), "best.svg")
	var result struct {
		Sets []struct {
			Set     string
			Rewards []struct {
				Name    string
				Mean    map[string]*float64
				Prompts map[string]map[string]any
			}
		}
	}
	out := must(t, "", "eval", "--set", set, "--scores", scores, "--resamples", "100", "--format", "json", "--plot", plot)
	if err := json.Unmarshal([]byte(out), &result); err != nil {
		t.Fatal(err)
	}
	if len(result.Sets) != 1 || len(result.Sets[0].Rewards) != 2 || result.Sets[0].Rewards[1].Name != "clip_textnorm" {
		t.Fatalf("%s", out)
	}
	for _, r := range result.Sets[0].Rewards {
		for _, metric := range []string{"auroc", "auprc", "ap5", "ap10", "ap25", "spearman", "kendall"} {
			if r.Mean[metric] == nil {
				t.Errorf("%s has no %s", r.Name, metric)
			}
		}
		for prompt, figures := range r.Prompts {
			if figures["human"] == nil {
				t.Errorf("%s, %s: no human", r.Name, prompt)
			}
		}
	}
	if b, err := os.ReadFile(plot); err != nil || !bytes.Contains(b, []byte("<svg")) {
		t.Errorf("no picture: %v", err)
	}
}
