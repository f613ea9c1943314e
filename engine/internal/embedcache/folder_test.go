package embedcache

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/gofrs/flock"
)

// fill stores keys [first, first+n) as one segment.
func fill(t testing.TB, c *Cache, table *Table, first, n int) {
	t.Helper()
	keys := keysFor(first, n)
	mustPut(t, table, keys, rowsFor(keys, table.dim))
	mustFlush(t, c)
}

func TestEvictionKeepsTheBound(t *testing.T) {
	const bound = 300_000
	dir := t.TempDir()
	c := mustOpen(t, dir, Options{MaxBytes: bound})
	table := mustTable(t, c, 128)
	for i := range 30 {
		fill(t, c, table, i*50, 50) // 27 KB
		if n := folderBytes(t, dir); n > bound {
			t.Fatalf("%d bytes after %d segments: the bound is %d", n, i+1, bound)
		}
	}
	s := c.Stats()
	if s.Bytes < bound/2 || s.EvictedBytes == 0 || s.Bytes != folderBytes(t, dir) {
		t.Errorf("%+v: want more than half of %d used", s, bound)
	}
	mustFind(t, table, keysFor(29*50, 50), 50)
	mustFind(t, table, keysFor(0, 50), 0)
	if got := found(t, table, keysFor(0, 1500)); uint64(got) != s.Entries {
		t.Errorf("%d found, %d entries", got, s.Entries)
	}
}

// A smaller bound than the folder has takes effect when the cache is opened, for every table and version of the format.
func TestSmallerBound(t *testing.T) {
	dir := t.TempDir()
	c := mustOpen(t, dir, Options{})
	for i := range 5 {
		fill(t, c, mustTable(t, c, 128, fmt.Sprint(i)), i*50, 50)
	}
	c.Close()
	future := filepath.Join(dir, newName(tableID{}, time.Now())+"7")
	if err := os.WriteFile(future, make([]byte, 100_000), 0o666); err != nil {
		t.Fatal(err)
	}
	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(future, old, old); err != nil {
		t.Fatal(err)
	}
	c = mustOpen(t, dir, Options{MaxBytes: 60_000})
	for deadline := time.Now().Add(20 * time.Second); folderBytes(t, dir) > 60_000; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d bytes", folderBytes(t, dir))
		}
	}
	if _, err := os.Stat(future); err == nil {
		t.Error("a file of another version, the oldest, is still there")
	}
	if s := c.Stats(); s.Damaged != 0 {
		t.Errorf("%+v", s)
	}
	mustFind(t, mustTable(t, c, 128, "4"), keysFor(200, 50), 50)
}

// What was used lately stays, what was only stored later goes.
func TestEvictsLeastRecentlyUsed(t *testing.T) {
	dir := t.TempDir()
	c := mustOpen(t, dir, Options{MaxBytes: 120_000, FlushBytes: 1 << 20}) // four segments
	table := mustTable(t, c, 128)
	for i := range 3 {
		fill(t, c, table, i*50, 50)
	}
	for i, f := range segmentFiles(t, dir) {
		old := time.Now().Add(time.Duration(i-10) * time.Hour)
		if err := os.Chtimes(f, old, old); err != nil {
			t.Fatal(err)
		}
	}
	for _, s := range table.open() {
		s.used.Store(0)
	}
	mustFind(t, table, keysFor(10, 1), 1)
	fill(t, c, table, 150, 50)
	fill(t, c, table, 200, 50)
	for i, want := range []int{50, 0, 50, 50, 50} {
		mustFind(t, table, keysFor(i*50, 50), want)
	}
}

