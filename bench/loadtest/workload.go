package loadtest

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/tia2-engine/tia2-engine/bench/demo"
	"github.com/tia2-engine/tia2-engine/bench/tia2"
	"github.com/tia2-engine/tia2-engine/engine"
)

// Workload is what requests are made of.
type Workload struct {
	Images []engine.Image // with Data
	Texts  []string
	Pairs  []engine.Pair // distinct ones, in the order in which requests take them
}

// bytesMax bounds the pictures that are held in memory, once as files and once in the requests made of them.
const bytesMax = 512 << 20

// Demo returns the pictures of the embedded set, each with its prompt.
func Demo() (*Workload, error) {
	set, err := tia2.Load(demo.Set(), "demo")
	if err != nil {
		return nil, err
	}
	w := &Workload{}
	for t, prompt := range set.Prompts {
		w.Texts = append(w.Texts, prompt.Caption)
		for _, image := range prompt.Images {
			data, err := set.ReadImage(image.Name)
			if err != nil {
				return nil, err
			}
			w.Pairs = append(w.Pairs, engine.Pair{Image: len(w.Images), Text: t})
			w.Images = append(w.Images, engine.Image{Name: image.Name, Data: data})
		}
	}
	return w, nil
}

// New pairs pictures with texts, the i-th with the i-th; the shorter list begins again. Pictures without Data are read
// from the files of their names, and called by their base names as in files of scores.
func New(images []engine.Image, texts []string) (*Workload, error) {
	if len(images) == 0 || len(texts) == 0 {
		return nil, fmt.Errorf("%d images and %d prompts: expected at least one of each", len(images), len(texts))
	}
	w := &Workload{Texts: texts}
	total := 0
	for _, image := range images {
		if image.Data == nil {
			data, err := os.ReadFile(image.Name)
			if err != nil {
				return nil, err
			}
			image = engine.Image{Name: filepath.Base(image.Name), Data: data}
		}
		if total += len(image.Data); total > bytesMax {
			return nil, fmt.Errorf("the images have more than %d MiB, which are held in memory: expected fewer or smaller ones", bytesMax>>20)
		}
		w.Images = append(w.Images, image)
	}
	for i := range max(len(images), len(texts)) {
		w.Pairs = append(w.Pairs, engine.Pair{Image: i % len(images), Text: i % len(texts)})
	}
	return w, nil
}

// requests cuts the pairs into requests of so many; the last is filled up from the beginning.
func (w *Workload) requests(items int) [][]engine.Pair {
	var all [][]engine.Pair
	for start := 0; start < len(w.Pairs); start += items {
		pairs := make([]engine.Pair, items)
		for i := range pairs {
			pairs[i] = w.Pairs[(start+i)%len(w.Pairs)]
		}
		all = append(all, pairs)
	}
	return all
}
