package loadtest

import (
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"time"

	vegeta "github.com/tsenart/vegeta/v12/lib"
)

// Arrivals are how the requests of an open loop follow each other.
type Arrivals string

// The values of Arrivals.
const (
	Constant Arrivals = "constant" // at equal distances
	Poisson  Arrivals = "poisson"  // independent of each other, as the requests of many clients
)

// schedule says when the requests of an open loop are due. It is vegeta's Pacer, whose Pace one goroutine calls, while
// others ask for the times that it gave.
type schedule struct {
	rate  float64        // requests a second
	total time.Duration  // none is due later
	next  func() float64 // the time of the next one in seconds, so that no error of rounding adds up

	mu  sync.Mutex
	due []time.Duration // since the beginning, ascending
}

// newSchedule returns the arrivals of a rate for a time. The same seed gives the same times on every machine.
func newSchedule(arrivals Arrivals, rate float64, total time.Duration, seed uint64) (*schedule, error) {
	if !(rate > 0) || math.IsInf(rate, 0) {
		return nil, fmt.Errorf("rate %g: expected requests a second, above 0", rate)
	}
	s := &schedule{rate: rate, total: total}
	switch arrivals {
	case Constant:
		n := 0
		s.next = func() float64 { n++; return float64(n) / rate }
	case Poisson:
		random, at := rand.New(rand.NewPCG(seed, 0x9e3779b97f4a7c15)), 0.0
		s.next = func() float64 { at += random.ExpFloat64() / rate; return at }
	default:
		return nil, fmt.Errorf("arrivals %q: expected %s or %s", arrivals, Constant, Poisson)
	}
	return s, nil
}

// Pace returns how long to wait for request number hits, and stops after the last that is due in time.
func (s *schedule) Pace(elapsed time.Duration, hits uint64) (wait time.Duration, stop bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for uint64(len(s.due)) <= hits {
		s.due = append(s.due, time.Duration(math.Round(s.next()*float64(time.Second))))
	}
	due := s.due[hits]
	return due - elapsed, due >= s.total
}

// Rate is the part of vegeta's Pacer that its plots ask for.
func (s *schedule) Rate(time.Duration) float64 { return s.rate }

// dueAt returns when request number seq was due.
func (s *schedule) dueAt(seq uint64) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.due[seq]
}

// closed paces a closed loop: the next request is due when a worker is free.
type closed struct{ total time.Duration }

func (c closed) Pace(elapsed time.Duration, _ uint64) (time.Duration, bool) {
	return 0, elapsed >= c.total
}

func (c closed) Rate(time.Duration) float64 { return 0 }

var _, _ vegeta.Pacer = (*schedule)(nil), closed{}

// mix makes a number that looks random of a seed and a counter (SplitMix64): which case a request is does not depend on
// which worker sends it.
func mix(seed, n uint64) uint64 {
	z := seed + (n+1)*0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}
