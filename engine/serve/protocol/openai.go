package protocol

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/tia2-engine/tia2-engine/engine"
	"github.com/tia2-engine/tia2-engine/engine/serve"
	"github.com/tia2-engine/tia2-engine/engine/serve/api"
)

// OpenAI returns the route of OpenAI's embeddings:
//
//	POST /v1/embeddings  {"model", "input", "encoding_format": "float" or "base64", "dimensions"}
//	                     -> {"object": "list", "data": [{"object": "embedding", "index", "embedding"}], "model", "usage"}
//
// input is one or a list of: a text; a picture as a data URL (a text that begins with "data:image/"); {"text": ...};
// {"image": data URL or base64}. Embeddings are L2-normalised; base64 is of little-endian f32. dimensions, if given, must be
// the model's. usage counts the tokens that the towers read: of texts by the public vocabulary of the model's family, of
// pictures their patches. Errors have OpenAI's shape; a picture that cannot be read is an error that names its input,
// since the answer has no place for it.
func OpenAI(s *serve.Server, opt Options) []api.Route {
	o := &openAI{translator: translator{s, opt}, tokenizers: map[string]*engine.Tokenizer{}}
	return []api.Route{{Pattern: "POST /v1/embeddings", Handler: http.HandlerFunc(o.embeddings)}}
}

type openAI struct {
	translator
	mu         sync.Mutex
	tokenizers map[string]*engine.Tokenizer // by name
}

// embeddingsRequest is the body. Fields of OpenAI that have no meaning here (user) are left aside.
type embeddingsRequest struct {
	Model          string          `json:"model"`
	Input          json.RawMessage `json:"input"`
	EncodingFormat string          `json:"encoding_format"`
	Dimensions     *int            `json:"dimensions"`
}

// embeddingInput is one input: a text or a picture.
type embeddingInput struct {
	text    string
	picture []byte
	isImage bool
}

// embeddingsResponse is the answer.
type embeddingsResponse struct {
	Object string            `json:"object"`
	Data   []embeddingAnswer `json:"data"`
	Model  string            `json:"model"`
	Usage  embeddingsUsage   `json:"usage"`
}

type embeddingAnswer struct {
	Object    string `json:"object"`
	Index     int    `json:"index"`
	Embedding any    `json:"embedding"` // []float32, or base64
}

type embeddingsUsage struct {
	PromptTokens int `json:"prompt_tokens"`
	TotalTokens  int `json:"total_tokens"`
}

func (o *openAI) embeddings(w http.ResponseWriter, r *http.Request) {
	body, err := api.ReadBody(w, r)
	var answer *embeddingsResponse
	if err == nil {
		answer, err = o.answer(r, body)
	}
	if err != nil {
		writeOpenAIError(w, r, err)
		return
	}
	writeJSON(w, http.StatusOK, answer)
}

// inputError is a fault of one field of the request.
type inputError struct {
	param string
	error
}

func (e *inputError) Unwrap() []error { return []error{e.error, serve.ErrBadRequest} }

// writeOpenAIError writes {"error": {"message", "type", "param", "code"}}.
func writeOpenAIError(w http.ResponseWriter, r *http.Request, err error) {
	code, text := fail(w, r, err)
	body := map[string]any{"message": text, "type": "invalid_request_error", "param": nil, "code": nil}
	var input *inputError
	switch {
	case errors.As(err, &input):
		body["param"] = input.param
	case errors.Is(err, serve.ErrUnknownReward):
		code = http.StatusNotFound
		body["param"], body["code"] = "model", "model_not_found"
	case code == http.StatusTooManyRequests:
		body["type"], body["code"] = "rate_limit_error", "rate_limit_exceeded"
	case code >= 500:
		body["type"] = "server_error"
	}
	writeJSON(w, code, map[string]any{"error": body})
}

func (o *openAI) answer(r *http.Request, body []byte) (*embeddingsResponse, error) {
	var q embeddingsRequest
	if err := api.DecodeJSON(body, &q, false); err != nil {
		return nil, err
	}
	if q.EncodingFormat != "" && q.EncodingFormat != "float" && q.EncodingFormat != "base64" {
		return nil, &inputError{"encoding_format", fmt.Errorf(`encoding_format %.32q: expected "float" or "base64"`, q.EncodingFormat)}
	}
	if q.Model != "" && !o.knows(q.Model) {
		return nil, &unknownModelError{fmt.Sprintf("the model %.64q does not exist here: see /v1/models", q.Model)}
	}
	inputs, err := readEmbeddingInputs(q.Input)
	if err != nil {
		return nil, err
	}
	ask := serve.EmbedRequest{Client: api.Client(r.Context()), Model: q.Model}
	var imageAt []int // index of each picture in inputs
	for i, in := range inputs {
		if in.isImage {
			ask.Images = append(ask.Images, engine.Image{Name: fmt.Sprintf("input[%d]", i), Data: in.picture})
			imageAt = append(imageAt, i)
		} else {
			ask.Texts = append(ask.Texts, in.text)
		}
	}
	result, err := o.s.Embed(r.Context(), ask)
	if err != nil {
		return nil, err
	}
	if len(result.Errors) > 0 {
		e := result.Errors[0]
		return nil, &inputError{"input", fmt.Errorf("input[%d]: %s", imageAt[e.Index], e.Message)}
	}
	return o.response(&q, inputs, ask.Texts, result)
}

