package loadtest

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// announced is the length of the body that is announced and not sent.
const announced = 2 << 30

// transport sends requests over kept connections, and raw ones over connections of their own. ctx ends all of them.
type transport struct {
	http.RoundTripper
	ctx     context.Context
	tls     *tls.Config
	timeout time.Duration
	bad     func(u *url.URL) *badKind // of a target that is a bad request, else nil
}

// newTransport keeps any number of connections to the target.
func newTransport(ctx context.Context, opt Options, bad func(*url.URL) *badKind) *transport {
	return &transport{&http.Transport{
		DialContext:         (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
		MaxIdleConnsPerHost: inFlightMax,
		TLSClientConfig:     opt.TLS,
		DisableCompression:  true,
		TLSNextProto:        map[string]func(string, *tls.Conn) http.RoundTripper{}, // HTTP/1.1: a connection a request
	}, ctx, opt.TLS, opt.Timeout, bad}
}

// RoundTrip implements http.RoundTripper.
func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	if kind := t.bad(req.URL); kind != nil && kind.raw != nil {
		return t.raw(req, kind)
	}
	ctx, cancel := context.WithCancel(req.Context())
	stop := context.AfterFunc(t.ctx, cancel)
	resp, err := t.RoundTripper.RoundTrip(req.WithContext(ctx))
	if err != nil {
		stop()
		cancel()
		return nil, err
	}
	resp.Body = &closing{resp.Body, func() { stop(); cancel() }}
	return resp, nil
}

// closing calls a function after a body is closed.
type closing struct {
	io.ReadCloser
	then func()
}

func (c *closing) Close() error {
	err := c.ReadCloser.Close()
	c.then()
	return err
}

// rawSender writes a request to a connection by hand. Errors are left to the reading of the answer: a server may refuse a
// request before all of it was sent.
type rawSender struct {
	conn net.Conn
	head string // request line and header, without Content-Length and the empty line
}

// announce sends the header of a large body, and the little that there is of it.
func (s *rawSender) announce(q request) {
	fmt.Fprintf(s.conn, "%sContent-Length: %d\r\n\r\n", s.head, announced)
	s.conn.Write(q.body[:min(len(q.body), 32<<10)])
}

// half sends half a body and then no more: what a client leaves that was killed.
func (s *rawSender) half(q request) {
	fmt.Fprintf(s.conn, "%sContent-Length: %d\r\n\r\n", s.head, len(q.body))
	s.conn.Write(q.body[:len(q.body)/2])
	if c, ok := s.conn.(interface{ CloseWrite() error }); ok {
		c.CloseWrite()
	}
}

// raw sends a request on a connection of its own.
func (t *transport) raw(req *http.Request, kind *badKind) (*http.Response, error) {
	ctx, cancel := context.WithTimeout(req.Context(), t.timeout)
	stop := context.AfterFunc(t.ctx, cancel)
	end := func() { stop(); cancel() }
	conn, err := t.dial(ctx, req.URL)
	if err != nil {
		end()
		return nil, err
	}
	context.AfterFunc(ctx, func() { conn.Close() })
	var body []byte
	if req.Body != nil {
		body, _ = io.ReadAll(req.Body) // of a bytes.Reader
	}
	kind.raw(&rawSender{conn, head(req)}, request{body: body})
	resp, err := http.ReadResponse(bufio.NewReader(conn), req)
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		end()
		return nil, err
	}
	resp.Body = &closing{resp.Body, end}
	return resp, nil
}

func (t *transport) dial(ctx context.Context, u *url.URL) (net.Conn, error) {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	addr := net.JoinHostPort(u.Hostname(), port)
	if u.Scheme == "https" {
		return (&tls.Dialer{Config: t.tls}).DialContext(ctx, "tcp", addr)
	}
	return (&net.Dialer{}).DialContext(ctx, "tcp", addr)
}

// head writes the beginning of a request.
func head(req *http.Request) string {
	s := req.Method + " " + req.URL.RequestURI() + " HTTP/1.1\r\nHost: " + req.URL.Host + "\r\n"
	for _, name := range []string{"Content-Type", "Authorization"} {
		if v := req.Header.Get(name); v != "" {
			s += name + ": " + v + "\r\n"
		}
	}
	return s
}

// The fragment of a target's URL, which is not sent, says which case it is: g3 is the fourth good request, b2 a bad one of
// the third kind.

func goodFragment(i int) string { return "#g" + strconv.Itoa(i) }

func badFragment(kind int) string { return "#b" + strconv.Itoa(kind) }

// readFragment returns the letter and the number.
func readFragment(fragment string) (letter byte, i int, err error) {
	if len(fragment) < 2 {
		return 0, 0, fmt.Errorf("target %q has no case", fragment)
	}
	i, err = strconv.Atoi(fragment[1:])
	return fragment[0], i, err
}
