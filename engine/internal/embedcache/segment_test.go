package embedcache

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"
)

// bytesFile is a file in memory.
type bytesFile struct{ *bytes.Reader }

func (bytesFile) Close() error { return nil }

var testID = tableID{3, 1, 4, 1, 5}

// segmentBytes returns a segment with n rows.
func segmentBytes(t testing.TB, id tableID, n, dim int) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), newName(id, time.Now()))
	w, err := newSegmentWriter(path, id, dim)
	if err != nil {
		t.Fatal(err)
	}
	keys := keysFor(0, n)
	rows := rowsFor(keys, dim)
	for i, k := range keys {
		if err := w.add(k, rows[i*dim:(i+1)*dim]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.commit(time.Time{}); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// readAll reads every row of a segment and returns how many there are; wrong rows fail the test.
func readAll(t testing.TB, s *segment) (int, error) {
	var block, planes []byte
	row := make([]float32, s.dim)
	for i := range s.len() {
		pos, ok := s.find(s.key(i))
		if !ok || pos != s.position(i) {
			t.Fatalf("key %d is not found", i)
		}
		p, err := s.readPlanes(pos.block(), &block, &planes)
		if err != nil {
			return 0, err
		}
		rowOf(row, p, pos.slot())
		if !sameBits(row, rowsFor([]Key{s.key(i)}, s.dim)) {
			t.Fatalf("row %d is wrong", i)
		}
	}
	return s.len(), nil
}

func TestBlock(t *testing.T) {
	var planes, other []byte
	for _, dim := range []int{1, 2, 63, 64, 512, 768, 1280, 5000} {
		full := blockRows(dim)
		if full > blockRowsMax || full > 1 && 4*dim*full > blockBytes {
			t.Errorf("blocks of %d rows of %d", full, dim)
		}
		for _, n := range []int{1, 2, full} {
			n = min(n, full)
			for name, rows := range map[string][]float32{
				"any bits": rowsFor(keysFor(0, n), dim),
				"unit":     unitRows(n, dim),
				"zeros":    make([]float32, n*dim),
			} {
				block := appendBlock([]byte("before"), rows, &planes)[len("before"):]
				p, err := decodeBlock(&other, block, n*dim)
				if err != nil {
					t.Fatalf("%d rows of %d, %s: %v", n, dim, name, err)
				}
				row := make([]float32, dim)
				for i := range n {
					if rowOf(row, p, i); !sameBits(row, rows[i*dim:(i+1)*dim]) {
						t.Fatalf("row %d of %d of %d, %s: wrong bits", i, n, dim, name)
					}
				}
				for _, wrong := range []int{n*dim - 1, n*dim + 1, 2 * n * dim} {
					if _, err := decodeBlock(&other, block, wrong); err == nil {
						t.Fatalf("%d rows of %d decode as %d values", n, dim, wrong)
					}
				}
			}
		}
	}
}

// Three of four bytes of a float of an embedding are noise; the fourth must shrink to less than half.
func TestBlockCompresses(t *testing.T) {
	var planes []byte
	for _, dim := range []int{64, 512, 768, 1280} {
		n := blockRows(dim)
		block := appendBlock(nil, unitRows(n, dim), &planes)
		if ratio := float64(4*n*dim) / float64(len(block)); ratio < 1.15 {
			t.Errorf("rows of %d: ratio %.3f, want at least 1.15", dim, ratio)
		}
	}
}

// Special values keep their bits, signalling NaNs and both zeros too.
func TestBits(t *testing.T) {
	dir := t.TempDir()
	bits := []uint32{0, 1 << 31, 0x7f800000, 0xff800000, 0x7f800001, 0x7fc00000, 0xffc12345, 0x7fbfffff, 1, 0x007fffff,
		0x3f800000, 0xdeadbeef}
	row := make([]float32, len(bits))
	for i, b := range bits {
		row[i] = math.Float32frombits(b)
	}
	c := mustOpen(t, dir, Options{})
	table := mustTable(t, c, len(row))
	mustPut(t, table, keysFor(0, 1), row)
	mustFlush(t, c)
	dst := make([]float32, len(row))
	if n, err := table.Get(keysFor(0, 1), dst, make([]bool, 1)); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	for i, b := range bits {
		if got := math.Float32bits(dst[i]); got != b {
			t.Errorf("%#08x came back as %#08x", b, got)
		}
	}
}

func TestSegment(t *testing.T) {
	for _, tt := range []struct{ n, dim int }{{1, 1}, {2, 3}, {100, 1}, {257, 16}, {300, 64}, {9, 1280}, {2000, 8}} {
		b := segmentBytes(t, testID, tt.n, tt.dim)
		s, err := readSegment(bytesFile{bytes.NewReader(b)}, int64(len(b)), testID, tt.dim)
		if err != nil {
			t.Fatalf("%+v: %v", tt, err)
		}
		if n, err := readAll(t, s); n != tt.n || err != nil {
			t.Errorf("%+v: %d rows, %v", tt, n, err)
		}
		for _, k := range keysFor(tt.n, 1000) {
			if _, ok := s.find(k); ok {
				t.Errorf("%+v: found a key that is not there", tt)
			}
		}
		if _, ok := s.find(Key{}); ok {
			t.Errorf("%+v: found the zero key", tt)
		}
		if _, err := readSegment(bytesFile{bytes.NewReader(b)}, int64(len(b)), testID, tt.dim+1); !errors.Is(err, errDamaged) {
			t.Errorf("%+v: opened with rows of %d: %v", tt, tt.dim+1, err)
		}
		if _, err := readSegment(bytesFile{bytes.NewReader(b)}, int64(len(b)), tableID{}, tt.dim); !errors.Is(err, errDamaged) {
			t.Errorf("%+v: opened as of another table: %v", tt, err)
		}
	}
}

// Keys that differ in their last byte only are told apart.
func TestKeysAlike(t *testing.T) {
	path := filepath.Join(t.TempDir(), newName(testID, time.Now()))
	w, err := newSegmentWriter(path, testID, 2)
	if err != nil {
		t.Fatal(err)
	}
	keys := make([]Key, 100)
	for i := range keys {
		keys[i] = Key{0x42, 15: byte(2 * i)}
		if err := w.add(keys[i], rowsFor(keys[i:i+1], 2)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.commit(time.Time{}); err != nil {
		t.Fatal(err)
	}
	s, err := openSegment(path, testID, 2)
	if err != nil {
		t.Fatal(err)
	}
	defer s.file.Close()
	if n, err := readAll(t, s); n != len(keys) || err != nil {
		t.Errorf("%d rows, %v", n, err)
	}
	for i := range keys {
		if _, ok := s.find(Key{0x42, 15: byte(2*i + 1)}); ok {
			t.Errorf("key %d is found and is not there", 2*i+1)
		}
	}
}

// Every changed byte of a segment is noticed: nothing wrong is returned, and the file is removed.
func TestDamageAtEveryByte(t *testing.T) {
	dir := t.TempDir()
	var reports int
	c := mustOpen(t, dir, Options{Report: func(err error) {
		if reports++; !errors.Is(err, errDamaged) {
			t.Error(err)
		}
	}})
	table := mustTable(t, c, 3)
	good := segmentBytes(t, table.id, 5, 3)
	try := func(b []byte, what string) {
		path := filepath.Join(dir, newName(table.id, time.Now()))
		before := c.Stats().Damaged
		if err := os.WriteFile(path, b, 0o666); err != nil {
			t.Fatal(err)
		}
		if n := found(t, table, keysFor(0, 5)); n != 0 {
			t.Errorf("%s: %d rows found", what, n)
		}
		if n := c.Stats().Damaged - before; n != 1 {
			t.Errorf("%s: %d damaged segments found", what, n)
		}
		if _, err := os.Stat(path); err == nil {
			t.Fatalf("%s: the file is still there", what)
		}
	}
	for at := range good {
		for _, change := range []byte{1, 0x80, 0xff} {
			b := slices.Clone(good)
			b[at] ^= change
			try(b, fmt.Sprintf("byte %d of %d changed by %#x", at, len(good), change))
		}
		try(good[:at], fmt.Sprintf("cut off at %d of %d", at, len(good)))
		try(slices.Concat(good[:at], good[at+1:]), fmt.Sprintf("byte %d left out", at))
		try(slices.Insert(slices.Clone(good), at, 'x'), fmt.Sprintf("a byte before %d", at))
	}
	try(append(slices.Clone(good), 0), "a byte at the end")
	try(make([]byte, len(good)), "zeros")
	if reports != 1 {
		t.Errorf("%d reports, want one", reports)
	}
	path := filepath.Join(dir, newName(table.id, time.Now()))
	if err := os.WriteFile(path, good, 0o666); err != nil {
		t.Fatal(err)
	}
	mustFind(t, table, keysFor(0, 5), 5)
}

// Two whole blocks that changed places are damage, which zstd cannot see.
func TestSwappedBlocks(t *testing.T) {
	const dim = 64
	full := blockRows(dim)
	b := segmentBytes(t, testID, 2*full, dim)
	s, err := readSegment(bytesFile{bytes.NewReader(b)}, int64(len(b)), testID, dim)
	if err != nil {
		t.Fatal(err)
	}
	first, second := s.blocks[0], s.blocks[1]
	if first.bytes != second.bytes {
		t.Fatalf("blocks of %d and %d bytes", first.bytes, second.bytes)
	}
	x, y := b[first.offset:second.offset], b[second.offset:][:second.bytes]
	for i := range x {
		x[i], y[i] = y[i], x[i]
	}
	if n, err := readAll(t, s); n != 0 || !errors.Is(err, errDamaged) {
		t.Errorf("%d rows, %v", n, err)
	}
}

// A segment that is cut off while it is open is damage too.
func TestTruncatedWhileOpen(t *testing.T) {
	dir := t.TempDir()
	c := mustOpen(t, dir, Options{})
	table := mustTable(t, c, 64)
	fill(t, c, table, 0, 100)
	file := segmentFiles(t, dir)[0]
	mustFind(t, table, keysFor(0, 100), 100)
	if err := os.Truncate(file, 1000); err != nil {
		t.Fatal(err)
	}
	mustFind(t, table, keysFor(0, 100), 0)
	if s := c.Stats(); s.Damaged != 1 || s.Entries != 0 || s.Bytes != 0 {
		t.Errorf("%+v", s)
	}
}

// An error that says nothing about the file's content does not remove it.
func TestUnreadableIsKept(t *testing.T) {
	dir := t.TempDir()
	var reported []error
	c := mustOpen(t, dir, Options{Report: func(err error) { reported = append(reported, err) }})
	table := mustTable(t, c, 8)
	if err := os.Mkdir(filepath.Join(dir, newName(table.id, time.Now())), 0o777); err != nil { // reading gives EISDIR
		t.Fatal(err)
	}
	for range 3 {
		mustFind(t, table, keysFor(0, 1), 0)
	}
	if s := c.Stats(); s.Damaged != 0 || len(segmentFiles(t, dir)) != 1 || len(reported) != 1 {
		t.Errorf("%+v, %q", s, reported)
	}
}

// stale is a file that another host has removed.
type stale struct{ err error }

func (f stale) ReadAt([]byte, int64) (int, error) { return 0, f.err }
func (f stale) Close() error                      { return nil }

// What cannot be read is a miss; what was removed on a network's file system is not worth a report.
func TestUnreadableBlock(t *testing.T) {
	for err, reports := range map[error]int{syscall.ESTALE: 0, syscall.EIO: 1} {
		dir := t.TempDir()
		var reported []error
		c := mustOpen(t, dir, Options{Report: func(err error) { reported = append(reported, err) }})
		table := mustTable(t, c, 8)
		fill(t, c, table, 0, 10)
		s := table.open()[0]
		s.file.Close()
		s.file = stale{err}
		n, _ := table.fromSegments(keysFor(0, 10), make([]float32, 80), make([]bool, 10), new(scratch))
		if n != 0 || len(table.open()) != 0 || len(reported) != reports || len(segmentFiles(t, dir)) != 1 {
			t.Errorf("%v: %d rows, %d segments, reports %q", err, n, len(table.open()), reported)
		}
		mustFind(t, table, keysFor(0, 10), 10) // opened again
	}
}

// Rows that are in another segment too are found there when the first one fails.
func TestFailedSegmentIsReplaced(t *testing.T) {
	dir := t.TempDir()
	c, err := open(dir, Options{}, tuning{now: time.Now, refreshEvery: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	settle(c)
	table := mustTable(t, c, 8)
	for range 2 {
		if err := os.WriteFile(filepath.Join(dir, newName(table.id, time.Now())), segmentBytes(t, table.id, 10, 8), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	c.refresh(true)
	if n := len(table.open()); n != 2 {
		t.Fatalf("%d segments", n)
	}
	table.open()[0].file.Close() // as if it had been merged or evicted in another goroutine
	mustFind(t, table, keysFor(0, 10), 10)
}

// mend gives a segment right checksums, so that what they protect can be tested.
func mend(b []byte) {
	if len(b) < headerBytes+trailerBytes {
		return
	}
	copy(b, magic)
	t := b[len(b)-trailerBytes:]
	copy(t, testID[:])
	copy(t[48:], magic)
	data, n, blocks := binary.LittleEndian.Uint64(t[32:]), binary.LittleEndian.Uint32(t[20:]), binary.LittleEndian.Uint32(t[24:])
	body := uint64(len(b) - headerBytes - trailerBytes)
	index := uint64(n)*uint64(keyBytes+posBytes) + uint64(blocks)*refBytes
	if data <= body && index == body-data {
		refs := b[uint64(headerBytes)+data+uint64(n)*uint64(keyBytes+posBytes):]
		at := uint64(headerBytes)
		for i := range blocks {
			length := uint64(binary.LittleEndian.Uint32(refs[i*refBytes:]))
			if length > uint64(headerBytes)+data-at {
				break
			}
			binary.LittleEndian.PutUint32(refs[i*refBytes+4:], crc32.Checksum(b[at:at+length], castagnoli))
			at += length
		}
		binary.LittleEndian.PutUint32(t[40:], crc32.Checksum(b[uint64(headerBytes)+data:len(b)-trailerBytes], castagnoli))
	}
	binary.LittleEndian.PutUint32(t[44:], crc32.Checksum(t[:44], castagnoli))
}

// Segments with right checksums and a wrong index are damaged.
func TestWrongIndex(t *testing.T) {
	good := segmentBytes(t, testID, 5, 3)
	trailer := len(good) - trailerBytes
	refs, pos := trailer-refBytes, trailer-refBytes-5*posBytes
	keys := pos - 5*keyBytes
	for name, change := range map[string]func(b []byte){
		"two keys equal":        func(b []byte) { copy(b[keys+16:], b[keys:keys+16]) },
		"keys not sorted":       func(b []byte) { b[keys] = 0xff },
		"slot past its block":   func(b []byte) { b[pos] = 5 },
		"block past the last":   func(b []byte) { b[pos+1] = 1 },
		"block without rows":    func(b []byte) { b[refs+8] = 0 },
		"block of 2^24 rows":    func(b []byte) { b[refs+11] = 1 },
		"block too long":        func(b []byte) { b[refs]++ },
		"block too short":       func(b []byte) { b[refs]-- },
		"block of 4 GB":         func(b []byte) { copy(b[refs:], "\xff\xff\xff\xff") },
		"another dim":           func(b []byte) { b[trailer+16] = 4 },
		"another codec":         func(b []byte) { b[trailer+28] = 9 },
		"too many keys":         func(b []byte) { b[trailer+20]++ },
		"4 billion keys":        func(b []byte) { copy(b[trailer+20:], "\xff\xff\xff\xff") },
		"4 billion blocks":      func(b []byte) { copy(b[trailer+24:], "\xff\xff\xff\xff") },
		"data of 2^63 bytes":    func(b []byte) { b[trailer+39] = 0x80 },
		"data of -1 bytes":      func(b []byte) { copy(b[trailer+32:], "\xff\xff\xff\xff\xff\xff\xff\xff") },
		"rows are not a block":  func(b []byte) { b[headerBytes+20] ^= 0xff },
		"a block of four rows":  func(b []byte) { b[refs+8] = 4; copy(b[pos:], make([]byte, 5*posBytes)) },
		"a block of three zstd": func(b []byte) { copy(b[headerBytes:], "\x50\x2a\x4d\x18") }, // the first frame is a skippable one
	} {
		b := slices.Clone(good)
		change(b)
		mend(b)
		s, err := readSegment(bytesFile{bytes.NewReader(b)}, int64(len(b)), testID, 3)
		if err == nil {
			_, err = readAll(t, s)
		}
		if !errors.Is(err, errDamaged) {
			t.Errorf("%s: %v", name, err)
		}
	}
	mended := slices.Clone(good)
	if mend(mended); !bytes.Equal(mended, good) {
		t.Error("mend changes a good segment")
	}
}

// FuzzSegment opens damaged segments, as they are and with mended checksums, and asks for every key.
func FuzzSegment(f *testing.F) {
	f.Add(segmentBytes(f, testID, 5, 3), uint16(3), true)
	f.Add(segmentBytes(f, testID, 300, 16), uint16(16), true)
	f.Add(segmentBytes(f, testID, 1, 1), uint16(1), false)
	f.Add([]byte(magic), uint16(1), false)
	f.Add(make([]byte, headerBytes+trailerBytes), uint16(7), true)
	f.Fuzz(func(t *testing.T, b []byte, dim uint16, mended bool) {
		if dim == 0 || dim > 2000 {
			return
		}
		b = slices.Clone(b)
		if mended {
			mend(b)
		}
		s, err := readSegment(bytesFile{bytes.NewReader(b)}, int64(len(b)), testID, int(dim))
		if err != nil {
			return
		}
		var block, planes []byte
		row := make([]float32, dim)
		for i := range s.len() {
			pos, ok := s.find(s.key(i))
			if !ok || pos != s.position(i) {
				t.Fatalf("key %d of a sorted index is not found", i)
			}
			p, err := s.readPlanes(pos.block(), &block, &planes)
			if err != nil {
				if !errors.Is(err, errDamaged) {
					t.Fatal(err)
				}
				continue
			}
			rowOf(row, p, pos.slot())
		}
		if most := 1 << 20; cap(planes) > most || cap(block) > max(len(b), most) {
			t.Fatalf("%d and %d bytes were allocated", cap(planes), cap(block))
		}
	})
}
