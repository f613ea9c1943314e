package api

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"runtime/debug"
	"slices"
	"strconv"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/tia2-engine/tia2-engine/engine/serve"
)

// Route is a pattern of http.ServeMux, with a method ("POST /score"), and what answers it.
type Route struct {
	Pattern string
	Handler http.Handler
	Public  bool // answered without a key, not traced, logged only with level debug: health checks, the page's files
}

// Handler answers the native JSON and all routes, behind keys, limits, deadlines, traces and logs. Patterns that
// contradict each other are a panic, as with http.ServeMux.
func Handler(s *serve.Server, cfg Config, routes ...Route) http.Handler {
	h := &handler{s: s, cfg: cfg.withDefaults(), mux: http.NewServeMux(), crossOrigin: http.NewCrossOriginProtection(),
		decoding: make(chan struct{}, decodeAtOnce)}
	h.budget.most = h.cfg.MaxBodyBytesAll
	if h.cfg.AllowFetch {
		h.fetcher = newFetcher(h.cfg, isPublic)
	}
	for _, route := range slices.Concat(h.native(), routes) {
		h.mux.Handle(route.Pattern, h.guard(route))
	}
	return h
}

type handler struct {
	s           *serve.Server
	cfg         Config
	mux         *http.ServeMux
	crossOrigin *http.CrossOriginProtection
	budget      budget
	fetcher     *fetcher      // nil: none is allowed
	decoding    chan struct{} // a slot for each picture that /v1/preprocess decodes at one time
}

// ServeHTTP answers one request, whatever its route's handler does.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a := &answer{ResponseWriter: w, timeout: h.cfg.WriteTimeout}
	x := &exchange{h: h, began: time.Now(), id: requestID(r.Header.Get("X-Request-Id")), written: a}
	r = r.WithContext(context.WithValue(r.Context(), exchangeKey{}, x))
	setSecurityHeaders(w.Header(), r.TLS)
	w.Header().Set("X-Request-Id", x.id)
	h.cfg.Metrics.begin()
	defer h.end(x, r)
	defer h.recoverPanic(x, r)
	if _, pattern := h.mux.Handler(r); pattern == "" {
		h.noRoute(a, r)
		return
	}
	h.mux.ServeHTTP(a, r)
}

// setSecurityHeaders sets what holds for every answer; the page sets a Content-Security-Policy of its own.
func setSecurityHeaders(h http.Header, secure *tls.ConnectionState) {
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
	if secure != nil {
		h.Set("Strict-Transport-Security", "max-age=31536000")
	}
}

// noRoute answers what no pattern fits, as WriteError does; the mux knows which methods a path has.
func (h *handler) noRoute(w http.ResponseWriter, r *http.Request) {
	refusal, _ := h.mux.Handler(r)
	heard := &discarded{header: http.Header{}}
	refusal.ServeHTTP(heard, r)
	if allow := heard.header.Get("Allow"); allow != "" {
		w.Header().Set("Allow", allow)
		WriteError(w, r, ofKind(errMethod, "%.16s %.200s: expected %s", r.Method, r.URL.Path, allow))
		return
	}
	WriteError(w, r, ofKind(errNotFound, "%.200s: there is nothing here; GET /openapi.json says what there is", r.URL.Path))
}

// discarded is a ResponseWriter of which only the header is of interest.
type discarded struct{ header http.Header }

func (d *discarded) Header() http.Header         { return d.header }
func (d *discarded) Write(b []byte) (int, error) { return len(b), nil }
func (d *discarded) WriteHeader(int)             {}

// recoverPanic makes a panic of a handler an answer with status 500 and a line of the log.
func (h *handler) recoverPanic(x *exchange, r *http.Request) {
	v := recover()
	if v == nil {
		return
	}
	if v == http.ErrAbortHandler {
		panic(v)
	}
	h.cfg.Logger.LogAttrs(r.Context(), slog.LevelError, "panic", slog.String("request_id", x.id), slog.String("route", x.route),
		slog.Any("panic", v), slog.String("stack", string(debug.Stack())))
	h.cfg.Metrics.panicked()
	if x.written.status != 0 {
		panic(http.ErrAbortHandler) // half an answer must not look like a whole one
	}
	WriteError(x.written, r, fmt.Errorf("panic: %v", v))
}