// A use is noted in the file at most every touchEvery.
func TestTouchIsRare(t *testing.T) {
	dir := t.TempDir()
	var mu sync.Mutex
	now := time.Now()
	advance := func(d time.Duration) { mu.Lock(); now = now.Add(d); mu.Unlock() }
	clock := func() time.Time { mu.Lock(); defer mu.Unlock(); return now }
	c, err := open(dir, Options{}, tuning{now: clock, touchEvery: 5 * time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	settle(c)
	table := mustTable(t, c, 8)
	fill(t, c, table, 0, 10)
	file := segmentFiles(t, dir)[0]
	written := clock()
	for _, tt := range []struct {
		after time.Duration
		want  time.Time
	}{
		{time.Minute, written},
		{3 * time.Minute, written},
		{2 * time.Minute, written.Add(6 * time.Minute)},
		{time.Minute, written.Add(6 * time.Minute)},
	} {
		advance(tt.after)
		mustFind(t, table, keysFor(0, 10), 10)
		info, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		if d := info.ModTime().Sub(tt.want).Abs(); d > 5*time.Second {
			t.Errorf("the file's time is %v from %v", d, tt.want)
		}
	}
}

func TestMerge(t *testing.T) {
	const dim, n = 64, 1000
	dir := t.TempDir()
	c := mustOpen(t, dir, Options{})
	table := mustTable(t, c, dim)
	for i := range n / 10 { // small segments with small blocks
		fill(t, c, table, i*10, 10)
	}
	files := segmentFiles(t, dir)
	if len(files) >= mergeFan+8 {
		t.Errorf("%d segments", len(files))
	}
	mustFind(t, table, keysFor(0, n+5), n)
	blocks := 0
	for _, s := range table.open() {
		blocks += len(s.blocks)
	}
	if full := n / blockRows(dim); blocks > full+len(files)+1 {
		t.Errorf("%d blocks for %d rows in %d segments: want full blocks of %d", blocks, n, len(files), blockRows(dim))
	}
	c.Close()
	c = mustOpen(t, dir, Options{})
	mustFind(t, mustTable(t, c, dim), keysFor(0, n), n)
}

func TestMergeable(t *testing.T) {
	for _, tt := range []struct {
		sizes []int64 // newest first
		want  []int64 // oldest first
	}{
		{nil, nil},
		{[]int64{1, 2, 3}, nil},
		{[]int64{1, 2, 3, 4}, []int64{4, 3, 2, 1}},
		{[]int64{1, 2, 3, 4, 5, 6}, []int64{6, 5, 4, 3, 2, 1}},
		{[]int64{1, 2, 3, 70_000}, nil},                                                            // of two tiers
		{[]int64{1, 2, 70_000, 200_000, 3, 4}, []int64{4, 3, 2, 1}},                                // the larger ones wait
		{[]int64{260_000, 260_000, 260_000, 260_000}, nil},                                         // large enough
		{[]int64{250_000, 249_999, 249_998, 249_997}, []int64{249_997, 249_998, 249_999, 250_000}}, // just not
		{[]int64{250_000, 250_000, 250_000, 250_000, 249_999}, []int64{249_999, 250_000, 250_000, 250_000}},
	} {
		var segments []*segment
		for i, size := range tt.sizes {
			segments = append(segments, &segment{name: string(rune('z' - i)), size: size})
		}
		sources, total := mergeable(segments, 1_000_000)
		var got []int64
		var sum int64
		for _, s := range sources {
			got = append(got, s.size)
			sum += s.size
		}
		if !slices.Equal(got, tt.want) || sum != total {
			t.Errorf("%d: %d of %d bytes, want %d", tt.sizes, got, total, tt.want)
		}
	}
}

// A merge keeps each row once, whole blocks as they are, and the time of the last use.
func TestMergeDuplicates(t *testing.T) {
	const dim = 256
	full := blockRows(dim)
	dir := t.TempDir()
	c := mustOpen(t, dir, Options{})
	table := mustTable(t, c, dim)
	last := time.Now().Add(-time.Hour).Truncate(time.Second)
	for i := range mergeFan {
		w, err := newSegmentWriter(filepath.Join(dir, newName(table.id, time.Now())), table.id, dim)
		if err != nil {
			t.Fatal(err)
		}
		keys := keysFor(i*full/2, 2*full+3) // half of each is in the one before
		rows := rowsFor(keys, dim)
		for j, k := range keys {
			if err := w.add(k, rows[j*dim:(j+1)*dim]); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.commit(last.Add(time.Duration(-i) * time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	mustFlush(t, c)
	files := segmentFiles(t, dir)
	if len(files) != 1 {
		t.Fatalf("%q: want one", files)
	}
	info, err := os.Stat(files[0])
	if err != nil || !info.ModTime().Equal(last) {
		t.Errorf("last used %v, want %v (%v)", info.ModTime(), last, err)
	}
	n := (mergeFan-1)*full/2 + 2*full + 3
	if s := table.Counts(); s.Entries != uint64(n) {
		t.Errorf("%d entries, want %d", s.Entries, n)
	}
	if s := table.open()[0]; len(s.blocks) != (n+full-1)/full {
		t.Errorf("%d blocks for %d rows of %d a block", len(s.blocks), n, full)
	}
	mustFind(t, table, keysFor(0, n), n)
}

// Whoever reads during a merge, in this process or in another, misses nothing.
func TestGetDuringMerge(t *testing.T) {
	dir := t.TempDir()
	a, b := mustOpen(t, dir, Options{}), mustOpen(t, dir, Options{})
	ta, tb := mustTable(t, a, 32), mustTable(t, b, 32)
	fill(t, a, ta, 0, 40)
	mustFind(t, tb, keysFor(0, 40), 40)
	stop := make(chan struct{})
	var group sync.WaitGroup
	for _, table := range []*Table{ta, tb} {
		group.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if n := found(t, table, keysFor(0, 40)); n != 40 && table == ta {
					t.Errorf("%d of 40 keys found", n)
				}
			}
		})
	}
	for i := range 60 {
		fill(t, a, ta, 100+i*20, 20)
	}
	close(stop)
	group.Wait()
	if n := len(segmentFiles(t, dir)); n > 12 {
		t.Errorf("%d segments: nothing was merged", n)
	}
}

// A long merge does not delay Close, and leaves nothing.
func TestMergeStops(t *testing.T) {
	dir := t.TempDir()
	c := mustOpen(t, dir, Options{})
	table := mustTable(t, c, 32)
	for i := range mergeFan - 1 {
		fill(t, c, table, i*10, 10)
	}
	calls := 0
	stop := func() bool { calls++; return calls > 2 }
	if done, err := table.merge(table.open(), stop); done || err != nil || calls != 3 {
		t.Errorf("%v, %v after %d questions", done, err, calls)
	}
	if n := len(segmentFiles(t, dir)); n != mergeFan-1 {
		t.Errorf("%d files", n)
	}
	mustFind(t, table, keysFor(0, 30), 30)
}

// A damaged source ends the merge; the next one does without it.
func TestMergeOfDamaged(t *testing.T) {
	dir := t.TempDir()
	c := mustOpen(t, dir, Options{})
	table := mustTable(t, c, 32)
	for i := range mergeFan - 1 {
		fill(t, c, table, i*10, 10)
	}
	file := segmentFiles(t, dir)[1]
	flip(t, file, 20)
	fill(t, c, table, 100, 10)
	fill(t, c, table, 110, 10)
	if n := len(segmentFiles(t, dir)); n != 1 {
		t.Errorf("%d segments: want one", n)
	}
	mustFind(t, table, keysFor(0, 30), 20)
	mustFind(t, table, keysFor(100, 20), 20)
	if s := c.Stats(); s.Damaged != 1 {
		t.Errorf("%+v", s)
	}
}

// lockFolder does as if another process maintained the folder.
func lockFolder(t testing.TB, dir string) (unlock func()) {
	t.Helper()
	lock := flock.New(filepath.Join(dir, lockName))
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		if ok, err := lock.TryLock(); err != nil || time.Now().After(deadline) {
			t.Fatalf("the folder cannot be locked: %v", err)
		} else if ok {
			return func() { _ = lock.Close() }
		}
	}
}

// flip changes a byte of a file.
func flip(t testing.TB, path string, at int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var b [1]byte
	if _, err := f.ReadAt(b[:], at); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 0x10
	if _, err := f.WriteAt(b[:], at); err != nil {
		t.Fatal(err)
	}
}

// One process at a time maintains; one that finds another at it does not wait.
func TestMaintenanceLock(t *testing.T) {
	dir := t.TempDir()
	a, b := mustOpen(t, dir, Options{MaxBytes: 100_000}), mustOpen(t, dir, Options{MaxBytes: 100_000})
	unlock := lockFolder(t, dir)
	ta, tb := mustTable(t, a, 128, "a"), mustTable(t, b, 128, "b")
	for i := range 5 {
		fill(t, a, ta, i*50, 50)
		fill(t, b, tb, i*50, 50)
	}
	if n := folderBytes(t, dir); n < 200_000 {
		t.Errorf("%d bytes: something was evicted by one without the lock", n)
	}
	unlock()
	mustFlush(t, b)
	if n := folderBytes(t, dir); n > 100_000 {
		t.Errorf("%d bytes", n)
	}
}

// Two evict at once, also without any lock between them.
func TestEvictTwice(t *testing.T) {
	const bound = 100_000
	dir := t.TempDir()
	a, b := mustOpen(t, dir, Options{MaxBytes: bound}), mustOpen(t, dir, Options{MaxBytes: bound})
	ta, tb := mustTable(t, a, 128), mustTable(t, b, 128)
	unlock := lockFolder(t, dir)
	for i := range 8 {
		fill(t, a, ta, i*50, 50)
	}
	var group sync.WaitGroup
	for _, c := range []*Cache{a, b} {
		group.Go(func() {
			c.evict()
			c.refresh(true)
		})
	}
	group.Wait()
	unlock()
	if n := folderBytes(t, dir); n > bound || n == 0 {
		t.Errorf("%d bytes, the bound is %d", n, bound)
	}
	if err := errors.Join(a.Flush(), b.Flush()); err != nil {
		t.Error(err)
	}
	if x, y := found(t, ta, keysFor(0, 400)), found(t, tb, keysFor(0, 400)); x != y || x == 0 || x == 400 {
		t.Errorf("%d and %d found", x, y)
	}
}
