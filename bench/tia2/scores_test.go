package tia2

import (
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const goodScores = `{"image":"a.jpg","prompt":"two cats","texts":["two cats","one cat"],"rewards":{"clip":[0.25,-1.5e-3]}}

{"image":"b.jpg","prompt":"two cats","texts":["two cats","one cat"],"rewards":{"clip":[1,2],"pickscore":[20,21]},"more":1}
{"image":"a.jpg","prompt":"two cats","texts":["two cats","one cat"],"rewards":{"pickscore":[22,23]}}
{"image":"a.jpg","prompt":"a <dog> & café","texts":["a <dog> & café"],"rewards":{"clip":[3]}}
`

func TestReadScores(t *testing.T) {
	s := NewScores()
	if err := s.ReadScores(strings.NewReader(strings.TrimSuffix(goodScores, "\n")), "s.jsonl"); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"a <dog> & café", "two cats"}, s.Prompts()); diff != "" {
		t.Errorf("prompts (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"clip", "pickscore"}, s.Rewards()); diff != "" {
		t.Errorf("rewards (-want +got):\n%s", diff)
	}
	want := &PromptScores{Texts: []string{"two cats", "one cat"}, Images: map[string]map[string][]float64{
		"a.jpg": {"clip": {0.25, -0.0015}, "pickscore": {22, 23}},
		"b.jpg": {"clip": {1, 2}, "pickscore": {20, 21}},
	}}
	if diff := cmp.Diff(want, s.Prompt("two cats")); diff != "" {
		t.Errorf("scores (-want +got):\n%s", diff)
	}
	if s.Prompt("three cats") != nil {
		t.Error("scores of a prompt that has none")
	}
}

func TestReadScoresErrorsNameTheLine(t *testing.T) {
	line := func(rest string) string { return goodScores + `{"image":"c.jpg","prompt":"p",` + rest + "}\n" }
	for _, c := range []struct{ name, text, want string }{
		{"torn", goodScores + `{"image":"c.jpg","pro`, "s.jsonl:6: "},
		{"nan", line(`"texts":["p"],"rewards":{"clip":[NaN]}`), "s.jsonl:6: damaged or not in the expected format: byte 64"},
		{"null", line(`"texts":["p"],"rewards":{"clip":[null]}`), `reward "clip" has a null`},
		{"overflow", line(`"texts":["p"],"rewards":{"clip":[1e999]}`), `reward "clip"`},
		{"type", line(`"texts":["p"],"rewards":{"clip":["1"]}`), `reward "clip"`},
		{"count", line(`"texts":["p","q"],"rewards":{"clip":[1]}`), `1 values of reward "clip" for 2 texts`},
		{"first text", line(`"texts":["q","p"],"rewards":{"clip":[1,2]}`), "the first of the texts is not the prompt"},
		{"no texts", line(`"rewards":{"clip":[]}`), "the first of the texts"},
		{"no rewards", line(`"texts":["p"]`), "no rewards"},
		{"no name", line(`"texts":["p"],"rewards":{"":[1]}`), "without a name"},
		{"no image", `{"prompt":"p","texts":["p"],"rewards":{"clip":[1]}}`, "s.jsonl:1: damaged or not in the expected format: no image"},
		{"no prompt", `{"image":"p","texts":["p"],"rewards":{"clip":[1]}}`, "no prompt"},
		{"not an object", "[]\n", "s.jsonl:1: "},
		{"other texts", goodScores + `{"image":"c.jpg","prompt":"two cats","texts":["two cats"],"rewards":{"clip":[1]}}`, "s.jsonl:6: damaged or not in the expected format: other texts than an earlier line"},
		{"other model", line(`"texts":["p"],"rewards":{"clip":[1]},"models":{"clip":"A"}`) + `{"image":"d.jpg","prompt":"p","texts":["p"],"rewards":{"clip":[1]},"models":{"clip":"B"}}`, "s.jsonl:7: damaged or not in the expected format: reward clip is from model B, on an earlier line from A"},
		{"long", `{"image":"` + strings.Repeat("x", lineBytesMax), "longer than"},
	} {
		err := NewScores().ReadScores(strings.NewReader(c.text), "s.jsonl")
		if !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", c.name, err, c.want)
		}
	}
}

func line(image string, rewards map[string][]float64) Line {
	return Line{Image: image, Prompt: "a <cat> & café", Texts: []string{"a <cat> & café", "a dog"}, Rewards: rewards}
}

