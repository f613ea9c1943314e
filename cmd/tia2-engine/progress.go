package main

import (
	"io"
	"os"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// progressDelay is how long work may take before a bar is shown.
const progressDelay = 2 * time.Second

// progress shows bars with items/s and the time left on a terminal, for work that takes longer than progressDelay.
// Anywhere else it does nothing. Its methods may be called from any goroutine.
type progress struct {
	w     io.Writer // nil: not a terminal
	bytes bool      // counts are bytes
	eager bool      // bars are shown at once: whoever reports does so before long work, not during it

	mu    sync.Mutex
	stage string
	bar   *progressbar.ProgressBar
}

func (con *console) progress() *progress {
	p := &progress{}
	if f, ok := con.err.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		p.w = f
	}
	return p
}

// set is told the state of a stage; total < 0 is unknown. A new stage, or a count that went back, begins a new bar.
func (p *progress) set(stage string, done, total int64) {
	if p.w == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bar == nil || p.stage != stage || done < p.bar.State().CurrentNum {
		p.clear()
		p.stage = stage
		p.bar = p.newBar(stage, total)
	}
	_ = p.bar.Set64(done) // a terminal that cannot be written to is no reason to stop the work
}

func (p *progress) newBar(stage string, total int64) *progressbar.ProgressBar {
	options := []progressbar.Option{progressbar.OptionSetDescription(stage), progressbar.OptionShowCount(),
		progressbar.OptionSetWidth(24), progressbar.OptionClearOnFinish()}
	if p.eager { // without speed and time left, which one report does not tell
		bar := progressbar.NewOptions64(total, append(options, progressbar.OptionSetWriter(p.w),
			progressbar.OptionSetPredictTime(false), progressbar.OptionSetElapsedTime(false))...)
		_ = bar.RenderBlank()
		return bar
	}
	return progressbar.NewOptions64(total, append(options,
		progressbar.OptionSetWriter(&delayed{w: p.w, from: time.Now().Add(progressDelay)}),
		progressbar.OptionShowIts(), progressbar.OptionShowBytes(p.bytes), progressbar.OptionSetPredictTime(true),
		progressbar.OptionSetElapsedTime(true), progressbar.OptionThrottle(100*time.Millisecond))...)
}

// items is told of everything that the engine does. Its downloads and conversions are counted in KiB.
func (p *progress) items(stage string, done, total int) {
	if p.bytes = stage == "download" || stage == "convert"; p.bytes {
		p.set(stage, int64(done)<<10, int64(total)<<10)
		return
	}
	p.set(stage, int64(done), int64(total))
}

// loading shows what the engine does until a model is open, and nothing of its work.
func (p *progress) loading(stage string, done, total int) {
	if stage == "download" || stage == "convert" {
		p.items(stage, done, total)
	}
}

// done removes the bar.
func (p *progress) done() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clear()
}

func (p *progress) clear() {
	if p.bar != nil {
		_ = p.bar.Clear()
		p.bar = nil
	}
}

// delayed swallows what is written before a moment.
type delayed struct {
	w    io.Writer
	from time.Time
}

func (d *delayed) Write(b []byte) (int, error) {
	if time.Now().Before(d.from) {
		return len(b), nil
	}
	return d.w.Write(b)
}
