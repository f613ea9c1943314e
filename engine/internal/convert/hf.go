package convert

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// readHF returns the hyper-parameters of a transformers CLIPConfig. Fields that are left out have the defaults of
// transformers' CLIPTextConfig and CLIPVisionConfig.
//
// Source: transformers/models/clip/configuration_clip.py.
func readHF(path string) (*Spec, error) {
	top, err := readModelConfig(path, "clip")
	if err != nil {
		return nil, err
	}
	s := &Spec{EmbedDim: top.integer("projection_dim", 512)}
	text := olderStyle(top, "text_config")
	s.Text = readTower(text, Tower{512, 12, 8, 2048, normEps, quickGELU})
	s.VocabSize, s.Context = text.integer("vocab_size", clipVocab), text.integer("max_position_embeddings", clipContext)
	// 2 is what old configurations say; it means the largest id. Any other id must be the end of text.
	if eos := text.integer("eos_token_id", clipVocab-1); eos != 2 && eos != s.VocabSize-1 {
		text.fail("eos_token_id", "%d: expected 2 or the last id, %d", eos, s.VocabSize-1)
	}
	vision := olderStyle(top, "vision_config")
	s.Vision = readTower(vision, Tower{768, 12, 12, 3072, normEps, quickGELU})
	s.ImageSize, s.PatchSize = vision.integer("image_size", 224), vision.integer("patch_size", 32)
	vision.onlyDefault(map[string]string{"num_channels": "3"})
	if *top.err != nil {
		return nil, *top.err
	}
	return s, s.check(path)
}

// readModelConfig reads a config.json that must be of the given model_type.
func readModelConfig(path, kind string) (*fields, error) {
	if err := checkModelType(path, kind); err != nil {
		return nil, err
	}
	return readFields(path)
}

// readTower reads the fields that all of transformers' towers share; def is what counts for those left out.
func readTower(f *fields, def Tower) Tower {
	return Tower{f.integer("hidden_size", def.Width), f.integer("num_hidden_layers", def.Layers), f.integer("num_attention_heads", def.Heads),
		f.integer("intermediate_size", def.MLPWidth), float32(f.float("layer_norm_eps", float64(def.NormEps))), f.text("hidden_act", def.Activation)}
}

// olderStyle returns the object "NAME", or what "NAME_dict" makes of it: older files hold both, and then every field of
// the second counts, its defaults included, and fields it does not know come from the first.
func olderStyle(top *fields, name string) *fields {
	f := top.object(name)
	if !top.has(name + "_dict") {
		return f
	}
	over := top.object(name + "_dict")
	for key, raw := range f.raw {
		if _, ok := over.raw[key]; !ok && !slices.Contains(configFields, key) {
			over.raw[key] = raw
		}
	}
	return over
}

// configFields are those that CLIPTextConfig and CLIPVisionConfig have defaults for.
var configFields = []string{"hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "layer_norm_eps", "hidden_act", "vocab_size",
	"max_position_embeddings", "eos_token_id", "image_size", "patch_size", "num_channels"}

// bicubic is PIL's number of the resampling filter.
const bicubic = 3

