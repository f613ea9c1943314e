package demo

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"image/jpeg"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"testing"

	"github.com/tia2-engine/tia2-engine/bench/tia2"
)

type annotation struct {
	Image   string `json:"image"`
	Caption string `json:"caption"`
	Labels  []int  `json:"human_labels"`
}

type manifest struct {
	SetShare uint64 `json:"set_share"`
	Training struct {
		Signatures int `json:"signatures"`
		InSetShare int `json:"in_set_share"`
	} `json:"training"`
	Overlap *int                       `json:"overlap"`
	Prompts map[string]json.RawMessage `json:"prompts"`
	Images  map[string]struct {
		Shows     string `json:"shows"`
		Change    string `json:"change"`
		Signature string `json:"signature"`
		SHA256    string `json:"sha256"`
	} `json:"images"`
}

func decode[T any](t *testing.T, data []byte, err error) T {
	t.Helper()
	var v T
	if err == nil {
		err = json.Unmarshal(data, &v)
	}
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func readSet[T any](t *testing.T, name string) T {
	t.Helper()
	data, err := fs.ReadFile(Set(), name)
	return decode[T](t, data, err)
}

func readManifest(t *testing.T) manifest {
	t.Helper()
	data, err := os.ReadFile("manifest.json")
	return decode[manifest](t, data, err)
}

func annotations(t *testing.T) map[string]annotation {
	t.Helper()
	return readSet[map[string]annotation](t, "human_annotations/human_labels_demo.json")
}

// The binary carries the set, so its size is part of the contract.
func TestSetIsSmall(t *testing.T) {
	const bytesMax = 4e6
	var total int64
	err := fs.WalkDir(Set(), ".", func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			total += info.Size()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if total == 0 || total > bytesMax {
		t.Errorf("the embedded set has %d bytes, want 1 to %.0f", total, float64(bytesMax))
	}
}

func TestPromptsHaveBothClassesAndContrasts(t *testing.T) {
	prompts := readSet[map[string][]string](t, "prompts/prompt_set_demo.json")
	positive, pictures := map[string]int{}, map[string]int{}
	for _, a := range annotations(t) {
		pictures[a.Caption]++
		if a.Labels[0]+a.Labels[1]+a.Labels[2] >= 2 {
			positive[a.Caption]++
		}
	}
	if len(prompts) != len(pictures) {
		t.Errorf("%d prompt sets, but pictures of %d prompts", len(prompts), len(pictures))
	}
	for prompt, contrasts := range prompts {
		if n := positive[prompt]; n == 0 || n == pictures[prompt] {
			t.Errorf("%q: %d of %d pictures are right, want both classes", prompt, n, pictures[prompt])
		}
		if len(contrasts) < 6 || len(contrasts) > 32 {
			t.Errorf("%q: %d contrastive prompts, want 6 to 32", prompt, len(contrasts))
		}
		slices.Sort(contrasts)
		if len(slices.Compact(contrasts)) != len(contrasts) || slices.Contains(contrasts, prompt) {
			t.Errorf("%q: a contrastive prompt stands twice or is the prompt itself", prompt)
		}
	}
}

func TestSetLoadsWithoutProblems(t *testing.T) {
	set, err := tia2.Load(Set(), "demo")
	if err != nil {
		t.Fatal(err)
	}
	if lines := set.Problems.Lines(0); len(lines) > 0 || !set.HasImages() {
		t.Errorf("problems: %q", lines)
	}
	if len(set.Prompts) != len(readManifest(t).Prompts) {
		t.Errorf("%d prompts, %d in the manifest", len(set.Prompts), len(readManifest(t).Prompts))
	}
}

// labelsOf is the judges' rule: two are strict, the third accepts the right kinds in any number and relation.
func labelsOf(change string) []int {
	switch change {
	case "":
		return []int{1, 1, 1}
	case "count", "exchange", "swap", "turn":
		return []int{0, 0, 1}
	default: // colour, shape, binding, missing
		return []int{0, 0, 0}
	}
}

func TestPicturesDecodeAndMatchManifest(t *testing.T) {
	m, labels := readManifest(t), annotations(t)
	names, err := fs.Glob(Set(), "images/demo/*")
	if err != nil || len(names) != len(labels) || len(labels) != len(m.Images) {
		t.Fatalf("%d pictures, %d labelled, %d in the manifest (%v)", len(names), len(labels), len(m.Images), err)
	}
	for name, a := range labels {
		record := m.Images[name]
		data, err := fs.ReadFile(Set(), "images/demo/"+name)
		if err != nil {
			t.Fatal(err)
		}
		if sum := sha256.Sum256(data); hex.EncodeToString(sum[:]) != record.SHA256 {
			t.Errorf("%s is not the file of the manifest", name)
		}
		if _, err := jpeg.Decode(bytes.NewReader(data)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if a.Image != name || !slices.Equal(a.Labels, labelsOf(record.Change)) {
			t.Errorf("%s shows %q (change %q): labels %v", name, record.Shows, record.Change, a.Labels)
		}
		if _, ok := m.Prompts[a.Caption]; !ok {
			t.Errorf("%s: the manifest lacks the prompt %q", name, a.Caption)
		}
	}
}

// A scene's signature alone decides whether it may be in the set or in training; both sides must have kept to it.
func TestTrainingSawNoSceneOfTheSet(t *testing.T) {
	m := readManifest(t)
	if m.Overlap == nil || *m.Overlap != 0 || m.Training.Signatures == 0 || m.Training.InSetShare != 0 {
		t.Errorf("the manifest does not record a split without overlap: %+v", m.Training)
	}
	for name, image := range m.Images {
		signature, err := strconv.ParseUint(image.Signature, 16, 64)
		if err != nil || signature%m.SetShare != 0 {
			t.Errorf("%s has signature %q, which belongs to training (%v)", name, image.Signature, err)
		}
	}
}
