package api

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"

	"github.com/tia2-engine/tia2-engine/engine/serve"
)

// Kinds of errors that this package adds to those of package serve.
var (
	errUnauthorized = errors.New("unauthorized")
	errForbidden    = errors.New("forbidden")
	errNotFound     = errors.New("not found")
	errMethod       = errors.New("method not allowed")
	errSlowBody     = errors.New("body too slow")
	errUnknownModel = errors.New("unknown model")
)

// StatusClientClosed is the status of a request whose client went away, by the custom of nginx; nobody sees it but the log.
const StatusClientClosed = 499

// kinds is the one table of errors, statuses and codes. The first line that fits holds: a deadline that passed comes before
// the batch that it ended.
var kinds = []struct {
	kind   error
	status int
	code   string
}{
	{errUnauthorized, http.StatusUnauthorized, "unauthorized"},
	{errForbidden, http.StatusForbidden, "forbidden"},
	{errNotFound, http.StatusNotFound, "not_found"},
	{errMethod, http.StatusMethodNotAllowed, "method_not_allowed"},
	{errSlowBody, http.StatusRequestTimeout, "body_too_slow"},
	{errUnknownModel, http.StatusNotFound, "unknown_model"},
	{serve.ErrUnknownReward, http.StatusNotFound, "unknown_reward"},
	{serve.ErrTooLarge, http.StatusRequestEntityTooLarge, "too_large"},
	{serve.ErrBadRequest, http.StatusBadRequest, "bad_request"},
	{serve.ErrOverloaded, http.StatusTooManyRequests, "overloaded"},
	{serve.ErrDraining, http.StatusServiceUnavailable, "draining"},
	{serve.ErrNotReady, http.StatusServiceUnavailable, "not_ready"},
	{context.Canceled, StatusClientClosed, "canceled"},
	{context.DeadlineExceeded, http.StatusGatewayTimeout, "deadline"},
	{serve.ErrBackend, http.StatusInternalServerError, "backend"},
}

// Status returns the HTTP status of an error: 500 where it is of no known kind, 200 for nil.
func Status(err error) int {
	status, _ := classify(err)
	return status
}

// Code returns the word for an error's kind that WriteError writes: "internal" where it is of no known kind, "" for nil.
func Code(err error) string {
	_, code := classify(err)
	return code
}

func classify(err error) (status int, code string) {
	if err == nil {
		return http.StatusOK, ""
	}
	for _, k := range kinds {
		if errors.Is(err, k.kind) {
			return k.status, k.code
		}
	}
	return http.StatusInternalServerError, "internal"
}

// kindError is an error that errors.Is finds to be of a kind, whose text it leaves out.
type kindError struct {
	error
	kind error
}

func (e *kindError) Unwrap() []error { return []error{e.error, e.kind} }

// ofKind formats an error of a kind.
func ofKind(kind error, format string, args ...any) error {
	return &kindError{fmt.Errorf(format, args...), kind}
}

// badRequest formats an error of the kind serve.ErrBadRequest.
func badRequest(format string, args ...any) error {
	return ofKind(serve.ErrBadRequest, format, args...)
}

// errorBody is the body of every answer that is an error.
type errorBody struct {
	Error errorText `json:"error"`
}

type errorText struct {
	Message string `json:"message"`
	Code    string `json:"code"`
}

// WriteError answers a request with an error under its status, with Retry-After where another try makes sense. The text
// of an error of no known kind is logged and not shown.
func WriteError(w http.ResponseWriter, r *http.Request, err error) {
	WriteErrorStatus(w, r, Status(err), err)
}

// WriteErrorStatus is WriteError under another status.
func WriteErrorStatus(w http.ResponseWriter, r *http.Request, status int, err error) {
	NoteError(r.Context(), err)
	SetHeaders(w, err)
	body := errorBody{errorText{err.Error(), Code(err)}}
	if body.Error.Code == "internal" {
		body.Error.Message = "a fault of the server; its log has the reason under this request's X-Request-Id"
	}
	writeJSON(w, status, body)
}

// SetHeaders sets Retry-After, in whole seconds, where another try makes sense.
func SetHeaders(w http.ResponseWriter, err error) {
	after, ok := serve.RetryAfter(err)
	if ok || errors.Is(err, serve.ErrOverloaded) {
		w.Header().Set("Retry-After", strconv.Itoa(max(1, int(math.Ceil(after.Seconds())))))
	}
}

// NoteError has the request's line in the log say why it failed. WriteError does that itself.
func NoteError(ctx context.Context, err error) {
	if x := exchangeOf(ctx); x != nil {
		x.err = err
	}
}
