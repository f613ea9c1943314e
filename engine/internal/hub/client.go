package hub

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Defaults of the retry policy.
const (
	attemptsMax   = 6 // in a row without a byte of progress
	backoffFirst  = 500 * time.Millisecond
	backoffMax    = 30 * time.Second
	retryAfterMax = 5 * time.Minute // a server that asks for more is given up
	stallMax      = 60 * time.Second
)

// client talks to one hub. It is safe for concurrent use.
type client struct {
	base    *url.URL
	http    *http.Client
	token   string
	backoff time.Duration // first pause; doubles
	stall   time.Duration // longest wait for the next byte
	log     func(format string, args ...any)
}

func newClient(opt Options) (*client, error) {
	base, err := url.Parse(strings.TrimRight(opt.Endpoint, "/"))
	if err != nil || base.Host == "" || base.Scheme != "https" && base.Scheme != "http" {
		return nil, fmt.Errorf("hub endpoint %q (HF_ENDPOINT): expected a URL such as https://huggingface.co", opt.Endpoint)
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.ResponseHeaderTimeout = stallMax
	transport.DisableCompression = true // sizes and ranges are those of the file itself
	c := &client{base: base, token: opt.Token, backoff: backoffFirst, stall: stallMax, log: opt.Log}
	if opt.backoff > 0 {
		c.backoff = opt.backoff
	}
	if opt.stall > 0 {
		c.stall, transport.ResponseHeaderTimeout = opt.stall, opt.stall
	}
	if c.log == nil {
		c.log = func(string, ...any) {}
	}
	c.http = &http.Client{
		Transport: &authorizer{base: base, token: opt.Token, next: transport},
		CheckRedirect: func(req *http.Request, via []*http.Request) error {
			if len(via) >= 10 {
				return fmt.Errorf("%w: the eleventh in a row", errRedirect)
			}
			if via[len(via)-1].URL.Scheme == "https" && req.URL.Scheme != "https" {
				return fmt.Errorf("%w: from https to %s://%s", errRedirect, req.URL.Scheme, req.URL.Host)
			}
			return nil
		},
	}
	return c, nil
}

var errRedirect = errors.New("refused a redirect")

// authorizer adds the token to the requests that go to the hub itself, and to no other host that it redirects to:
// storage hosts have signatures in their URLs, and must not see the token.
type authorizer struct {
	base  *url.URL
	token string
	next  http.RoundTripper
}

func (a *authorizer) RoundTrip(req *http.Request) (*http.Response, error) {
	if a.token != "" && req.URL.Scheme == a.base.Scheme && req.URL.Host == a.base.Host {
		req = req.Clone(req.Context())
		req.Header.Set("Authorization", "Bearer "+a.token)
	}
	return a.next.RoundTrip(req)
}

// errRetry marks an error that another try may cure, and how long the server wants us to wait (0: it did not say).
type errRetry struct {
	err   error
	after time.Duration
}

func (e *errRetry) Error() string { return e.err.Error() }
func (e *errRetry) Unwrap() error { return e.err }

// try runs step until it succeeds, fails for good, or fails attemptsMax times in a row. A step that made progress
// begins the count again, so a long download over a bad line ends.
func (c *client) try(ctx context.Context, what string, step func() (progress bool, err error)) error {
	for attempt := 1; ; attempt++ {
		progress, err := step()
		var retry *errRetry
		if err == nil || !errors.As(err, &retry) {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if progress {
			attempt = 1
		}
		if attempt >= attemptsMax {
			return fmt.Errorf("%w (gave up after %d tries)", retry, attempt)
		}
		pause := min(c.backoff<<(attempt-1), backoffMax)
		pause += rand.N(pause/4 + 1) // so that a thousand clients do not come back together
		if retry.after > retryAfterMax {
			return fmt.Errorf("%w (the server asks to come back in %s)", retry, retry.after)
		}
		pause = max(pause, retry.after)
		c.log("%s: %v: trying again in %s", what, retry.err, pause.Round(10*time.Millisecond))
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}

// get asks for a path of the hub. The answer's status is 200, 206 or 416; any other is an error.
func (c *client) get(ctx context.Context, ref Ref, path string, header http.Header) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base.String()+path, nil)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", ref, err)
	}
	for k, v := range header {
		req.Header[k] = v
	}
	req.Header.Set("User-Agent", "tia2-engine")
	res, err := c.http.Do(req)
	if err != nil {
		var ue *url.Error
		if errors.As(err, &ue) {
			err = ue.Err // its URL may hold a signature
		}
		err = fmt.Errorf("%s: no answer from %s: %w", ref, c.base.Host, err)
		if errors.Is(err, errRedirect) {
			return nil, err
		}
		return nil, &errRetry{err: err}
	}
	switch res.StatusCode {
	case http.StatusOK, http.StatusPartialContent, http.StatusRequestedRangeNotSatisfiable:
		return res, nil
	}
	defer res.Body.Close()
	return nil, c.statusError(ref, path, res)
}

