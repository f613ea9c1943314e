package cgo

// #include <stdlib.h>
// #include "tia2.h"
// #cgo noescape tia2_encode_images
// #cgo nocallback tia2_encode_images
// #cgo noescape tia2_encode_texts
// #cgo nocallback tia2_encode_texts
// #cgo noescape tia2_match
// #cgo nocallback tia2_match
import "C"

import (
	"fmt"
	"math"
	"runtime"
	"strings"
	"sync"
	"time"
	"unsafe"
)

// Model owns one tia2_model. Its methods may be called from any goroutine; they run one at a time. Close it; a
// forgotten one is freed by the GC, late.
type Model struct {
	mu      sync.Mutex    // the C object is not thread-safe
	c       *C.tia2_model // nil once closed
	cleanup runtime.Cleanup
	info    ModelInfo
}

// ModelInfo is fixed when a model is opened. FLOPs count a multiply and an add as two.
type ModelInfo struct {
	Family, Device                             string
	EmbedDim                                   int // 0: no embeddings
	ImageVectors                               int // embeddings of an image: 1; BLIP-2: one for each query
	StateWidth                                 int // of the ImageTokens states of an image that pairs are computed from; 0: no cross encoder
	PairOutputs                                int // values of a pair: 2 logits (no match, match), ImageReward 1; 0: no cross encoder
	ImageSize, Context, VocabSize, ImageTokens int
	LogitScale                                 float32 // already exp()-ed; 1 where the model has none
	WeightsBytes                               uint64
	ImageFLOPs                                 float64 // one image
	TextFLOPsPerToken                          float64 // one text of T tokens: T*PerToken + T*T*Attention + Pooled
	TextFLOPsAttention, TextFLOPsPooled        float64
}

// OpenModel opens the GGUF file at path on a device (a name of Devices, in any case) with the given number of CPU
// threads. Errors: ErrIO, ErrModel, ErrBackend, ErrMemory, ErrInvalid.
func OpenModel(path, device string, threads int) (*Model, error) {
	if threads < 1 || threads > math.MaxInt32 || strings.ContainsRune(path+device, 0) {
		return nil, &Error{Op: "open model", Msg: fmt.Sprintf("path %q, device %q, %d threads: expected names without NUL and threads of at least 1",
			path, device, threads), kind: ErrInvalid}
	}
	cPath, cDevice := C.CString(path), C.CString(device)
	defer C.free(unsafe.Pointer(cPath))
	defer C.free(unsafe.Pointer(cDevice))
	opt := C.tia2_model_options{device: cDevice, n_threads: C.int32_t(threads)}
	var c *C.tia2_model
	var ce C.tia2_error
	if rc := C.tia2_model_open(cPath, &opt, &c, &ce); rc != C.TIA2_OK {
		return nil, newError("open model", rc, ce)
	}
	m := &Model{c: c, info: modelInfo(c)}
	m.cleanup = runtime.AddCleanup(m, func(c *C.tia2_model) { C.tia2_model_free(c) }, c)
	return m, nil
}

func modelInfo(c *C.tia2_model) ModelInfo {
	var i C.tia2_model_info
	C.tia2_model_info_get(c, &i)
	return ModelInfo{
		Family: C.GoString(&i.family[0]), Device: C.GoString(&i.device[0]),
		EmbedDim: int(i.embed_dim), ImageVectors: int(i.image_vectors), StateWidth: int(i.state_width), PairOutputs: int(i.pair_outputs),
		ImageSize: int(i.image_size), Context: int(i.context), VocabSize: int(i.vocab_size),
		ImageTokens: int(i.image_tokens), LogitScale: float32(i.logit_scale), WeightsBytes: uint64(i.weights_bytes),
		ImageFLOPs: float64(i.image_flops), TextFLOPsPerToken: float64(i.text_flops_per_token),
		TextFLOPsAttention: float64(i.text_flops_attention), TextFLOPsPooled: float64(i.text_flops_pooled),
	}
}

// Info describes the model. It stays valid after Close.
func (m *Model) Info() ModelInfo { return m.info }

// EncodeImagesU8 encodes u8 pixels [batch, S, S, 3]. dst: f32 [batch, ImageVectors, EmbedDim], the embeddings, L2-normalised or
// at their own length; states: f32 [batch, ImageTokens, StateWidth], what Match takes. Either may be nil, not both.
func (m *Model) EncodeImagesU8(dst, states []float32, pixels []uint8, batch int, normalize bool) error {
	return m.encodeImages(dst, states, unsafe.Pointer(unsafe.SliceData(pixels)), len(pixels), C.TIA2_PIXELS_U8, batch, normalize)
}

// EncodeImagesF32 does the same from normalised f32 pixels [batch, 3, S, S].
func (m *Model) EncodeImagesF32(dst, states, pixels []float32, batch int, normalize bool) error {
	return m.encodeImages(dst, states, unsafe.Pointer(unsafe.SliceData(pixels)), len(pixels), C.TIA2_PIXELS_F32, batch, normalize)
}

