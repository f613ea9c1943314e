package tia2

import (
	"encoding/json"
	"errors"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/tia2-engine/tia2-engine/internal/sharedtest"
)

const (
	goodPrompts = `{"two cats": ["one cat", "two dogs", "one cat"], "a dog": ["a cat"], "a bird": ["a fish"]}`
	goodLabels  = `{
  "b.jpg": {"image": "b.jpg", "caption": "two cats", "human_labels": [1, 0, 1]},
  "a.jpg": {"image": "a.jpg", "caption": "two cats", "human_labels": [1, 0, -1]},
  "c.jpg": {"image": "c.jpg", "caption": "a mouse", "human_labels": [0, 0, 0]}
}`
)

func release(prompts, labels string) fstest.MapFS {
	return fstest.MapFS{
		"prompts/prompt_set_x.json":             {Data: []byte(prompts)},
		"human_annotations/human_labels_x.json": {Data: []byte(labels)},
	}
}

func TestLoad(t *testing.T) {
	fsys := release(goodPrompts, goodLabels)
	for name, data := range map[string]string{"b.jpg": "picture b", "c.jpg": "c", "d.JPG": "d", "notes.txt": "", ".hidden.jpg": ""} {
		fsys["images/x/"+name] = &fstest.MapFile{Data: []byte(data)}
	}
	set, err := Load(fsys, "x")
	if err != nil {
		t.Fatal(err)
	}
	want := []Prompt{
		{"two cats", []string{"one cat", "two dogs", "one cat"}, []Image{{"b.jpg", []int{1, 0, 1}}, {"a.jpg", []int{1, 0, -1}}}},
		{"a mouse", nil, []Image{{"c.jpg", []int{0, 0, 0}}}},
	}
	if diff := cmp.Diff(want, set.Prompts); diff != "" {
		t.Errorf("prompts (-want +got):\n%s", diff)
	}
	problems := Problems{MissingImages: []string{"a.jpg"}, ExtraImages: []string{"d.JPG"},
		MissingContrastive: []string{"a mouse"}, UnusedPrompts: []string{"a dog", "a bird"}}
	if diff := cmp.Diff(problems, set.Problems); diff != "" {
		t.Errorf("problems (-want +got):\n%s", diff)
	}
	lines := []string{"1 annotated image is missing: a.jpg", "1 image has no annotation: d.JPG",
		"1 caption has no contrastive prompts: a mouse", "2 prompts have no images: a dog and 1 more"}
	if diff := cmp.Diff(lines, set.Problems.Lines(1)); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"two cats", "one cat", "two dogs"}, set.Prompts[0].Texts()); diff != "" {
		t.Errorf("texts (-want +got):\n%s", diff)
	}
	if data, err := set.ReadImage("b.jpg"); err != nil || string(data) != "picture b" {
		t.Errorf("ReadImage: %q, %v", data, err)
	}
	if _, err := set.ReadImage("a.jpg"); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "a.jpg") {
		t.Errorf("ReadImage of a missing file: %v", err)
	}
	if images, texts := set.Counts(); images != 3 || texts != 4 {
		t.Errorf("%d images and %d texts, want 3 and 4", images, texts)
	}
}

func TestLabelRule(t *testing.T) {
	for _, c := range []struct {
		labels   []int
		positive bool
		graded   float64
	}{
		{[]int{0, 0, 0}, false, 0},
		{[]int{1, 0, 0}, false, 1. / 3},
		{[]int{1, -1, 0}, false, 0.5},
		{[]int{1, 1, 0}, true, 2. / 3},
		{[]int{1, 1, -1}, true, 2.5 / 3},
		{[]int{1, 1, 1}, true, 1},
		{[]int{1}, true, 1},
		{[]int{1, 0}, false, 0.5},
	} {
		i := Image{Labels: c.labels}
		if i.Positive() != c.positive || math.Abs(i.Graded()-c.graded) > 1e-15 {
			t.Errorf("%v: positive %v, graded %g; want %v, %g", c.labels, i.Positive(), i.Graded(), c.positive, c.graded)
		}
	}
}

