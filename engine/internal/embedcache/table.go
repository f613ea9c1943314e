package embedcache

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// ErrShape says that slices of one call do not fit together.
var ErrShape = errors.New("embedcache: lengths do not fit")

// tableSegmentsMax is how many files of one table are kept open, the newest. Merging keeps a table far below it; a
// folder that cannot be written to may hold more.
const tableSegmentsMax = 256

// Table is the part of a cache that holds the rows of one side of one model. Its methods may be called from several
// goroutines. A nil Table holds nothing and takes nothing.
type Table struct {
	cache    *Cache
	id       tableID
	dim      int
	segments atomic.Pointer[[]*segment] // newest first; replaced under cache.refreshing, never changed

	mu                     sync.Mutex
	pending, sealed, spare *batch // being filled; full, being written; to be filled next (nil while sealed is not)

	hits, misses, stored, dropped atomic.Uint64
}

// batch is rows in memory.
type batch struct {
	keys []Key
	rows []float32
	at   map[Key]int // place in keys
}

func newBatch() *batch { return &batch{at: map[Key]int{}} }

// row returns the row of a key, nil if it is not there.
func (b *batch) row(k Key, dim int) []float32 {
	if b == nil || len(b.keys) == 0 {
		return nil
	}
	i, ok := b.at[k]
	if !ok {
		return nil
	}
	return b.rows[i*dim : (i+1)*dim]
}

func (b *batch) reset() {
	b.keys, b.rows = b.keys[:0], b.rows[:0]
	clear(b.at)
}

// open returns the open segments, newest first.
func (t *Table) open() []*segment { return *t.segments.Load() }

// want is a row to be read.
type want struct {
	segment int
	pos     position
	item    int
}

// scratch is the memory of a Get.
type scratch struct {
	wants         []want
	block, planes []byte
}

var scratches = sync.Pool{New: func() any { return new(scratch) }}

// Get copies the rows of those keys that the cache has to dst, f32 [len(keys), dim], sets hit accordingly, [len(keys)],
// and returns the number of hits. Rows of other keys are left as they are. A segment that turns out to be damaged or has
// been evicted is a miss. In the steady state nothing is allocated. The error is ErrShape or nil.
func (t *Table) Get(keys []Key, dst []float32, hit []bool) (int, error) {
	clear(hit)
	if t == nil {
		return 0, nil
	}
	if len(dst) != len(keys)*t.dim || len(hit) != len(keys) {
		return 0, fmt.Errorf("%w: %d keys, %d values of rows of %d, %d hits", ErrShape, len(keys), len(dst), t.dim, len(hit))
	}
	s := scratches.Get().(*scratch)
	defer scratches.Put(s)
	hits := t.fromMemory(keys, dst, hit)
	for range 3 {
		if hits == len(keys) {
			break
		}
		n, failed := t.fromSegments(keys, dst, hit, s)
		hits += n
		// A segment that was closed meanwhile may live on in a merged one.
		if !failed && (hits == len(keys) || !t.cache.refresh(false)) {
			break
		}
	}
	t.hits.Add(uint64(hits))
	t.misses.Add(uint64(len(keys) - hits))
	return hits, nil
}

// fromMemory copies the rows that are not in a segment yet.
func (t *Table) fromMemory(keys []Key, dst []float32, hit []bool) (hits int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i, k := range keys {
		row := t.pending.row(k, t.dim)
		if row == nil {
			row = t.sealed.row(k, t.dim)
		}
		if row != nil {
			copy(dst[i*t.dim:], row)
			hit[i] = true
			hits++
		}
	}
	return hits
}

// fromSegments copies the rows that are in a segment, each block being read once. It tells whether a segment failed.
func (t *Table) fromSegments(keys []Key, dst []float32, hit []bool, s *scratch) (hits int, failed bool) {
	segments := t.open()
	s.wants = s.wants[:0]
	last := 0 // rows that were stored together are asked for together
	for i, k := range keys {
		for j := 0; j < len(segments) && !hit[i]; j++ {
			at := (last + j) % len(segments)
			if pos, ok := segments[at].find(k); ok {
				s.wants = append(s.wants, want{at, pos, i})
				last = at
				break
			}
		}
	}
	slices.SortFunc(s.wants, func(a, b want) int {
		return cmp.Or(cmp.Compare(a.segment, b.segment), cmp.Compare(a.pos, b.pos))
	})
	wants := s.wants
	for len(wants) > 0 {
		first, n := wants[0], 1
		for n < len(wants) && wants[n].segment == first.segment && wants[n].pos.block() == first.pos.block() {
			n++
		}
		seg := segments[first.segment]
		planes, err := seg.readPlanes(first.pos.block(), &s.block, &s.planes)
		if err != nil {
			t.failed(seg, err)
			failed = true
			for n < len(wants) && wants[n].segment == first.segment {
				n++
			}
		} else {
			t.touch(seg)
			hits += n
			for _, w := range wants[:n] {
				rowOf(dst[w.item*t.dim:(w.item+1)*t.dim], planes, w.pos.slot())
				hit[w.item] = true
			}
		}
		wants = wants[n:]
	}
	return hits, failed
}

// touch gives a segment's file the time of its use, at most every touchEvery.
func (t *Table) touch(s *segment) {
	now, used := t.cache.tune.now(), s.used.Load()
	if now.Unix()-used < int64(t.cache.tune.touchEvery/time.Second) || !s.used.CompareAndSwap(used, now.Unix()) {
		return
	}
	_ = os.Chtimes(filepath.Join(t.cache.dir, s.name), time.Time{}, now) // evicted meanwhile, or a folder only to read
}

