package loadtest

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	vegeta "github.com/tsenart/vegeta/v12/lib"

	"github.com/tia2-engine/tia2-engine/engine"
)

// Defaults of Options.
const (
	DurationDefault  = 10 * time.Second
	WarmupDefault    = 2 * time.Second
	TimeoutDefault   = 30 * time.Second
	SLODefault       = 500 * time.Millisecond
	ToleranceDefault = 1e-4
)

// inFlightMax bounds the requests of an open loop that are under way. Beyond, requests leave late, which shows in the
// latencies and in Step.LateMS.
const inFlightMax = 4096

// Options say what is sent where. Zero values stand for the defaults.
type Options struct {
	Target   string   // http://HOST:PORT
	Protocol string   // one of Protocols
	Rewards  []string // names; none: all of the server, or its first one where the protocol has one a request
	Key      string   // sent as a bearer token
	TLS      *tls.Config
	Items    int // pictures of a request; 1

	Rates       []float64 // requests a second: a step of an open loop each
	Arrivals    Arrivals  // of open loops; Poisson
	Concurrency []int     // requests under way: a step of a closed loop each; 1, 4, 16 where nothing else is asked for
	FindRate    bool      // search the highest rate whose p99 is within the SLO

	Duration time.Duration // of a step
	Warmup   time.Duration // before it, not counted; < 0: none
	Timeout  time.Duration // of a request
	SLO      time.Duration // service level: what an answer may take
	Seed     uint64        // of the arrivals and of the mixture

	Expected    *Expected // what answers should hold; nil: not known
	Verify      bool      // score each pair alone first, and expect the same of all answers
	Tolerance   float64   // relative difference to an expected score that is none
	BadFraction float64   // of requests that are bad, 0..1

	Progress func(stage string, done, total int) // requests answered; total < 0: not known; may be nil
}

func (o Options) withDefaults() Options {
	setDefault(&o.Protocol, Protocols[0])
	setDefault(&o.Items, 1)
	setDefault(&o.Arrivals, Poisson)
	setDefault(&o.Duration, DurationDefault)
	setDefault(&o.Warmup, WarmupDefault)
	o.Warmup = max(o.Warmup, 0)
	setDefault(&o.Timeout, TimeoutDefault)
	setDefault(&o.SLO, SLODefault)
	setDefault(&o.Tolerance, ToleranceDefault)
	if len(o.Rates) == 0 && len(o.Concurrency) == 0 && !o.FindRate {
		o.Concurrency = []int{1, 4, 16}
	}
	if o.Progress == nil {
		o.Progress = func(string, int, int) {}
	}
	return o
}

func setDefault[T comparable](v *T, value T) {
	var zero T
	if *v == zero {
		*v = value
	}
}

// Check returns an error that names the first option that makes no sense. Run calls it.
func (o Options) Check() error {
	o = o.withDefaults()
	u, err := url.Parse(o.Target)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return fmt.Errorf("target %q: expected http://HOST:PORT or https://HOST:PORT", o.Target)
	}
	if o.Items < 1 || o.Duration < 0 || o.Timeout < 0 || o.SLO < 0 || o.Tolerance < 0 {
		return errors.New("expected at least one item a request, and no negative duration, timeout, SLO or tolerance")
	}
	if !(o.BadFraction >= 0 && o.BadFraction <= 1) {
		return fmt.Errorf("bad fraction %g: expected 0 to 1", o.BadFraction)
	}
	for _, n := range o.Concurrency {
		if n < 1 || n > inFlightMax {
			return fmt.Errorf("concurrency %d: expected 1 to %d", n, inFlightMax)
		}
	}
	for _, rate := range o.Rates {
		if _, err := newSchedule(o.Arrivals, rate, 0, 0); err != nil {
			return err
		}
	}
	if _, err := newSchedule(o.Arrivals, 1, 0, 0); err != nil {
		return err
	}
	_, err = newProtocol(o.Protocol, o.Rewards)
	return err
}

// Load is the load of one step.
type Load struct {
	Rate        float64       // requests a second of an open loop; 0: a closed one
	Concurrency int           // of a closed loop
	Duration    time.Duration // 0: that of the options
}

// runner is what the steps of a run share.
type runner struct {
	opt      Options
	w        *Workload
	p        protocol
	base     *url.URL
	requests []request
	pairs    [][]engine.Pair // of each request
	expected *Expected
	bad      *badMaker
	sent     atomic.Uint64
}

// Run puts the target under the loads that opt asks for, one after another. What is finished is returned with the error
// that ended it.
func Run(ctx context.Context, w *Workload, opt Options) (*Report, error) {
	opt = opt.withDefaults()
	if err := opt.Check(); err != nil {
		return nil, err
	}
	r, err := newRunner(w, opt)
	if err != nil {
		return nil, err
	}
	report := newReport(r)
	if opt.Verify {
		if err := r.verify(ctx); err != nil {
			return nil, err
		}
	}
	for _, n := range opt.Concurrency {
		if err := report.add(r.step(ctx, Load{Concurrency: n})); err != nil {
			return report, err
		}
	}
	for _, rate := range opt.Rates {
		if opt.FindRate {
			break // it is where the search begins
		}
		if err := report.add(r.step(ctx, Load{Rate: rate})); err != nil {
			return report, err
		}
	}
	if opt.FindRate {
		err = r.findRate(ctx, report)
	}
	return report, err
}

