package engine

import (
	"context"
	"fmt"
	"os"
	"sync"
	"sync/atomic"

	"github.com/tia2-engine/tia2-engine/cgo"
)

// Kinds of errors, for errors.Is.
var (
	ErrInvalid = cgo.ErrInvalid // an argument is out of its documented range
	ErrModel   = cgo.ErrModel   // the model is damaged, incomplete or of an unknown kind
	ErrMemory  = cgo.ErrMemory  // host or device memory ran out
	ErrBackend = cgo.ErrBackend // no such backend or device, or it failed while computing
	ErrImage   = cgo.ErrImage   // the picture is damaged, of an unknown format or over a limit
	ErrClosed  = cgo.ErrClosed  // a method was called after Close
)

// kindError is an error that errors.Is finds to be of a kind, whose text it leaves out.
type kindError struct {
	error
	kind error
}

func (e kindError) Unwrap() error { return e.kind }

// ofKind formats an error of one of the kinds above.
func ofKind(kind error, format string, args ...any) error {
	return kindError{fmt.Errorf(format, args...), kind}
}

// Model is an open reward model with its tokenizer and preprocessing, or an aesthetic head. Its methods may be called from
// any number of goroutines; calls of all models of a device queue for it, batch by batch.
type Model struct {
	opt        Options
	info       Info
	native     *cgo.Model // nil for an aesthetic head
	exec       *executor  // nil likewise
	texts      textReader
	preprocess Preprocess
	head       *aestheticHead // nil for all others
	cached     embeddingCache
	tempDir    string // what CacheOff put on disk; "" otherwise
	closing    sync.Once
	closed     atomic.Bool
}

// Info describes the model. It stays valid after Close.
func (m *Model) Info() Info { return m.info }

// Close frees the model, and writes what the embedding cache has in memory only. It waits for a batch that is being
// computed; later calls return ErrClosed. Closing twice is fine.
func (m *Model) Close() error {
	var err error
	m.closing.Do(func() {
		m.closed.Store(true)
		m.cached.close()
		if m.native != nil {
			err = m.exec.do(context.Background(), m.native.Close)
		}
		m.removeTemp()
	})
	return err
}

func (m *Model) removeTemp() {
	if m.tempDir != "" {
		_ = os.RemoveAll(m.tempDir) // a leftover in the temporary folder is no reason to fail
	}
}

// SetProfile turns the timing of single ops on, forgetting earlier samples, or off. While it is on the model computes
// op by op, which is slower.
func (m *Model) SetProfile(on bool) {
	if m.native != nil {
		m.native.SetProfile(on)
	}
}

// Profile returns the samples since profiling was turned on, in order of first run.
func (m *Model) Profile() []OpSample {
	if m.native == nil {
		return nil
	}
	native := m.native.Profile()
	samples := make([]OpSample, len(native))
	for i, s := range native {
		samples[i] = OpSample(s)
	}
	return samples
}
