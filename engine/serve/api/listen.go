package api

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"golang.org/x/net/netutil"
)

// Listener is an address that answers HTTP.
type Listener struct {
	http *http.Server
	net  net.Listener
}

// Listen opens an address for a handler, with all limits of cfg and, where cfg has certificates, TLS. Nothing is
// accepted before Serve. Errors name the address.
func Listen(addr string, h http.Handler, cfg Config) (*Listener, error) {
	cfg = cfg.withDefaults()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("HTTP: %w", err)
	}
	l = netutil.LimitListener(l, cfg.MaxConnections)
	if cfg.TLS != nil {
		l = tls.NewListener(l, cfg.TLS.Config())
	}
	return &Listener{http: newServer(h, cfg), net: l}, nil
}

// newServer returns an http.Server that no client can keep waiting. What a handler may take is bounded by the deadline of
// its request; the write timeout here, which runs from the headers on, stands behind that, and answer's is the one that
// clients meet.
func newServer(h http.Handler, cfg Config) *http.Server {
	return &http.Server{
		Handler:           h,
		MaxHeaderBytes:    cfg.MaxHeaderBytes,
		ReadHeaderTimeout: cfg.ReadHeaderTimeout,
		ReadTimeout:       cfg.ReadTimeout,
		WriteTimeout:      cfg.ReadTimeout + cfg.MaxTimeout + cfg.WriteTimeout,
		IdleTimeout:       cfg.IdleTimeout,
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: 128, SendPingTimeout: cfg.IdleTimeout, PingTimeout: cfg.ReadHeaderTimeout},
		ErrorLog:          slog.NewLogLogger(cfg.Logger.Handler(), slog.LevelDebug), // of connections: handshakes, clients that go
	}
}

const adminConnections = 64

// ListenAdmin opens an address for the admin handler. Its answers may take as long as a profile does.
func ListenAdmin(addr string, h http.Handler, cfg Config) (*Listener, error) {
	cfg = cfg.withDefaults()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("admin: %w", err)
	}
	srv := newServer(h, cfg)
	srv.WriteTimeout = maxProfile + time.Minute
	srv.ErrorLog = slog.NewLogLogger(cfg.Logger.Handler(), slog.LevelError)
	return &Listener{http: srv, net: netutil.LimitListener(l, adminConnections)}, nil
}

// Addr returns the address, with the port that was chosen for port 0.
func (l *Listener) Addr() net.Addr { return l.net.Addr() }

// Serve answers until Shutdown, and returns nil then.
func (l *Listener) Serve() error {
	if err := l.http.Serve(l.net); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("HTTP on %s: %w", l.net.Addr(), err)
	}
	return nil
}

// Shutdown stops accepting, lets what runs end, and closes what is left when ctx ends.
func (l *Listener) Shutdown(ctx context.Context) error {
	err := l.http.Shutdown(ctx)
	if err != nil {
		err = errors.Join(fmt.Errorf("HTTP on %s: %w", l.net.Addr(), err), l.http.Close())
	}
	return err
}