func TestLoadErrorsNameFileAndPlace(t *testing.T) {
	label := func(s string) string { return "{\n " + s + "\n}" }
	for _, c := range []struct{ name, prompts, labels, want string }{
		{"cut off", goodPrompts[:30], goodLabels, "prompts/prompt_set_x.json:1:31: "},
		{"not an object", "[1]", goodLabels, "prompts/prompt_set_x.json:1:1: "},
		{"wrong type", `{"a": "b"}`, goodLabels, `prompt_set_x.json:1:10: damaged or not in the expected format: "a": a string where []string is wanted`},
		{"prompt twice", `{"a": ["b"], "a": ["c"]}`, goodLabels, `the key "a" occurs twice`},
		{"empty contrastive", `{"a": [null]}`, goodLabels, `prompt "a": a contrastive prompt is empty`},
		{"not UTF-8", "{\"a\xff\": []}", goodLabels, "prompt_set_x.json:1:4: damaged or not in the expected format: invalid UTF-8"},
		{"empty file", goodPrompts, "", "human_annotations/human_labels_x.json:1:1: "},
		{"comma", goodPrompts, "{\n\"a.jpg\": {},\n}", "human_labels_x.json:3:2: "},
		{"key and image", goodPrompts, label(`"a.jpg": {"image": "b.jpg", "caption": "c", "human_labels": [1]}`), `human_labels_x.json:2:11: damaged or not in the expected format: image "a.jpg": its entry is about image "b.jpg"`},
		{"no caption", goodPrompts, label(`"a.jpg": {"human_labels": [1]}`), "no caption"},
		{"no labels", goodPrompts, label(`"a.jpg": {"caption": "c"}`), "no human_labels"},
		{"label", goodPrompts, label(`"a.jpg": {"caption": "c", "human_labels": [1, 2]}`), "label 2, want 1, 0 or -1"},
		{"null label", goodPrompts, label(`"a.jpg": {"caption": "c", "human_labels": [1, null]}`), "a label is null"},
		{"fraction", goodPrompts, label(`"a.jpg": {"caption": "c", "human_labels": [0.5]}`), "human_labels_x.json:2:"},
		{"path", goodPrompts, label(`"../a.jpg": {"caption": "c", "human_labels": [1]}`), "not the name of a file inside"},
		{"image twice", goodPrompts, label(`"a.jpg": {"caption": "c", "human_labels": [1]}, "a.jpg": {"caption": "c", "human_labels": [0]}`), "occurs twice"},
	} {
		_, err := Load(release(c.prompts, c.labels), "x")
		if !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", c.name, err, c.want)
		}
	}
	_, err := Load(release(goodPrompts, goodLabels), "y")
	if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "prompt_set_y.json") {
		t.Errorf("missing set: %v", err)
	}
}

// writeRelease puts the files on disk and returns the folder.
func writeRelease(t *testing.T, files fstest.MapFS) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, files); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestOpenFindsImages(t *testing.T) {
	files := release(goodPrompts, goodLabels)
	files["pictures/b.jpg"] = &fstest.MapFile{Data: []byte("flat")}
	files["many/x/b.jpg"] = &fstest.MapFile{Data: []byte("per set")}
	dir := writeRelease(t, files)
	for _, c := range []struct{ images, want string }{
		{"", ""},
		{filepath.Join(dir, "pictures"), "flat"},
		{filepath.Join(dir, "many"), "per set"},
	} {
		sets, err := Open(dir, Options{Images: c.images})
		if err != nil || len(sets) != 1 || sets[0].Name != "x" {
			t.Fatalf("%q: %v, %v", c.images, sets, err)
		}
		if sets[0].HasImages() != (c.want != "") {
			t.Errorf("%q: HasImages is %v", c.images, sets[0].HasImages())
		}
		found, in := 0, filepath.Join(dir, "images", "x")
		switch c.want {
		case "flat":
			found, in = 1, c.images
		case "per set":
			found, in = 1, filepath.Join(c.images, "x")
		}
		if sets[0].ImagesFound() != found || sets[0].ImagesDir() != in {
			t.Errorf("%q: %d images in %s: want %d in %s", c.images, sets[0].ImagesFound(), sets[0].ImagesDir(), found, in)
		}
		data, err := sets[0].ReadImage("b.jpg")
		if (err == nil) != (c.want != "") || string(data) != c.want {
			t.Errorf("%q: read %q, %v; want %q", c.images, data, err, c.want)
		}
		if path := sets[0].ImagePath("b.jpg"); c.want != "" {
			if data, err := os.ReadFile(path); err != nil || string(data) != c.want {
				t.Errorf("ImagePath %q: %q, %v", path, data, err)
			}
		} else if path != "" {
			t.Errorf("ImagePath without images: %q", path)
		}
	}
	for _, opt := range []Options{{Images: filepath.Join(dir, "none")}, {Names: []string{"none"}}} {
		if _, err := Open(dir, opt); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "none") {
			t.Errorf("%+v: got %v", opt, err)
		}
	}
	if _, err := Open(t.TempDir(), Options{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("empty folder: got %v", err)
	}
}

