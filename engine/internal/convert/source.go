package convert

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// source is what a path given by the user leads to.
type source struct {
	path     string // as given
	weights  string // a checkpoint file or a *.index.json
	hf       string // config.json beside the weights, "" without
	openCLIP string // open_clip_config.json beside the weights, "" without
	med      string // med_config.json (BLIP, ImageReward) beside the weights, "" without
	folder   bool   // the path is a folder, so its files belong together
}

var (
	hfWeights       = []string{"model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json"}
	openCLIPWeights = []string{"open_clip_model.safetensors", "open_clip_pytorch_model.safetensors", "open_clip_pytorch_model.bin", "open_clip_model.safetensors.index.json"}
	weightsSuffixes = []string{".safetensors", ".pt", ".pth", ".bin"}
	notWeights      = []string{"training_args.bin", "optimizer.pt", "optimizer.bin", "scheduler.pt", "scaler.pt", "rng_state.pth"}
)

// findSource finds the weights and configurations of a folder or file.
func findSource(path string) (*source, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	dir := path
	s := &source{path: path, folder: st.IsDir()}
	if !s.folder {
		s.weights, dir = path, filepath.Dir(path)
	}
	for name, p := range map[string]*string{"config.json": &s.hf, "open_clip_config.json": &s.openCLIP, "med_config.json": &s.med} {
		if at := filepath.Join(dir, name); isFile(at) {
			*p = at
		}
	}
	switch {
	case s.folder:
		s.weights, err = s.findWeights()
	case filepath.Base(path) == evaFile:
		s.weights, err = besideEVA(path)
	}
	return s, err
}

// besideEVA returns the BLIP-2 checkpoint that the image tower at path belongs to, or path where that does not show.
func besideEVA(path string) (string, error) {
	found, err := checkpointFiles(filepath.Dir(path))
	found = slices.DeleteFunc(found, func(name string) bool { return !strings.HasPrefix(strings.ToLower(name), "blip2") })
	if err != nil || len(found) != 1 {
		return path, err
	}
	return filepath.Join(filepath.Dir(path), found[0]), nil
}

// ownFolder is the folder whose other files belong to the weights, "" where that is not known: a lone .pt in a folder of
// downloads has no tokenizer beside it.
func (s *source) ownFolder() string {
	if s.folder || s.hf != "" || s.openCLIP != "" || s.med != "" {
		return filepath.Dir(s.weights)
	}
	return ""
}

// findWeights chooses the weights of a folder. Where it holds the same model for transformers and for open_clip, the
// former wins, as its configuration says more.
func (s *source) findWeights() (string, error) {
	var problem error
	if s.hf != "" {
		if problem = checkModelType(s.hf, "clip", "blip", "blip-2"); problem == nil {
			if p := firstFile(s.path, hfWeights); p != "" {
				return p, nil
			}
		}
	}
	if s.openCLIP != "" {
		if p := firstFile(s.path, openCLIPWeights); p != "" {
			return p, nil
		}
	}
	found, err := checkpointFiles(s.path)
	if len(found) > 1 { // the image tower of BLIP-2 is opened with the rest
		found = slices.DeleteFunc(found, func(name string) bool { return name == evaFile })
	}
	switch {
	case err != nil:
		return "", err
	case problem != nil && s.openCLIP == "":
		return "", problem
	case len(found) == 1:
		return filepath.Join(s.path, found[0]), nil
	case len(found) == 0:
		return "", fmt.Errorf("%s: no weights: expected model.safetensors, pytorch_model.bin, open_clip_model.safetensors or one .pt, .pth or .bin file", s.path)
	}
	return "", fmt.Errorf("%s: several checkpoints: name one of %s", s.path, strings.Join(found, ", "))
}

// checkModelType refuses a config.json of another family than the given ones, before its weights are looked at. Where no
// model_type stands, CLIP is meant.
func checkModelType(path string, kinds ...string) error {
	f, err := readFields(path)
	if err != nil {
		return err
	}
	kind := f.text("model_type", "")
	var classes []string
	f.get("architectures", &classes, "a list of texts")
	if *f.err != nil {
		return *f.err
	}
	if kind == "" && (len(classes) == 0 || slices.Contains(classes, "CLIPModel")) {
		kind = "clip"
	}
	if slices.Contains(kinds, kind) {
		return nil
	}
	return fmt.Errorf("%s: model_type %q is not supported: expected %s", path, kind, alternatives(kinds))
}

// checkpointFiles lists the files of a folder that look like weights.
func checkpointFiles(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var found []string
	for _, e := range entries {
		name := e.Name()
		if slices.Contains(weightsSuffixes, filepath.Ext(name)) && !slices.Contains(notWeights, name) && isFile(filepath.Join(dir, name)) {
			found = append(found, name)
		}
	}
	return found, nil
}

func firstFile(dir string, names []string) string {
	for _, n := range names {
		if p := filepath.Join(dir, n); isFile(p) {
			return p
		}
	}
	return ""
}

func isFile(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.Mode().IsRegular()
}

// label is what the name rules look at: the names of the weights file and of its folder, in lower case.
func (s *source) label() string {
	abs, err := filepath.Abs(s.weights)
	if err != nil {
		abs = s.weights
	}
	return strings.ToLower(filepath.Base(filepath.Dir(abs)) + "/" + filepath.Base(abs))
}

// fileName is the name that the converted file records: no more of the path than says which checkpoint it is.
func (s *source) fileName() string {
	if s.folder {
		abs, err := filepath.Abs(s.path)
		if err == nil {
			return filepath.Base(abs) + "/" + filepath.Base(s.weights)
		}
	}
	return filepath.Base(s.weights)
}

// modelName is the model's name where the user gives none.
func (s *source) modelName() string {
	base := filepath.Base(s.weights)
	if s.folder {
		if abs, err := filepath.Abs(s.path); err == nil {
			return filepath.Base(abs)
		}
	}
	return strings.TrimSuffix(strings.TrimSuffix(base, filepath.Ext(base)), ".safetensors.index")
}

// errNoConfig says that a Hugging Face checkpoint lies alone.
var errNoConfig = errors.New("no config.json beside it: the heads and the activation stand there")