// statusError says what a refusal means and what the user can do about it.
func (c *client) statusError(ref Ref, path string, res *http.Response) error {
	host := c.base.Host
	said := res.Header.Get("X-Error-Message")
	if said == "" {
		said = http.StatusText(res.StatusCode)
	}
	said = fmt.Sprintf("%d %.200s", res.StatusCode, said)
	repoURL := c.base.String() + "/" + ref.Repo
	gated := res.Header.Get("X-Error-Code") == "GatedRepo"
	switch code := res.StatusCode; {
	case gated, code == http.StatusForbidden:
		if c.token == "" {
			return fmt.Errorf("%s: %s answers %s: accept the licence at %s and set HF_TOKEN to an access token of that account", ref, host, said, repoURL)
		}
		return fmt.Errorf("%s: %s answers %s: the account of HF_TOKEN has no access: accept the licence at %s with it, "+
			"and give the token the right to read gated repositories", ref, host, said, repoURL)
	case code == http.StatusUnauthorized:
		if c.token == "" {
			return fmt.Errorf("%s: %s answers %s: there is no such public repository; if it is private or gated, set HF_TOKEN to an access token", ref, host, said)
		}
		return fmt.Errorf("%s: %s answers %s: the token in HF_TOKEN is not valid, or the repository does not exist", ref, host, said)
	case code == http.StatusNotFound:
		return fmt.Errorf("%s: %s answers %s for %s: no such repository, revision %q or file", ref, host, said, strings.SplitN(path, "?", 2)[0], ref.revision())
	case code == http.StatusRequestTimeout, code == http.StatusTooManyRequests, code >= 500 && code != http.StatusNotImplemented:
		return &errRetry{err: fmt.Errorf("%s: %s answers %s", ref, host, said), after: retryAfter(res.Header.Get("Retry-After"), time.Now())}
	}
	return fmt.Errorf("%s: %s answers %s for %s", ref, host, said, strings.SplitN(path, "?", 2)[0])
}

// retryAfter reads the header in both of its forms; 0 where it says nothing.
func retryAfter(value string, now time.Time) time.Duration {
	if seconds, err := strconv.ParseUint(strings.TrimSpace(value), 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if at, err := http.ParseTime(value); err == nil && at.After(now) {
		return at.Sub(now)
	}
	return 0
}

// getJSON reads the body of an API call, with retries, and the path of the next page ("" on the last).
func (c *client) getJSON(ctx context.Context, ref Ref, path string) (body []byte, next string, err error) {
	err = c.try(ctx, "listing", func() (bool, error) {
		ctx, stalled := c.watch(ctx)
		defer stalled.stop()
		res, err := c.get(ctx, ref, path, nil)
		if err != nil {
			return false, err
		}
		defer res.Body.Close()
		if res.StatusCode != http.StatusOK {
			return false, fmt.Errorf("%s: %s answers %s for %s", ref, c.base.Host, res.Status, path)
		}
		body, err = io.ReadAll(stalled.reader(io.LimitReader(res.Body, listingBytesMax+1)))
		if err != nil {
			return false, &errRetry{err: fmt.Errorf("%s: the listing broke off: %w", ref, err)}
		}
		if len(body) > listingBytesMax {
			return false, fmt.Errorf("%s: the listing is larger than %d MiB", ref, listingBytesMax>>20)
		}
		next = c.nextPage(res.Header.Get("Link"))
		return false, nil
	})
	return body, next, err
}

// nextPage returns the path of the URL that a Link header calls "next", where it is on the hub itself.
func (c *client) nextPage(link string) string {
	for _, part := range strings.Split(link, ",") {
		target, rel, ok := strings.Cut(part, ";")
		target = strings.TrimSpace(target)
		if !ok || !strings.Contains(rel, `rel="next"`) || !strings.HasPrefix(target, "<") || !strings.HasSuffix(target, ">") {
			continue
		}
		u, err := url.Parse(target[1 : len(target)-1])
		if err != nil || u.Host != "" && u.Host != c.base.Host {
			return ""
		}
		return strings.TrimPrefix(u.RequestURI(), c.base.EscapedPath())
	}
	return ""
}

// watchdog cancels a request that has not given a byte for a while.
type watchdog struct {
	timer *time.Timer
	limit time.Duration
	end   context.CancelCauseFunc
}

var errStalled = errors.New("nothing came for a while")

func (c *client) watch(ctx context.Context) (context.Context, *watchdog) {
	ctx, cancel := context.WithCancelCause(ctx)
	w := &watchdog{limit: c.stall, end: cancel}
	w.timer = time.AfterFunc(c.stall, func() { cancel(errStalled) })
	return ctx, w
}

func (w *watchdog) stop() {
	w.timer.Stop()
	w.end(nil)
}

func (w *watchdog) reader(r io.Reader) io.Reader {
	return readerFunc(func(p []byte) (int, error) {
		n, err := r.Read(p)
		if n > 0 {
			w.timer.Reset(w.limit)
		}
		return n, err
	})
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