// knows is whether a model has this name, this place of origin or this reward.
func (o *openAI) knows(name string) bool {
	return slices.ContainsFunc(o.s.Models(), func(info engine.Info) bool {
		return info.Name == name || info.Spec == name || slices.Contains(info.Rewards, name)
	})
}

// readEmbeddingInputs reads input in its forms.
func readEmbeddingInputs(raw json.RawMessage) ([]embeddingInput, error) {
	if len(raw) == 0 || string(raw) == "null" {
		return nil, &inputError{"input", errors.New("input is missing")}
	}
	list := []json.RawMessage{raw}
	if raw[0] == '[' {
		if err := json.Unmarshal(raw, &list); err != nil {
			return nil, &inputError{"input", err}
		}
	}
	if len(list) == 0 || len(list) > maxItems {
		return nil, &inputError{"input", fmt.Errorf("input of %d elements: expected 1 to %d", len(list), maxItems)}
	}
	inputs := make([]embeddingInput, len(list))
	for i, item := range list {
		var err error
		if inputs[i], err = readEmbeddingInput(item); err != nil {
			return nil, &inputError{"input", fmt.Errorf("input[%d]: %w", i, err)}
		}
	}
	return inputs, nil
}

func readEmbeddingInput(raw json.RawMessage) (embeddingInput, error) {
	var object struct {
		Text  *string `json:"text"`
		Image *string `json:"image"`
	}
	switch raw[0] {
	case '"':
		if err := json.Unmarshal(raw, &object.Text); err != nil {
			return embeddingInput{}, err
		}
		if strings.HasPrefix(*object.Text, "data:image/") {
			object.Text, object.Image = nil, object.Text
		}
	case '{':
		if err := json.Unmarshal(raw, &object); err != nil {
			return embeddingInput{}, err
		}
	default:
		return embeddingInput{}, errors.New(`expected a text, a data URL, {"text": ...} or {"image": ...}; token ids are not read`)
	}
	if (object.Text == nil) == (object.Image == nil) {
		return embeddingInput{}, errors.New(`expected one of "text" and "image"`)
	}
	if object.Text != nil {
		return embeddingInput{text: *object.Text}, nil
	}
	data, err := pictureText(*object.Image)
	return embeddingInput{picture: data, isImage: true}, err
}

// response puts the embeddings in the order of the inputs.
func (o *openAI) response(q *embeddingsRequest, inputs []embeddingInput, texts []string, result *serve.EmbedResult) (*embeddingsResponse, error) {
	out := &embeddingsResponse{Object: "list", Model: result.Model, Data: make([]embeddingAnswer, len(inputs))}
	image, text := 0, 0
	for i, in := range inputs {
		var row []float32
		if in.isImage {
			row = result.Images.Row(image)
			image++
		} else {
			row = result.Texts.Row(text)
			text++
		}
		if q.Dimensions != nil && *q.Dimensions != len(row) {
			return nil, &inputError{"dimensions", fmt.Errorf("dimensions %d: %s has %d", *q.Dimensions, result.Model, len(row))}
		}
		out.Data[i] = embeddingAnswer{Object: "embedding", Index: i, Embedding: row}
		if q.EncodingFormat == "base64" {
			out.Data[i].Embedding = base64.StdEncoding.EncodeToString(littleEndian(row))
		}
	}
	tokens, err := o.tokens(result.Model, texts, image)
	out.Usage = embeddingsUsage{tokens, tokens}
	return out, err
}

// tokens counts what the towers of a model read of texts and of so many pictures.
func (o *openAI) tokens(model string, texts []string, images int) (int, error) {
	for _, info := range o.s.Models() {
		if info.Name != model {
			continue
		}
		sum := images * info.ImageTokens
		if len(texts) == 0 {
			return sum, nil
		}
		t, err := o.tokenizer(info.Family)
		if err != nil {
			return 0, err
		}
		for _, text := range texts {
			ids, err := t.Encode(text, max(info.Context, 0))
			if err != nil {
				return 0, err
			}
			sum += len(ids)
		}
		return sum, nil
	}
	return 0, nil
}

// tokenizer returns the public tokenizer of a family of models.
func (o *openAI) tokenizer(family string) (*engine.Tokenizer, error) {
	name := "bert"
	if family == "clip" {
		name = "clip"
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if t := o.tokenizers[name]; t != nil {
		return t, nil
	}
	t, err := engine.NewTokenizer(name)
	if err == nil {
		o.tokenizers[name] = t
	}
	return t, err
}
