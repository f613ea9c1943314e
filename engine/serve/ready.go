package serve

import (
	"bytes"
	"context"
	"crypto/sha256"
	"image"
	"image/color"
	"image/png"
	"math"
	"sync"
	"time"
)

// firstProbe is how long the first probe may take: it reads and packs the weights of all models.
const firstProbe = 10 * time.Minute

// An answer, to a request or a probe, shows for fresh that the worker is well, or for so long that probes take no more
// than a twentieth of its time, but not longer than freshMost.
const (
	fresh     = 5 * time.Second
	freshMost = time.Minute
)

// health is what is known of the current worker.
type health struct {
	last  time.Time     // when it last answered
	err   error         // why the last probe failed; nil since the last answer
	probe chan struct{} // closed at the end of the probe that runs; nil where none does
	took  time.Duration // by the last probe that was answered
}

// fresh tells whether the last answer is recent enough.
func (h *health) fresh() bool { return time.Since(h.last) < min(max(fresh, 20*h.took), freshMost) }

// answer notes that the worker has computed something.
func (h *health) answer(now time.Time) { h.last, h.err = now, nil }

// Ready returns nil while the worker answers: if it has computed something in the last seconds, or else if it computes
// all rewards of a small picture and text, which pass the queue before all others, within Options.ProbeTimeout. After it
// has failed, Ready is ErrNotReady at once until the worker answers again; each call has it tried.
func (s *Server) Ready(ctx context.Context) error {
	s.mu.Lock()
	if s.draining {
		s.mu.Unlock()
		return errDraining()
	}
	if h := &s.health; h.err != nil || h.fresh() {
		defer s.mu.Unlock()
		if h.err != nil {
			s.startProbe()
		}
		return h.err
	}
	ended := s.startProbe()
	s.mu.Unlock()
	select {
	case <-ended:
	case <-ctx.Done():
		return ofKind(ErrNotReady, "the worker has not answered a probe yet")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.health.err
}

// startProbe starts a probe of the current worker, if none runs, and returns what is closed at its end.
func (s *Server) startProbe() <-chan struct{} {
	if s.health.probe != nil {
		return s.health.probe
	}
	ended, w := make(chan struct{}), s.worker
	s.health.probe = ended
	bound := s.opt.ProbeTimeout + max(0, time.Until(w.busy))
	if s.health.last.IsZero() {
		bound = max(bound, firstProbe)
	}
	s.workers.Go(func() {
		ctx, cancel := context.WithTimeout(s.closing, bound)
		defer cancel()
		began := time.Now()
		err := w.probe(ctx)
		if err != nil {
			s.opt.Logger.Error("a probe failed", "error", err)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if err != nil && s.worker == w {
			s.health.err = ofKind(ErrNotReady, "the worker does not answer a probe: %s", forPeople(err))
		}
		if err == nil {
			s.health.took = time.Since(began)
		}
		s.health.probe = nil
		close(ended)
	})
	return ended
}

// probe has w compute all its rewards of a small picture and text, before all else.
func (w *worker) probe(ctx context.Context) error {
	r := &request{kind: "probe", urgent: true, ctx: ctx, cancel: func() {}, arrive: func() {}, done: make(chan struct{})}
	picture := probePicture()
	err := w.s.submit(r, w, func(w *worker) ([]wish, error) {
		t := w.target(target{kind: pairs, rewards: w.rewards})
		r.scores = rows(len(w.rewards), 1)
		return []wish{{t, []item{{image: sha256.Sum256(picture), data: picture, text: "a probe"}}}}, nil
	})
	if err != nil {
		return err
	}
	if why, failed := r.failed[0]; failed {
		return ofKind(ErrBackend, "it cannot read a picture: %s", why)
	}
	for i, score := range r.scores {
		if s := float64(score[0]); math.IsNaN(s) || math.IsInf(s, 0) {
			return ofKind(ErrBackend, "its %s of a picture is %g", w.rewards[i], s)
		}
	}
	return nil
}

// probePicture returns a PNG of 16 x 16 pixels.
var probePicture = sync.OnceValue(func() []byte {
	img := image.NewNRGBA(image.Rect(0, 0, 16, 16))
	for y := range 16 {
		for x := range 16 {
			img.Set(x, y, color.NRGBA{R: uint8(16 * x), G: uint8(16 * y), B: 128, A: 255})
		}
	}
	var out bytes.Buffer
	if err := png.Encode(&out, img); err != nil {
		panic(err) // memory has no errors
	}
	return out.Bytes()
})

// dropUrgent forgets the groups of a probe that has ended.
func (w *worker) dropUrgent(r *request) {
	kept := w.urgent[:0]
	for _, g := range w.urgent {
		if g.req != r {
			kept = append(kept, g)
		}
	}
	w.urgent = kept
}
