package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"github.com/tia2-engine/tia2-engine/engine/serve"
)

// budget counts bytes that all requests hold, so that their number is bounded as well as each one's size.
type budget struct {
	most int64
	used atomic.Int64
}

// take adds n bytes, or none where there is no room for them.
func (b *budget) take(n int64) bool {
	if b.used.Add(n) > b.most {
		b.used.Add(-n)
		return false
	}
	return true
}

const firstRead = 64 << 10 // bytes that a body gets before any of it is there

// ReadBody reads a request's body. A route of Handler has its bounds: Config.MaxBodyBytes (serve.ErrTooLarge), what all
// requests together may hold (serve.ErrOverloaded), and Config.ReadTimeout. Memory grows with what arrives, not with
// what is announced.
func ReadBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	x := exchangeOf(r.Context())
	if x == nil {
		return nil, errors.New("api.ReadBody: the request does not come from api.Handler")
	}
	body := make([]byte, 0, min(max(r.ContentLength+1, 512), firstRead))
	for {
		if len(body) == cap(body) {
			body = growBody(body, r.ContentLength)
		}
		n, err := r.Body.Read(body[len(body):cap(body)])
		body = body[:len(body)+n]
		if len(body) > int(x.h.cfg.MaxBodyBytes) {
			refuseBody(w)
			return nil, tooLarge(x.h.cfg.MaxBodyBytes)
		}
		if !x.hold(int64(n)) {
			refuseBody(w)
			return nil, errHeld(x.h.cfg)
		}
		if err == io.EOF {
			return body, nil
		}
		if err != nil {
			return nil, bodyError(r, err)
		}
	}
}

// growBody doubles the room of a body, but not beyond its announced length and the byte that tells its end.
func growBody(body []byte, announced int64) []byte {
	room := 2 * cap(body)
	if announced >= int64(len(body)) {
		room = int(min(int64(room), announced+1))
	}
	grown := make([]byte, len(body), max(room, len(body)+512))
	copy(grown, body)
	return grown
}

func tooLarge(most int64) error {
	return ofKind(serve.ErrTooLarge, "the body has more than %d bytes", most)
}

func errHeld(cfg Config) error {
	return ofKind(serve.ErrOverloaded, "requests hold all of the %d bytes that they may together", cfg.MaxBodyBytesAll)
}

// refuseBody has the connection closed after the answer; the rest of the body gets a little time, so that the client
// reads the answer before it finds the connection closed.
func refuseBody(w http.ResponseWriter) {
	w.Header().Set("Connection", "close")
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(refusedBodyTime)) // writers without deadlines are those of tests
}

const refusedBodyTime = time.Second

// bodyError says why a body could not be read. A connection that is too slow also cancels the request's context.
func bodyError(r *http.Request, err error) error {
	var netErr net.Error
	ended := r.Context().Err()
	deadline, limited := r.Context().Deadline()
	switch {
	case limited && !time.Now().Before(deadline):
		return fmt.Errorf("the body did not arrive before the request's deadline: %w", context.DeadlineExceeded)
	case errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &netErr) && netErr.Timeout():
		return ofKind(errSlowBody, "the body did not arrive in time")
	case ended != nil:
		return fmt.Errorf("the client has gone: %w", ended)
	}
	return badRequest("the body could not be read: %w", err)
}
