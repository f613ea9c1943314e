package client

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"slices"
)

// ItemError says why a picture could not be scored.
type ItemError struct {
	Image   int    `json:"image"` // index of the picture
	Message string `json:"message"`
}

func (e ItemError) Error() string { return fmt.Sprintf("image %d: %s", e.Image, e.Message) }

// Pair is a picture and a text, by their indexes.
type Pair [2]int

// ScoreRequest asks for rewards of pairs. Without Pairs and All it is picture i with text i, or, where one side has one
// item, that with all.
type ScoreRequest struct {
	Images  [][]byte // encoded files
	Texts   []string
	Rewards []string // names; empty: all that the server has
	Pairs   []Pair
	All     bool // every picture with every text, picture by picture
}

// Scores are the rewards of pairs.
type Scores struct {
	Rewards map[string]Floats `json:"rewards"` // by name: [pairs], NaN where the picture failed
	Pairs   []Pair            `json:"pairs"`
	Errors  []ItemError       `json:"errors"` // pictures that failed
}

// Score returns the rewards of pairs.
func (c *Client) Score(ctx context.Context, req ScoreRequest) (*Scores, error) {
	wire := struct {
		Images  [][]byte `json:"images"`
		Texts   []string `json:"texts"`
		Rewards []string `json:"rewards,omitempty"`
		Pairs   any      `json:"pairs"`
	}{files(req.Images), texts(req.Texts), req.Rewards, "zip"}
	switch {
	case req.All && req.Pairs != nil:
		return nil, fmt.Errorf("a request has Pairs and All: expected one of them")
	case req.All:
		wire.Pairs = "all"
	case req.Pairs != nil:
		wire.Pairs = req.Pairs
	}
	var out Scores
	if err := c.do(ctx, http.MethodPost, "/v1/score", wire, &out); err != nil {
		return nil, err
	}
	for name, scores := range out.Rewards {
		if len(scores) != len(out.Pairs) {
			return nil, fmt.Errorf("/v1/score: %d scores of %s for %d pairs", len(scores), name, len(out.Pairs))
		}
	}
	return &out, nil
}

// TextNormRequest asks how sure the rewards are that pictures show a prompt and not one of its contrastive prompts.
type TextNormRequest struct {
	Images      [][]byte
	Prompt      string
	Contrastive []string
	Rewards     []string // names; empty: all
	Scale       float64  // of the softmax; 0: the server's, 10
	MinMax      string   // over what rewards are rescaled: "image" (also ""), or "set", all pictures of the request
}

// TextNorm holds the calibrated rewards of pictures.
type TextNorm struct {
	Rewards map[string]Calibrated `json:"rewards"`
	Errors  []ItemError           `json:"errors"`
}

// Calibrated is one reward of pictures; what belongs to a picture that failed is NaN.
type Calibrated struct {
	Scores     []Floats `json:"scores"`     // [images][texts]: the prompt, then the contrastive ones; nil for a picture that failed
	Confidence Floats   `json:"confidence"` // [images], 0..1
}

// TextNorm returns scores and confidences.
func (c *Client) TextNorm(ctx context.Context, req TextNormRequest) (*TextNorm, error) {
	wire := struct {
		Images      [][]byte `json:"images"`
		Prompt      string   `json:"prompt"`
		Contrastive []string `json:"contrastive"`
		Rewards     []string `json:"rewards,omitempty"`
		Scale       float64  `json:"scale,omitempty"`
		MinMax      string   `json:"minmax,omitempty"`
	}{files(req.Images), req.Prompt, texts(req.Contrastive), req.Rewards, req.Scale, req.MinMax}
	var out TextNorm
	if err := c.do(ctx, http.MethodPost, "/v1/textnorm", wire, &out); err != nil {
		return nil, err
	}
	for name, r := range out.Rewards {
		if len(r.Scores) != len(req.Images) || len(r.Confidence) != len(req.Images) {
			return nil, fmt.Errorf("/v1/textnorm: %d scores and %d confidences of %s for %d images", len(r.Scores), len(r.Confidence), name, len(req.Images))
		}
	}
	return &out, nil
}

// EmbeddingsRequest asks a model for the embeddings of pictures and texts.
type EmbeddingsRequest struct {
	Model  string // its id in Models
	Images [][]byte
	Texts  []string
}

