package protocol

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/tia2-engine/tia2-engine/engine"
	"github.com/tia2-engine/tia2-engine/engine/serve"
	"github.com/tia2-engine/tia2-engine/engine/serve/api"
	"github.com/tia2-engine/tia2-engine/internal/pickle"
)

// Pickle returns the routes of the pickled dicts that ddpo-pytorch, flow_grpo, deepgen_rl and verl-omni send:
//
//	POST /                    the reward of ?reward=, else Options.DefaultReward, else the first
//	POST /{reward}            that reward; with a slash at the end, too, as deepgen_rl writes its addresses
//	     ?scale=/26           the convention of the scores
//	     ?on_error=fail       one picture that cannot be read fails the request; else its score is NaN
//
// The request is a pickle (see pickle.Decode) of a dict:
//
//	images      list of encoded files (bytes), or of pixels (uint8 arrays [H, W, C]); or one array [N, H, W, C]
//	prompts     list or array of texts: one an image, or one for all
//	answers     instead (ddpo-pytorch): for each image a list of texts, which are scored one by one
//	meta_datas  instead (GenEval): for each image a dict, whose "prompt" is the text
//
// Anything else in the dict is left aside. Without texts only a reward that reads none can be asked for; where the
// request names no reward, it is "aesthetic".
//
// The answer is a pickled dict. scores, outputs and rewards hold one float an image, in order; with meta_datas also
// strict_rewards and, by tag, group_rewards and group_strict_rewards as GenEval's server writes them (-10 for images of
// other tags); with answers outputs, recall, precision and f1 hold a list of floats an image, and scores their means.
// errors, a list of {"image", "message"}, is there where pictures could not be read. A failed request is answered with
// {"error": text} under status 400, 413, 429, 500, 503 or 504; the text is in the header X-Error, too.
func Pickle(s *serve.Server, opt Options) []api.Route {
	h := http.HandlerFunc((&pickleHandler{translator{s, opt}}).serve)
	return []api.Route{
		{Pattern: "POST /{$}", Handler: h},
		{Pattern: "POST /{reward}", Handler: h},
		{Pattern: "POST /{reward}/{$}", Handler: h},
	}
}

type pickleHandler struct{ translator }

func (h *pickleHandler) serve(w http.ResponseWriter, r *http.Request) {
	answer, err := h.answer(w, r)
	if err != nil {
		status, text := fail(w, r, err)
		w.Header().Set("X-Error", headerText(text))
		answer = &pickle.Dict{}
		answer.Set("error", text)
		writePickle(w, status, answer)
		return
	}
	writePickle(w, http.StatusOK, answer)
}

