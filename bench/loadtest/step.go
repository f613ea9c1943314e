package loadtest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	vegeta "github.com/tsenart/vegeta/v12/lib"
)

// Step is what one load showed. Counts and latencies are of good requests that were due after the warm-up; wrong answers
// and bad requests are of all.
type Step struct {
	Name        string   `json:"name"`
	Loop        string   `json:"loop"`                  // "open" or "closed"
	Arrivals    Arrivals `json:"arrivals,omitempty"`    // of an open loop
	RatePS      float64  `json:"rate_per_s,omitempty"`  // asked for in an open loop
	Concurrency int      `json:"concurrency,omitempty"` // of a closed loop
	Seconds     float64  `json:"seconds"`

	Sent        int     `json:"sent"`
	Answered    int     `json:"answered"`        // whole answers
	AnswersPS   float64 `json:"answers_per_s"`   // whole answers
	ItemsPS     float64 `json:"items_per_s"`     // pictures of these
	GoodputPS   float64 `json:"goodput_per_s"`   // whole answers within the SLO
	GoodShare   float64 `json:"goodput_share"`   // of all that was sent
	Latency     Latency `json:"latency_ms"`      // of whole answers
	LateMS      float64 `json:"late_ms_p99"`     // by which requests of an open loop left later than they were due
	MegabytesPS float64 `json:"megabytes_per_s"` // sent in bodies

	Refused429   int            `json:"refused_429"`
	Refused503   int            `json:"refused_503"`
	NoRetryAfter int            `json:"refused_without_retry_after"`
	Lost         int            `json:"lost"`   // without any answer: timeouts and broken connections
	Errors       map[string]int `json:"errors"` // what was not answered, by kind, refusals left out

	Checked       int         `json:"scores_checked"` // compared with what is expected
	Wrong         int         `json:"scores_wrong"`
	WrongExamples []string    `json:"wrong_examples,omitempty"`
	Bad           []BadResult `json:"bad_requests,omitempty"`

	curve   []point // latency (ms) by share of answers, for plots
	samples []point // latency (ms) by time (s)
}

// Latency has times in milliseconds, from when a request was due to the end of its answer. All are 0 without answers.
type Latency struct {
	Mean float64 `json:"mean"`
	P50  float64 `json:"p50"`
	P90  float64 `json:"p90"`
	P95  float64 `json:"p95"`
	P99  float64 `json:"p99"`
	P999 float64 `json:"p99.9"`
	Max  float64 `json:"max"`
}

// BadResult is how bad requests of one kind were answered.
type BadResult struct {
	Kind    string         `json:"kind"`
	Must    string         `json:"must"` // be answered with
	Sent    int            `json:"sent"`
	Answers map[string]int `json:"answers"` // statuses, or what happened instead
	Wrong   int            `json:"wrong"`   // not answered as it must be
}

type point struct{ x, y float64 }

const (
	wrongExamplesMax = 5
	samplesMax       = 4000 // for plots
)

// collector makes a Step of results. One goroutine uses it.
type collector struct {
	r        *runner
	step     *Step
	began    time.Time
	due      func(seq uint64) time.Duration // nil in a closed loop
	answered int                            // of anything, for the progress
	good     int                            // within the SLO
	bytes    uint64
	latency  vegeta.LatencyMetrics
	late     vegeta.LatencyMetrics
	bad      map[string]*BadResult
	seen     int // latencies offered to samples
}

func newCollector(r *runner, load Load, began time.Time, due func(uint64) time.Duration) *collector {
	step := &Step{Loop: "closed", Concurrency: load.Concurrency, Seconds: load.Duration.Seconds(), Errors: map[string]int{}}
	step.Name = fmt.Sprintf("%d at a time", load.Concurrency)
	if due != nil {
		step.Loop, step.Arrivals, step.RatePS = "open", r.opt.Arrivals, load.Rate
		step.Name = fmt.Sprintf("%.4g/s %s", load.Rate, r.opt.Arrivals)
	}
	return &collector{r: r, step: step, began: began, due: due, bad: map[string]*BadResult{}}
}

