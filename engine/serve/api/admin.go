package api

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"github.com/tia2-engine/tia2-engine/engine/serve"
)

const maxProfile = 5 * time.Minute

// AdminHooks are what the admin listener asks of the program. Those that are nil are answered with 404.
type AdminHooks struct {
	// Reload reads keys, certificates and models again, and keeps what there was where that fails.
	Reload func(ctx context.Context) error
	// Drain begins the end of the process: readiness fails, what was accepted is answered, then it exits. It returns at once.
	Drain func()
	// OpProfile records the ops of all models for a time and writes a gzipped pprof profile of them.
	OpProfile func(ctx context.Context, d time.Duration, w io.Writer) error
}

// AdminHandler answers on the admin listener:
//
//	GET  /metrics               for Prometheus
//	GET  /debug/pprof/          profiles of the Go program
//	GET  /debug/ops?seconds=10  op profile of the models while they work: go tool pprof URL
//	POST /-/reload              what SIGHUP does
//	POST /-/drain               what SIGTERM does
//	GET  /healthz, /readyz      as on the other listener
//
// Who asks from this machine may do all of that. From elsewhere a key is needed for all but /metrics and the two health
// checks; without keys in cfg it is refused.
func AdminHandler(s *serve.Server, cfg Config, hooks AdminHooks) http.Handler {
	a := &admin{handler: &handler{s: s, cfg: cfg.withDefaults()}, hooks: hooks}
	mux := http.NewServeMux()
	open := func(pattern string, h http.HandlerFunc) { mux.HandleFunc(pattern, h) }
	local := func(pattern string, h http.HandlerFunc) { mux.Handle(pattern, a.guard(h)) }
	open("GET /healthz", a.alive)
	open("GET /readyz", a.ready)
	if cfg.Metrics != nil {
		open("GET /metrics", cfg.Metrics.Handler().ServeHTTP)
	}
	local("GET /debug/pprof/", pprof.Index)
	local("GET /debug/pprof/cmdline", pprof.Cmdline)
	local("GET /debug/pprof/profile", pprof.Profile)
	local("GET /debug/pprof/symbol", pprof.Symbol)
	local("GET /debug/pprof/trace", pprof.Trace)
	local("GET /debug/ops", a.ops)
	local("POST /-/reload", a.reload)
	local("POST /-/drain", a.drain)
	return mux
}

type admin struct {
	*handler
	hooks     AdminHooks
	profiling sync.Mutex // held while ops are recorded
}

// guard lets in who asks from this machine, or has a key. A page in a browser on this machine is not let in: it must be
// of this origin, and the host's name must be this machine's, not one that was made to point here.
func (a *admin) guard(next http.Handler) http.Handler {
	crossOrigin := http.NewCrossOriginProtection()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := a.admitted(r); err != nil {
			WriteError(w, r, err)
			return
		}
		if crossOrigin.Check(r) != nil {
			WriteError(w, r, ofKind(errForbidden, "asked by a page of another origin"))
			return
		}
		a.cfg.Logger.LogAttrs(r.Context(), slog.LevelInfo, "admin", slog.String("remote", r.RemoteAddr), slog.String("method", r.Method), slog.String("path", r.URL.Path))
		next.ServeHTTP(w, r)
	})
}

func (a *admin) admitted(r *http.Request) error {
	remote, err := netip.ParseAddrPort(r.RemoteAddr)
	if err == nil && remote.Addr().Unmap().IsLoopback() && isLocalHost(r.Host) {
		return nil
	}
	if a.cfg.Keys == nil {
		return ofKind(errForbidden, "from another machine this needs a key, and the server has none (--api-keys)")
	}
	_, err = a.cfg.Keys.Authenticate(r.Context(), authorization(r))
	return err
}

// isLocalHost tells whether a Host header names this machine.
func isLocalHost(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.IsLoopback()
}

// ops records the ops of the models and answers with their profile.
func (a *admin) ops(w http.ResponseWriter, r *http.Request) {
	if a.hooks.OpProfile == nil {
		WriteError(w, r, ofKind(errNotFound, "op profiles are not recorded here"))
		return
	}
	d := 10 * time.Second
	if text := r.FormValue("seconds"); text != "" {
		n, err := strconv.ParseFloat(text, 64)
		if d = time.Duration(n * float64(time.Second)); err != nil || !(n > 0 && n <= maxProfile.Seconds()) {
			WriteError(w, r, badRequest("seconds=%.20s: expected more than 0 and at most %g", text, maxProfile.Seconds()))
			return
		}
	}
	if !a.profiling.TryLock() {
		WriteError(w, r, ofKind(serve.ErrOverloaded, "ops are being recorded already"))
		return
	}
	defer a.profiling.Unlock()
	var profile bytes.Buffer
	if err := a.hooks.OpProfile(r.Context(), d, &profile); err != nil {
		a.fail(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Disposition", `attachment; filename="ops.pb.gz"`)
	w.Write(profile.Bytes())
}

// fail answers with an error and logs it. Who may do what failed may read why.
func (a *admin) fail(w http.ResponseWriter, r *http.Request, err error) {
	a.cfg.Logger.LogAttrs(r.Context(), slog.LevelError, "admin", slog.String("path", r.URL.Path), slog.String("error", err.Error()))
	SetHeaders(w, err)
	writeJSON(w, Status(err), errorBody{errorText{err.Error(), Code(err)}})
}

// reload answers when everything was read again.
func (a *admin) reload(w http.ResponseWriter, r *http.Request) {
	if a.hooks.Reload == nil {
		WriteError(w, r, ofKind(errNotFound, "nothing is reloaded here"))
		return
	}
	if err := a.hooks.Reload(r.Context()); err != nil {
		a.fail(w, r, err)
		return
	}
	WriteJSON(w, r, health{"ok"})
}

// drain answers when the end has begun.
func (a *admin) drain(w http.ResponseWriter, r *http.Request) {
	if a.hooks.Drain == nil {
		WriteError(w, r, ofKind(errNotFound, "nothing is drained here"))
		return
	}
	a.hooks.Drain()
	writeJSON(w, http.StatusAccepted, health{"draining"})
}