// end gives back what the request held, counts it and writes its line.
func (h *handler) end(x *exchange, r *http.Request) {
	h.budget.used.Add(-x.held.Load())
	took := time.Since(x.began)
	status := x.written.status
	if status == 0 { // nothing was written: net/http says 200, or the handler was aborted
		status = http.StatusOK
	}
	h.cfg.Metrics.end(x, status, took)
	level := slog.LevelInfo
	switch {
	case status >= 500 && status != http.StatusServiceUnavailable && status != http.StatusGatewayTimeout:
		level = slog.LevelError
	case x.public && status < 400:
		level = slog.LevelDebug
	}
	ctx := r.Context()
	if !h.cfg.Logger.Enabled(ctx, level) {
		return
	}
	attrs := []slog.Attr{
		slog.String("request_id", x.id), slog.String("client", x.client), slog.String("remote", r.RemoteAddr),
		slog.String("method", r.Method), slog.String("path", r.URL.Path), slog.String("route", x.route), slog.Int("status", status),
		slog.Int64("bytes_in", x.held.Load()), slog.Int64("bytes_out", x.written.bytes), slog.Duration("took", took),
		slog.String("user_agent", r.UserAgent()),
	}
	h.cfg.Logger.LogAttrs(ctx, level, "request", append(attrs, x.outcome()...)...)
}

// guard puts before a route what stands before every request.
func (h *handler) guard(route Route) http.Handler {
	next := route.Handler
	if !route.Public {
		next = h.cfg.Tracing.handler(route.Pattern, h.admit(next))
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		x := exchangeOf(r.Context())
		x.route, x.public, x.client = route.Pattern, route.Public, remoteName(r)
		if !route.Public {
			if err := h.authenticate(x, r); err != nil {
				w.Header().Set("WWW-Authenticate", `Bearer realm="tia2-engine"`)
				WriteError(w, r, err)
				return
			}
			if err := h.crossOrigin.Check(r); err != nil {
				WriteError(w, r, ofKind(errForbidden, "asked by a page of another origin"))
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

// authenticate finds out who asks.
func (h *handler) authenticate(x *exchange, r *http.Request) error {
	if h.cfg.Keys == nil {
		if r.TLS != nil && len(r.TLS.VerifiedChains) > 0 {
			x.client = r.TLS.VerifiedChains[0][0].Subject.CommonName
		}
		return nil
	}
	name, err := h.cfg.Keys.Authenticate(r.Context(), authorization(r))
	if err == nil {
		x.client = name
	}
	return err
}

// authorization returns the Authorization header, or X-Api-Key written as one.
func authorization(r *http.Request) string {
	if key := r.Header.Get("X-Api-Key"); key != "" {
		return "Bearer " + key
	}
	return r.Header.Get("Authorization")
}

// remoteName names a client by its address; of IPv6 the network, of which one client may have many addresses.
func remoteName(r *http.Request) string {
	remote, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	addr := remote.Addr().Unmap().WithZone("")
	if addr.Is6() {
		return netip.PrefixFrom(addr, 64).Masked().String()
	}
	return addr.String()
}

// admit refuses what is too large before it is read, and gives the request its deadline. The core is told that it comes.
func (h *handler) admit(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx := r.Context()
		exchangeOf(ctx).trace = trace.SpanContextFromContext(ctx).TraceID()
		if r.ContentLength > h.cfg.MaxBodyBytes {
			refuseBody(w)
			WriteError(w, r, tooLarge(h.cfg.MaxBodyBytes))
			return
		}
		timeout, err := h.timeout(r)
		if err != nil {
			WriteError(w, r, err)
			return
		}
		if timeout > 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, timeout)
			defer cancel()
		}
		if r.ContentLength != 0 {
			if timeout > 0 && timeout < h.cfg.ReadTimeout {
				deadline, _ := ctx.Deadline()
				_ = http.NewResponseController(w).SetReadDeadline(deadline) // it ends with the body
			}
			var read func()
			ctx, read = h.s.Reading(ctx)
			defer read()
		}
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

// timeout reads X-Timeout-Ms, the whole time that a request may take; 0 where there is none.
func (h *handler) timeout(r *http.Request) (time.Duration, error) {
	text := r.Header.Get("X-Timeout-Ms")
	if text == "" {
		return 0, nil
	}
	ms, err := strconv.ParseInt(text, 10, 64)
	if err != nil || ms < 1 {
		return 0, badRequest("X-Timeout-Ms: %.20q: expected a whole number of milliseconds, 1 or more", text)
	}
	if ms > h.cfg.MaxTimeout.Milliseconds() {
		return h.cfg.MaxTimeout, nil
	}
	return time.Duration(ms) * time.Millisecond, nil
}
