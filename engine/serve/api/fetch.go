package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tia2-engine/tia2-engine/engine/serve"
)

const (
	fetchRedirects  = 3
	fetchAtOnce     = 8  // of one request
	fetchAtOnceAll  = 64 // of all
	fetchMaxURL     = 2048
	fetchMaxHeaders = 64 << 10
)

// fetcher gets pictures from addresses that everybody can reach. A client must not use this server to reach what only the
// server can: so the address is checked when a connection is made, after names were resolved and for every redirect; no
// proxy, cookie or credential is used; and what a client hears of a failure tells nothing of networks.
type fetcher struct {
	client  *http.Client
	slots   chan struct{}
	timeout time.Duration
	most    int64 // bytes of one
	log     *slog.Logger
}

// errFetch is a failure that may be told to clients.
type errFetch struct{ text string }

func (e *errFetch) Error() string { return e.text }

// newFetcher returns a fetcher that connects to addresses for which allowed is true.
func newFetcher(cfg Config, allowed func(netip.Addr) bool) *fetcher {
	dialer := &net.Dialer{Timeout: cfg.FetchTimeout, Control: func(_, address string, _ syscall.RawConn) error {
		to, err := netip.ParseAddrPort(address)
		if err != nil || !allowed(to.Addr()) {
			return fmt.Errorf("%s is no public address", address)
		}
		return nil
	}}
	transport := &http.Transport{
		DialContext: dialer.DialContext, TLSHandshakeTimeout: cfg.FetchTimeout, ResponseHeaderTimeout: cfg.FetchTimeout,
		MaxResponseHeaderBytes: fetchMaxHeaders, DisableCompression: true, ForceAttemptHTTP2: true,
		MaxConnsPerHost: fetchAtOnce, MaxIdleConns: fetchAtOnceAll, IdleConnTimeout: 30 * time.Second,
	}
	redirect := func(r *http.Request, via []*http.Request) error {
		if len(via) > fetchRedirects {
			return &errFetch{fmt.Sprintf("it is redirected more than %d times", fetchRedirects)}
		}
		r.Header.Del("Referer")
		return checkURL(r.URL)
	}
	return &fetcher{
		client: &http.Client{Transport: transport, CheckRedirect: redirect}, slots: make(chan struct{}, fetchAtOnceAll),
		timeout: cfg.FetchTimeout, most: cfg.MaxImageBytes, log: cfg.Logger,
	}
}

// fetchAll gets the pictures that are URLs and puts their data, or why there is none, in their place.
func fetchAll(ctx context.Context, pictures []Picture) error {
	first := slices.IndexFunc(pictures, func(p Picture) bool { return p.url != "" })
	if first < 0 {
		return nil
	}
	x := exchangeOf(ctx)
	if x == nil || x.h.fetcher == nil {
		return badRequest("images[%d] is a URL, and this server fetches none (--allow-fetch): send the picture itself, as a data URL", first)
	}
	held := &fetchedBytes{x: x, most: x.h.cfg.MaxBodyBytes}
	group, fetching := errgroup.WithContext(ctx)
	group.SetLimit(fetchAtOnce)
	for i := range pictures {
		if p := &pictures[i]; p.url != "" {
			group.Go(func() error {
				p.data, p.err = x.h.fetcher.get(fetching, p.url, held)
				return refusal(p.err)
			})
		}
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return ctx.Err()
}

// fetchedBytes bounds what is fetched for one request like the body that could have brought it.
type fetchedBytes struct {
	x    *exchange
	most int64
	used atomic.Int64
}

// take counts n more bytes. Its errors are those of the whole request.
func (b *fetchedBytes) take(n int) error {
	if b.used.Add(int64(n)) > b.most {
		return ofKind(serve.ErrTooLarge, "the pictures of the request have more than %d bytes together", b.most)
	}
	if !b.x.hold(int64(n)) {
		return errHeld(b.x.h.cfg)
	}
	return nil
}

// refusal returns what of a picture's error is that of the whole request.
func refusal(err error) error {
	if errors.Is(err, serve.ErrTooLarge) || errors.Is(err, serve.ErrOverloaded) {
		return err
	}
	return nil
}

// get fetches one picture. Its errors may be told to clients.
func (f *fetcher) get(ctx context.Context, address string, held *fetchedBytes) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	select {
	case f.slots <- struct{}{}:
		defer func() { <-f.slots }()
	case <-ctx.Done():
		return nil, explainFetch(ctx.Err())
	}
	data, err := f.read(ctx, address, held)
	if err != nil {
		f.log.LogAttrs(ctx, slog.LevelDebug, "fetch", slog.String("request_id", held.x.id), slog.String("error", err.Error()))
		return nil, explainFetch(err)
	}
	return data, nil
}

