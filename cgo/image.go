package cgo

// #include "tia2.h"
// #cgo noescape tia2_image_probe
// #cgo nocallback tia2_image_probe
// #cgo noescape tia2_image_decode_rgb
// #cgo nocallback tia2_image_decode_rgb
// #cgo noescape tia2_image_preprocess
// #cgo nocallback tia2_image_preprocess
import "C"

import (
	"fmt"
	"unsafe"
)

// ImageLimits bound what a picture may cost. Zero stands for the default.
type ImageLimits struct {
	PixelsMax uint64 // width * height; default 178,956,970, as PIL
	BytesMax  uint64 // of the encoded file; default 256 MiB
}

func (l ImageLimits) c() C.tia2_image_limits {
	return C.tia2_image_limits{pixels_max: C.uint64_t(l.PixelsMax), bytes_max: C.uint64_t(l.BytesMax)}
}

// ImageInfo is what the header of a picture says, in PIL's words.
type ImageInfo struct {
	Width, Height int
	Format        string // "JPEG", "PNG", "WEBP", "GIF", "BMP"
	Mode          string // "RGB", "RGBA", "L", "LA", "P", "1", "I;16", "CMYK"
}

// ImageSpec says what a model sees of a picture.
type ImageSpec struct {
	Pipeline  Pipeline
	Size      int // side of the result, 1..4096
	Mean, Std [3]float32
	Limits    ImageLimits
}

// Pipeline is the order of the preprocessing steps; see tia2_pipeline.
type Pipeline int32

// The pipelines of tia2.h.
const (
	PipelineOpenAI         Pipeline = C.TIA2_PIPELINE_OPENAI
	PipelineOpenCLIP       Pipeline = C.TIA2_PIPELINE_OPEN_CLIP
	PipelineHFCLIP         Pipeline = C.TIA2_PIPELINE_HF_CLIP
	PipelineBLIPSquash     Pipeline = C.TIA2_PIPELINE_BLIP_SQUASH
	PipelineHPSv2          Pipeline = C.TIA2_PIPELINE_HPSV2
	PipelineOpenCLIPSquash Pipeline = C.TIA2_PIPELINE_OPEN_CLIP_SQUASH
)

// ProbeImage reads the header of an encoded picture. Errors: ErrImage.
func ProbeImage(data []byte, limits ImageLimits) (ImageInfo, error) {
	var info C.tia2_image_info
	var ce C.tia2_error
	l := limits.c()
	if rc := C.tia2_image_probe((*C.uint8_t)(unsafe.SliceData(data)), C.size_t(len(data)), &l, &info, &ce); rc != C.TIA2_OK {
		return ImageInfo{}, newError("read picture", rc, ce)
	}
	return ImageInfo{Width: int(info.width), Height: int(info.height), Format: C.GoString(&info.format[0]), Mode: C.GoString(&info.mode[0])}, nil
}

// DecodeRGB decodes an encoded picture to dst, u8 [height, width, 3] as ProbeImage tells. Errors: ErrImage, ErrMemory.
func DecodeRGB(dst []uint8, data []byte, limits ImageLimits) error {
	var ce C.tia2_error
	l := limits.c()
	rc := C.tia2_image_decode_rgb((*C.uint8_t)(unsafe.SliceData(data)), C.size_t(len(data)), &l,
		(*C.uint8_t)(unsafe.SliceData(dst)), C.size_t(len(dst)), &ce)
	if rc != C.TIA2_OK {
		return newError("decode picture", rc, ce)
	}
	return nil
}

// PreprocessU8 writes what the model sees of an encoded picture to dst, u8 [S, S, 3]. Not for PipelineHPSv2, whose
// pixels are no bytes. Errors: ErrImage, ErrMemory, ErrInvalid.
func PreprocessU8(dst []uint8, data []byte, spec ImageSpec) error {
	return preprocess(unsafe.Pointer(unsafe.SliceData(dst)), len(dst), C.TIA2_PIXELS_U8, data, spec)
}

// PreprocessF32 writes the same, normalised, to dst: f32 [3, S, S].
func PreprocessF32(dst []float32, data []byte, spec ImageSpec) error {
	return preprocess(unsafe.Pointer(unsafe.SliceData(dst)), len(dst), C.TIA2_PIXELS_F32, data, spec)
}

func preprocess(dst unsafe.Pointer, n int, kind C.int32_t, data []byte, spec ImageSpec) error {
	if n != 3*spec.Size*spec.Size {
		return &Error{Op: "preprocess picture", Msg: fmt.Sprintf("dst holds %d values, expected 3 x %d x %d", n, spec.Size, spec.Size), kind: ErrInvalid}
	}
	s := C.tia2_image_spec{pipeline: C.int32_t(spec.Pipeline), size: C.int32_t(spec.Size), limits: spec.Limits.c()}
	for i := range 3 {
		s.mean[i], s.std[i] = C.float(spec.Mean[i]), C.float(spec.Std[i])
	}
	var ce C.tia2_error
	rc := C.tia2_image_preprocess((*C.uint8_t)(unsafe.SliceData(data)), C.size_t(len(data)), &s, kind, dst, C.size_t(n), &ce)
	if rc != C.TIA2_OK {
		return newError("preprocess picture", rc, ce)
	}
	return nil
}