// TestReleaseHuman loads the public release and checks its counts and, for all 525 scored prompts, the published share
// of positive images; the 25 others have images of one class only.
func TestReleaseHuman(t *testing.T) {
	sets, err := Open(sharedtest.Path(t, "tia2"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	scored := 0
	for _, want := range []struct {
		name            string
		prompts, images int
	}{{"composition", 300, 15000}, {"comprehensive", 100, 5000}, {"counting", 150, 7500}} {
		set := sets[0]
		sets = sets[1:]
		if images, _ := set.Counts(); set.Name != want.name || len(set.Prompts) != want.prompts || images != want.images {
			t.Errorf("set %s: %d prompts, %d images, want %+v", set.Name, len(set.Prompts), images, want)
		}
		if lines := set.Problems.Lines(0); len(lines) > 0 {
			t.Errorf("set %s: %v", set.Name, lines)
		}
		published := publishedHuman(t, set.Name)
		for _, p := range set.Prompts {
			positive := 0
			for _, i := range p.Images {
				if i.Positive() {
					positive++
				}
			}
			human, found := published[p.Caption]
			if found != (positive > 0 && positive < len(p.Images)) {
				t.Errorf("%s: %q: %d of %d positive, published: %v", set.Name, p.Caption, positive, len(p.Images), found)
			}
			if got := float64(positive) / float64(len(p.Images)); found && got != human {
				t.Errorf("%s: %q: human is %g, published %g", set.Name, p.Caption, got, human)
			}
			if found {
				scored++
			}
		}
	}
	if scored != 525 {
		t.Errorf("%d prompts compared, want 525", scored)
	}
}

func publishedHuman(t *testing.T, set string) map[string]float64 {
	t.Helper()
	data, err := os.ReadFile(sharedtest.Path(t, "tia2", "alignment_scores", "alignment_scores_"+set+".json"))
	if err != nil {
		t.Fatal(err)
	}
	var prompts map[string]struct{ Human float64 }
	if err := json.Unmarshal(data, &prompts); err != nil {
		t.Fatal(err)
	}
	human := map[string]float64{}
	for caption, p := range prompts {
		human[caption] = p.Human
	}
	return human
}

func FuzzLoad(f *testing.F) {
	f.Add([]byte(goodPrompts), []byte(goodLabels))
	f.Add([]byte(`{"a": null}`), []byte(`{"a.jpg": null}`))
	f.Add([]byte("\ufeff{}"), []byte(`{"a.jpg": {"caption": "a", "human_labels": [1e400]}}`))
	f.Add([]byte(`{"a": [`), []byte(`{} {}`))
	f.Fuzz(func(t *testing.T, prompts, labels []byte) {
		set, err := Load(release(string(prompts), string(labels)), "x")
		if err != nil {
			if !errors.Is(err, ErrFormat) {
				t.Errorf("%v does not wrap ErrFormat", err)
			}
			return
		}
		for _, p := range set.Prompts {
			if len(p.Images) == 0 || p.Texts()[0] != p.Caption {
				t.Errorf("prompt %q: %d images, texts %q", p.Caption, len(p.Images), p.Texts())
			}
			for _, i := range p.Images {
				if g := i.Graded(); !(g >= 0 && g <= 1) {
					t.Errorf("image %q: graded %g", i.Name, g)
				}
			}
		}
	})
}
