package embedcache

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// merge writes the rows of sources, oldest first, as one segment and removes the sources. It gives up, with neither
// result nor error, when stop says so or a source cannot be read. The error is one of writing.
func (t *Table) merge(sources []*segment, stop func() bool) (done bool, err error) {
	name := newName(t.id, t.cache.tune.now())
	w, err := newSegmentWriter(filepath.Join(t.cache.dir, name), t.id, t.dim)
	if err != nil {
		return false, err
	}
	defer w.abort()
	var used time.Time
	for i, s := range sources {
		m := merger{w: w, s: s, before: sources[:i], stop: stop}
		if err := m.copyAll(); m.bad != nil {
			t.failed(s, m.bad)
			return false, nil
		} else if err != nil || m.stopped {
			return false, err
		}
		// The file's own time counts: another process may have used it.
		if info, err := os.Stat(filepath.Join(t.cache.dir, s.name)); err == nil && info.ModTime().After(used) {
			used = info.ModTime()
		}
	}
	if err := w.commit(used); err != nil {
		return false, err
	}
	t.cache.refresh(true)
	if !slices.ContainsFunc(t.open(), func(s *segment) bool { return s.name == name }) {
		return false, nil // it cannot be read back; refresh has said why
	}
	for _, s := range sources {
		if err := os.Remove(filepath.Join(t.cache.dir, s.name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return false, err
		}
	}
	t.cache.refresh(true)
	return true, nil
}

// merger copies one source of a merge.
type merger struct {
	w       *segmentWriter
	s       *segment
	before  []*segment // sources already copied
	stop    func() bool
	stopped bool
	bad     error // why the source cannot be read

	block, planes []byte // scratch
	keys          []Key
	row           []float32
}

// copyAll copies the rows that no earlier source has. The error is one of writing.
func (m *merger) copyAll() error {
	entries := make([]entry, m.s.len())
	for i := range entries {
		entries[i] = entry{m.s.key(i), m.s.position(i)}
	}
	sortByPosition(entries)
	for len(entries) > 0 && m.bad == nil {
		if m.stopped = m.stop(); m.stopped {
			return nil
		}
		b, n := entries[0].pos.block(), 1
		for n < len(entries) && entries[n].pos.block() == b {
			n++
		}
		if err := m.copyBlock(b, entries[:n]); err != nil {
			return err
		}
		entries = entries[n:]
	}
	return nil
}

// copyBlock copies the rows of entries, all of block b: as the block stands if it is full and all of it is wanted, else
// row by row, so that the small blocks of small segments become full ones.
func (m *merger) copyBlock(b int, entries []entry) error {
	m.keys = m.keys[:0]
	whole := len(entries) == blockRows(m.s.dim)
	for slot, e := range entries {
		whole = whole && e.pos.slot() == slot && !m.copied(e.key)
		m.keys = append(m.keys, e.key)
	}
	if whole {
		var block []byte
		if block, m.bad = m.s.readBlock(b, &m.block); m.bad != nil {
			return nil
		}
		return m.w.addBlock(block, m.keys)
	}
	var planes []byte
	if planes, m.bad = m.s.readPlanes(b, &m.block, &m.planes); m.bad != nil {
		return nil
	}
	m.row = slices.Grow(m.row[:0], m.s.dim)[:m.s.dim]
	for _, e := range entries {
		if m.copied(e.key) {
			continue
		}
		rowOf(m.row, planes, e.pos.slot())
		if err := m.w.add(e.key, m.row); err != nil {
			return err
		}
	}
	return nil
}

// copied tells whether an earlier source had the key.
func (m *merger) copied(k Key) bool {
	return slices.ContainsFunc(m.before, func(s *segment) bool { _, ok := s.find(k); return ok })
}