func writePickle(w http.ResponseWriter, status int, answer *pickle.Dict) {
	b, err := pickle.Append(nil, answer)
	if err != nil { // of types that this file never puts there
		status, b = http.StatusInternalServerError, []byte(err.Error())
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.WriteHeader(status)
	w.Write(b)
}

// headerText makes a text fit for a header: printable ASCII, and short.
func headerText(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
	return s[:min(len(s), 300)]
}

func (h *pickleHandler) answer(w http.ResponseWriter, r *http.Request) (*pickle.Dict, error) {
	query := r.URL.Query()
	body, err := api.ReadBody(w, r)
	if err != nil {
		return nil, err
	}
	req, err := readPickleRequest(body)
	if err != nil {
		return nil, err
	}
	reward, err := h.reward(r, query, req)
	if err != nil {
		return nil, err
	}
	ask := serve.ScoreRequest{Rewards: []string{reward}, Images: req.images, Texts: req.texts, Pairs: req.pairs}
	if !readsText(reward) {
		ask.Texts, ask.Pairs = []string{""}, nil
	}
	if len(ask.Texts) == 0 {
		return nil, badRequest("%s needs texts: the request has no prompts", reward)
	}
	result, err := h.score(r.Context(), ask, cleanValues(query["scale"]), h.opt.Scales)
	if err != nil {
		return nil, err
	}
	if len(result.Errors) > 0 && query.Get("on_error") == "fail" {
		return nil, badRequest("%s", imageErrors(result.Errors))
	}
	return req.response(result), nil
}

// cleanValues drops the slash that deepgen_rl puts behind addresses, and so behind the last value of a query.
func cleanValues(values []string) []string {
	out := slices.Clone(values)
	for i := range out {
		out[i] = strings.TrimSuffix(out[i], "/")
	}
	return out
}

// reward returns the name of the one reward that a request asks for.
func (h *pickleHandler) reward(r *http.Request, query url.Values, req *pickleRequest) (string, error) {
	served := h.s.Rewards()
	name := r.PathValue("reward")
	if values := cleanValues(query["reward"]); name == "" && len(values) > 0 {
		name = values[0]
	}
	switch {
	case name != "":
	case len(req.texts) == 0 && slices.Contains(served, "aesthetic"):
		name = "aesthetic"
	case h.opt.DefaultReward != "":
		name = h.opt.DefaultReward
	case len(served) > 0:
		name = served[0]
	}
	if !slices.Contains(served, name) {
		return "", badRequest("unknown reward %.64q: this server has %s", name, strings.Join(served, ", "))
	}
	return name, nil
}

// pickleRequest is what the dict of a request asks for.
type pickleRequest struct {
	images  []engine.Image
	texts   []string
	pairs   []engine.Pair // where the texts are neither one for all nor one an image
	tags    []string      // of meta_datas, one an image
	answers []int         // with answers: how many texts each image has
}

func readPickleRequest(body []byte) (*pickleRequest, error) {
	if len(body) == 0 || body[0] != 0x80 {
		return nil, badRequest("the body is no pickle of protocol 2 to 5")
	}
	v, err := pickle.Decode(body)
	if err != nil {
		return nil, badRequest("%w", err)
	}
	dict, ok := v.(*pickle.Dict)
	if !ok {
		return nil, badRequest("the pickle is a %s: expected a dict with images and prompts", pickle.TypeName(v))
	}
	req := &pickleRequest{}
	images, ok := dict.Get("images")
	if !ok {
		return nil, badRequest(`the dict has no "images"`)
	}
	if req.images, err = readPickleImages(images); err != nil {
		return nil, err
	}
	return req, req.readTexts(dict)
}

// readTexts fills in the texts from prompts, answers or meta_datas.
func (q *pickleRequest) readTexts(dict *pickle.Dict) error {
	if v, ok := dict.Get("meta_datas"); ok {
		if err := q.readMetadata(v); err != nil {
			return err
		}
	}
	prompts, _ := dict.Get("prompts")
	answers, hasAnswers := dict.Get("answers")
	_, hasQueries := dict.Get("queries")
	switch {
	case prompts != nil:
		texts, err := readPickleTexts("prompts", prompts)
		if err == nil {
			q.texts = texts
		}
		return err
	case hasAnswers:
		return q.readAnswers(answers)
	case hasQueries:
		return badRequest(`"queries" without "answers" ask for texts that a language model writes: this server scores pictures, send "prompts" or "answers"`)
	}
	return nil
}

// readMetadata takes GenEval's dicts: their tags, and their prompts as texts.
func (q *pickleRequest) readMetadata(v any) error {
	items, err := pickleItems("meta_datas", v)
	if err != nil {
		return err
	}
	if len(items) != len(q.images) {
		return badRequest(`%d "meta_datas" for %d images`, len(items), len(q.images))
	}
	for i, item := range items {
		d, ok := item.(*pickle.Dict)
		if !ok {
			return badRequest("meta_datas[%d] is a %s: expected a dict", i, pickle.TypeName(item))
		}
		prompt, _ := d.Get("prompt")
		tag, _ := d.Get("tag")
		text, ok := prompt.(string)
		if !ok {
			return badRequest(`meta_datas[%d] has no text "prompt"`, i)
		}
		name, _ := tag.(string)
		q.texts, q.tags = append(q.texts, text), append(q.tags, name)
	}
	return nil
}

// readAnswers takes ddpo-pytorch's lists of texts.
func (q *pickleRequest) readAnswers(v any) error {
	lists, err := pickleItems("answers", v)
	if err != nil {
		return err
	}
	if len(lists) != len(q.images) {
		return badRequest(`%d "answers" for %d images`, len(lists), len(q.images))
	}
	for i, list := range lists {
		texts, err := readPickleTexts(fmt.Sprintf("answers[%d]", i), list)
		if err != nil {
			return err
		}
		if len(texts) == 0 {
			return badRequest("answers[%d] is empty", i)
		}
		for _, text := range texts {
			q.pairs = append(q.pairs, engine.Pair{Image: i, Text: len(q.texts)})
			q.texts = append(q.texts, text)
		}
		q.answers = append(q.answers, len(texts))
	}
	return nil
}

// pickleItems returns the elements of a list, tuple or array of one dimension.
func pickleItems(what string, v any) ([]any, error) {
	switch c := v.(type) {
	case pickle.Tuple:
		return c, nil
	case *pickle.List:
		return c.Items, nil
	case *pickle.Array:
		items, err := c.Values()
		if err != nil {
			return nil, badRequest("%s: %w", what, err)
		}
		return items, nil
	}
	return nil, badRequest("%s is a %s: expected a list", what, pickle.TypeName(v))
}

// readPickleTexts reads a list of texts, or one text.
func readPickleTexts(what string, v any) ([]string, error) {
	if s, ok := v.(string); ok {
		return []string{s}, nil
	}
	items, err := pickleItems(what, v)
	if err != nil {
		return nil, err
	}
	texts := make([]string, len(items))
	for i, item := range items {
		switch c := item.(type) {
		case string:
			texts[i] = c
		case pickle.Bytes:
			texts[i] = string(c)
		default:
			return nil, badRequest("%s[%d] is a %s: expected a str", what, i, pickle.TypeName(item))
		}
		if !utf8.ValidString(texts[i]) {
			return nil, badRequest("%s[%d] is not UTF-8", what, i)
		}
	}
	return texts, nil
}

// readPickleImages reads a list of files or of arrays of pixels, or one array of pixels of all.
func readPickleImages(v any) ([]engine.Image, error) {
	if a, ok := v.(*pickle.Array); ok && len(a.Shape) == 4 {
		return readPixels(a)
	}
	items, err := pickleItems("images", v)
	if err != nil {
		return nil, err
	}
	images := make([]engine.Image, len(items))
	for i, item := range items {
		data, err := readPickleImage(item)
		if err != nil {
			return nil, badRequest("images[%d]: %w", i, err)
		}
		images[i] = engine.Image{Name: fmt.Sprintf("images[%d]", i), Data: data}
	}
	return images, nil
}

func readPickleImage(v any) ([]byte, error) {
	switch c := v.(type) {
	case pickle.Bytes:
		return c, nil
	case *pickle.Array:
		if c.Type.Kind != 'u' || c.Type.Size != 1 {
			break
		}
		switch len(c.Shape) {
		case 1: // a file's bytes
			return c.Data, nil
		case 2:
			return bitmap(c.Data, c.Shape[0], c.Shape[1], 1)
		case 3:
			return bitmap(c.Data, c.Shape[0], c.Shape[1], c.Shape[2])
		}
	}
	return nil, badRequest("a %s: expected the bytes of a picture's file, or pixels as a uint8 array [H, W, C]", pickle.TypeName(v))
}

// readPixels cuts u8 [N, H, W, C] into pictures.
func readPixels(a *pickle.Array) ([]engine.Image, error) {
	if a.Type.Kind != 'u' || a.Type.Size != 1 {
		return nil, badRequest("images is an %s: expected uint8 [N, H, W, C]", pickle.TypeName(a))
	}
	return pixelImages(a.Data, a.Shape)
}

// response writes the scores under the names that clients look for.
func (q *pickleRequest) response(result *serve.ScoreResult) *pickle.Dict {
	scores := result.Scores[0]
	answer := &pickle.Dict{}
	if q.answers != nil && len(scores) == len(q.pairs) {
		nested, means := q.byImage(scores)
		answer.Set("scores", means)
		for _, key := range []string{"outputs", "recall", "precision", "f1"} {
			answer.Set(key, nested)
		}
	} else {
		for _, key := range []string{"scores", "outputs", "rewards"} {
			answer.Set(key, scores)
		}
	}
	if q.tags != nil && len(scores) == len(q.tags) {
		groups := q.byTag(scores)
		answer.Set("strict_rewards", scores)
		answer.Set("group_rewards", groups)
		answer.Set("group_strict_rewards", groups)
	}
	if len(result.Errors) > 0 {
		list := make([]any, len(result.Errors))
		for i, e := range result.Errors {
			d := &pickle.Dict{}
			d.Set("image", e.Index)
			d.Set("message", e.Message)
			list[i] = d
		}
		answer.Set("errors", list)
	}
	return answer
}

// byImage cuts the scores of answers into a list an image, and means of these.
func (q *pickleRequest) byImage(scores []float32) (nested []any, means []float64) {
	for _, n := range q.answers {
		mean := 0.0
		for _, s := range scores[:n] {
			mean += float64(s) / float64(n)
		}
		nested, means = append(nested, scores[:n]), append(means, mean)
		scores = scores[n:]
	}
	return nested, means
}

// genevalTags are the groups that GenEval's server always answers with.
var genevalTags = []string{"single_object", "two_object", "counting", "colors", "position", "color_attr"}

// byTag lists, for each tag, the score of every image with that tag, and -10 for the others.
func (q *pickleRequest) byTag(scores []float32) *pickle.Dict {
	groups := &pickle.Dict{}
	for _, tag := range slices.Concat(genevalTags, slices.Compact(slices.Sorted(slices.Values(q.tags)))) {
		if _, done := groups.Get(tag); done || tag == "" {
			continue
		}
		list := make([]float32, len(scores))
		for i, s := range scores {
			list[i] = -10
			if q.tags[i] == tag {
				list[i] = s
			}
		}
		groups.Set(tag, list)
	}
	return groups
}
