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
	if p := filepath.Join(dir, "config.json"); isFile(p) {
		s.hf = p
	}
	if p := filepath.Join(dir, "open_clip_config.json"); isFile(p) {
		s.openCLIP = p
	}
	if s.folder {
		s.weights, err = s.findWeights()
	}
	return s, err
}

// findWeights chooses the weights of a folder. Where it holds the same model for transformers and for open_clip, the
// former wins, as its configuration says more.
func (s *source) findWeights() (string, error) {
	var problem error
	if s.hf != "" {
		if problem = checkModelType(s.hf); problem == nil {
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

// checkModelType refuses a config.json of another family, before its weights are looked at.
func checkModelType(path string) error {
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
	if kind == "clip" || kind == "" && (len(classes) == 0 || slices.Contains(classes, "CLIPModel")) {
		return nil
	}
	return fmt.Errorf("%s: model_type %q is not supported: expected clip", path, kind)
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
var errNoConfig = errors.New("no config.json beside it: the heads and the activation stand there (or name the architecture)")
