package embedcache

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/tia2-engine/tia2-engine/internal/atomicfile"
)

// keyFor returns the key of the item of the given number.
func keyFor(i int) Key {
	h := NewKeyHasher()
	h.Int32s([]int32{int32(i)})
	return h.Key()
}

func keysFor(first, n int) []Key {
	keys := make([]Key, n)
	for i := range keys {
		keys[i] = keyFor(first + i)
	}
	return keys
}

// rowsFor returns the rows that the tests store for keys: any bits, NaN payloads, infinities and denormals among them,
// that follow from the key.
func rowsFor(keys []Key, dim int) []float32 {
	rows := make([]float32, 0, len(keys)*dim)
	for _, k := range keys {
		r := rand.New(rand.NewChaCha8([32]byte(append(k[:], k[:]...))))
		for range dim {
			rows = append(rows, math.Float32frombits(r.Uint32()))
		}
	}
	return rows
}

// unitRows returns n random vectors of length 1, as embeddings are.
func unitRows(n, dim int) []float32 {
	r := rand.New(rand.NewPCG(1, 2))
	rows := make([]float32, n*dim)
	for i := range n {
		row, sum := rows[i*dim:(i+1)*dim], 0.0
		for j := range row {
			row[j] = float32(r.NormFloat64())
			sum += float64(row[j]) * float64(row[j])
		}
		for j := range row {
			row[j] /= float32(math.Sqrt(sum))
		}
	}
	return rows
}

func sameBits(a, b []float32) bool {
	return slices.EqualFunc(a, b, func(x, y float32) bool { return math.Float32bits(x) == math.Float32bits(y) })
}

// eager sees every change of other caches at once and times every use.
var eager = tuning{now: time.Now}

func mustOpen(t testing.TB, dir string, opt Options) *Cache {
	t.Helper()
	c, err := open(dir, opt, eager)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	settle(c)
	return c
}

// settle waits until the cache's own goroutine has done what it does first.
func settle(c *Cache) {
	for c.wakeUp(); len(c.wake) > 0; {
		time.Sleep(50 * time.Microsecond)
	}
}

