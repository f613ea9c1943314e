package serve

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/tia2-engine/tia2-engine/engine"
)

// Kinds of errors, for errors.Is. A request whose context ended returns an error that is context.Canceled or
// context.DeadlineExceeded instead.
var (
	ErrBadRequest    = errors.New("bad request")
	ErrUnknownReward = errors.New("unknown reward")
	ErrTooLarge      = errors.New("request too large")
	ErrOverloaded    = errors.New("overloaded")     // with RetryAfter
	ErrDraining      = errors.New("shutting down")  // with RetryAfter
	ErrNotReady      = errors.New("not ready")      // the worker does not answer
	ErrBackend       = errors.New("a batch failed") // nothing is wrong with the request
)

// kindError is an error that errors.Is finds to be of a kind, whose text it leaves out.
type kindError struct {
	error
	kind  error
	after time.Duration // when another try makes sense; 0: not said
}

func (e *kindError) Unwrap() []error { return []error{e.error, e.kind} }

// ofKind formats an error of one of the kinds above.
func ofKind(kind error, format string, args ...any) error {
	return &kindError{error: fmt.Errorf(format, args...), kind: kind}
}

// retryLater formats an error of a kind with the time after which another try makes sense.
func retryLater(kind error, after time.Duration, format string, args ...any) error {
	after = min(max(after, retryLeast), retryMost)
	return &kindError{error: fmt.Errorf(format, args...), kind: kind, after: after}
}

const (
	retryLeast = 100 * time.Millisecond
	retryMost  = time.Minute
	retryDrain = 2 * time.Second // another server, or this one again, may answer by then
)

// RetryAfter returns the time after which the request that err refused may be tried again.
func RetryAfter(err error) (time.Duration, bool) {
	var e *kindError
	if errors.As(err, &e) && e.after > 0 {
		return e.after, true
	}
	return 0, false
}

// batchError makes the error of a batch one of the kinds above.
func batchError(err error) error {
	switch {
	case errors.Is(err, ErrBackend), errors.Is(err, ErrBadRequest), errors.Is(err, ErrDraining):
		return err
	case errors.Is(err, engine.ErrInvalid):
		return ofKind(ErrBadRequest, "%w", err)
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded): // not that of a request
		return ofKind(ErrBackend, "the batch failed: %s", forPeople(err))
	}
	return ofKind(ErrBackend, "the batch failed: %w", err)
}

// forPeople returns an error's text without the library's name.
func forPeople(err error) string { return strings.TrimPrefix(err.Error(), "tia2: ") }
