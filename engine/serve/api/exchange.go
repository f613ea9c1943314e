package api

import (
	"context"
	"crypto/rand"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/trace"
)

// exchange is what is known of a request while it is answered. But for held, its handler's goroutine alone writes to it.
type exchange struct {
	h       *handler // this, held and written are of HTTP only
	began   time.Time
	id      string
	client  string // who asks; "" before that is known
	route   string // its pattern; "" where there is none
	public  bool
	err     error // that was answered
	trace   trace.TraceID
	held    atomic.Int64 // bytes of its body and of what was fetched, in the budget
	written *answer
}

// outcome is the end of the request's line in the log.
func (x *exchange) outcome() (attrs []slog.Attr) {
	if x.trace.IsValid() {
		attrs = append(attrs, slog.String("trace_id", x.trace.String()))
	}
	if x.err != nil {
		attrs = append(attrs, slog.String("error", x.err.Error()))
	}
	return attrs
}

type exchangeKey struct{}

func exchangeOf(ctx context.Context) *exchange {
	x, _ := ctx.Value(exchangeKey{}).(*exchange)
	return x
}

// hold counts n more bytes as the request's. It is false where there is no room for them.
func (x *exchange) hold(n int64) bool {
	if !x.h.budget.take(n) {
		return false
	}
	x.held.Add(n)
	return true
}

// RequestID returns the identifier of the request that ctx belongs to, "" where it belongs to none.
func RequestID(ctx context.Context) string {
	if x := exchangeOf(ctx); x != nil {
		return x.id
	}
	return ""
}

type clientKey struct{}

// WithClient returns a context whose Client is name, for protocols that are not HTTP.
func WithClient(ctx context.Context, name string) context.Context {
	return context.WithValue(ctx, clientKey{}, name)
}

// Client returns who asks, for fairness among clients: the name of the key, else that of the TLS certificate, else the
// remote host; "" for a context of no request.
func Client(ctx context.Context) string {
	if name, ok := ctx.Value(clientKey{}).(string); ok {
		return name
	}
	if x := exchangeOf(ctx); x != nil {
		return x.client
	}
	return ""
}

const maxRequestID = 128

// requestID returns the identifier that a client gave its request, or a new one where it gave none that is plain.
func requestID(id string) string {
	if id == "" || len(id) > maxRequestID {
		return rand.Text()
	}
	for _, c := range []byte(id) {
		plain := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_' || c == '.' || c == ':'
		if !plain {
			return rand.Text()
		}
	}
	return id
}

// answer is a ResponseWriter that remembers what was written, and gives its client a limited time from the first byte on.
type answer struct {
	http.ResponseWriter
	timeout time.Duration
	status  int // 0: nothing was written yet
	bytes   int64
}

func (a *answer) WriteHeader(status int) {
	if a.status == 0 && status >= 200 {
		a.status = status
		// Writers that know no deadlines are those of tests.
		_ = http.NewResponseController(a.ResponseWriter).SetWriteDeadline(time.Now().Add(a.timeout))
	}
	a.ResponseWriter.WriteHeader(status)
}

func (a *answer) Write(b []byte) (int, error) {
	if a.status == 0 {
		a.WriteHeader(http.StatusOK)
	}
	n, err := a.ResponseWriter.Write(b)
	a.bytes += int64(n)
	return n, err
}

// Unwrap lets http.ResponseController reach the connection.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }
