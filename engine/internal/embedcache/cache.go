package embedcache

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// Defaults of Options.
const (
	DefaultMaxBytes   = 4 << 30
	DefaultFlushBytes = 4 << 20
	DefaultFlushEvery = 10 * time.Second
)

// dimMax bounds the width of a row, so that a row fits a block and a buffer.
const dimMax = 1 << 20

// Options of a cache. The zero value is a good choice.
type Options struct {
	// MaxBytes bounds the folder; 0: DefaultMaxBytes. While they write, processes may pass it by what each is writing.
	// Processes that share a folder each keep to their own bound.
	MaxBytes int64
	// FlushBytes is how many bytes of rows of a table make a segment; 0: DefaultFlushBytes, at most an eighth of MaxBytes.
	// A table keeps at most twice as many in memory.
	FlushBytes int
	// FlushEvery is how long rows stay in memory only, and so what a kill can lose; 0: DefaultFlushEvery.
	FlushEvery time.Duration
	// Report is told of the first damaged segment, the first error of reading and the error that turned writing off. The
	// cache goes on after each. It is called from any goroutine, one at a time, with locks held: it must not call the
	// cache. May be nil.
	Report func(error)
}

// tuning is what tests change.
type tuning struct {
	now          func() time.Time
	refreshEvery time.Duration // between looks for the segments of other processes
	touchEvery   time.Duration // between updates of a segment's time of use
}

var defaultTuning = tuning{now: time.Now, refreshEvery: time.Second, touchEvery: 5 * time.Minute}

// Cache is a folder of rows. Its methods may be called from several goroutines, and several caches, in one process or in
// many, may share a folder. A nil Cache is one without a folder: its tables are nil.
type Cache struct {
	dir          string
	opt          Options
	tune         tuning
	segmentBytes int64 // merges make no larger segment

	mu     sync.Mutex // of tables
	tables map[tableID]*Table

	refreshing sync.Mutex      // of every change of a table's segments, folderTime, bad, closed
	refreshed  atomic.Int64    // Unix nanoseconds of the last look
	folderTime time.Time       // of the folder when it was last listed; zero: list it again
	bad        map[string]bool // damaged segments
	closed     bool

	writing  sync.Mutex // of flushes and maintenance, taken before the other locks
	writeOff atomic.Bool
	closing  atomic.Bool
	wake     chan struct{}
	stop     chan struct{}
	done     chan struct{}

	reporting                       sync.Mutex // of calls of Options.Report, taken after the other locks
	readOnce, damageOnce, writeOnce sync.Once
	writeErr                        error // set by writeOnce before writeOff

	evicted, damaged atomic.Uint64
}

// Open opens the cache in the folder dir, which it makes if need be. Nothing of it is read yet. Close it.
func Open(dir string, opt Options) (*Cache, error) { return open(dir, opt, defaultTuning) }

func open(dir string, opt Options, tune tuning) (*Cache, error) {
	if opt.MaxBytes < 0 || opt.FlushBytes < 0 || opt.FlushEvery < 0 {
		return nil, errors.New("embedcache: expected sizes and times of at least 0")
	}
	if opt.MaxBytes == 0 {
		opt.MaxBytes = DefaultMaxBytes
	}
	if opt.FlushBytes == 0 {
		opt.FlushBytes = int(min(DefaultFlushBytes, opt.MaxBytes/8))
	}
	if opt.FlushEvery == 0 {
		opt.FlushEvery = DefaultFlushEvery
	}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return nil, err
	}
	c := &Cache{dir: dir, opt: opt, tune: tune, segmentBytes: min(opt.MaxBytes/32, segmentBytesMax),
		tables: map[tableID]*Table{}, bad: map[string]bool{},
		wake: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{})}
	go c.run()
	return c, nil
}

// Table returns the table of rows of width dim that identity describes: everything that a row depends on apart from its
// item (the weights, their type, the device and version of the kernels, normalisation, the side, for pictures the
// preprocessing). The keys of its segments are read now. Equal arguments give the same table. Errors: dim below 1 or
// above 2^20.
func (c *Cache) Table(dim int, identity ...string) (*Table, error) {
	if dim < 1 || dim > dimMax {
		return nil, fmt.Errorf("embedcache: rows of %d values: expected 1 to %d", dim, dimMax)
	}
	if c == nil {
		return nil, nil
	}
	h := NewKeyHasher()
	h.Int32s([]int32{int32(dim)})
	for _, part := range identity {
		h.String(part)
	}
	id := tableID(h.Key())
	c.mu.Lock()
	t := c.tables[id]
	if t == nil {
		t = &Table{cache: c, id: id, dim: dim, pending: newBatch()}
		t.segments.Store(&[]*segment{})
		c.tables[id] = t
	}
	c.mu.Unlock()
	c.refresh(true)
	return t, nil
}

