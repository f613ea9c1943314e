package tia2

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// fileBytesMax is the largest JSON file that is read. The largest of the release has 3.3 MB.
const fileBytesMax = 1 << 30

// Options of [Open].
type Options struct {
	// Images is the folder of the pictures: it holds one folder for each set, or the pictures of the only set. "" stands
	// for images in the release folder.
	Images string
	// Names are the sets to read; none stands for all that the folder has.
	Names []string
}

// Open reads the sets of a release folder, in ascending order of their names or in the order asked for. Each is read as
// by [Load]. Errors name the file, and the line and column where it is damaged; fs.ErrNotExist is wrapped where a file,
// a set asked for or the folder of images is missing, [ErrFormat] where one is damaged.
func Open(dir string, opt Options) ([]*Set, error) {
	fsys := os.DirFS(dir)
	names := opt.Names
	if len(names) == 0 {
		var err error
		if names, err = Names(fsys); err != nil {
			return nil, fmt.Errorf("%s: %w", dir, err)
		}
	}
	if opt.Images != "" {
		if info, err := os.Stat(opt.Images); err != nil {
			return nil, fmt.Errorf("folder of images: %w", err)
		} else if !info.IsDir() {
			return nil, fmt.Errorf("folder of images: %s is a file", opt.Images)
		}
	}
	sets := make([]*Set, len(names))
	for i, name := range names {
		imagesDir := filepath.Join(dir, "images", name)
		if opt.Images != "" {
			imagesDir = filepath.Join(opt.Images, name)
			if !isDir(imagesDir) && len(names) == 1 {
				imagesDir = opt.Images
			}
		}
		var images fs.FS
		if isDir(imagesDir) {
			images = os.DirFS(imagesDir)
		}
		set, err := load(fsys, name, images)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", dir, err)
		}
		set.dir = imagesDir
		sets[i] = set
	}
	return sets, nil
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// Names returns the names of the sets in a release folder, ascending: those with annotations. It is an error to have
// none.
func Names(fsys fs.FS) ([]string, error) {
	const prefix, suffix = "human_labels_", ".json"
	files, err := fs.Glob(fsys, "human_annotations/"+prefix+"*"+suffix)
	if err != nil {
		return nil, err
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("no human_annotations/%sNAME%s: %w", prefix, suffix, fs.ErrNotExist)
	}
	names := make([]string, len(files))
	for i, f := range files {
		names[i] = strings.TrimSuffix(strings.TrimPrefix(path.Base(f), prefix), suffix)
	}
	slices.Sort(names)
	return names, nil
}

// Load reads one set from a file system laid out as the release, such as an embedded one, with its pictures in
// images/NAME where that exists. Errors are those of [Open].
func Load(fsys fs.FS, name string) (*Set, error) {
	var images fs.FS
	if info, err := fs.Stat(fsys, path.Join("images", name)); err == nil && info.IsDir() {
		if images, err = fs.Sub(fsys, path.Join("images", name)); err != nil {
			return nil, err
		}
	}
	return load(fsys, name, images)
}

func load(fsys fs.FS, name string, images fs.FS) (*Set, error) {
	promptsFile := "prompts/prompt_set_" + name + ".json"
	labelsFile := "human_annotations/human_labels_" + name + ".json"
	promptsData, err := readFile(fsys, promptsFile)
	if err != nil {
		return nil, err
	}
	labelsData, err := readFile(fsys, labelsFile)
	if err != nil {
		return nil, err
	}
	prompts, contrastive, err := parsePrompts(promptsFile, promptsData)
	if err != nil {
		return nil, err
	}
	set := &Set{Name: name, images: images}
	if set.Prompts, err = parseLabels(labelsFile, labelsData); err != nil {
		return nil, err
	}
	captions := map[string]bool{}
	for i := range set.Prompts {
		p := &set.Prompts[i]
		captions[p.Caption] = true
		var found bool
		if p.Contrastive, found = contrastive[p.Caption]; !found {
			set.Problems.MissingContrastive = append(set.Problems.MissingContrastive, p.Caption)
		}
	}
	for _, prompt := range prompts {
		if !captions[prompt] {
			set.Problems.UnusedPrompts = append(set.Problems.UnusedPrompts, prompt)
		}
	}
	if images != nil {
		if err := set.checkImages(); err != nil {
			return nil, err
		}
	}
	return set, nil
}

