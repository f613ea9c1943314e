package protocol

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/tia2-engine/tia2-engine/engine"
	"github.com/tia2-engine/tia2-engine/engine/serve"
	"github.com/tia2-engine/tia2-engine/engine/serve/api"
)

// UniRL returns the routes of UniRL's reward service:
//
//	POST /score    {"requests": [{"history": [{"text", "image_b64"}], "required_rewards": [...], "metadata": null}]}
//	               -> {"results": [{"clip": {"clip": 0.31}}], "errors": [{}]}
//	GET  /rewards  {"rewards": [...]}, sorted
//	GET  /health   {"status": "ok", "rewards": {"clip": ["ready"]}}; status 503 while the server is not ready
//
// The last turn of a history counts. A reward that could not be computed for a request is absent in its result, and its
// error says why. Scores are in UniRL's scales, clip = raw / 30 and pickscore = raw / 26, unless ?scale= names others.
// Errors of a whole request are {"detail": ...} as FastAPI writes them: status 422 where the schema does not hold, 400 for
// an unknown reward, else as everywhere here.
//
// Source: Tencent-Hunyuan/UniRL, unirl-reward-service: schemas.py, server.py and the scorers.
func UniRL(s *serve.Server, opt Options) []api.Route {
	scales, err := engine.ParseScales([]string{"clip=/30", "pickscore=/26"})
	if err != nil {
		panic(err) // a constant
	}
	u := &unirl{translator{s, opt}, scales}
	return []api.Route{
		{Pattern: "POST /score", Handler: http.HandlerFunc(u.score)},
		{Pattern: "GET /rewards", Handler: http.HandlerFunc(u.rewards)},
		{Pattern: "GET /health", Handler: http.HandlerFunc(u.health), Public: true},
	}
}

type unirl struct {
	translator
	unirlScales engine.Scales
}

// unirlRequest is one of "requests".
type unirlRequest struct {
	History         []unirlTurn                 `json:"history"`
	RequiredRewards []string                    `json:"required_rewards"`
	Metadata        *map[string]json.RawMessage `json:"metadata"`
}

// unirlTurn is a text with a picture, or a video, which no reward here reads.
type unirlTurn struct {
	Text      *string `json:"text"`
	ImageB64  *string `json:"image_b64"`
	VideoB64  *string `json:"video_b64"`
	VideoPath *string `json:"video_path"`
}

// unirlResponse has one entry a request in both lists.
type unirlResponse struct {
	Results []map[string]map[string]float64 `json:"results"`
	Errors  []map[string]string             `json:"errors"`
}

// schemaError is a request that does not fit UniRL's schema: place and fault.
type schemaError struct{ place, fault string }

func (e *schemaError) Error() string { return e.place + ": " + e.fault }

func (u *unirl) score(w http.ResponseWriter, r *http.Request) {
	body, err := api.ReadBody(w, r)
	var requests []unirlRequest
	if err == nil {
		requests, err = readUniRL(body)
	}
	var answer *unirlResponse
	if err == nil {
		answer, err = u.answer(r.Context(), requests, r.URL.Query()["scale"])
	}
	if err != nil {
		writeDetail(w, r, err)
		return
	}
	writeJSON(w, http.StatusOK, answer)
}

// writeDetail writes an error as FastAPI does.
func writeDetail(w http.ResponseWriter, r *http.Request, err error) {
	var schema *schemaError
	if errors.As(err, &schema) {
		api.NoteError(r.Context(), err)
		detail := map[string]any{"loc": []string{"body", schema.place}, "msg": schema.fault, "type": "value_error"}
		writeJSON(w, http.StatusUnprocessableEntity, map[string]any{"detail": []any{detail}})
		return
	}
	status, text := fail(w, r, err)
	writeJSON(w, status, map[string]string{"detail": text})
}

// readUniRL reads and checks the body of /score.
func readUniRL(body []byte) ([]unirlRequest, error) {
	var in struct {
		Requests *[]unirlRequest `json:"requests"`
	}
	if err := api.DecodeJSON(body, &in, false); errors.Is(err, serve.ErrTooLarge) {
		return nil, err
	} else if err != nil {
		return nil, &schemaError{"requests", err.Error()}
	}
	if in.Requests == nil {
		return nil, &schemaError{"requests", "field required"}
	}
	for i, q := range *in.Requests {
		if fault := q.fault(); fault != "" {
			return nil, &schemaError{fmt.Sprintf("requests[%d]", i), fault}
		}
	}
	return *in.Requests, nil
}

// fault says what does not fit the schema, "" where all does.
func (q *unirlRequest) fault() string {
	if len(q.History) == 0 {
		return "history must not be empty"
	}
	if q.RequiredRewards == nil {
		return "required_rewards: field required"
	}
	for i, turn := range q.History {
		switch {
		case turn.Text == nil:
			return fmt.Sprintf("history[%d].text: field required", i)
		case turn.VideoB64 != nil && turn.VideoPath != nil:
			return fmt.Sprintf("history[%d]: video_b64 and video_path are mutually exclusive", i)
		case turn.ImageB64 == nil && turn.VideoB64 == nil && turn.VideoPath == nil:
			return fmt.Sprintf("history[%d] must include at least one of image_b64, video_b64 and video_path", i)
		}
	}
	return ""
}

