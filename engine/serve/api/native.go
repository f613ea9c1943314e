package api

import (
	"net/http"
	"slices"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/tia2-engine/tia2-engine/engine"
	"github.com/tia2-engine/tia2-engine/engine/serve"
)

// native returns the routes of the native JSON, and those about the server itself.
func (h *handler) native() []Route {
	return []Route{
		{Pattern: "POST /v1/score", Handler: http.HandlerFunc(h.score)},
		{Pattern: "POST /v1/textnorm", Handler: http.HandlerFunc(h.textNorm)},
		{Pattern: "POST /v1/preprocess", Handler: http.HandlerFunc(h.preprocess)},
		{Pattern: "GET /v1/models", Handler: http.HandlerFunc(h.models)},
		{Pattern: "GET /healthz", Handler: http.HandlerFunc(h.alive), Public: true},
		{Pattern: "GET /readyz", Handler: http.HandlerFunc(h.ready), Public: true},
		{Pattern: "GET /openapi.json", Handler: http.HandlerFunc(h.openAPI), Public: true},
	}
}

// scoreRequest is the body of POST /v1/score.
type scoreRequest struct {
	Images  []Picture `json:"images"`
	Texts   []string  `json:"texts"`
	Rewards []string  `json:"rewards"` // empty: all
	Pairs   pairing   `json:"pairs"`
}

// pairing is which images are scored with which texts: "zip" (also where there is none), "all", or a list of [image, text].
type pairing struct {
	all  bool
	list []engine.Pair
}

// UnmarshalJSONFrom reads a pairing.
func (p *pairing) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	switch d.PeekKind() {
	case 'n':
		return d.SkipValue()
	case '[':
		var list [][2]int
		if err := json.UnmarshalDecode(d, &list); err != nil {
			return err
		}
		if len(list) == 0 {
			return badRequest("expected at least one pair")
		}
		for _, pair := range list {
			p.list = append(p.list, engine.Pair{Image: pair[0], Text: pair[1]})
		}
		return nil
	}
	var word string
	if err := json.UnmarshalDecode(d, &word); err != nil {
		return err
	}
	if word != "zip" && word != "all" {
		return badRequest(`expected "zip", "all" or a list of [image, text], got %.40q`, word)
	}
	p.all = word == "all"
	return nil
}

// scoreAnswer is the answer of POST /v1/score.
type scoreAnswer struct {
	Rewards named[[]number] `json:"rewards"` // [pairs] each, null where a picture failed
	Pairs   [][2]int        `json:"pairs"`
	Errors  []itemError     `json:"errors"`
}

// itemError says why a picture has no scores.
type itemError struct {
	Image   int    `json:"image"` // in the request's images
	Message string `json:"message"`
}

func itemErrors(failed, core []serve.ItemError) []itemError {
	out := []itemError{}
	for _, e := range MergeErrors(failed, core) {
		out = append(out, itemError{e.Index, e.Message})
	}
	return out
}

func (h *handler) score(w http.ResponseWriter, r *http.Request) {
	var in scoreRequest
	images, failed, err := readRequest(w, r, &in, &in.Images)
	if err != nil {
		WriteError(w, r, err)
		return
	}
	result, err := h.s.Score(r.Context(), serve.ScoreRequest{Client: Client(r.Context()), Rewards: in.Rewards, Images: images,
		Texts: in.Texts, Pairs: in.Pairs.list, All: in.Pairs.all})
	if err != nil {
		WriteError(w, r, err)
		return
	}
	out := scoreAnswer{Rewards: named[[]number]{names: result.Rewards}, Pairs: make([][2]int, len(result.Pairs)), Errors: itemErrors(failed, result.Errors)}
	for _, scores := range result.Scores {
		out.Rewards.values = append(out.Rewards.values, numbers(scores))
	}
	for i, p := range result.Pairs {
		out.Pairs[i] = [2]int{p.Image, p.Text}
	}
	WriteJSON(w, r, out)
}

// readRequest reads the body of a request to in, and gives the pictures of it, which are at from then.
func readRequest(w http.ResponseWriter, r *http.Request, in any, from *[]Picture) ([]engine.Image, []serve.ItemError, error) {
	if err := readJSON(w, r, in); err != nil {
		return nil, nil, err
	}
	if len(*from) == 0 {
		return nil, nil, badRequest("images: expected at least one")
	}
	return Images(r.Context(), *from)
}

// readJSON reads the body of a request to in.
func readJSON(w http.ResponseWriter, r *http.Request, in any) error {
	if encoding := r.Header.Get("Content-Encoding"); encoding != "" && encoding != "identity" {
		return badRequest("a body in Content-Encoding %.32q: expected it as it is", encoding)
	}
	body, err := ReadBody(w, r)
	if err != nil {
		return err
	}
	return DecodeJSON(body, in, true)
}