func (f *fetcher) read(ctx context.Context, address string, held *fetchedBytes) ([]byte, error) {
	u, err := url.Parse(address)
	if err != nil || len(address) > fetchMaxURL {
		return nil, &errFetch{fmt.Sprintf("expected a URL of at most %d characters", fetchMaxURL)}
	}
	if err := checkURL(u); err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "image/*")
	req.Header.Set("User-Agent", "tia2-engine")
	resp, err := f.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, &errFetch{fmt.Sprintf("its host answered with status %d", resp.StatusCode)}
	}
	if resp.ContentLength > f.most {
		return nil, f.tooLarge()
	}
	return f.readBody(resp.Body, held)
}

func (f *fetcher) tooLarge() error {
	return &errFetch{fmt.Sprintf("the picture has more than %d bytes", f.most)}
}

// readBody reads a picture, and counts its bytes as they come.
func (f *fetcher) readBody(body io.Reader, held *fetchedBytes) ([]byte, error) {
	data := make([]byte, 0, firstRead)
	for {
		if len(data) == cap(data) {
			data = slices.Grow(data, len(data))
		}
		n, err := body.Read(data[len(data):cap(data)])
		data = data[:len(data)+n]
		if int64(len(data)) > f.most {
			return nil, f.tooLarge()
		}
		if heldErr := held.take(n); heldErr != nil {
			return nil, heldErr
		}
		if err == io.EOF {
			return data, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// checkURL refuses what is no plain web address.
func checkURL(u *url.URL) error {
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil {
		return &errFetch{"expected an http or https URL without a user"}
	}
	return nil
}

// explainFetch makes an error one that may be told to clients.
func explainFetch(err error) error {
	var told *errFetch
	var netErr net.Error
	switch {
	case errors.As(err, &told):
		return told // without the *url.Error around it
	case refusal(err) != nil:
		return err
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &netErr) && netErr.Timeout():
		return &errFetch{"it could not be fetched in time"}
	}
	return &errFetch{"it could not be fetched"}
}

// notPublic are the networks that are not the public internet, or lead to one that is not: RFC 6890 and the registries of
// special addresses at IANA, which this list follows.
var notPublic = prefixes(
	"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24",
	"192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16", "192.175.48.0/24", "198.18.0.0/15", "198.51.100.0/24",
	"203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
	"2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20",
)

// globalIPv6 is where all public addresses of IPv6 are.
var globalIPv6 = netip.MustParsePrefix("2000::/3")

func prefixes(texts ...string) []netip.Prefix {
	list := make([]netip.Prefix, len(texts))
	for i, text := range texts {
		list[i] = netip.MustParsePrefix(text)
	}
	return list
}

// isPublic tells whether an address is one of the public internet.
func isPublic(addr netip.Addr) bool {
	if addr.Zone() != "" {
		return false
	}
	addr = addr.Unmap()
	if addr.Is6() && !globalIPv6.Contains(addr) {
		return false
	}
	return addr.IsValid() && !slices.ContainsFunc(notPublic, func(p netip.Prefix) bool { return p.Contains(addr) })
}
