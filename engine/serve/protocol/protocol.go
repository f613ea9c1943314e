package protocol

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/tia2-engine/tia2-engine/engine"
	"github.com/tia2-engine/tia2-engine/engine/serve"
	"github.com/tia2-engine/tia2-engine/engine/serve/api"
)

// Options are those of all protocols. The zero value works.
type Options struct {
	Scales        engine.Scales // in which scores are written where a request does not say; UniRL has its own
	DefaultReward string        // of pickle requests that name none; "": the server's first
	Version       string        // of this program, which KServe clients ask for
}

// Routes returns the routes of all protocols over HTTP.
func Routes(s *serve.Server, opt Options) []api.Route {
	return slices.Concat(Pickle(s, opt), UniRL(s, opt), KServe(s, opt), OpenAI(s, opt))
}

// translator is what all protocols do with a server.
type translator struct {
	s   *serve.Server
	opt Options
}

// badRequest formats an error of the kind serve.ErrBadRequest.
func badRequest(format string, args ...any) error {
	return &requestError{fmt.Errorf(format, args...)}
}

// requestError is an error of the kind serve.ErrBadRequest, whose text it leaves out.
type requestError struct{ error }

func (e *requestError) Unwrap() []error { return []error{e.error, serve.ErrBadRequest} }

// score asks the server and rewrites the scores as the scales say. values are those of the request ("/26" or
// "pickscore=/26"); where there are none, fallback holds. Where no picture could be read it is an error.
func (t translator) score(ctx context.Context, req serve.ScoreRequest, values []string, fallback engine.Scales) (*serve.ScoreResult, error) {
	scales, err := t.scales(values, fallback)
	if err != nil {
		return nil, err
	}
	req.Client = api.Client(ctx)
	result, err := t.s.Score(ctx, req)
	if err != nil {
		return nil, err
	}
	if n := len(result.Errors); n > 0 && n == len(req.Images) {
		return nil, &unreadableError{result.Errors}
	}
	for i, reward := range result.Rewards {
		scales.Of(reward).Convert(result.Scores[i], reward, t.info(reward))
	}
	return result, nil
}

// unreadableError says that none of a request's pictures could be read.
type unreadableError struct{ items []serve.ItemError }

func (e *unreadableError) Error() string { return "no picture could be read: " + imageErrors(e.items) }

func (e *unreadableError) Unwrap() error { return serve.ErrBadRequest }

// scales reads a request's conventions.
func (t translator) scales(values []string, fallback engine.Scales) (engine.Scales, error) {
	if len(values) == 0 {
		return fallback, nil
	}
	scales, err := engine.ParseScales(values)
	if err == nil {
		err = scales.Check(t.s.Rewards())
	}
	if err != nil {
		return engine.Scales{}, badRequest("%w", err)
	}
	return scales, nil
}

// info returns the description of the model that has a reward.
func (t translator) info(reward string) engine.Info {
	for _, info := range t.s.Models() {
		if slices.Contains(info.Rewards, reward) {
			return info
		}
	}
	return engine.Info{LogitScale: 1}
}

// readsText is whether a reward depends on the text.
func readsText(reward string) bool { return reward != "aesthetic" }

// imageErrors writes errors of pictures for people, the first few of many.
func imageErrors(errs []serve.ItemError) string {
	const most = 5
	var b strings.Builder
	for i, e := range errs[:min(len(errs), most)] {
		if i > 0 {
			b.WriteString("; ")
		}
		fmt.Fprintf(&b, "image %d: %s", e.Index, e.Message)
	}
	if len(errs) > most {
		fmt.Fprintf(&b, "; and %d more", len(errs)-most)
	}
	return b.String()
}

// fail notes that a request failed, says when to try again, and returns the status and the text of its answer. An unknown
// reward is a fault of the request, not of the address. The text of an error of no known kind stays in the log.
func fail(w http.ResponseWriter, r *http.Request, err error) (status int, text string) {
	api.NoteError(r.Context(), err)
	api.SetHeaders(w, err)
	status, text = api.Status(err), err.Error()
	switch {
	case errors.Is(err, serve.ErrUnknownReward):
		status = http.StatusBadRequest
	case status == http.StatusTooManyRequests, status == http.StatusServiceUnavailable:
		if w.Header().Get("Retry-After") == "" {
			w.Header().Set("Retry-After", "1") // clients wait for as long as they are told, and not at all if they are not
		}
	case api.Code(err) == "internal":
		text = "a fault of the server; its log has the reason under this request's X-Request-Id"
	}
	return status, text
}