// textNormRequest is the body of POST /v1/textnorm.
type textNormRequest struct {
	Images      []Picture `json:"images"`
	Prompt      string    `json:"prompt"`
	Contrastive []string  `json:"contrastive"`
	Rewards     []string  `json:"rewards"` // empty: all
	Scale       float64   `json:"scale"`   // 0: 10
	MinMax      string    `json:"minmax"`  // "image" (also ""), "set"
}

// textNormAnswer is the answer of POST /v1/textnorm.
type textNormAnswer struct {
	Rewards named[textNormReward] `json:"rewards"`
	Errors  []itemError           `json:"errors"`
}

// textNormReward is one reward: the prompt's score comes first, then those of the contrastive prompts as they were given.
type textNormReward struct {
	Scores     [][]number `json:"scores"`     // [images][texts]
	Confidence []number   `json:"confidence"` // [images]
}

func (h *handler) textNorm(w http.ResponseWriter, r *http.Request) {
	var in textNormRequest
	images, failed, err := readRequest(w, r, &in, &in.Images)
	if err != nil {
		WriteError(w, r, err)
		return
	}
	result, err := h.s.TextNorm(r.Context(), serve.TextNormRequest{Client: Client(r.Context()), Rewards: in.Rewards, Images: images,
		Prompt: in.Prompt, Contrastive: in.Contrastive, Scale: in.Scale, MinMax: in.MinMax})
	if err != nil {
		WriteError(w, r, err)
		return
	}
	out := textNormAnswer{Rewards: named[textNormReward]{names: result.Rewards}, Errors: itemErrors(failed, result.Errors)}
	for i, scores := range result.Scores {
		reward := textNormReward{Scores: [][]number{}, Confidence: numbers(result.Confidence[i])}
		for _, row := range scores {
			reward.Scores = append(reward.Scores, numbers(row))
		}
		out.Rewards.values = append(out.Rewards.values, reward)
	}
	WriteJSON(w, r, out)
}

// modelList is the answer of GET /v1/models, in the shape of OpenAI's list.
type modelList struct {
	Object string       `json:"object"` // "list"
	Data   []modelEntry `json:"data"`
}

// modelEntry describes a model by all that its scores depend on.
type modelEntry struct {
	ID               string         `json:"id"`
	Object           string         `json:"object"`   // "model"
	Created          int64          `json:"created"`  // 0: checkpoints carry no time
	OwnedBy          string         `json:"owned_by"` // "tia2-engine"
	Family           string         `json:"family"`
	Rewards          []string       `json:"rewards"`
	CheckpointSHA256 string         `json:"checkpoint_sha256"`
	Device           string         `json:"device"`
	DType            string         `json:"dtype"`
	Preprocessing    *preprocessing `json:"preprocessing"` // null: it sees no pictures, but another model's embeddings
	Scale            number         `json:"scale"`         // that cosines are multiplied with
	EmbeddingDim     int            `json:"embedding_dim"` // 0: it gives no embeddings
	ContextTokens    int            `json:"context_tokens"`
}

type preprocessing struct {
	Pipeline string    `json:"pipeline"`
	Size     int       `json:"size"`
	Mean     [3]number `json:"mean"`
	Std      [3]number `json:"std"`
}

func (h *handler) models(w http.ResponseWriter, r *http.Request) {
	list := modelList{Object: "list", Data: []modelEntry{}}
	for _, info := range h.s.Models() {
		entry := modelEntry{ID: info.Name, Object: "model", OwnedBy: "tia2-engine", Family: info.Family, Rewards: slices.Concat([]string{}, info.Rewards),
			CheckpointSHA256: info.SourceSHA256, Device: info.Device, DType: info.DType, Scale: number(info.LogitScale), ContextTokens: info.Context}
		if info.HasEmbeddings() {
			entry.EmbeddingDim = info.ImageVectors * info.EmbedDim
		}
		if seesPictures(info) {
			entry.Preprocessing = &preprocessing{Pipeline: info.Pipeline, Size: info.ImageSize}
			for c := range 3 {
				entry.Preprocessing.Mean[c], entry.Preprocessing.Std[c] = number(info.Mean[c]), number(info.Std[c])
			}
		}
		list.Data = append(list.Data, entry)
	}
	WriteJSON(w, r, list)
}

// seesPictures tells whether a model has an image tower of its own.
func seesPictures(info engine.Info) bool { return info.Pipeline != "" && info.ImageSize > 0 }

// health is the answer of GET /healthz and /readyz.
type health struct {
	Status string `json:"status"` // "ok"
}

// alive says that the process answers.
func (h *handler) alive(w http.ResponseWriter, r *http.Request) { WriteJSON(w, r, health{"ok"}) }

// ready says that the models answer.
func (h *handler) ready(w http.ResponseWriter, r *http.Request) {
	if err := h.s.Ready(r.Context()); err != nil {
		WriteError(w, r, err)
		return
	}
	WriteJSON(w, r, health{"ok"})
}