// add counts a result.
func (c *collector) add(res *vegeta.Result) {
	c.answered++
	_, fragment, _ := strings.Cut(res.URL, "#")
	letter, i, err := readFragment(fragment)
	if err != nil {
		c.step.Errors["target: "+res.Error]++ // vegeta could not make the request
		return
	}
	if letter == 'b' {
		c.addBad(&badKinds[i], res)
		return
	}
	due := res.Timestamp.Sub(c.began)
	if c.due != nil {
		due = c.due(res.Seq)
	}
	counted := due >= c.r.opt.Warmup
	whole := c.judge(i, res, counted)
	if !counted {
		return
	}
	c.step.Sent++
	c.bytes += res.BytesOut
	late := res.Timestamp.Sub(c.began) - due
	c.late.Add(max(late, 0))
	if !whole {
		return
	}
	latency := max(late, 0) + res.Latency
	c.step.Answered++
	c.latency.Add(latency)
	if latency <= c.r.opt.SLO {
		c.good++
	}
	c.sample(point{(due - c.r.opt.Warmup).Seconds(), milliseconds(latency)})
}

// judge says whether a result is a whole and right answer to good request i, and counts what it is else. Wrong scores
// count in the warm-up, too.
func (c *collector) judge(i int, res *vegeta.Result, counted bool) (whole bool) {
	n := 0
	if counted {
		n = 1
	}
	switch {
	case res.Code == 0:
		c.step.Lost += n
		c.count(connectionKind(res.Error), n)
		return false
	case res.Code == http.StatusTooManyRequests, res.Code == http.StatusServiceUnavailable:
		if res.Code == http.StatusTooManyRequests {
			c.step.Refused429 += n
		} else {
			c.step.Refused503 += n
		}
		if res.Headers.Get("Retry-After") == "" {
			c.step.NoRetryAfter += n
		}
		return false
	case res.Code != http.StatusOK:
		c.count("status "+strconv.Itoa(int(res.Code)), n)
		return false
	}
	pairs := c.r.pairs[i]
	scores, err := c.r.p.answer(res.Body, len(pairs))
	if err != nil {
		c.count("answer cannot be read", n)
		return false
	}
	if scores.failed() > 0 {
		c.count("scores are missing", n)
		return false
	}
	checked, wrong := c.r.expected.compare(c.r.w, pairs, scores, c.r.opt.Tolerance)
	c.step.Checked += checked
	c.step.Wrong += len(wrong)
	c.step.WrongExamples = append(c.step.WrongExamples, wrong[:min(len(wrong), wrongExamplesMax-len(c.step.WrongExamples))]...)
	if len(wrong) > 0 {
		c.count("scores are wrong", n)
	}
	return len(wrong) == 0
}

func (c *collector) count(kind string, n int) {
	if n > 0 {
		c.step.Errors[kind] += n
	}
}

// addBad counts the answer to a bad request.
func (c *collector) addBad(kind *badKind, res *vegeta.Result) {
	b := c.bad[kind.name]
	if b == nil {
		b = &BadResult{Kind: kind.name, Must: kind.must(), Answers: map[string]int{}}
		c.bad[kind.name] = b
	}
	b.Sent++
	what, right := strconv.Itoa(int(res.Code)), slices.Contains(kind.statuses, int(res.Code))
	switch {
	case res.Code == 0:
		what = connectionKind(res.Error)
		right = kind.closed && what == kindClosed
	case res.Code == http.StatusTooManyRequests, res.Code == http.StatusServiceUnavailable:
		right = true // a server may refuse what it has no time to look at
	case res.Code == http.StatusOK && kind.failed:
		scores, err := c.r.p.answer(res.Body, 1)
		if right = err == nil && scores.failed() == len(scores); !right {
			what = "200 with a score"
		}
	}
	b.Answers[what]++
	if !right {
		b.Wrong++
	}
}

