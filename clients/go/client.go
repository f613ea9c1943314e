package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
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

// Client asks one server. Its methods may be called from any goroutine. The fields are set before the first call.
type Client struct {
	URL       string        // http://HOST:PORT, with a path where the server stands behind a proxy
	Key       string        // sent as a bearer token; "": none
	HTTP      *http.Client  // of which connections are; its Timeout bounds one attempt
	Retries   int           // most repetitions of a request
	RetryTime time.Duration // no repetition begins later than this after the first attempt
}

// New returns a client that gives an attempt two minutes, and repeats a request up to eight times within two minutes.
func New(url string) *Client {
	return &Client{URL: url, HTTP: &http.Client{Timeout: 2 * time.Minute}, Retries: 8, RetryTime: 2 * time.Minute}
}

// Error is an answer other than 200.
type Error struct {
	Status     int
	Message    string        // what the server says
	RetryAfter time.Duration // when it asks to be tried again; 0: it does not say
}

func (e *Error) Error() string {
	return fmt.Sprintf("tia2-engine server: status %d: %s", e.Status, e.Message)
}

// temporary is whether the same request may be answered later: there was too much to do, a proxy had no server behind
// it, or the server was ending.
func (e *Error) temporary() bool {
	return e.Status == http.StatusTooManyRequests || e.Status == http.StatusBadGateway || e.Status == http.StatusServiceUnavailable
}

// do sends a request, repeats it as the package comment says, and decodes the answer into out, which may be nil.
func (c *Client) do(ctx context.Context, method, path string, in, out any) error {
	var body []byte
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			return err
		}
	}
	until := time.Now().Add(c.RetryTime)
	for attempt := 0; ; attempt++ {
		answer, err := c.attempt(ctx, method, path, body)
		if err == nil && out != nil {
			if err := json.Unmarshal(answer, out); err != nil {
				return fmt.Errorf("%s: the answer is not what was expected: %w", path, err)
			}
		}
		if err == nil {
			return nil
		}
		wait, again := retryIn(err, attempt)
		if !again || attempt >= c.Retries || time.Now().Add(wait).After(until) {
			return err
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		}
	}
}

func (c *Client) attempt(ctx context.Context, method, path string, body []byte) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(c.URL, "/")+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.Key != "" {
		req.Header.Set("Authorization", "Bearer "+c.Key)
	}
	httpClient := c.HTTP
	if httpClient == nil {
		httpClient = http.DefaultClient
	}
	resp, err := httpClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, &url.Error{Op: method, URL: req.URL.Redacted(), Err: err}
	}
	if resp.StatusCode != http.StatusOK {
		return nil, &Error{resp.StatusCode, message(answer, resp.Status), retryAfter(resp.Header.Get("Retry-After"), time.Now())}
	}
	return answer, nil
}

// message returns the text of {"error":{"message":…}}, else the beginning of the body, else the status line.
func message(body []byte, status string) string {
	var e struct{ Error struct{ Message string } }
	if json.Unmarshal(body, &e) == nil && e.Error.Message != "" {
		return e.Error.Message
	}
	if text := strings.TrimSpace(strings.ToValidUTF8(string(body[:min(len(body), 200)]), "")); text != "" {
		return text
	}
	return status
}

// retryAfter reads the header: seconds, or a date. 0 where there is none or it cannot be read.
func retryAfter(value string, now time.Time) time.Duration {
	value = strings.TrimSpace(value)
	if seconds, err := strconv.ParseUint(value, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if at, err := http.ParseTime(value); err == nil {
		return max(0, at.Sub(now))
	}
	return 0
}

// The wait where the server names none: the first, doubled each time, up to the longest.
const (
	backoffFirst = 250 * time.Millisecond
	backoffMost  = 10 * time.Second
)

// retryIn returns how long to wait before the next attempt, and whether there should be one. Some chance is in it, so
// that clients that were refused together do not come back together.
func retryIn(err error, attempt int) (time.Duration, bool) {
	var answer *Error
	if errors.As(err, &answer) && answer.temporary() && answer.RetryAfter > 0 {
		return time.Duration(float64(answer.RetryAfter) * (1 + 0.1*rand.Float64())), true
	}
	wait := min(backoffFirst<<min(attempt, 10), backoffMost)
	wait = time.Duration(float64(wait) * (0.5 + 0.5*rand.Float64()))
	if answer != nil {
		return wait, answer.temporary()
	}
	return wait, connectionFailed(err)
}

// connectionFailed is whether err came from the connection, and not from the time being up or a server that is not the
// one that it should be.
func connectionFailed(err error) bool {
	var failed *url.Error
	var stranger *tls.CertificateVerificationError
	return errors.As(err, &failed) && !failed.Timeout() && !errors.Is(err, context.Canceled) && !errors.As(err, &stranger)
}