func mustTable(t testing.TB, c *Cache, dim int, identity ...string) *Table {
	t.Helper()
	table, err := c.Table(dim, identity...)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

func mustPut(t testing.TB, table *Table, keys []Key, rows []float32) {
	t.Helper()
	if err := table.Put(keys, rows); err != nil {
		t.Fatal(err)
	}
}

func mustFlush(t testing.TB, c *Cache) {
	t.Helper()
	if err := c.Flush(); err != nil {
		t.Fatal(err)
	}
}

// found asks for the keys, fails the test if a hit has wrong bits or a miss was written to, and returns the hits.
func found(t testing.TB, table *Table, keys []Key) int {
	t.Helper()
	dim := table.dim
	dst, hit := make([]float32, len(keys)*dim), make([]bool, len(keys))
	for i := range dst {
		dst[i] = -7
	}
	n, err := table.Get(keys, dst, hit)
	if err != nil {
		t.Fatal(err)
	}
	want := rowsFor(keys, dim)
	for i := range keys {
		row := dst[i*dim : (i+1)*dim]
		if hit[i] && !sameBits(row, want[i*dim:(i+1)*dim]) {
			t.Fatalf("key %d has the wrong row", i)
		}
		if !hit[i] && slices.ContainsFunc(row, func(v float32) bool { return v != -7 }) {
			t.Fatalf("the row of key %d, a miss, was written to", i)
		}
		if hit[i] {
			n--
		}
	}
	if n != 0 {
		t.Fatalf("the number of hits is wrong by %d", n)
	}
	hits := 0
	for _, h := range hit {
		if h {
			hits++
		}
	}
	return hits
}

func mustFind(t testing.TB, table *Table, keys []Key, want int) {
	t.Helper()
	if n := found(t, table, keys); n != want {
		t.Fatalf("%d of %d keys found: want %d", n, len(keys), want)
	}
}

// segmentFiles returns the paths of a folder's segments.
func segmentFiles(t testing.TB, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.emb*"))
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// folderBytes is the size of all files but the lock's.
func folderBytes(t testing.TB, dir string) (total int64) {
	t.Helper()
	for _, f := range segmentFiles(t, dir) {
		if info, err := os.Stat(f); err == nil {
			total += info.Size()
		}
	}
	return total
}

func TestRoundTrip(t *testing.T) {
	for _, dim := range []int{1, 3, 64, 512, 1280, 5000} {
		t.Run(fmt.Sprint(dim), func(t *testing.T) {
			dir := t.TempDir()
			keys := keysFor(0, 200)
			c := mustOpen(t, dir, Options{})
			table := mustTable(t, c, dim, "model", "image")
			mustFind(t, table, keys, 0)
			mustPut(t, table, keys[:150], rowsFor(keys[:150], dim))
			mustFind(t, table, keys, 150) // in memory
			mustFlush(t, c)
			mustFind(t, table, keys, 150) // in a segment
			mustPut(t, table, keys[100:], rowsFor(keys[100:], dim))
			mustFind(t, table, keys, 200) // in both
			if err := c.Close(); err != nil {
				t.Fatal(err)
			}
			mustFind(t, table, keys, 0) // closed

			c = mustOpen(t, dir, Options{})
			table = mustTable(t, c, dim, "model", "image")
			mustFind(t, table, keys, 200)
			slices.Reverse(keys)
			mustFind(t, table, append(keys, keys[7], keys[7]), 202)
			n := table.Counts()
			if want := (Counts{Hits: 402, Entries: 200}); n != want || n.HitRate() != 1 {
				t.Errorf("counts %+v, want %+v", n, want)
			}
			other := mustTable(t, c, dim, "model", "text")
			if found(t, other, keys) != 0 {
				t.Error("a table finds the rows of another")
			}
			if rate := other.Counts().HitRate(); rate != 0 {
				t.Errorf("hit rate %v of misses only", rate)
			}
			if s := c.Stats(); s.Hits != 402 || s.Misses != 200 || s.Bytes != folderBytes(t, dir) || s.Bytes == 0 || s.Damaged != 0 {
				t.Errorf("stats %+v", s)
			}
		})
	}
}

func TestTables(t *testing.T) {
	c := mustOpen(t, t.TempDir(), Options{})
	a := mustTable(t, c, 8, "ab", "c")
	if mustTable(t, c, 8, "ab", "c") != a {
		t.Error("equal arguments give two tables")
	}
	for _, b := range []*Table{mustTable(t, c, 8, "a", "bc"), mustTable(t, c, 8, "abc"), mustTable(t, c, 9, "ab", "c")} {
		if b.id == a.id {
			t.Error("two tables have one name")
		}
	}
	for _, dim := range []int{-1, 0, dimMax + 1} {
		if _, err := c.Table(dim); err == nil {
			t.Errorf("rows of %d values: no error", dim)
		}
	}
	if _, err := Open(t.TempDir(), Options{MaxBytes: -1}); err == nil {
		t.Error("a negative bound: no error")
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(file, Options{}); err == nil {
		t.Error("a file for a folder: no error")
	}
}

func TestShapes(t *testing.T) {
	c := mustOpen(t, t.TempDir(), Options{})
	table := mustTable(t, c, 4)
	keys := keysFor(0, 2)
	mustPut(t, table, keys, rowsFor(keys, 4))
	hit := []bool{true, true}
	for _, tt := range []struct{ dst, hits int }{{7, 2}, {9, 2}, {0, 2}, {8, 1}} {
		if n, err := table.Get(keys, make([]float32, tt.dst), hit[:tt.hits]); !errors.Is(err, ErrShape) || n != 0 || hit[0] {
			t.Errorf("Get of %+v: %d, %v, %v", tt, n, hit[0], err)
		}
	}
	for _, n := range []int{0, 7, 9} {
		if err := table.Put(keys, make([]float32, n)); !errors.Is(err, ErrShape) {
			t.Errorf("Put of %d values: %v", n, err)
		}
	}
	if n, err := table.Get(nil, nil, nil); n != 0 || err != nil {
		t.Errorf("Get of nothing: %d, %v", n, err)
	}
}

func TestNilCache(t *testing.T) {
	var c *Cache
	table := mustTable(t, c, 4)
	mustPut(t, table, keysFor(0, 1), make([]float32, 4))
	hit := []bool{true}
	if n, err := table.Get(keysFor(0, 1), make([]float32, 4), hit); n != 0 || err != nil || hit[0] {
		t.Errorf("Get: %d, %v, %v", n, err, hit)
	}
	if err := errors.Join(c.Flush(), c.Close()); err != nil || c.Stats() != (Stats{}) || table.Counts() != (Counts{}) {
		t.Errorf("%v, %+v", err, c.Stats())
	}
}

func TestKeepsFirstRow(t *testing.T) {
	c := mustOpen(t, t.TempDir(), Options{})
	table := mustTable(t, c, 4)
	keys := keysFor(0, 3)
	mustPut(t, table, keys, rowsFor(keys, 4))
	mustPut(t, table, keys, make([]float32, 12))
	mustFind(t, table, keys, 3)
	if n := table.Counts(); n.Stored != 3 || n.Dropped != 0 {
		t.Errorf("%+v", n)
	}
	mustFlush(t, c)
	mustPut(t, table, keys, rowsFor(keys, 4)) // is not written again
	mustFlush(t, c)
	if n := table.Counts(); n.Entries != 3 {
		t.Errorf("%+v", n)
	}
}

// Rows are written without Flush: when there are enough, and when they have waited.
func TestFlushesItself(t *testing.T) {
	for name, opt := range map[string]Options{"size": {FlushBytes: 4 * 64 * 10}, "time": {FlushEvery: 10 * time.Millisecond}} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			c := mustOpen(t, dir, opt)
			table := mustTable(t, c, 64)
			keys := keysFor(0, 15)
			mustPut(t, table, keys, rowsFor(keys, 64))
			for deadline := time.Now().Add(20 * time.Second); len(segmentFiles(t, dir)) == 0; time.Sleep(time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatal("nothing was written")
				}
			}
			mustFind(t, table, keys, 15)
		})
	}
}