// sample keeps a latency for the plots: all of the first, then a random choice of all.
func (c *collector) sample(p point) {
	c.seen++
	if len(c.step.samples) < samplesMax {
		c.step.samples = append(c.step.samples, p)
	} else if i := mix(c.r.opt.Seed, uint64(c.seen)) % uint64(c.seen); i < samplesMax {
		c.step.samples[i] = p
	}
}

// finish computes the figures of the step.
func (c *collector) finish() *Step {
	s := c.step
	seconds := s.Seconds
	s.AnswersPS = round(float64(s.Answered) / seconds)
	s.ItemsPS = round(float64(s.Answered*c.r.opt.Items) / seconds)
	s.GoodputPS = round(float64(c.good) / seconds)
	s.MegabytesPS = round(float64(c.bytes) / 1e6 / seconds)
	if s.Sent > 0 {
		s.GoodShare = round(float64(c.good) / float64(s.Sent))
		s.LateMS = milliseconds(c.late.Quantile(0.99))
	}
	if c.due == nil {
		s.LateMS = 0
	}
	if s.Answered > 0 {
		l := &c.latency
		s.Latency = Latency{
			Mean: milliseconds(l.Total / time.Duration(s.Answered)), P50: milliseconds(l.Quantile(0.5)), P90: milliseconds(l.Quantile(0.9)),
			P95: milliseconds(l.Quantile(0.95)), P99: milliseconds(l.Quantile(0.99)), P999: milliseconds(l.Quantile(0.999)), Max: milliseconds(l.Max),
		}
		s.curve = curve(l, s.Answered)
	}
	for _, kind := range badKinds {
		if b := c.bad[kind.name]; b != nil {
			s.Bad = append(s.Bad, *b)
		}
	}
	return s
}

// curve returns the latency at shares of the answers that lie ever closer to all of them, as HDR histograms are drawn: x
// is the number of nines of the share.
func curve(l *vegeta.LatencyMetrics, n int) []point {
	var points []point
	for x := 0.0; x <= math.Log10(float64(n)); x += 1.0 / 16 {
		points = append(points, point{x, milliseconds(l.Quantile(1 - math.Pow(10, -x)))})
	}
	return append(points, point{math.Log10(float64(n)), milliseconds(l.Max)})
}

// Kinds of connections that failed.
const (
	kindTimeout = "timeout"
	kindClosed  = "connection closed"
	kindRefused = "connection refused"
)

// connectionKinds tell what became of a connection by the text of its error, which is all that vegeta keeps.
var connectionKinds = []struct{ text, kind string }{
	{"Client.Timeout", kindTimeout}, {"deadline exceeded", kindTimeout}, {"i/o timeout", kindTimeout},
	{"connection refused", kindRefused},
	{"connection reset", kindClosed}, {"broken pipe", kindClosed}, {"EOF", kindClosed}, {"server closed", kindClosed}, {"use of closed", kindClosed},
	{"context canceled", "interrupted"}, {"no such host", "no such host"}, {"certificate", "certificate"}, {"too many open files", "too many open files"},
}

func connectionKind(text string) string {
	for _, k := range connectionKinds {
		if strings.Contains(text, k.text) {
			return k.kind
		}
	}
	return text
}

func milliseconds(d time.Duration) float64 { return round(float64(d) / float64(time.Millisecond)) }

// round keeps five digits, which is more than a measurement has.
func round(x float64) float64 {
	v, err := strconv.ParseFloat(strconv.FormatFloat(x, 'g', 5, 64), 64)
	if err != nil {
		return x
	}
	return v
}

// errorsLine describes what went wrong, for a table.
func (s *Step) errorsLine() string {
	var parts []string
	for _, kind := range slices.Sorted(maps.Keys(s.Errors)) {
		parts = append(parts, fmt.Sprintf("%d %s", s.Errors[kind], kind))
	}
	return strings.Join(parts, ", ")
}

// post sends one request outside of a step.
func post(ctx context.Context, client *http.Client, url string, header http.Header, body []byte) (status int, answer []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	req.Header = header
	resp, err := client.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	answer, err = io.ReadAll(resp.Body)
	return resp.StatusCode, answer, err
}
