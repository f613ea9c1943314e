package embedcache

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/tia2-engine/tia2-engine/internal/instrumented"
)

// stored is a cache of n unit rows of width dim.
func stored(t testing.TB, n, dim int, opt Options) (dir string, c *Cache, table *Table) {
	t.Helper()
	dir = t.TempDir()
	c, err := Open(dir, opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	table = mustTable(t, c, dim)
	step := DefaultFlushBytes / 4 / dim
	rows := unitRows(step, dim)
	for i := 0; i < n; i += step {
		keys := keysFor(i, min(step, n-i))
		mustPut(t, table, keys, rows[:len(keys)*dim])
		mustFlush(t, c)
	}
	if got := table.Counts(); got.Entries != uint64(n) {
		t.Fatalf("%+v, want %d entries", got, n)
	}
	return dir, c, table
}

// The hot path allocates nothing: lookups of hits and misses in segments and in memory, and rows stored again.
func TestAllocations(t *testing.T) {
	if instrumented.On {
		t.Skip("sync.Pool drops at random under the race detector")
	}
	_, _, table := stored(t, 5000, 64, Options{})
	extra := keysFor(5000, 20)
	mustPut(t, table, extra, rowsFor(extra, 64))
	keys := keysFor(4900, 200)
	dst, hit := make([]float32, len(keys)*64), make([]bool, len(keys))
	var hits int
	if n := testing.AllocsPerRun(200, func() { hits, _ = table.Get(keys, dst, hit) }); n != 0 || hits != 120 {
		t.Errorf("Get: %v allocations, %d hits", n, hits)
	}
	again := dst[:20*64]
	if n := testing.AllocsPerRun(200, func() { _ = table.Put(extra, again) }); n != 0 {
		t.Errorf("Put: %v allocations", n)
	}
}

// One Get is a batch of 32, in the order of storing (a set scored twice), at random (prompts that come again), or of keys
// that are not there.
func BenchmarkGet(b *testing.B) {
	const n, batch = 100_000, 32
	for _, dim := range []int{64, 512, 1280} {
		_, _, table := stored(b, n, dim, Options{})
		keys := keysFor(0, n)
		shuffled := slices.Clone(keys)
		r := rand.New(rand.NewPCG(1, 2))
		r.Shuffle(n, func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		for _, mode := range []struct {
			name string
			keys []Key
		}{{"in-order", keys}, {"random", shuffled}, {"missing", keysFor(n, n)}} {
			b.Run(fmt.Sprintf("dim=%d/%s", dim, mode.name), func(b *testing.B) {
				dst, hit := make([]float32, batch*dim), make([]bool, batch)
				b.ReportAllocs()
				at := 0
				for b.Loop() {
					if _, err := table.Get(mode.keys[at:at+batch], dst, hit); err != nil {
						b.Fatal(err)
					}
					at = (at + batch) % (n - batch)
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/batch, "ns/key")
			})
		}
	}
}

// Storing 2,000 rows of 512 and writing them, disk included.
func BenchmarkPutFlush(b *testing.B) {
	c, err := Open(b.TempDir(), Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	table := mustTable(b, c, 512)
	rows := unitRows(2000, 512)
	b.SetBytes(int64(4 * len(rows)))
	first := 0
	for b.Loop() {
		b.StopTimer()
		keys := keysFor(first, 2000)
		first += len(keys)
		b.StartTimer()
		mustPut(b, table, keys, rows)
		mustFlush(b, c)
	}
}

// Opening a cache of a million rows and asking for one.
func BenchmarkOpen(b *testing.B) {
	const n, dim = 1_000_000, 16
	dir, c, _ := stored(b, n, dim, Options{})
	c.Close()
	dst, hit := make([]float32, dim), make([]bool, 1)
	for b.Loop() {
		c, err := Open(dir, Options{})
		if err != nil {
			b.Fatal(err)
		}
		table := mustTable(b, c, dim)
		if hits, err := table.Get(keysFor(77, 1), dst, hit); err != nil || hits != 1 {
			b.Fatal(hits, err)
		}
		c.Close()
	}
}