func TestWriterResumesAfterKill(t *testing.T) {
	path := filepath.Join(t.TempDir(), "scores.jsonl")
	first, second := line("a.jpg", map[string][]float64{"clip": {1. / 3, float64(float32(0.1))}}), line("b.jpg", map[string][]float64{"clip": {-1e-300, 2}})
	w, err := CreateScores(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range []Line{first, second} {
		if err := w.Write(l); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(path + partSuffix)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	// A killed writer leaves any prefix: whatever the cut, going on must give the same file.
	for cut := 0; cut <= len(whole); cut++ {
		if err := os.WriteFile(path+partSuffix, whole[:cut], 0o666); err != nil {
			t.Fatal(err)
		}
		w, err := CreateScores(path)
		if err != nil {
			t.Fatalf("cut at %d: %v", cut, err)
		}
		for _, l := range []Line{first, second} {
			if p := w.Scores().Prompt(l.Prompt); p != nil && p.Images[l.Image] != nil {
				continue
			}
			if err := w.Write(l); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := os.Stat(path); err == nil {
			t.Fatal("the final name exists before Commit")
		}
		if err := w.Commit(); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(path)
		if err != nil || string(got) != string(whole) {
			t.Fatalf("cut at %d: %v, got\n%s\nwant\n%s", cut, err, got, whole)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	if !strings.Contains(string(whole), "a <cat> & café") {
		t.Errorf("the text is escaped: %s", whole)
	}
}

func TestWriterAddsToAFinishedFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "scores.jsonl")
	if err := os.WriteFile(path, []byte(strings.TrimSuffix(goodScores, "\n")), 0o666); err != nil {
		t.Fatal(err)
	}
	w, err := CreateScores(path)
	if err != nil {
		t.Fatal(err)
	}
	added := line("a.jpg", map[string][]float64{"hpsv2": {0.1, 0.2}})
	added.Models = map[string]string{"hpsv2": "m"}
	if err := w.Write(added); err != nil {
		t.Fatal(err)
	}
	if now, err := os.ReadFile(path); err != nil || string(now)+"\n" != goodScores {
		t.Errorf("the finished file changed before Commit: %v", err)
	}
	if err := w.Commit(); err != nil {
		t.Fatal(err)
	}
	s := NewScores()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := s.ReadScores(f, path); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"clip", "hpsv2", "pickscore"}, s.Rewards()); diff != "" || s.Model("hpsv2") != "m" {
		t.Errorf("model %q, rewards (-want +got):\n%s", s.Model("hpsv2"), diff)
	}
}

func TestWriterRefuses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "scores.jsonl")
	w, err := CreateScores(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Write(line("a.jpg", map[string][]float64{"clip": {1, math.NaN()}})); err == nil || !strings.Contains(err.Error(), "a.jpg") {
		t.Errorf("NaN: %v", err)
	}
	if err := w.Write(line("a.jpg", map[string][]float64{"clip": {1}})); !errors.Is(err, ErrFormat) {
		t.Errorf("a value short: %v", err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := w.Write(line("a.jpg", map[string][]float64{"clip": {1, 2}})); !errors.Is(err, os.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	if err := w.Commit(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("Commit after Close: %v", err)
	}
	// Damage that is no torn last line ends the run and keeps the file.
	const damaged = "{]\n" + goodScores
	if err := os.WriteFile(path+partSuffix, []byte(damaged), 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := CreateScores(path); !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), ":1: ") {
		t.Errorf("damaged file: %v", err)
	}
	if now, err := os.ReadFile(path + partSuffix); err != nil || string(now) != damaged {
		t.Errorf("the damaged file changed: %v", err)
	}
}

func FuzzReadScores(f *testing.F) {
	f.Add([]byte(goodScores))
	f.Add([]byte(goodScores[:100]))
	f.Add([]byte(`{"image":"a","prompt":"p","texts":["p"],"rewards":{"clip":[1]}}`))
	f.Add([]byte("{\"rewards\":{\"a\":null}}\n\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		s := NewScores()
		if err := s.ReadScores(strings.NewReader(string(data)), "fuzz"); err != nil && !errors.Is(err, ErrFormat) {
			t.Errorf("%v does not wrap ErrFormat", err)
		}
		for _, prompt := range s.Prompts() {
			p := s.Prompt(prompt)
			for image, rewards := range p.Images {
				for name, values := range rewards {
					if len(values) != len(p.Texts) {
						t.Errorf("%s: %s: %d values for %d texts", image, name, len(values), len(p.Texts))
					}
				}
			}
		}
	})
}