func newRunner(w *Workload, opt Options) (*runner, error) {
	p, err := newProtocol(opt.Protocol, opt.Rewards)
	if err != nil {
		return nil, err
	}
	base, err := url.Parse(strings.TrimSuffix(opt.Target, "/"))
	if err != nil {
		return nil, err
	}
	r := &runner{opt: opt, w: w, p: p, base: base, pairs: w.requests(opt.Items), expected: opt.Expected}
	if r.expected != nil {
		if opt.Verify {
			return nil, errors.New("expected scores are given and to be computed: expected one of both")
		}
		if err := r.expected.check(w, opt.Rewards); err != nil {
			return nil, err
		}
	}
	total := 0
	for _, pairs := range r.pairs {
		q := pairsOf(p, w, pairs)
		if total += len(q.body); total > 2*bytesMax {
			return nil, fmt.Errorf("the requests have more than %d MiB, which are held in memory: expected fewer pictures or smaller ones", 2*bytesMax>>20)
		}
		r.requests = append(r.requests, q)
	}
	r.bad = &badMaker{p, w.Images[0].Data, w.Texts[0]}
	return r, nil
}

// target is vegeta's Targeter: the next request.
func (r *runner) target(t *vegeta.Target) error {
	n := r.sent.Add(1) - 1
	q, fragment := request{}, ""
	if float64(mix(r.opt.Seed, n)>>11)/(1<<53) < r.opt.BadFraction {
		kind := int(mix(r.opt.Seed+1, n) % uint64(len(badKinds)))
		q, fragment = badKinds[kind].make(r.bad, n), badFragment(kind)
	} else {
		i := int(n % uint64(len(r.requests)))
		q, fragment = r.requests[i], goodFragment(i)
	}
	*t = vegeta.Target{Method: http.MethodPost, URL: r.base.String() + q.path + fragment, Body: q.body, Header: r.header(q)}
	return nil
}

func (r *runner) header(q request) http.Header {
	h := http.Header{"Content-Type": {q.contentType}}
	if r.opt.Key != "" {
		h.Set("Authorization", "Bearer "+r.opt.Key)
	}
	return h
}

// badKindOf returns the kind of a target that is a bad request, else nil.
func badKindOf(u *url.URL) *badKind {
	if letter, i, err := readFragment(u.Fragment); err == nil && letter == 'b' && i < len(badKinds) {
		return &badKinds[i]
	}
	return nil
}

// step puts the target under one load.
func (r *runner) step(ctx context.Context, load Load) (*Step, error) {
	setDefault(&load.Duration, r.opt.Duration)
	total := r.opt.Warmup + load.Duration
	var pacer vegeta.Pacer = closed{total}
	workers, workersMax := load.Concurrency, load.Concurrency
	var due func(seq uint64) time.Duration
	expected := -1
	if load.Rate > 0 {
		s, err := newSchedule(r.opt.Arrivals, load.Rate, total, r.opt.Seed)
		if err != nil {
			return nil, err
		}
		pacer, due, workers, workersMax = s, s.dueAt, 16, inFlightMax
		expected = int(math.Round(load.Rate * total.Seconds()))
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	client := &http.Client{
		Transport: newTransport(ctx, r.opt, badKindOf), Timeout: r.opt.Timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	attacker := vegeta.NewAttacker(vegeta.Client(client), vegeta.Workers(uint64(workers)), vegeta.MaxWorkers(uint64(workersMax)))
	defer context.AfterFunc(ctx, func() { attacker.Stop() })()
	c := newCollector(r, load, time.Now(), due)
	for result := range attacker.Attack(r.target, pacer, 0, "") {
		c.add(result)
		if expected >= 0 {
			expected = max(expected, c.answered) // of a Poisson process, which may have more
		}
		r.opt.Progress(c.step.Name, c.answered, expected)
	}
	client.CloseIdleConnections()
	return c.finish(), ctx.Err()
}

// verify scores each pair alone, one after another, and expects these scores from then on.
func (r *runner) verify(ctx context.Context) error {
	r.expected = &Expected{map[imageText]map[string]float64{}, "the first pass"}
	client := &http.Client{Transport: newTransport(ctx, r.opt, badKindOf), Timeout: r.opt.Timeout}
	defer client.CloseIdleConnections()
	for i, pair := range r.w.Pairs {
		q := pairsOf(r.p, r.w, []engine.Pair{pair})
		scores, err := r.ask(ctx, client, q, 1)
		if err != nil {
			return fmt.Errorf("first pass, %s with %.60q: %w", r.w.Images[pair.Image].Name, r.w.Texts[pair.Text], err)
		}
		for reward, values := range scores {
			r.expected.put(r.w.Images[pair.Image].Name, r.w.Texts[pair.Text], reward, values[0])
		}
		r.opt.Progress("first pass", i+1, len(r.w.Pairs))
	}
	return nil
}

// ask sends one request and returns its scores. It waits when the server has too much to do.
func (r *runner) ask(ctx context.Context, client *http.Client, q request, n int) (answer, error) {
	for tries := 0; ; tries++ {
		status, body, err := post(ctx, client, r.base.String()+q.path, r.header(q), q.body)
		busy := status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable
		switch {
		case err != nil:
			return nil, err
		case busy && tries < 10:
			select {
			case <-time.After(time.Second):
			case <-ctx.Done():
				return nil, ctx.Err()
			}
			continue
		case status != http.StatusOK:
			return nil, fmt.Errorf("status %d: %.200s", status, body)
		}
		scores, err := r.p.answer(body, n)
		if err == nil && scores.failed() > 0 {
			err = errors.New("the picture has no score")
		}
		return scores, err
	}
}