// readHFPreprocess returns what preprocessor_config.json beside the weights says, or the defaults of transformers' class
// `processor` at the model's size, with a note, where there is none.
//
// Source: transformers/models/clip/image_processing_clip.py, blip/image_processing_blip.py.
func readHFPreprocess(dir string, spec *Spec, processor string) (*Preprocess, []string, error) {
	path := filepath.Join(dir, "preprocessor_config.json")
	squash := processor == "BlipImageProcessor"
	p := &Preprocess{Pipeline: pipelineHFCLIP, Size: spec.ImageSize, Mean: openAIMean, Std: openAIStd}
	if squash {
		p.Pipeline = pipelineBLIPSquash
	}
	if _, err := os.Stat(path); os.IsNotExist(err) {
		return p, []string{fmt.Sprintf("no preprocessor_config.json: that of %s at %d pixels was assumed", processor, p.Size)}, nil
	}
	f, err := readFields(path)
	if err != nil {
		return nil, nil, err
	}
	var notes []string
	kind := f.text("image_processor_type", f.text("feature_extractor_type", processor))
	switch {
	case kind == processor, kind == "CLIPFeatureExtractor" && !squash:
	case kind == processor+"Fast":
		notes = append(notes, fmt.Sprintf("%s differs from %s by single steps of 255: the latter's pixels are used", kind, processor))
	default:
		f.fail("image_processor_type", "%q is not supported: expected %s", kind, processor)
	}
	p.Mean, p.Std = f.three("image_mean", openAIMean), f.three("image_std", openAIStd)
	f.onlyDefault(map[string]string{"do_resize": "true", "do_rescale": "true", "do_normalize": "true", "do_convert_rgb": "true"})
	if r := f.integer("resample", bicubic); r != bicubic {
		f.fail("resample", "%d is not supported: expected 3 (bicubic)", r)
	}
	if r := f.float("rescale_factor", 1.0/255); r < 0.99999/255 || r > 1.00001/255 {
		f.fail("rescale_factor", "%g is not supported: expected 1/255", r)
	}
	if squash {
		readBLIPSize(f, p)
	} else {
		readHFSize(f, p)
	}
	if *f.err == nil && p.Size != spec.ImageSize {
		f.fail("size", "pictures of %d pixels for a model of %d", p.Size, spec.ImageSize)
	}
	return p, notes, *f.err
}

// readBLIPSize reads the size of BLIP's pictures, which are squeezed into a square. A plain number is its side.
func readBLIPSize(f *fields, p *Preprocess) {
	f.onlyDefault(map[string]string{"do_center_crop": "false"})
	height, width, side := readSize(f, "size", 384)
	if f.has("size") && side != 0 && strings.HasPrefix(strings.TrimSpace(string(f.raw["size"])), "{") {
		f.fail("size", "%s is not supported: expected height and width", short(f.raw["size"]))
	}
	if side != 0 {
		height, width = side, side
	}
	if height != width {
		f.fail("size", "%d x %d is not supported: expected a square", height, width)
	}
	p.Size = height
}

// readHFSize reads size, crop_size and do_center_crop into the pipeline and its size. Before 2022 both sizes were
// plain numbers.
func readHFSize(f *fields, p *Preprocess) {
	height, width, short := readSize(f, "size", 224)
	cropHeight, cropWidth, cropShort := readSize(f, "crop_size", 224)
	if cropShort != 0 {
		cropHeight, cropWidth = cropShort, cropShort
	}
	crop := f.boolean("do_center_crop", true)
	switch {
	case short != 0 && !crop:
		f.fail("do_center_crop", "false with size.shortest_edge is not supported: pictures would not be square")
	case short != 0 && (cropHeight != short || cropWidth != short):
		f.fail("crop_size", "%d x %d of pictures resized to %d is not supported: expected the same", cropHeight, cropWidth, short)
	case short != 0:
		p.Pipeline, p.Size = pipelineHFCLIP, short
	case height != width || crop && (cropHeight != height || cropWidth != width):
		f.fail("size", "%d x %d, cropped to %d x %d, is not supported: expected a square", height, width, cropHeight, cropWidth)
	default:
		p.Pipeline, p.Size = pipelineBLIPSquash, height
	}
}

// readSize reads a number, {"shortest_edge"} or {"height", "width"}.
func readSize(f *fields, name string, def int) (height, width, short int) {
	f.used[name] = true
	if !f.has(name) {
		return 0, 0, def
	}
	if strings.HasPrefix(strings.TrimSpace(string(f.raw[name])), "{") {
		o := f.object(name)
		o.onlyDefault(map[string]string{"longest_edge": "null", "max_height": "null", "max_width": "null"})
		if o.has("shortest_edge") {
			return 0, 0, o.integer("shortest_edge", 0)
		}
		return o.integer("height", 0), o.integer("width", 0), 0
	}
	return 0, 0, f.integer(name, def)
}
