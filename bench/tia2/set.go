package tia2

import (
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/tia2-engine/tia2-engine/textnorm"
)

// Set is one data set: prompts with their images and labels, in the order of the annotations. It is read-only and safe
// from any goroutine.
type Set struct {
	Name     string
	Prompts  []Prompt
	Problems Problems

	images fs.FS  // the folder of this set's pictures; nil where there is none
	dir    string // its path, there or not, where the set is a folder of the operating system
}

// Prompt is a caption with everything that belongs to it.
type Prompt struct {
	Caption     string   // as the annotations spell it
	Contrastive []string // as the prompt file lists them: may hold duplicates; empty where it has no such prompt
	Images      []Image
}

// Texts returns the caption and then its contrastive prompts, as [textnorm.PromptSet] orders them.
func (p Prompt) Texts() []string { return textnorm.PromptSet(p.Caption, p.Contrastive) }

// Image is one picture and what people said of it.
type Image struct {
	Name   string // file name, unique in its set
	Labels []int  // each 1: shows the prompt, 0: does not, -1: unsure; at least one
}

// Positive reports whether people say that the image shows its prompt: more than half of its labels are 1 (of three, at
// least two). The rule reproduces the published share of positives of all 525 scored prompts of TIA2.
func (i Image) Positive() bool {
	ones := 0
	for _, l := range i.Labels {
		if l == 1 {
			ones++
		}
	}
	return 2*ones > len(i.Labels)
}

// Graded returns the mean label in [0, 1], an unsure one counting 0.5: what the rank correlations are taken against.
func (i Image) Graded() float64 {
	sum := 0.0
	for _, l := range i.Labels {
		if l < 0 {
			sum += 0.5
		} else {
			sum += float64(l)
		}
	}
	return sum / float64(len(i.Labels))
}

// ImagesDir returns the folder that the set's pictures are looked for in, whether it exists or not; "" for an embedded
// set.
func (s *Set) ImagesDir() string { return s.dir }

// ImagesFound returns how many of the annotated pictures are there.
func (s *Set) ImagesFound() int {
	if s.images == nil {
		return 0
	}
	n := -len(s.Problems.MissingImages)
	for _, p := range s.Prompts {
		n += len(p.Images)
	}
	return n
}

// HasImages reports whether a folder with this set's pictures was found.
func (s *Set) HasImages() bool { return s.images != nil }

// ImagePath returns the path of a picture in the file system of this machine, or "" where the set has no folder there:
// it is embedded, or has no pictures.
func (s *Set) ImagePath(name string) string {
	if s.dir == "" || s.images == nil {
		return ""
	}
	return filepath.Join(s.dir, filepath.FromSlash(name))
}

// ReadImage returns the encoded picture. Its error names the file.
func (s *Set) ReadImage(name string) ([]byte, error) {
	if s.images == nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return fs.ReadFile(s.images, name)
}

// Counts returns the number of images and of distinct texts (captions and contrastive prompts).
func (s *Set) Counts() (images, texts int) {
	distinct := map[string]bool{}
	for _, p := range s.Prompts {
		images += len(p.Images)
		for _, t := range p.Texts() {
			distinct[t] = true
		}
	}
	return images, len(distinct)
}

// Problems are the things of a set that do not fit together, by name.
type Problems struct {
	MissingImages      []string // annotated, not in the folder of images; empty where there is no such folder
	ExtraImages        []string // pictures in the folder that are not annotated
	MissingContrastive []string // captions that the prompt file lacks: they get no TextNorm
	UnusedPrompts      []string // prompts of the prompt file that no image has
}

// Lines describes the problems, one kind a line, with the count and the names: the first most of them, or all if most
// is 0 or less.
func (p Problems) Lines(most int) []string {
	var lines []string
	add := func(one, many string, names []string) {
		if len(names) == 0 {
			return
		}
		what := many
		if len(names) == 1 {
			what = one
		}
		shown, more := names, ""
		if most > 0 && len(names) > most {
			shown, more = names[:most], fmt.Sprintf(" and %d more", len(names)-most)
		}
		lines = append(lines, fmt.Sprintf("%d %s: %s%s", len(names), what, strings.Join(shown, ", "), more))
	}
	add("annotated image is missing", "annotated images are missing", p.MissingImages)
	add("image has no annotation", "images have no annotation", p.ExtraImages)
	add("caption has no contrastive prompts", "captions have no contrastive prompts", p.MissingContrastive)
	add("prompt has no images", "prompts have no images", p.UnusedPrompts)
	return lines
}