// Put takes the rows of keys, f32 [len(keys), dim], and copies them. They can be found at once and are written later:
// when enough are there, after Options.FlushEvery, at Flush and at Close. A key that is there already keeps its row. Put
// never waits for the disk; where rows come faster than it takes them, and once writing is off, they are dropped. The
// error is ErrShape or nil.
func (t *Table) Put(keys []Key, rows []float32) error {
	if t == nil {
		return nil
	}
	if len(rows) != len(keys)*t.dim {
		return fmt.Errorf("%w: %d keys, %d values of rows of %d", ErrShape, len(keys), len(rows), t.dim)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for i, k := range keys {
		if t.pending.row(k, t.dim) != nil || t.sealed.row(k, t.dim) != nil {
			continue
		}
		full := 4*(len(t.pending.rows)+t.dim) > t.cache.opt.FlushBytes && len(t.pending.keys) > 0
		if t.cache.closing.Load() || t.cache.writeOff.Load() || full && t.sealed != nil {
			t.dropped.Add(uint64(len(keys) - i))
			return nil
		}
		if full {
			t.seal()
			t.cache.wakeUp()
		}
		t.pending.at[k] = len(t.pending.keys)
		t.pending.keys = append(t.pending.keys, k)
		t.pending.rows = append(t.pending.rows, rows[i*t.dim:(i+1)*t.dim]...)
		t.stored.Add(1)
	}
	return nil
}

// seal makes the pending rows those to be written. t.mu is held and nothing is sealed.
func (t *Table) seal() {
	next := t.spare
	if next == nil {
		next = newBatch()
	}
	t.sealed, t.pending, t.spare = t.pending, next, nil
}

// flush writes the sealed rows and, if all is wanted, the pending ones. It tells whether there were any. The caller holds
// cache.writing.
func (t *Table) flush(all bool) (wrote bool) {
	for range 2 {
		t.mu.Lock()
		if t.sealed == nil && all && len(t.pending.keys) > 0 {
			t.seal()
		}
		b := t.sealed
		t.mu.Unlock()
		if b == nil {
			return wrote
		}
		if err := t.write(b); err != nil {
			t.cache.writeFailed(err)
		}
		wrote = true
		t.mu.Lock()
		b.reset()
		t.sealed, t.spare = nil, b
		t.mu.Unlock()
	}
	return wrote
}

// write makes a segment of those rows that are in none yet, and opens it.
func (t *Table) write(b *batch) error {
	if t.cache.writeOff.Load() {
		return nil
	}
	t.cache.refresh(true) // another process may have stored the same
	var w *segmentWriter
	for i, k := range b.keys {
		if slices.ContainsFunc(t.open(), func(s *segment) bool { _, ok := s.find(k); return ok }) {
			continue
		}
		if w == nil {
			var err error
			if w, err = newSegmentWriter(filepath.Join(t.cache.dir, newName(t.id, t.cache.tune.now())), t.id, t.dim); err != nil {
				return err
			}
			defer w.abort()
		}
		if err := w.add(k, b.rows[i*t.dim:(i+1)*t.dim]); err != nil {
			return err
		}
	}
	if w == nil {
		return nil
	}
	if err := w.commit(time.Time{}); err != nil {
		return err
	}
	t.cache.refresh(true)
	return nil
}

// adopt makes the table's open segments those of names, which sort by age. It tells whether anything changed. The caller
// holds cache.refreshing.
func (t *Table) adopt(names []string) bool {
	before := map[string]*segment{}
	for _, s := range t.open() {
		before[s.name] = s
	}
	var now []*segment
	changed := false
	for _, name := range slices.Backward(names[max(len(names)-tableSegmentsMax, 0):]) {
		s, found := before[name]
		delete(before, name)
		if !found && !t.cache.bad[name] {
			var err error
			if s, err = openSegment(filepath.Join(t.cache.dir, name), t.id, t.dim); err != nil {
				t.cache.segmentFailed(name, err)
				continue
			}
			changed = true
		}
		if s != nil {
			now = append(now, s)
		}
	}
	t.segments.Store(&now)
	for _, s := range before {
		s.file.Close() // reads under way end first
		changed = true
	}
	return changed
}

// failed drops a segment that could not be read. One that was closed meanwhile has been dropped already.
func (t *Table) failed(s *segment, err error) {
	t.cache.refreshing.Lock()
	defer t.cache.refreshing.Unlock()
	now := slices.Clone(t.open())
	i := slices.Index(now, s)
	if i < 0 {
		return
	}
	now = slices.Delete(now, i, i+1)
	t.segments.Store(&now)
	s.file.Close()
	t.cache.segmentFailed(s.name, err)
}

// segmentFailed removes a damaged segment and reports what is wrong. The caller holds refreshing.
func (c *Cache) segmentFailed(name string, err error) {
	switch {
	case errors.Is(err, errDamaged):
		c.damaged.Add(1)
		c.bad[name] = true // where it cannot be removed
		_ = os.Remove(filepath.Join(c.dir, name))
		c.damageOnce.Do(func() { c.report(fmt.Errorf("%w: what is damaged is removed", err)) })
	case errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESTALE): // evicted meanwhile
	default:
		c.readFailed(err)
	}
}
