package embedcache

import (
	"cmp"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"math/bits"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/gofrs/flock"

	"github.com/tia2-engine/tia2-engine/internal/atomicfile"
)

// Names in the folder: TABLE-TIME-RANDOM.embN, all hexadecimal, N being the version of the format. A file being written
// is NAME.TOKEN.part. Files of other versions are never read, but they count and are evicted like the rest.
const (
	extension = ".emb1"
	lockName  = "lock"

	// mergeFan small segments of about one size become one.
	mergeFan = 4
	// tierBytes is the size below which segments count as equally small.
	tierBytes = 64 << 10
	// segmentBytesMax is what no merge goes beyond.
	segmentBytesMax = 1 << 30
	// closingMergeBytes is the largest merge that Close waits for: some tenths of a second.
	closingMergeBytes = 128 << 20
)

// newName returns a name for a segment that no other process will take. Names of a table sort by age.
func newName(id tableID, now time.Time) string {
	var b [6]byte
	rand.Read(b[:]) // never fails: it ends the program instead
	return fmt.Sprintf("%x-%016x-%x%s", id, now.UnixNano(), b, extension)
}

// parseName tells the table of a segment of any version, and the name of a segment that a temporary file will be.
func parseName(name string) (id tableID, base string, ok bool) {
	base = name
	if part, found := strings.CutSuffix(name, ".part"); found {
		base = strings.TrimSuffix(part, filepath.Ext(part))
	}
	table, rest, found := strings.Cut(base, "-")
	stamp, rest, found2 := strings.Cut(rest, "-")
	token, version, found3 := strings.Cut(rest, ".emb")
	if !found || !found2 || !found3 || len(table) != 2*len(id) || len(stamp) != 16 || len(token) != 12 || version == "" {
		return id, "", false
	}
	if strings.Trim(stamp+token, "0123456789abcdef") != "" || strings.Trim(version, "0123456789") != "" {
		return id, "", false
	}
	if _, err := hex.Decode(id[:], []byte(table)); err != nil {
		return tableID{}, "", false
	}
	return id, base, true
}

// fileInfo is a file of the folder.
type fileInfo struct {
	name string
	size int64
	used time.Time
}

// list returns the cache's files in the folder, segments and those being written, and their size together.
func (c *Cache) list() (files []fileInfo, total int64, err error) {
	entries, err := os.ReadDir(c.dir)
	if err != nil {
		return nil, 0, err
	}
	for _, e := range entries {
		if _, _, ok := parseName(e.Name()); !ok {
			continue
		}
		info, err := e.Info()
		if err != nil { // gone meanwhile
			continue
		}
		files = append(files, fileInfo{e.Name(), info.Size(), info.ModTime()})
		total += info.Size()
	}
	return files, total, nil
}

// refresh looks which segments there are and opens and drops accordingly. Unless it must, it looks at most every
// refreshEvery, and no further where the folder's time is what it was. It tells whether a table changed.
func (c *Cache) refresh(must bool) bool {
	now := c.tune.now()
	if must {
		c.refreshing.Lock()
	} else if now.UnixNano()-c.refreshed.Load() < int64(c.tune.refreshEvery) || !c.refreshing.TryLock() {
		return false
	}
	defer c.refreshing.Unlock()
	c.refreshed.Store(now.UnixNano())
	if c.closed {
		return false
	}
	info, err := os.Stat(c.dir)
	if err == nil && !must && info.ModTime().Equal(c.folderTime) {
		return false
	}
	entries, err2 := os.ReadDir(c.dir)
	if err := errors.Join(err, err2); err != nil {
		c.readFailed(err)
		return false
	}
	// A folder's time has steps. One that is younger than a step may stay the same with the next change.
	c.folderTime = info.ModTime()
	if now.Sub(c.folderTime) < folderTimeStep {
		c.folderTime = time.Time{}
	}
	names := map[tableID][]string{}
	for _, e := range entries {
		if id, base, ok := parseName(e.Name()); ok && base == e.Name() && filepath.Ext(base) == extension {
			names[id] = append(names[id], e.Name())
		}
	}
	changed := false
	for _, t := range c.openTables() {
		changed = t.adopt(names[t.id]) || changed
	}
	return changed
}

