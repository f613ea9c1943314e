package engine

import (
	"context"
	"fmt"

	"github.com/tia2-engine/tia2-engine/engine/internal/convert"
)

// ConvertOptions overrides what Convert finds in a checkpoint. The zero value takes everything from it.
type ConvertOptions struct {
	DType    string // type of the matrices: "f32" (also ""), "f16", "bf16" or "q8_0"
	Arch     string // architecture of a CLIP without configuration: "ViT-B-32", "ViT-H-14-quickgelu", ...
	Reward   string // what scores of a CLIP are: "clip", "pickscore" or "hpsv2"
	Pipeline string // preprocessing: "openai", "open_clip", "hf_clip", "open_clip_squash", "blip_squash" or "hpsv2"
	Name     string // the model's name in the file

	// ImageSize is the picture side of a model of the BLIP family, in pixels; 0 is the checkpoint's own. For another the
	// position embedding is interpolated as BLIP's own loader does.
	ImageSize int

	Progress func(done, total int64) // bytes read and written; called from the calling goroutine; may be nil
	Note     func(text string)       // what had to be assumed or looks odd, one sentence each; may be nil
}

// internal returns the options of the package that does the work.
func (o ConvertOptions) internal() convert.Options {
	return convert.Options{DType: o.DType, Arch: o.Arch, Reward: o.Reward, Pipeline: o.Pipeline, Name: o.Name, ImageSize: o.ImageSize,
		Progress: o.Progress, Note: o.Note}
}

// Convert writes the GGUF file dst from a checkpoint: a CLIP, BLIP, BLIP-2, ImageReward or aesthetic head as a Hugging
// Face or open_clip folder, a safetensors file, a PyTorch pickle or a TorchScript archive. LAVIS's BLIP-2 lies in two
// files, blip2_pretrained.pth and eva_vit_g.pth in one folder: name either, or the folder. Nothing in the checkpoint is
// executed. dst appears whole or not at all, and is replaced if it exists. Errors name the file and the field or tensor.
func Convert(ctx context.Context, src, dst string, opt ConvertOptions) error {
	return wrapConvert("convert", convert.Convert(ctx, src, dst, opt.internal()))
}

// Quantize writes the GGUF file dst from the GGUF file src with its matrices as dtype ("f32", "f16", "bf16" or
// "q8_0"). A q8_0 file cannot be made into another type.
func Quantize(ctx context.Context, src, dst, dtype string) error {
	return wrapConvert("quantize", convert.Quantize(ctx, src, dst, convert.Options{DType: dtype}))
}

// Inspection says what a model file or folder holds: container, family, hyper-parameters, preprocessing, tokenizer,
// metadata, tensors and checksum. It encodes to JSON.
type Inspection = convert.Inspection

// Inspect describes a GGUF file or a checkpoint of any container. A checkpoint that cannot be run is described too;
// its Problem says why.
func Inspect(path string) (*Inspection, error) {
	in, err := convert.Inspect(context.Background(), path, convert.Options{})
	return in, wrapConvert("inspect", err)
}

// wrapConvert says which operation failed.
func wrapConvert(op string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("tia2: %s: %w", op, err)
}
