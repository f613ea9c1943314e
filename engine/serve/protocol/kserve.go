package protocol

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/tia2-engine/tia2-engine/engine"
	"github.com/tia2-engine/tia2-engine/engine/serve"
)

// What the Open Inference Protocol (KServe v2) sees, over REST and gRPC:
//
// Models are the rewards, by name, with version "1", and rewardsModel, which computes several at once.
//
//	input   images  BYTES [N]: files; in JSON base64 or a data URL. Or UINT8 [N, H, W, C]: pixels
//	        texts   BYTES [M]; not needed by a reward that reads none
//	output  scores  FP32 [P]; of rewardsModel one output a reward, under its name: all, or those that the request names
//
// P pairs are image i with text i, or, where one side has one item, that with all. The request's parameters: "pairs": "all"
// asks for every image with every text, and makes the outputs [N, M]; "scale" names the convention ("/26"); "timeout" is
// Triton's, in microseconds. The score of a picture that could not be read is NaN (null in JSON), and the response's
// parameter "errors" says why.

const (
	rewardsModel = "rewards"
	modelVersion = "1"
	platform     = "tia2-engine"
	scoresOutput = "scores"
	maxTensors   = 64 // inputs or outputs of a request
)

// extensions that KServe v2 and Triton name, and that are spoken here.
var extensions = []string{"binary_tensor_data", "model_configuration", "statistics"}

// tensor is an input.
type tensor struct {
	name, datatype string
	shape          []int64
	elements       [][]byte // of BYTES
	bytes          []byte   // of UINT8
}

// tensorInfo describes an input or output; -1 is any length.
type tensorInfo struct {
	name, datatype string
	shape          []int64
	optional       bool
}

// inferRequest is a request in either transport.
type inferRequest struct {
	model, version string
	inputs         []tensor
	outputs        []string // names asked for; empty: all
	parameters     map[string]any
}

// inferResult is its answer.
type inferResult struct {
	shape   []int64
	outputs []inferOutput
	errors  string // of pictures that could not be read
}

type inferOutput struct {
	name   string
	scores []float32
}

// kserve is what both transports share.
type kserve struct {
	translator
	mu    sync.Mutex
	stats map[string]*modelStats
}

// modelStats counts the requests to a model over one transport. Statistics have all of a request's time as that of its
// computation, and none of the queue, of input and of output, which Triton's perf_analyzer wants to see there.
type modelStats struct {
	last                    time.Time
	pairs                   uint64
	succeeded, failed       uint64
	succeededFor, failedFor time.Duration
}

// lastMillis is the time of the last request in milliseconds since the epoch, 0 before the first.
func (s *modelStats) lastMillis() uint64 {
	if s.last.IsZero() {
		return 0
	}
	return uint64(s.last.UnixMilli())
}

func newKServe(s *serve.Server, opt Options) *kserve {
	return &kserve{translator: translator{s, opt}, stats: map[string]*modelStats{}}
}

// models returns the names of all models.
func (k *kserve) models() []string { return append(slices.Clone(k.s.Rewards()), rewardsModel) }

// rewards returns the rewards that a model stands for.
func (k *kserve) rewards(model, version string) ([]string, error) {
	served := k.s.Rewards()
	if version != "" && version != modelVersion {
		return nil, &unknownModelError{fmt.Sprintf("unknown version %.32q of a model: there is version %s", version, modelVersion)}
	}
	if model == rewardsModel {
		return served, nil
	}
	if !slices.Contains(served, model) {
		return nil, &unknownModelError{fmt.Sprintf("unknown model %.64q: this server has %s", model, strings.Join(k.models(), ", "))}
	}
	return []string{model}, nil
}

// unknownModelError is of the kinds serve.ErrUnknownReward and serve.ErrBadRequest.
type unknownModelError struct{ text string }

func (e *unknownModelError) Error() string { return e.text }

func (e *unknownModelError) Unwrap() error { return serve.ErrUnknownReward }

// describe returns a model's inputs and outputs.
func (k *kserve) describe(model, version string) (inputs, outputs []tensorInfo, err error) {
	rewards, err := k.rewards(model, version)
	if err != nil {
		return nil, nil, err
	}
	inputs = []tensorInfo{
		{name: "images", datatype: "BYTES", shape: []int64{-1}},
		{name: "texts", datatype: "BYTES", shape: []int64{-1}, optional: !slices.ContainsFunc(rewards, readsText)},
	}
	for _, reward := range rewards {
		name := reward
		if model != rewardsModel {
			name = scoresOutput
		}
		outputs = append(outputs, tensorInfo{name: name, datatype: "FP32", shape: []int64{-1}})
	}
	return inputs, outputs, nil
}