// answer scores all requests. Those that require the same rewards are asked for together.
func (u *unirl) answer(ctx context.Context, requests []unirlRequest, scales []string) (*unirlResponse, error) {
	answer := &unirlResponse{make([]map[string]map[string]float64, len(requests)), make([]map[string]string, len(requests))}
	groups := map[string]*unirlGroup{}
	served := u.s.Rewards()
	for i := range requests {
		answer.Results[i], answer.Errors[i] = map[string]map[string]float64{}, map[string]string{}
		q := &requests[i]
		rewards := slices.Compact(slices.Sorted(slices.Values(q.RequiredRewards)))
		for _, reward := range rewards {
			if !slices.Contains(served, reward) {
				return nil, badRequest("unknown reward: %.64s. available: [%s]", reward, strings.Join(served, ", "))
			}
		}
		data, err := q.picture()
		if err != nil {
			answer.fail(i, rewards, err)
			continue
		}
		if len(rewards) == 0 {
			continue
		}
		key := strings.Join(rewards, "\n")
		if groups[key] == nil {
			groups[key] = &unirlGroup{answer: answer, rewards: rewards}
		}
		groups[key].add(i, data, *q.History[len(q.History)-1].Text)
	}
	return answer, u.scoreGroups(ctx, groups, scales)
}

// picture returns the file of the last turn's picture.
func (q *unirlRequest) picture() ([]byte, error) {
	turn := q.History[len(q.History)-1]
	if turn.ImageB64 == nil {
		return nil, errors.New("the last turn has no image_b64, and no reward here reads a video")
	}
	data, err := pictureText(*turn.ImageB64)
	if err != nil {
		return nil, fmt.Errorf("invalid image_b64: %w", err)
	}
	return data, nil
}

// unirlGroup is the requests that require the same rewards.
type unirlGroup struct {
	answer  *unirlResponse
	rewards []string
	index   []int // of each picture in requests
	images  []engine.Image
	texts   []string
	pairs   []engine.Pair
}

func (g *unirlGroup) add(i int, data []byte, text string) {
	g.pairs = append(g.pairs, engine.Pair{Image: len(g.images), Text: len(g.texts)})
	g.index = append(g.index, i)
	g.images = append(g.images, engine.Image{Name: fmt.Sprintf("requests[%d]", i), Data: data})
	g.texts = append(g.texts, text)
}

// scoreGroups asks for all groups at once, so that they can share batches. What is wrong with a group's computation stands
// in its requests' errors; what refuses the request as a whole is returned.
func (u *unirl) scoreGroups(ctx context.Context, groups map[string]*unirlGroup, scales []string) error {
	errs := make(chan error, len(groups))
	var wait sync.WaitGroup
	for _, g := range groups {
		wait.Go(func() { errs <- u.scoreGroup(ctx, g, scales) })
	}
	wait.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func (u *unirl) scoreGroup(ctx context.Context, g *unirlGroup, scales []string) error {
	ask := serve.ScoreRequest{Rewards: g.rewards, Images: g.images, Texts: g.texts, Pairs: g.pairs}
	result, err := u.translator.score(ctx, ask, scales, u.unirlScales)
	var unreadable *unreadableError
	switch {
	case errors.As(err, &unreadable):
		g.failImages(unreadable.items)
		return nil
	case errors.Is(err, serve.ErrBackend), errors.Is(err, context.DeadlineExceeded):
		for _, i := range g.index {
			g.answer.fail(i, g.rewards, err)
		}
		return nil
	case err != nil:
		return err
	}
	g.failImages(result.Errors)
	for k, reward := range result.Rewards {
		for p, score := range result.Scores[k] {
			i := g.index[result.Pairs[p].Image]
			switch v := float64(score); {
			case g.answer.Errors[i][reward] != "":
			case math.IsNaN(v) || math.IsInf(v, 0):
				g.answer.fail(i, []string{reward}, errors.New("the score is not finite"))
			default:
				g.answer.Results[i][reward] = map[string]float64{reward: v}
			}
		}
	}
	return nil
}

// failImages notes pictures that could not be read.
func (g *unirlGroup) failImages(items []serve.ItemError) {
	for _, item := range items {
		g.answer.fail(g.index[item.Index], g.rewards, errors.New(item.Message))
	}
}

// fail notes why a request has no scores of some rewards. Each request is in one group, so groups may note at once.
func (a *unirlResponse) fail(i int, rewards []string, err error) {
	for _, reward := range rewards {
		a.Errors[i][reward] = err.Error()
	}
}

func (u *unirl) rewards(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, map[string]any{"rewards": slices.Sorted(slices.Values(u.s.Rewards()))})
}

func (u *unirl) health(w http.ResponseWriter, r *http.Request) {
	code, word, state := http.StatusOK, "ok", "ready"
	if err := u.s.Ready(r.Context()); err != nil {
		state = "not ready"
		code, word = fail(w, r, err)
	}
	rewards := map[string][]string{}
	for _, name := range u.s.Rewards() {
		rewards[name] = []string{state}
	}
	writeJSON(w, code, map[string]any{"status": word, "rewards": rewards})
}
