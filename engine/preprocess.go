package engine

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/tia2-engine/tia2-engine/cgo"
)

// ImageLimits bound what one picture may cost; what is over them is refused before it is decoded. Zero stands for the
// default.
type ImageLimits struct {
	PixelsMax uint64 // width * height; default 178,956,970, as PIL
	BytesMax  uint64 // of the encoded file; default 256 MiB
}

func (l ImageLimits) bytesMax() int64 {
	if l.BytesMax == 0 {
		return 256 << 20
	}
	return int64(l.BytesMax)
}

// pipelines by the names that checkpoints and the command line use.
var pipelines = map[string]cgo.Pipeline{
	"openai": cgo.PipelineOpenAI, "open_clip": cgo.PipelineOpenCLIP, "hf_clip": cgo.PipelineHFCLIP,
	"blip_squash": cgo.PipelineBLIPSquash, "hpsv2": cgo.PipelineHPSv2,
	"open_clip_squash": cgo.PipelineOpenCLIPSquash,
}

// Pipelines lists the names that Preprocess.Pipeline may have, sorted.
func Pipelines() []string { return slices.Sorted(maps.Keys(pipelines)) }

// Preprocess turns an encoded picture into what a model sees, with the pixels that the Python references give:
//
//	openai, open_clip   resize the short side to Size (PIL bicubic, in the picture's own mode), crop the centre, RGB
//	hf_clip             RGB, resize, crop; the crop rounds differently
//	open_clip_squash    resize to Size x Size (in the picture's own mode), RGB
//	blip_squash         RGB, resize to Size x Size
//	hpsv2               RGB, scale to fit Size x Size in float, pad with black; values are not clipped. A picture whose
//	                    longer side has Size pixels already is not padded by the reference: refused unless square
//
// JPEG, PNG, WebP, GIF and BMP are read, told by their content; of an animation the first frame. EXIF orientation, colour
// profiles and transparency have no effect, as in the references.
//
// Its methods may be called from many goroutines. Errors: ErrImage with the reason, ErrMemory, ErrInvalid.
type Preprocess struct {
	Pipeline  string
	Size      int        // S, side of the result, 1..4096
	Mean, Std [3]float32 // of F32's normalisation, (x / 255 - Mean) / Std
	Limits    ImageLimits
}

// U8 returns the pixels before normalisation, u8 [S, S, 3]. hpsv2 has none: its resized pixels are no whole numbers.
func (p Preprocess) U8(data []byte) ([]uint8, error) {
	spec, err := p.spec()
	if err != nil {
		return nil, err
	}
	dst := make([]uint8, p.values())
	if err := cgo.PreprocessU8(dst, data, spec); err != nil {
		return nil, err
	}
	return dst, nil
}

// F32 returns the normalised pixels, f32 [3, S, S].
func (p Preprocess) F32(data []byte) ([]float32, error) {
	spec, err := p.spec()
	if err != nil {
		return nil, err
	}
	dst := make([]float32, p.values())
	if err := cgo.PreprocessF32(dst, data, spec); err != nil {
		return nil, err
	}
	return dst, nil
}

// values returns how many values the pixels of a picture are.
func (p Preprocess) values() int { return 3 * p.Size * p.Size }

// pixels is equal for preprocessings that make the same pixels: those of bytes know neither mean nor std.
func (p Preprocess) pixels() Preprocess {
	if !p.isFloat() {
		p.Mean, p.Std = [3]float32{}, [3]float32{}
	}
	if p.Pipeline == "open_clip" {
		p.Pipeline = "openai"
	}
	return p
}

// isFloat tells whether the pipeline makes no bytes.
func (p Preprocess) isFloat() bool { return p.Pipeline == "hpsv2" }

func (p Preprocess) spec() (cgo.ImageSpec, error) {
	pipeline, ok := pipelines[p.Pipeline]
	if !ok {
		return cgo.ImageSpec{}, fmt.Errorf("pipeline %q: expected one of %s: %w", p.Pipeline, strings.Join(Pipelines(), ", "), ErrInvalid)
	}
	if p.Size < 1 || p.Size > 4096 {
		return cgo.ImageSpec{}, fmt.Errorf("size %d: expected 1 to 4096: %w", p.Size, ErrInvalid)
	}
	return cgo.ImageSpec{Pipeline: pipeline, Size: p.Size, Mean: p.Mean, Std: p.Std, Limits: cgo.ImageLimits(p.Limits)}, nil
}
