package loadtest

import (
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/tia2-engine/tia2-engine/engine"
)

func writeFile(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestReadExpected(t *testing.T) {
	want := map[imageText]map[string]float64{
		{"a.png", "x"}: {"clip": 1, "pickscore": 5}, {"a.png", "y"}: {"clip": 2, "pickscore": 6}, {"b.png", "x"}: {"clip": 3}, {"b.png", "y"}: {"clip": 4},
	}
	set := `{"image":"a.png","prompt":"x","texts":["x","y"],"rewards":{"clip":[1,2],"pickscore":[5,6]}}
{"image":"b.png","prompt":"x","texts":["x","y"],"rewards":{"clip":[3,4]}}
`
	pairs := `{"images":["dir/a.png","b.png"],"texts":["x","y"],"rewards":{"clip":[[1,2],[3,4]],"pickscore":[[5,6],null]}}`
	for name, text := range map[string]string{"s.jsonl": set, "s.json": pairs} {
		e, err := ReadExpected(writeFile(t, name, text))
		if strings.HasSuffix(name, ".json") { // a row that is missing
			err = nil
		}
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, e.scores, cmpopts.EquateNaNs()); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestReadExpectedRefuses(t *testing.T) {
	for text, want := range map[string]string{
		`nonsense`: "invalid", `{"images":["a"],"texts":[],"rewards":{"clip":[]}}`: "0 rows of clip for 1 images",
		`{"images":["a"],"texts":["x"],"rewards":{"clip":[[1,2]]}}`: "row 0 of clip has 2 scores for 1 texts",
	} {
		if _, err := ReadExpected(writeFile(t, "s.json", text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", text, err, want)
		}
	}
	if _, err := ReadExpected(writeFile(t, "s.npz", "")); err == nil || !strings.Contains(err.Error(), ".jsonl or .json") {
		t.Errorf("error %v", err)
	}
	if _, err := ReadExpected(writeFile(t, "s.jsonl", "{")); err == nil {
		t.Error("a torn line is no error")
	}
	if _, err := ReadExpected("/no/such.json"); err == nil {
		t.Error("a missing file is no error")
	}
}

func TestCompare(t *testing.T) {
	w := work(t, 2, 2)
	e := &Expected{map[imageText]map[string]float64{}, "x"}
	e.put("0.png", w.Texts[0], "clip", 20)
	e.put("1.png", w.Texts[1], "clip", 0.5)
	e.put("1.png", w.Texts[1], "other", math.NaN())
	pairs := []engine.Pair{{Image: 0, Text: 0}, {Image: 1, Text: 1}, {Image: 0, Text: 1}}
	tests := []struct {
		got            answer
		checked, wrong int
	}{
		{answer{"clip": {20, 0.5, 9}}, 2, 0},
		{answer{"clip": {20.0019, 0.50009, 9}}, 2, 0},
		{answer{"clip": {20.0021, 0.5, 9}}, 2, 1},
		{answer{"clip": {20, 0.50011, 9}}, 2, 1},
		{answer{"clip": {math.NaN(), math.Inf(1), 9}}, 2, 2},
		{answer{"other": {1, 2, 3}, "third": {1, 2, 3}}, 0, 0},
	}
	for _, tt := range tests {
		if checked, wrong := e.compare(w, pairs, tt.got, 1e-4); checked != tt.checked || len(wrong) != tt.wrong {
			t.Errorf("%v: %d checked, wrong %q", tt.got, checked, wrong)
		}
	}
	if err := e.check(w, []string{"clip"}); err != nil {
		t.Error(err)
	}
	if e.check(w, []string{"pickscore"}) == nil {
		t.Error("no reward in common is no error")
	}
	if checked, wrong := (*Expected)(nil).compare(w, pairs, answer{"clip": {1, 2, 3}}, 0); checked != 0 || wrong != nil {
		t.Error("nothing is expected, and something was compared")
	}
}

func TestWorkload(t *testing.T) {
	w := work(t, 3, 2)
	want := []engine.Pair{{Image: 0, Text: 0}, {Image: 1, Text: 1}, {Image: 2, Text: 0}}
	if diff := cmp.Diff(want, w.Pairs); diff != "" {
		t.Error(diff)
	}
	wantRequests := [][]engine.Pair{{want[0], want[1]}, {want[2], want[0]}}
	if diff := cmp.Diff(wantRequests, w.requests(2)); diff != "" {
		t.Error(diff)
	}
	if got := w.requests(7); len(got) != 1 || len(got[0]) != 7 {
		t.Errorf("requests %v", got)
	}
	if _, err := New(nil, []string{"x"}); err == nil {
		t.Error("no images are no error")
	}
	if _, err := New([]engine.Image{engine.File("/no/such.png")}, []string{"x"}); err == nil {
		t.Error("a missing file is no error")
	}
	path := writeFile(t, "p.png", "data")
	if w, err := New([]engine.Image{engine.File(path)}, []string{"x"}); err != nil || w.Images[0].Name != "p.png" || string(w.Images[0].Data) != "data" {
		t.Errorf("%+v, %v", w, err)
	}
	demo, err := Demo()
	if err != nil || len(demo.Pairs) != 1080 || len(demo.Images) != 1080 || len(demo.Images[1079].Data) == 0 {
		t.Errorf("the embedded set: %v", err)
	}
}
