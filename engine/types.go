package engine

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Image is one encoded picture: JPEG, PNG, WebP, GIF or BMP, found by its content.
type Image struct {
	Name string // how errors and results call it
	Path string // read when Data is nil
	Data []byte // the file's bytes; not modified, not kept after the call
}

// File returns the picture at path, named by its path and read when it is encoded.
func File(path string) Image { return Image{Name: path, Path: path} }

// Embeddings are N vectors of width Dim, row after row: f32 [N, Dim].
type Embeddings struct {
	N, Dim int
	Data   []float32
}

// Row returns the i-th vector. It shares memory with e.
func (e Embeddings) Row(i int) []float32 { return e.Data[i*e.Dim : (i+1)*e.Dim : (i+1)*e.Dim] }

// Pair is one picture with one text, by their places in a call.
type Pair struct{ Image, Text int }

// Pixels are N preprocessed pictures of side S: set one of U8, [N, S, S, 3], or F32, normalised [N, 3, S, S].
type Pixels struct {
	N   int
	U8  []uint8
	F32 []float32
}

// Reward holds one reward of every image for every text: f32 [Images, Texts].
type Reward struct {
	Name          string // one of Info.Rewards: "clip", "blip_itm", ...
	Images, Texts int
	Scores        []float32 // Scores[i*Texts+t]; a row of NaN where image i could not be read
}

// ItemError says why one item of a batch failed.
type ItemError struct {
	Index int    // position in the batch
	Name  string // the item's name
	Err   error
}

func (e *ItemError) Error() string { return fmt.Sprintf("%s: %v", e.Name, e.Err) }

// Unwrap returns the cause.
func (e *ItemError) Unwrap() error { return e.Err }

// ItemErrors is the error of a batch in which some items failed, in order of their index. The results of the other
// items are valid; those of the failed ones are NaN.
type ItemErrors []*ItemError

func (e ItemErrors) Error() string {
	lines := make([]string, len(e))
	for i, item := range e {
		lines[i] = item.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap returns the single errors, for errors.Is and errors.As.
func (e ItemErrors) Unwrap() []error {
	errs := make([]error, len(e))
	for i, item := range e {
		errs[i] = item
	}
	return errs
}

// SplitItemErrors separates items that failed from an error that ended the whole call.
func SplitItemErrors(err error) (ItemErrors, error) {
	var items ItemErrors
	if errors.As(err, &items) {
		return items, nil
	}
	return nil, err
}

// Info describes an open model. FLOPs count a multiply and an add as two.
type Info struct {
	Spec         string   // as given to Open
	Name         string   // general.name of the GGUF file
	Family       string   // "clip", "blip", "blip2", "aesthetic"
	Rewards      []string // what Score gives, in its order, see there
	Device       string   // ggml's name: "CPU", "Vulkan0"
	Backend      string   // "cpu", "vulkan", "cuda", "metal"
	DType        string   // of its matrices: "f32", "f16", "bf16", "int8"
	SourceSHA256 string   // of the checkpoint that it was converted from

	EmbedDim                                   int // D; 0: no embeddings (ImageReward). Of an aesthetic head: of the embeddings that it takes
	ImageVectors                               int // embeddings of a picture: 1; BLIP-2: one for each query
	StateWidth                                 int // of the ImageTokens states of a picture that pairs are computed from; 0: no cross encoder
	PairOutputs                                int // values of a pair: 2 logits (no match, match), ImageReward 1; 0: no cross encoder
	ImageSize, Context, VocabSize, ImageTokens int
	LogitScale                                 float32 // already exp()-ed; 1 where the model has none
	WeightsBytes                               uint64  // on the device

	ImageFLOPs         float64 // of one image
	TextFLOPsPerToken  float64 // one text of T tokens: T*PerToken + T*T*Attention + Pooled
	TextFLOPsAttention float64
	TextFLOPsPooled    float64

	Pipeline  string // preprocessing: "openai", "open_clip", "hf_clip", "blip_squash", "hpsv2"
	Mean, Std [3]float32
}

// HasEmbeddings tells whether the model embeds pictures and texts: ImageReward and aesthetic heads only score.
func (i Info) HasEmbeddings() bool { return i.EmbedDim > 0 && i.Family != "aesthetic" }

// causal tells whether what a token of a text becomes depends on the tokens before it alone, as CLIP has it; BERT's sees
// the whole text.
func (i Info) causal() bool { return i.Family != "blip" && i.Family != "blip2" }

// TextFLOPs returns the cost of texts in one batch, each given by its ids up to the one it is pooled at. Equal texts are
// computed once, and so is, in a CLIP, a prefix that texts share. Several batches of a CLIP cost a little more, for what
// they share with each other.
func (i Info) TextFLOPs(texts [][]int32) float64 {
	var sum float64
	var before []int32
	for k, text := range slices.SortedFunc(slices.Values(texts), slices.Compare[[]int32]) {
		shared := sharedPrefix(before, text)
		if k > 0 && shared == len(text) && shared == len(before) {
			continue // the same text again
		}
		if !i.causal() {
			shared = 0
		}
		// The first n tokens of a causal text attend to 1 + 3 + ... + (2n-1) = n*n, as n tokens that see each other.
		n, old := float64(len(text)), float64(shared)
		sum += (n-old)*i.TextFLOPsPerToken + (n*n-old*old)*i.TextFLOPsAttention + i.TextFLOPsPooled
		before = text
	}
	return sum
}

// OpSample is the time one op took, summed over Count runs.
type OpSample struct {
	Name  string // tower/block/op: "image/blk.3/attn/qkv"
	Shape string // "1600x768x2304 f32"
	Count uint64
	Time  time.Duration
	FLOPs float64
	Bytes float64 // read and written, each operand once
}

// Device is a place to compute on.
type Device struct {
	Name        string `json:"name"`    // "CPU", "Vulkan0", "CUDA0"
	Backend     string `json:"backend"` // "cpu", "vulkan", "cuda", "metal"
	Description string `json:"description"`
	MemoryFree  uint64 `json:"memory_free_bytes"`
	MemoryTotal uint64 `json:"memory_total_bytes"`
}

// Versions are those of this program and of the native libraries as loaded, and the level of CPU kernels in use.
type Versions struct {
	Engine string `json:"version"`
	GGML   string `json:"ggml"`
	OneDNN string `json:"onednn"`
	JPEG   string `json:"libjpeg_turbo"`
	PNG    string `json:"libpng"`
	WebP   string `json:"libwebp"`
	ISA    string `json:"isa"`
}

// Peak is what this machine can do at most, measured.
type Peak struct {
	F32GFLOPS    float64 // multiply and add counted as two
	BF16GFLOPS   float64 // 0 where the CPU has no bf16 dot product
	Int8GOPS     float64 // 0 where the CPU has no int8 dot product
	BandwidthGBs float64 // read from memory, 1e9 bytes a second
}