// folderTimeStep is more than the steps of a file's time on any file system in use.
const folderTimeStep = 2 * time.Second

// maintain removes what dead writers left, evicts and merges. One process at a time does it. Another one that finds it
// at work leaves it alone: the one at work looks again when it has let go of the lock. Nothing but work saved depends on
// the lock: two at once would remove the same files and merge twice.
func (c *Cache) maintain() {
	for range 3 {
		lock := flock.New(filepath.Join(c.dir, lockName), flock.SetPermissions(0o666))
		if locked, err := lock.TryLock(); err == nil && !locked || c.writeOff.Load() {
			_ = lock.Close()
			return
		}
		c.removeDead()
		c.evict()
		c.refresh(true)
		for _, t := range c.openTables() {
			for c.mergeTable(t) {
			}
		}
		_ = lock.Close()
		if _, total, err := c.list(); err != nil || total <= c.opt.MaxBytes {
			return
		}
	}
}

// removeDead removes the temporary files of dead writers.
func (c *Cache) removeDead() {
	files, _, err := c.list()
	if err != nil {
		return // refresh reports it
	}
	for _, f := range files {
		if _, base, _ := parseName(f.name); base != f.name {
			// Create removes those of its path that no living writer has locked.
			if own, err := atomicfile.Create(filepath.Join(c.dir, base)); err == nil {
				own.Abort()
			}
		}
	}
}

// evict removes the segments that were not used for the longest time, of whatever table, until the folder is within its
// bound. Whoever has one open can go on reading it.
func (c *Cache) evict() {
	files, total, err := c.list()
	if err != nil || total <= c.opt.MaxBytes {
		return
	}
	slices.SortStableFunc(files, func(a, b fileInfo) int {
		return cmp.Or(a.used.Compare(b.used), strings.Compare(a.name, b.name))
	})
	for _, f := range files {
		if total <= c.opt.MaxBytes {
			break
		}
		if _, base, _ := parseName(f.name); base != f.name {
			continue // being written
		}
		err := os.Remove(filepath.Join(c.dir, f.name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			c.writeFailed(err)
			break
		}
		total -= f.size
		if err == nil {
			c.evicted.Add(uint64(f.size))
		}
	}
}

// tier orders sizes by powers of mergeFan.
func tier(size int64) int { return (bits.Len64(uint64(size/tierBytes)) + 1) / 2 }

// mergeTable makes one segment of mergeFan or more small ones of about one size. It tells whether it did.
func (c *Cache) mergeTable(t *Table) bool {
	sources, total := mergeable(t.open(), c.segmentBytes)
	stop := func() bool { return total > closingMergeBytes && c.closing.Load() || c.writeOff.Load() }
	if sources == nil || stop() {
		return false
	}
	done, err := t.merge(sources, stop)
	if err != nil {
		c.writeFailed(err)
	}
	return done
}

// mergeable returns segments to be merged, oldest first, and their size: at least mergeFan, or none. Together they are at
// most limit; one of more than its mergeFan-th part is large enough to be evicted on its own.
func mergeable(segments []*segment, limit int64) (sources []*segment, total int64) {
	tiers := map[int][]*segment{}
	for _, s := range segments {
		if s.size <= limit/mergeFan {
			k := tier(s.size)
			tiers[k] = append(tiers[k], s)
		}
	}
	for _, of := range tiers {
		if len(of) < mergeFan {
			continue
		}
		slices.SortFunc(of, func(a, b *segment) int { return strings.Compare(a.name, b.name) })
		for n, s := range of {
			if total+s.size > limit {
				return of[:n], total
			}
			total += s.size
		}
		return of, total
	}
	return nil, 0
}