// Put drops rows rather than wait, and says how many.
func TestPutNeverWaits(t *testing.T) {
	c := mustOpen(t, t.TempDir(), Options{FlushBytes: 4 * 64 * 10})
	table := mustTable(t, c, 64)
	c.writing.Lock() // as a slow disk would
	keys := keysFor(0, 50)
	mustPut(t, table, keys, rowsFor(keys, 64))
	if n := table.Counts(); n.Stored != 20 || n.Dropped != 30 || n.Entries != 20 {
		t.Errorf("%+v: want 20 stored, 30 dropped", n)
	}
	mustFind(t, table, keys, 20)
	c.writing.Unlock()
	mustFlush(t, c)
	mustPut(t, table, keys[20:40], rowsFor(keys[20:40], 64))
	mustFind(t, table, keys, 40)
}

// Two caches on one folder see each other's rows.
func TestSharedFolder(t *testing.T) {
	dir := t.TempDir()
	a, b := mustOpen(t, dir, Options{}), mustOpen(t, dir, Options{})
	ta, tb := mustTable(t, a, 16), mustTable(t, b, 16)
	keys := keysFor(0, 60)
	mustPut(t, ta, keys[:20], rowsFor(keys[:20], 16))
	mustFind(t, tb, keys, 0)
	mustFlush(t, a)
	mustFind(t, tb, keys, 20)
	mustPut(t, tb, keys[:40], rowsFor(keys[:40], 16)) // a has 20 of them
	mustFlush(t, b)
	mustFind(t, ta, keys, 40)
	if n := ta.Counts().Entries; n != 40 {
		t.Errorf("%d entries: want 40, none twice", n)
	}
	// Segments that vanish are read from as long as nobody has looked, and are misses then.
	for _, f := range segmentFiles(t, dir) {
		if err := os.Remove(f); err != nil {
			t.Fatal(err)
		}
	}
	mustFind(t, ta, keys[:40], 40)
	mustFind(t, ta, keys, 40)
	mustFind(t, ta, keys, 0)
	if s := a.Stats(); s.Damaged != 0 || s.Entries != 0 || s.Bytes != 0 {
		t.Errorf("%+v", s)
	}
}

// A cache looks for others' segments only so often, and not at all while the folder stays as it is.
func TestRefreshIsRare(t *testing.T) {
	dir := t.TempDir()
	now := time.Now().Add(time.Hour) // later than any change of the folder, so that its time counts
	var mu sync.Mutex
	tune := tuning{now: func() time.Time { mu.Lock(); defer mu.Unlock(); return now }, refreshEvery: time.Second}
	a := mustOpen(t, dir, Options{})
	b, err := open(dir, Options{}, tune)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	settle(b)
	ta, tb := mustTable(t, a, 16), mustTable(t, b, 16)
	keys := keysFor(0, 10)
	mustPut(t, ta, keys, rowsFor(keys, 16))
	mustFlush(t, a)
	mustFind(t, tb, keys, 0) // not yet a second
	mu.Lock()
	now = now.Add(time.Second)
	mu.Unlock()
	mustFind(t, tb, keys, 10)
	if b.refresh(false) || !b.folderTime.After(time.Time{}) {
		t.Error("the folder's time is not remembered")
	}
}