func readFile(fsys fs.FS, name string) ([]byte, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, fileBytesMax+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if len(data) > fileBytesMax {
		return nil, fmt.Errorf("%s: %w: larger than %d bytes", name, ErrFormat, fileBytesMax)
	}
	return data, nil
}

// parsePrompts returns the prompts in the order of the file and the contrastive prompts of each.
func parsePrompts(file string, data []byte) (prompts []string, contrastive map[string][]string, err error) {
	contrastive = map[string][]string{}
	err = eachMember(file, data, func(prompt string, texts []string, offset int64) error {
		if slices.Contains(texts, "") {
			return placeError(file, data, offset, "prompt %q: a contrastive prompt is empty", prompt)
		}
		prompts = append(prompts, prompt)
		contrastive[prompt] = texts
		return nil
	})
	return prompts, contrastive, err
}

// annotation is one entry of a human_labels file.
type annotation struct {
	Image   string `json:"image"`
	Caption string `json:"caption"`
	Labels  []*int `json:"human_labels"` // pointers, so that a null is not taken for a 0
}

// parseLabels groups the annotated images by caption, in the order in which the captions first occur.
func parseLabels(file string, data []byte) ([]Prompt, error) {
	var prompts []Prompt
	index := map[string]int{}
	err := eachMember(file, data, func(image string, a annotation, offset int64) error {
		if why := a.invalid(image); why != "" {
			return placeError(file, data, offset, "image %q: %s", image, why)
		}
		labels := make([]int, len(a.Labels))
		for i, l := range a.Labels {
			labels[i] = *l
		}
		i, found := index[a.Caption]
		if !found {
			i = len(prompts)
			index[a.Caption] = i
			prompts = append(prompts, Prompt{Caption: a.Caption})
		}
		prompts[i].Images = append(prompts[i].Images, Image{Name: image, Labels: labels})
		return nil
	})
	return prompts, err
}

// invalid says what is wrong with the annotation that stands under the key image, or returns "".
func (a annotation) invalid(image string) string {
	switch {
	case !fs.ValidPath(image) || image == "." || !filepath.IsLocal(filepath.FromSlash(image)):
		return "not the name of a file inside the folder of images"
	case a.Image != "" && a.Image != image:
		return fmt.Sprintf("its entry is about image %q", a.Image)
	case a.Caption == "":
		return "no caption"
	case len(a.Labels) == 0:
		return "no human_labels"
	}
	for _, l := range a.Labels {
		if l == nil {
			return "a label is null, want 1, 0 or -1"
		}
		if *l < -1 || *l > 1 {
			return fmt.Sprintf("label %d, want 1, 0 or -1", *l)
		}
	}
	return ""
}

// checkImages compares the annotated names with the files of the folder of images.
func (s *Set) checkImages() error {
	files := map[string]bool{}
	err := fs.WalkDir(s.images, ".", func(name string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			files[name] = true
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("images of set %s: %w", s.Name, err)
	}
	for _, p := range s.Prompts {
		for _, image := range p.Images {
			if !files[image.Name] {
				s.Problems.MissingImages = append(s.Problems.MissingImages, image.Name)
			}
			delete(files, image.Name)
		}
	}
	for name := range files {
		if isPicture(name) {
			s.Problems.ExtraImages = append(s.Problems.ExtraImages, name)
		}
	}
	slices.Sort(s.Problems.ExtraImages)
	return nil
}

// isPicture tells pictures from notes, archives and what operating systems leave in folders.
func isPicture(name string) bool {
	if strings.HasPrefix(path.Base(name), ".") {
		return false
	}
	return slices.Contains([]string{".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp"}, strings.ToLower(path.Ext(name)))
}