func (m *Model) encodeImages(dst, states []float32, pixels unsafe.Pointer, n int, kind C.int32_t, batch int, normalize bool) error {
	if batch < 0 || batch > math.MaxInt32 || n != batch*3*m.info.ImageSize*m.info.ImageSize {
		return &Error{Op: "encode images", Msg: "pixels do not hold batch pictures of the model's size", kind: ErrInvalid}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.c == nil {
		return ErrClosed
	}
	var ce C.tia2_error
	rc := C.tia2_encode_images(m.c, pixels, kind, C.int32_t(batch), flag(normalize), (*C.float)(unsafe.SliceData(dst)), C.size_t(len(dst)),
		(*C.float)(unsafe.SliceData(states)), C.size_t(len(states)), &ce)
	runtime.KeepAlive(m) // else the cleanup could free m.c during the call
	if rc != C.TIA2_OK {
		return newError("encode images", rc, ce)
	}
	return nil
}

func flag(on bool) C.int32_t {
	if on {
		return 1
	}
	return 0
}

// EncodeTexts writes the embeddings, f32 [B, D], of B texts to dst, as EncodeImagesU8 does. Text b is ids[offsets[b]:offsets[b+1]],
// from its first special token to the one it is pooled at; offsets has B+1 entries.
func (m *Model) EncodeTexts(dst []float32, ids, offsets []int32, normalize bool) error {
	batch := len(offsets) - 1
	if batch < 0 || batch > math.MaxInt32 || int(offsets[batch]) != len(ids) {
		return &Error{Op: "encode texts", Msg: "offsets do not end where the ids end", kind: ErrInvalid}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.c == nil {
		return ErrClosed
	}
	var ce C.tia2_error
	rc := C.tia2_encode_texts(m.c, (*C.int32_t)(unsafe.SliceData(ids)), (*C.int32_t)(unsafe.SliceData(offsets)),
		C.int32_t(batch), flag(normalize), (*C.float)(unsafe.SliceData(dst)), C.size_t(len(dst)), &ce)
	runtime.KeepAlive(m)
	if rc != C.TIA2_OK {
		return newError("encode texts", rc, ce)
	}
	return nil
}

// Pairs are images and texts that the cross encoder reads together.
type Pairs struct {
	States          []float32 // f32 [Images, ImageTokens, StateWidth], of EncodeImages*
	Images          int
	IDs, Offsets    []int32 // of the texts, as EncodeTexts takes them
	ImageOf, TextOf []int32 // [pairs] pair p is image ImageOf[p] with text TextOf[p]
}

// Match writes the outputs of pairs to dst, f32 [pairs, PairOutputs]. Pairs of an image should stand together, and a call
// have all texts of its images: what belongs to an image alone or to a text alone is then computed once.
func (m *Model) Match(dst []float32, p *Pairs) error {
	texts := len(p.Offsets) - 1
	switch {
	case texts < 0 || texts > math.MaxInt32 || int(p.Offsets[texts]) != len(p.IDs):
		return &Error{Op: "match", Msg: "offsets do not end where the ids end", kind: ErrInvalid}
	case len(p.ImageOf) != len(p.TextOf) || len(p.ImageOf) > math.MaxInt32:
		return &Error{Op: "match", Msg: "expected an image and a text for every pair", kind: ErrInvalid}
	case p.Images < 0 || p.Images > math.MaxInt32 || len(p.States) != p.Images*m.info.ImageTokens*m.info.StateWidth:
		return &Error{Op: "match", Msg: "states do not hold the images", kind: ErrInvalid}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.c == nil {
		return ErrClosed
	}
	var ce C.tia2_error
	rc := C.tia2_match(m.c, (*C.float)(unsafe.SliceData(p.States)), C.int32_t(p.Images), (*C.int32_t)(unsafe.SliceData(p.IDs)),
		(*C.int32_t)(unsafe.SliceData(p.Offsets)), C.int32_t(texts), (*C.int32_t)(unsafe.SliceData(p.ImageOf)),
		(*C.int32_t)(unsafe.SliceData(p.TextOf)), C.int32_t(len(p.ImageOf)), (*C.float)(unsafe.SliceData(dst)), C.size_t(len(dst)), &ce)
	runtime.KeepAlive(m)
	if rc != C.TIA2_OK {
		return newError("match", rc, ce)
	}
	return nil
}

// MatchFLOPs returns the cost of all pairs of so many images with the texts; that of encoding the images is not in it.
func (m *Model) MatchFLOPs(images int, offsets []int32) float64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.c == nil || len(offsets) == 0 {
		return 0
	}
	flops := C.tia2_match_flops(m.c, C.int32_t(images), (*C.int32_t)(unsafe.SliceData(offsets)), C.int32_t(len(offsets)-1))
	runtime.KeepAlive(m)
	return float64(flops)
}

// OpSample is the time of one op, summed over Count runs.
type OpSample struct {
	Name, Shape  string
	Count        uint64
	Time         time.Duration
	FLOPs, Bytes float64
}

// SetProfile turns the timing of single ops on, forgetting earlier samples, or off.
func (m *Model) SetProfile(on bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.c == nil {
		return
	}
	C.tia2_profile_set(m.c, flag(on))
	runtime.KeepAlive(m)
}

// Profile returns the samples since profiling was turned on, in order of first run.
func (m *Model) Profile() []OpSample {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.c == nil {
		return nil
	}
	buf := make([]C.tia2_op_sample, C.tia2_profile_read(m.c, nil, 0))
	C.tia2_profile_read(m.c, unsafe.SliceData(buf), C.int32_t(len(buf)))
	runtime.KeepAlive(m)
	samples := make([]OpSample, len(buf))
	for i := range buf {
		s := &buf[i]
		samples[i] = OpSample{
			Name: C.GoString(&s.name[0]), Shape: C.GoString(&s.shape[0]), Count: uint64(s.count),
			Time: time.Duration(s.ns), FLOPs: float64(s.flops), Bytes: float64(s.bytes),
		}
	}
	return samples
}

// Close frees the C object. It waits for a running call. Closing twice is fine.
func (m *Model) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.c == nil {
		return nil
	}
	m.cleanup.Stop() // before the free, or it could run twice
	C.tia2_model_free(m.c)
	m.c = nil
	return nil
}
