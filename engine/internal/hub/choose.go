package hub

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
)

// Small files that say how the weights are to be used. Each is taken where it exists.
var describing = map[string]bool{
	"config.json": true, "preprocessor_config.json": true, "processor_config.json": true,
	"open_clip_config.json": true, "med_config.json": true,
	"tokenizer.json": true, "tokenizer_config.json": true, "special_tokens_map.json": true, "added_tokens.json": true,
	"vocab.json": true, "merges.txt": true, "vocab.txt": true,
}

// weightSets are the layouts a checkpoint can have, the preferred first: a reader of safetensors runs no code, and a
// transformers folder states more than an open_clip one. The first that the listing holds, beside its config, is taken.
var weightSets = []struct {
	config string         // must be listed too
	index  string         // lists the shards; "" for a single file
	files  *regexp.Regexp // the weights themselves
}{
	{"config.json", "", regexp.MustCompile(`^model\.safetensors$`)},
	{"config.json", "model.safetensors.index.json", regexp.MustCompile(`^model-\d+-of-\d+\.safetensors$`)},
	{"open_clip_config.json", "", regexp.MustCompile(`^open_clip_model\.safetensors$`)},
	{"config.json", "", regexp.MustCompile(`^pytorch_model\.bin$`)},
	{"config.json", "pytorch_model.bin.index.json", regexp.MustCompile(`^pytorch_model-\d+-of-\d+\.bin$`)},
	{"open_clip_config.json", "", regexp.MustCompile(`^open_clip_pytorch_model\.bin$`)},
}

// companions are weights that are of use only beside others, whose names the expression tells: the image tower that LAVIS's
// BLIP-2 checkpoints leave out.
var companions = map[string]*regexp.Regexp{"eva_vit_g.pth": regexp.MustCompile(`^blip2_[^/]*\.pth$`)}

var weightFile = regexp.MustCompile(`\.(safetensors|bin|pt|pth|ckpt|gguf)$`)

// choose returns the files of the listing that a checkpoint needs, each with a name that is safe to write.
//
// A named file or include patterns (path.Match, over the whole path or, without a slash, over the base name) decide by
// themselves. Otherwise it is one set of weights and the small files beside it; a repository without a known layout
// must hold exactly one weights file.
func choose(l Listing, ref Ref, include []string) ([]File, error) {
	var files []File
	var err error
	switch {
	case ref.File != "":
		files, err = named(l, ref.File)
	case len(include) > 0:
		files, err = matching(l, include)
	default:
		files, err = checkpoint(l)
	}
	if err != nil {
		return nil, fmt.Errorf("%s at commit %.12s: %w", ref, l.Commit, err)
	}
	seen := map[string]bool{}
	for _, f := range files {
		if err := checkName(f.Name); err != nil {
			return nil, fmt.Errorf("%s: %w", ref, err)
		}
		if seen[f.Name] {
			return nil, fmt.Errorf("%s: file %q is listed twice", ref, f.Name)
		}
		seen[f.Name] = true
	}
	return files, nil
}

// named returns the file of that name and what belongs to it beside it.
func named(l Listing, name string) ([]File, error) {
	var files []File
	found := false
	for _, f := range l.Files {
		if f.Name == name {
			found = true
			files = append(files, f)
		} else if path.Dir(f.Name) == path.Dir(name) && (describing[path.Base(f.Name)] || accompanies(path.Base(f.Name), path.Base(name))) {
			files = append(files, f)
		}
	}
	if !found {
		return nil, fmt.Errorf("it has no file %q; its weights files are %s", name, nameWeights(l))
	}
	return files, nil
}

// accompanies tells whether the weights called name are needed beside those called main.
func accompanies(name, main string) bool {
	of := companions[name]
	return of != nil && of.MatchString(main)
}

func matching(l Listing, include []string) ([]File, error) {
	var files []File
	for _, f := range l.Files {
		for _, pattern := range include {
			subject := f.Name
			if !strings.Contains(pattern, "/") {
				subject = path.Base(f.Name)
			}
			ok, err := path.Match(pattern, subject)
			if err != nil {
				return nil, fmt.Errorf("pattern %q: %w", pattern, err)
			}
			if ok {
				files = append(files, f)
				break
			}
		}
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("none of its %d files matches %q", len(l.Files), include)
	}
	return files, nil
}

func checkpoint(l Listing) ([]File, error) {
	listed := map[string]bool{}
	var files []File
	for _, f := range l.Files {
		listed[f.Name] = true
		if describing[f.Name] {
			files = append(files, f)
		}
	}
	for _, set := range weightSets {
		if !listed[set.config] || set.index != "" && !listed[set.index] {
			continue
		}
		found := false
		for _, f := range l.Files {
			if set.files.MatchString(f.Name) {
				files, found = append(files, f), true
			} else if set.index != "" && f.Name == set.index {
				files = append(files, f)
			}
		}
		if found {
			return withoutOtherConfig(files, set.config), nil
		}
	}
	var weights []File
	for _, f := range l.Files {
		if weightFile.MatchString(f.Name) && !strings.Contains(f.Name, "/") {
			weights = append(weights, f)
		}
	}
	if len(weights) == 2 {
		switch a, b := weights[0].Name, weights[1].Name; {
		case accompanies(a, b):
			weights, files = weights[1:], append(files, weights[0])
		case accompanies(b, a):
			weights, files = weights[:1], append(files, weights[1])
		}
	}
	switch len(weights) {
	case 0:
		return nil, fmt.Errorf("no checkpoint among its %d files: expected config.json with model.safetensors or pytorch_model.bin, "+
			"or open_clip_config.json with its weights, or one .safetensors, .pt, .pth, .bin or .gguf file", len(l.Files))
	case 1:
		return append(files, weights[0]), nil
	}
	return nil, fmt.Errorf("it holds several checkpoints: name one as hf:OWNER/REPO/FILE: %s", nameWeights(l))
}

// withoutOtherConfig leaves out the config of the layout that was not taken, so that the folder reads one way only.
func withoutOtherConfig(files []File, config string) []File {
	other := "config.json"
	if config == other {
		other = "open_clip_config.json"
	}
	return slices.DeleteFunc(files, func(f File) bool { return f.Name == other })
}

// nameWeights lists up to twenty weights files for a message.
func nameWeights(l Listing) string {
	var names []string
	for _, f := range l.Files {
		if weightFile.MatchString(f.Name) {
			names = append(names, fmt.Sprintf("%q", f.Name))
		}
	}
	if len(names) == 0 {
		return "none"
	}
	if len(names) > 20 {
		names = append(names[:20], fmt.Sprintf("and %d more", len(names)-20))
	}
	return strings.Join(names, ", ")
}