// Embeddings are L2-normalised vectors, in the order of the request.
type Embeddings struct{ Images, Texts [][]float32 }

// Embeddings returns the embeddings of pictures and texts. A picture that cannot be read fails the request, since
// OpenAI's answer has no place for errors: the error names its index among pictures and then texts.
func (c *Client) Embeddings(ctx context.Context, req EmbeddingsRequest) (*Embeddings, error) {
	input := make([]any, 0, len(req.Images)+len(req.Texts))
	for _, image := range files(req.Images) {
		input = append(input, struct {
			Image []byte `json:"image"`
		}{image})
	}
	for _, text := range req.Texts {
		input = append(input, text)
	}
	wire := struct {
		Model    string `json:"model"`
		Input    []any  `json:"input"`
		Encoding string `json:"encoding_format"`
	}{req.Model, input, "base64"}
	var answer struct {
		Data []struct {
			Index     int    `json:"index"`
			Embedding vector `json:"embedding"`
		} `json:"data"`
	}
	if err := c.do(ctx, http.MethodPost, "/v1/embeddings", wire, &answer); err != nil {
		return nil, err
	}
	all := make([][]float32, len(input))
	for _, item := range answer.Data {
		if item.Index < 0 || item.Index >= len(all) {
			return nil, fmt.Errorf("/v1/embeddings: index %d for %d inputs", item.Index, len(all))
		}
		all[item.Index] = item.Embedding
	}
	for i, vector := range all {
		if vector == nil {
			return nil, fmt.Errorf("/v1/embeddings: input %d has no embedding", i)
		}
	}
	return &Embeddings{all[:len(req.Images):len(req.Images)], all[len(req.Images):]}, nil
}

// Model is what the server has loaded.
type Model struct {
	ID               string   `json:"id"`
	Family           string   `json:"family"`
	Rewards          []string `json:"rewards"`
	CheckpointSHA256 string   `json:"checkpoint_sha256"`
	Device           string   `json:"device"`
	DType            string   `json:"dtype"`
	Scale            float32  `json:"scale"`         // that cosines are multiplied with
	EmbeddingDim     int      `json:"embedding_dim"` // 0: it gives no embeddings
}

// Models lists what the server has loaded.
func (c *Client) Models(ctx context.Context) ([]Model, error) {
	var answer struct{ Data []Model }
	if err := c.do(ctx, http.MethodGet, "/v1/models", nil, &answer); err != nil {
		return nil, err
	}
	return answer.Data, nil
}

// Ready returns nil while the server answers its own probe, and else why not. It asks once.
func (c *Client) Ready(ctx context.Context) error {
	_, err := c.attempt(ctx, http.MethodGet, "/readyz", nil)
	return err
}

// texts makes an empty list of nil, which JSON would write as null.
func texts(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}

// files makes an empty list of nil. A file is base64 in JSON; the server finds its format by content.
func files(list [][]byte) [][]byte {
	out := make([][]byte, len(list))
	for i, file := range list {
		out[i] = slices.Concat([]byte{}, file) // nil would be null
	}
	return out
}

// Floats are numbers of which some may be missing: null in JSON, NaN here.
type Floats []float32

// UnmarshalJSON implements json.Unmarshaler.
func (f *Floats) UnmarshalJSON(data []byte) error {
	var values []*float32
	if err := json.Unmarshal(data, &values); err != nil || values == nil {
		return err
	}
	*f = make(Floats, len(values))
	for i, v := range values {
		(*f)[i] = float32(math.NaN())
		if v != nil {
			(*f)[i] = *v
		}
	}
	return nil
}

// vector is an embedding: base64 of little-endian f32, or a list of numbers.
type vector []float32

// UnmarshalJSON implements json.Unmarshaler.
func (v *vector) UnmarshalJSON(data []byte) error {
	if len(data) == 0 || data[0] != '"' {
		return json.Unmarshal(data, (*[]float32)(v))
	}
	var raw []byte
	if err := json.Unmarshal(data, &raw); err != nil {
		return err
	}
	if len(raw)%4 != 0 {
		return fmt.Errorf("an embedding of %d bytes: expected four a number", len(raw))
	}
	*v = make(vector, len(raw)/4)
	for i := range *v {
		(*v)[i] = math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:]))
	}
	return nil
}