// openTables returns the tables so far.
func (c *Cache) openTables() []*Table {
	c.mu.Lock()
	defer c.mu.Unlock()
	tables := make([]*Table, 0, len(c.tables))
	for _, t := range c.tables {
		tables = append(tables, t)
	}
	return tables
}

// run flushes and maintains until the cache is closed.
func (c *Cache) run() {
	defer close(c.done)
	c.sync(false, true)
	tick := time.NewTicker(c.opt.FlushEvery)
	defer tick.Stop()
	for {
		select {
		case <-c.stop:
			return
		case <-c.wake:
			c.sync(false, false)
		case <-tick.C:
			c.sync(true, false)
		}
	}
}

// wakeUp lets run write sealed rows.
func (c *Cache) wakeUp() {
	select {
	case c.wake <- struct{}{}:
	default: // it was told already
	}
}

// sync writes sealed rows and, if all is wanted, pending ones. It maintains the folder if it wrote, or must.
func (c *Cache) sync(all, must bool) {
	c.writing.Lock()
	defer c.writing.Unlock()
	for _, t := range c.openTables() {
		must = t.flush(all) || must
	}
	if must {
		c.maintain()
	}
}

// Flush writes all rows that are in memory only, and keeps the folder within its bound. The error is the one that turned
// writing off; Report was told of it.
func (c *Cache) Flush() error {
	if c == nil {
		return nil
	}
	c.sync(true, true)
	return c.writeError()
}

// Close flushes and closes the cache, whose tables then hold nothing and take nothing. Closing twice is fine. The error is
// that of Flush.
func (c *Cache) Close() error {
	if c == nil {
		return nil
	}
	if c.closing.CompareAndSwap(false, true) {
		close(c.stop)
		<-c.done
		c.sync(true, true)
		c.refreshing.Lock()
		c.closed = true
		for _, t := range c.openTables() {
			t.adopt(nil)
		}
		c.refreshing.Unlock()
	}
	return c.writeError()
}

// Counts are of rows.
type Counts struct {
	Hits, Misses uint64 // answers of Get
	Stored       uint64 // taken by Put
	Dropped      uint64 // not taken by Put: writing is off or slower than what came
	Entries      uint64 // that Get can find now; twice where two processes stored one at the same time
}

// HitRate returns the share of hits, 0 to 1; 0 where nothing was asked.
func (n Counts) HitRate() float64 {
	if n.Hits == 0 {
		return 0
	}
	return float64(n.Hits) / float64(n.Hits+n.Misses)
}

// Stats are of one process, but for Bytes.
type Stats struct {
	Counts              // of all its tables
	Bytes        int64  // of the folder's files now
	EvictedBytes uint64 // removed to keep the bound
	Damaged      uint64 // damaged segments that were found
}

// Counts returns the table's counts.
func (t *Table) Counts() Counts {
	if t == nil {
		return Counts{}
	}
	n := Counts{Hits: t.hits.Load(), Misses: t.misses.Load(), Stored: t.stored.Load(), Dropped: t.dropped.Load()}
	for _, s := range t.open() {
		n.Entries += uint64(s.len())
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	n.Entries += uint64(len(t.pending.keys))
	if t.sealed != nil {
		n.Entries += uint64(len(t.sealed.keys))
	}
	return n
}

// Stats returns the counts of all tables and the state of the folder. It lists the folder.
func (c *Cache) Stats() Stats {
	if c == nil {
		return Stats{}
	}
	s := Stats{EvictedBytes: c.evicted.Load(), Damaged: c.damaged.Load()}
	for _, t := range c.openTables() {
		n := t.Counts()
		s.Hits += n.Hits
		s.Misses += n.Misses
		s.Stored += n.Stored
		s.Dropped += n.Dropped
		s.Entries += n.Entries
	}
	_, s.Bytes, _ = c.list()
	return s
}

// report tells Options.Report.
func (c *Cache) report(err error) {
	c.reporting.Lock()
	defer c.reporting.Unlock()
	if c.opt.Report != nil {
		c.opt.Report(fmt.Errorf("embedding cache: %w", err))
	}
}

// readFailed reports the first error of reading that is no damage.
func (c *Cache) readFailed(err error) { c.readOnce.Do(func() { c.report(err) }) }

// writeFailed turns writing off.
func (c *Cache) writeFailed(err error) {
	c.writeOnce.Do(func() {
		c.writeErr = err
		c.writeOff.Store(true)
		c.report(fmt.Errorf("nothing more is stored: %w", err))
	})
}

// writeError returns why writing is off.
func (c *Cache) writeError() error {
	if !c.writeOff.Load() {
		return nil
	}
	return c.writeErr
}