func TestGoroutines(t *testing.T) {
	dir := t.TempDir()
	c := mustOpen(t, dir, Options{FlushBytes: 8 << 10, FlushEvery: 5 * time.Millisecond})
	table := mustTable(t, c, 24)
	var group sync.WaitGroup
	for g := range 4 {
		group.Go(func() {
			for i := range 40 {
				keys := keysFor((g*17+i*13)%400, 20)
				found(t, table, keys)
				if err := table.Put(keys, rowsFor(keys, 24)); err != nil {
					t.Error(err)
				}
				if i%10 == 9 {
					if err := c.Flush(); err != nil {
						t.Error(err)
					}
					c.Stats()
				}
			}
		})
	}
	group.Wait()
	for i := 0; i < 400; i += 80 { // what was dropped
		keys := keysFor(i, 80)
		mustPut(t, table, keys, rowsFor(keys, 24))
		mustFlush(t, c)
	}
	mustFind(t, table, keysFor(0, 400), 400)
	if s := c.Stats(); s.Damaged != 0 {
		t.Errorf("%+v", s)
	}
}

func TestCloseDuringUse(t *testing.T) {
	c := mustOpen(t, t.TempDir(), Options{FlushBytes: 4 << 10})
	table := mustTable(t, c, 24)
	var group sync.WaitGroup
	begun := make(chan struct{}, 3)
	for g := range 3 {
		group.Go(func() {
			for i := range 200 {
				keys := keysFor(g*10+i, 10)
				if err := table.Put(keys, rowsFor(keys, 24)); err != nil {
					t.Error(err)
				}
				found(t, table, keys)
				if i == 20 {
					begun <- struct{}{}
				}
			}
		})
	}
	<-begun
	if err := errors.Join(c.Close(), c.Close()); err != nil {
		t.Error(err)
	}
	group.Wait()
	keys := keysFor(5000, 5)
	mustPut(t, table, keys, rowsFor(keys, 24))
	mustFind(t, table, keys, 0)
	if late := mustTable(t, c, 25); found(t, late, keys) != 0 || late.Counts().Entries != 0 {
		t.Error("a closed cache has rows")
	}
}

// Temporary files of dead writers go, those of living ones stay.
func TestDeadWriters(t *testing.T) {
	dir := t.TempDir()
	c := mustOpen(t, dir, Options{})
	table := mustTable(t, c, 4)
	dead := filepath.Join(dir, newName(table.id, time.Now())+".0123456789ab.part")
	foreign := filepath.Join(dir, "notes.emb1.0123456789ab.part")
	for _, p := range []string{dead, foreign} {
		if err := os.WriteFile(p, []byte("half"), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	alive, err := atomicfile.Create(filepath.Join(dir, newName(table.id, time.Now())))
	if err != nil {
		t.Fatal(err)
	}
	defer alive.Abort()
	mustFlush(t, c)
	for path, want := range map[string]bool{dead: false, foreign: true, alive.Name(): true} {
		if _, err := os.Stat(path); (err == nil) != want {
			t.Errorf("%s: there: %v, want %v", filepath.Base(path), err == nil, want)
		}
	}
}

func TestParseName(t *testing.T) {
	id := tableID{1, 2, 15: 0xff}
	name := newName(id, time.Unix(1, 5))
	for _, tt := range []struct {
		name, base string
		ok         bool
	}{
		{name, name, true},
		{name + ".0123456789ab.part", name, true},
		{name[:len(name)-1] + "27", name[:len(name)-1] + "27", true}, // another version
		{name + "x", "", false},
		{name + ".tmp", "", false},
		{"lock", "", false},
		{"x" + name[1:], "", false},
		{name[1:], "", false},
		{name[:len(name)-len(extension)], "", false},
		{"", "", false},
		{".part", "", false},
	} {
		got, base, ok := parseName(tt.name)
		if ok != tt.ok || base != tt.base || ok && got != id {
			t.Errorf("%q: %x, %q, %v", tt.name, got, base, ok)
		}
	}
	later := newName(id, time.Now())
	if name >= later {
		t.Errorf("%s does not sort before %s", name, later)
	}
}