// infer answers a request and counts it.
func (k *kserve) infer(ctx context.Context, q *inferRequest) (*inferResult, error) {
	rewards, err := k.rewards(q.model, q.version)
	if err != nil {
		return nil, err
	}
	begin := time.Now()
	result, err := k.compute(ctx, q, rewards)
	k.count(q.model, result, time.Since(begin))
	return result, err
}

func (k *kserve) count(model string, result *inferResult, took time.Duration) {
	k.mu.Lock()
	defer k.mu.Unlock()
	s := k.stats[model]
	if s == nil {
		s = &modelStats{}
		k.stats[model] = s
	}
	if s.last = time.Now(); result == nil {
		s.failed++
		s.failedFor += took
		return
	}
	s.succeeded++
	s.succeededFor += took
	s.pairs += uint64(len(result.outputs[0].scores))
}

// statistics returns the counts of a model, or of all for the name "".
func (k *kserve) statistics(model, version string) (names []string, stats []modelStats, err error) {
	names = k.models()
	if model != "" {
		names = []string{model}
		if _, err := k.rewards(model, version); err != nil {
			return nil, nil, err
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, name := range names {
		var s modelStats
		if have := k.stats[name]; have != nil {
			s = *have
		}
		stats = append(stats, s)
	}
	return names, stats, nil
}

func (k *kserve) compute(ctx context.Context, q *inferRequest, rewards []string) (*inferResult, error) {
	names, rewards, err := q.wanted(rewards)
	if err != nil {
		return nil, err
	}
	ask := serve.ScoreRequest{Rewards: rewards}
	if err := q.readInputs(&ask); err != nil {
		return nil, err
	}
	needsText := slices.ContainsFunc(rewards, readsText)
	if len(ask.Texts) == 0 && !needsText {
		ask.Texts = []string{""}
	}
	if len(ask.Texts) == 0 || len(ask.Images) == 0 {
		return nil, badRequest("%s: expected images and texts, found %d and %d", q.model, len(ask.Images), len(ask.Texts))
	}
	scale, pairs, timeout, err := q.options()
	if err != nil {
		return nil, err
	}
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	ask.All = pairs == "all"
	result, err := k.score(ctx, ask, scale, k.opt.Scales)
	if err != nil {
		return nil, err
	}
	out := &inferResult{shape: []int64{int64(len(result.Pairs))}, errors: imageErrors(result.Errors)}
	if ask.All {
		out.shape = []int64{int64(len(ask.Images)), int64(len(ask.Texts))}
	}
	for i := range rewards {
		out.outputs = append(out.outputs, inferOutput{names[i], result.Scores[i]})
	}
	return out, nil
}

// wanted returns the names of the outputs asked for and the reward of each.
func (q *inferRequest) wanted(rewards []string) (names, of []string, err error) {
	single := q.model != rewardsModel
	if len(q.outputs) == 0 {
		if single {
			return []string{scoresOutput}, rewards, nil
		}
		return rewards, rewards, nil
	}
	for _, name := range q.outputs {
		reward := name
		if single && name == scoresOutput {
			reward = q.model
		}
		if !slices.Contains(rewards, reward) || slices.Contains(of, reward) {
			return nil, nil, badRequest("%s: output %.64q is unknown or asked for twice", q.model, name)
		}
		names, of = append(names, name), append(of, reward)
	}
	return names, of, nil
}

// options reads the request's parameters.
func (q *inferRequest) options() (scale []string, pairs string, timeout time.Duration, err error) {
	switch v := q.parameters["scale"].(type) {
	case nil:
	case string:
		scale = strings.Split(v, ",")
	default:
		return nil, "", 0, badRequest(`parameter "scale": expected a text`)
	}
	switch v := q.parameters["pairs"]; v {
	case nil, "zip":
		pairs = "zip"
	case "all":
		pairs = "all"
	default:
		return nil, "", 0, badRequest(`parameter "pairs": expected "zip" or "all"`)
	}
	switch v := q.parameters["timeout"].(type) {
	case nil:
	case float64:
		timeout = time.Duration(min(max(v, 0), 1e12)) * time.Microsecond
	case int64:
		timeout = time.Duration(min(max(v, 0), 1e12)) * time.Microsecond
	case uint64:
		timeout = time.Duration(min(v, 1e12)) * time.Microsecond
	default:
		return nil, "", 0, badRequest(`parameter "timeout": expected microseconds`)
	}
	return scale, pairs, timeout, nil
}

// readInputs takes the pictures and texts of the inputs.
func (q *inferRequest) readInputs(ask *serve.ScoreRequest) error {
	seen := map[string]bool{}
	for i := range q.inputs {
		in := &q.inputs[i]
		if seen[in.name] {
			return badRequest("input %.64q is there twice", in.name)
		}
		seen[in.name] = true
		var err error
		switch in.name {
		case "images":
			ask.Images, err = in.images()
		case "texts":
			ask.Texts, err = in.texts()
		default:
			err = badRequest("expected inputs images and texts")
		}
		if err != nil {
			return badRequest("input %.64q: %w", in.name, err)
		}
	}
	return nil
}

func (t *tensor) images() ([]engine.Image, error) {
	if t.datatype == "UINT8" {
		return pixelImages(t.bytes, t.shape)
	}
	images := make([]engine.Image, len(t.elements))
	for i, b := range t.elements {
		data, err := pictureFile(b)
		if err != nil {
			return nil, badRequest("element %d: %w", i, err)
		}
		images[i] = engine.Image{Name: "images[" + strconv.Itoa(i) + "]", Data: data}
	}
	return images, nil
}

func (t *tensor) texts() ([]string, error) {
	if t.datatype != "BYTES" {
		return nil, badRequest("type %s: expected BYTES", t.datatype)
	}
	texts := make([]string, len(t.elements))
	for i, b := range t.elements {
		if !utf8.Valid(b) {
			return nil, badRequest("element %d is not UTF-8", i)
		}
		texts[i] = string(b)
	}
	return texts, nil
}

// checkHead checks a tensor's type and shape and returns the number of its elements.
func (t *tensor) checkHead() (int, error) {
	if t.datatype != "BYTES" && t.datatype != "UINT8" {
		return 0, badRequest("input %.64q: type %.16q: expected BYTES, or UINT8 of pixels", t.name, t.datatype)
	}
	if len(t.shape) == 0 || len(t.shape) > 8 {
		return 0, badRequest("input %.64q: a shape of %d lengths", t.name, len(t.shape))
	}
	n := int64(1)
	for _, d := range t.shape {
		if d < 0 || d > 0 && n > math.MaxInt32/d {
			return 0, badRequest("input %.64q: shape %v is negative or too large", t.name, t.shape)
		}
		n *= d
	}
	if t.datatype == "BYTES" && n > maxItems {
		return 0, badRequest("input %.64q: %d elements, expected at most %d", t.name, n, maxItems)
	}
	return int(n), nil
}

// setRaw takes the elements from their binary form: of BYTES each with its length before it, u32 little-endian.
func (t *tensor) setRaw(raw []byte) error {
	n, err := t.checkHead()
	if err != nil {
		return err
	}
	if t.datatype == "UINT8" {
		if t.bytes = raw; len(raw) != n {
			return badRequest("input %.64q: %d bytes for shape %v", t.name, len(raw), t.shape)
		}
		return nil
	}
	if 4*n > len(raw) {
		return badRequest("input %.64q: %d bytes do not hold %d elements", t.name, len(raw), n)
	}
	t.elements = make([][]byte, n)
	for i := range t.elements {
		if len(raw) < 4 {
			return badRequest("input %.64q: the data ends before element %d", t.name, i)
		}
		size := binary.LittleEndian.Uint32(raw)
		if raw = raw[4:]; uint64(size) > uint64(len(raw)) {
			return badRequest("input %.64q: element %d of %d bytes does not fit the data", t.name, i, size)
		}
		t.elements[i], raw = raw[:size:size], raw[size:]
	}
	if len(raw) > 0 {
		return badRequest("input %.64q: %d bytes follow its %d elements", t.name, len(raw), n)
	}
	return nil
}

// setElements takes elements of BYTES.
func (t *tensor) setElements(elements [][]byte) error {
	n, err := t.checkHead()
	if err != nil {
		return err
	}
	if t.elements = elements; t.datatype != "BYTES" || len(elements) != n {
		return badRequest("input %.64q: %d elements of BYTES for %s %v", t.name, len(elements), t.datatype, t.shape)
	}
	return nil
}

// littleEndian writes scores as binary data.
func littleEndian(scores []float32) []byte {
	b := make([]byte, 0, 4*len(scores))
	for _, s := range scores {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(s))
	}
	return b
}
