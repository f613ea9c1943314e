package cgo

// #include <stdlib.h>
// #include "tia2.h"
// #cgo noescape tia2_textnorm
// #cgo nocallback tia2_textnorm
import "C"

import (
	"fmt"
	"unsafe"
)

// MinMax says over which rewards [TextNorm] takes the minimum and the maximum.
type MinMax int

const (
	MinMaxImage MinMax = C.TIA2_MINMAX_IMAGE // over the prompts of one image
	MinMaxSet   MinMax = C.TIA2_MINMAX_SET   // over all images of the batch that belong to the same prompt set
)

// TextNormArgs are the arguments of [TextNorm]. B images, N texts, D the width of their embeddings.
type TextNormArgs struct {
	Images      []float32 // [B, D]
	Texts       []float32 // [N, D], the prompt sets one after another, in each the prompt itself first
	D           int       // >= 1
	SetOf       []int32   // [B]: which prompt set an image is scored against
	SetOffsets  []int32   // [sets + 1]: set s is rows SetOffsets[s] to SetOffsets[s+1] of Texts
	RewardScale float32   // reward = RewardScale * image . text; finite
	Scale       float32   // softmax scale, finite, > 0
	MinMax      MinMax
}

// TextNorm scores every image against the texts of its prompt set and calibrates the result, in one pass: norm, [B],
// gets softmax(Scale * minmax(rewards))[0], and raw, [B] or nil, the reward of the prompt itself. Equal rewards give
// 1/P; an image with a reward that is not finite gets NaN and leaves the others alone. Sums are in f64. Without an
// error it allocates no Go memory; C keeps no pointer. Safe from any goroutine.
//
// Errors: ErrInvalid, ErrMemory.
func TextNorm(raw, norm []float32, a TextNormArgs) error {
	if err := a.check(raw, norm); err != nil {
		return err
	}
	var ce C.tia2_error
	rc := C.tia2_textnorm((*C.float)(unsafe.SliceData(a.Images)), C.int32_t(len(a.SetOf)),
		(*C.float)(unsafe.SliceData(a.Texts)), C.int32_t(len(a.Texts)/a.D), C.int32_t(a.D),
		(*C.int32_t)(unsafe.SliceData(a.SetOf)), (*C.int32_t)(unsafe.SliceData(a.SetOffsets)),
		C.int32_t(len(a.SetOffsets)-1), C.float(a.RewardScale), C.float(a.Scale), C.int32_t(a.MinMax),
		(*C.float)(unsafe.SliceData(raw)), (*C.float)(unsafe.SliceData(norm)), &ce)
	if rc != C.TIA2_OK {
		return newError("textnorm", rc, ce)
	}
	return nil
}

// check refuses what C could not see: slices shorter than the counts say. The values are checked there.
func (a *TextNormArgs) check(raw, norm []float32) error {
	b := len(a.SetOf)
	refuse := func(format string, args ...any) error {
		return &Error{Op: "textnorm", Msg: fmt.Sprintf(format, args...), kind: ErrInvalid}
	}
	switch {
	case a.D < 1:
		return refuse("D is %d; expected at least 1", a.D)
	case len(a.Images) != b*a.D:
		return refuse("images has %d values; expected %d (%d images x %d)", len(a.Images), b*a.D, b, a.D)
	case len(a.Texts)%a.D != 0:
		return refuse("texts has %d values; expected a multiple of %d", len(a.Texts), a.D)
	case len(a.SetOffsets) < 1:
		return refuse("set offsets are empty; expected one more than there are sets")
	case len(norm) != b:
		return refuse("norm has %d values; expected one for each of %d images", len(norm), b)
	case raw != nil && len(raw) != b:
		return refuse("raw has %d values; expected none or one for each of %d images", len(raw), b)
	}
	return nil
}

// Peak is what a machine can do at most, as measured.
type Peak struct {
	F32GFLOPS, BF16GFLOPS float64 // a multiply and an add count as two; 0 where the CPU has no such instruction
	Int8GOPS              float64
	BandwidthGBs          float64 // bytes read per second from memory, 1e9, by all threads
}

// PeakMeasure measures this machine on the given number of threads. It takes about a second and wants the machine to
// itself. Errors: ErrInvalid, ErrMemory.
func PeakMeasure(threads int) (Peak, error) {
	var p C.tia2_peak
	var ce C.tia2_error
	if rc := C.tia2_peak_measure(C.int32_t(threads), &p, &ce); rc != C.TIA2_OK {
		return Peak{}, newError("measure peak", rc, ce)
	}
	return Peak{
		F32GFLOPS: float64(p.f32_gflops), BF16GFLOPS: float64(p.bf16_gflops), Int8GOPS: float64(p.int8_gops),
		BandwidthGBs: float64(p.bandwidth_gbs),
	}, nil
}

// SetISA chooses the level of the CPU kernels for calls that start later: "auto", "scalar", "avx2", "avx512",
// "avx512vnni", "avx512bf16" or "neon". The error, ErrInvalid, says if the name is unknown or this CPU lacks the level.
func SetISA(level string) error {
	cLevel := C.CString(level)
	defer C.free(unsafe.Pointer(cLevel))
	var ce C.tia2_error
	if rc := C.tia2_isa_set(cLevel, &ce); rc != C.TIA2_OK {
		return newError("set CPU level", rc, ce)
	}
	return nil
}
