package embedcache

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/bits"
	"os"
	"path/filepath"
	"sync/atomic"
)

// errDamaged is what is wrong with a segment that does not hold what was written: it can only be removed.
var errDamaged = errors.New("damaged")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Sizes in the file; doc.go has the layout.
const (
	magic        = "tia2emb1"
	headerBytes  = len(magic)
	keyBytes     = len(Key{})
	posBytes     = 4
	refBytes     = 12
	trailerBytes = 56
	codecPlanes  = 1
)

// tableID names a table in its segments: the first 128 bits of the SHA-256 of its identity.
type tableID [16]byte

// blockRef says where a block is. In the file only its length, checksum and rows stand: blocks follow one another.
type blockRef struct {
	offset     int64
	bytes, crc uint32
	rows       uint32
}

// position is where a row is: block<<8 | slot.
type position uint32

func (p position) block() int { return int(p >> 8) }
func (p position) slot() int  { return int(p & 0xff) }

// readCloserAt is what a segment needs of a file.
type readCloserAt interface {
	io.ReaderAt
	io.Closer
}

// segment is an open, immutable file of rows. Its methods may be called from several goroutines.
type segment struct {
	name string
	file readCloserAt
	size int64
	dim  int
	used atomic.Int64 // Unix seconds of the last use that the file's time tells

	keys   []byte // sorted, keyBytes each
	pos    []byte // of the key at the same place, posBytes each
	blocks []blockRef
	fan    []uint32 // fan[p] is the number of keys whose first bits are below p
	shift  uint     // first 64 bits of a key >> shift is its p
}

// openSegment opens and checks the segment at path: the whole index is read, no block. The error is errDamaged where the
// file is not what a writer of table id and width dim left.
func openSegment(path string, id tableID, dim int) (*segment, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, err
	}
	s, err := readSegment(f, info.Size(), id, dim)
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	s.name = filepath.Base(path)
	s.used.Store(info.ModTime().Unix())
	return s, nil
}

// readSegment is openSegment for any source of size bytes.
func readSegment(f readCloserAt, size int64, id tableID, dim int) (*segment, error) {
	var head [headerBytes]byte
	var t [trailerBytes]byte
	if size < int64(headerBytes+trailerBytes) {
		return nil, fmt.Errorf("%w: %d bytes", errDamaged, size)
	}
	if err := readAt(f, head[:], 0); err != nil {
		return nil, err
	}
	if err := readAt(f, t[:], size-int64(trailerBytes)); err != nil {
		return nil, err
	}
	if string(head[:]) != magic || string(t[48:]) != magic {
		return nil, fmt.Errorf("%w: no segment, or cut off", errDamaged)
	}
	if crc32.Checksum(t[:44], castagnoli) != binary.LittleEndian.Uint32(t[44:]) {
		return nil, fmt.Errorf("%w: trailer", errDamaged)
	}
	fileDim, n := binary.LittleEndian.Uint32(t[16:]), int64(binary.LittleEndian.Uint32(t[20:]))
	blocks, codec := int64(binary.LittleEndian.Uint32(t[24:])), binary.LittleEndian.Uint32(t[28:])
	data := binary.LittleEndian.Uint64(t[32:])
	if tableID(t[:16]) != id || int64(fileDim) != int64(dim) || codec != codecPlanes {
		return nil, fmt.Errorf("%w: of another table", errDamaged)
	}
	// The file's length bounds what is allocated here.
	index := n*int64(keyBytes+posBytes) + blocks*refBytes
	if data > uint64(size) || int64(headerBytes)+int64(data)+index+int64(trailerBytes) != size {
		return nil, fmt.Errorf("%w: its length is not %d keys and %d blocks", errDamaged, n, blocks)
	}
	b := make([]byte, index)
	if err := readAt(f, b, int64(headerBytes)+int64(data)); err != nil {
		return nil, err
	}
	if crc32.Checksum(b, castagnoli) != binary.LittleEndian.Uint32(t[40:]) {
		return nil, fmt.Errorf("%w: index", errDamaged)
	}
	keysEnd, posEnd := n*int64(keyBytes), n*int64(keyBytes+posBytes)
	s := &segment{file: f, size: size, dim: dim, keys: b[:keysEnd], pos: b[keysEnd:posEnd]}
	if err := s.readRefs(b[posEnd:], int64(data)); err != nil {
		return nil, err
	}
	return s, s.buildFan()
}

// readAt fills b. That the file ends before is damage; other errors say nothing about the file.
func readAt(f io.ReaderAt, b []byte, offset int64) error {
	n, err := f.ReadAt(b, offset)
	switch {
	case n == len(b):
		return nil
	case errors.Is(err, io.EOF):
		return fmt.Errorf("%w: it ends early", errDamaged)
	}
	return err
}

// readRefs reads the block table, whose blocks must fill data bytes exactly.
func (s *segment) readRefs(b []byte, data int64) error {
	s.blocks = make([]blockRef, len(b)/refBytes)
	offset, end := int64(headerBytes), int64(headerBytes)+data
	for i := range s.blocks {
		e := b[i*refBytes:]
		r := blockRef{offset, binary.LittleEndian.Uint32(e), binary.LittleEndian.Uint32(e[4:]), binary.LittleEndian.Uint32(e[8:])}
		if offset += int64(r.bytes); offset > end || r.rows == 0 || r.rows > uint32(blockRows(s.dim)) {
			return fmt.Errorf("%w: block %d", errDamaged, i)
		}
		s.blocks[i] = r
	}
	if offset != end {
		return fmt.Errorf("%w: %d bytes after the last block", errDamaged, end-offset)
	}
	return nil
}

// len returns the number of keys.
func (s *segment) len() int { return len(s.keys) / keyBytes }

func (s *segment) key(i int) Key { return Key(s.keys[i*keyBytes:]) }

func (s *segment) position(i int) position {
	return position(binary.LittleEndian.Uint32(s.pos[i*posBytes:]))
}

// buildFan checks keys and positions and counts the keys by their first bits, about 8 keys to a count.
func (s *segment) buildFan() error {
	n := s.len()
	width := uint(max(bits.Len(uint(n))-3, 1))
	s.shift = 64 - width
	s.fan = make([]uint32, 1<<width+1)
	var lastHi, lastLo uint64
	for i := range n {
		hi, lo := binary.BigEndian.Uint64(s.keys[i*keyBytes:]), binary.BigEndian.Uint64(s.keys[i*keyBytes+8:])
		if i > 0 && (hi < lastHi || hi == lastHi && lo <= lastLo) {
			return fmt.Errorf("%w: key %d is not above the one before", errDamaged, i)
		}
		lastHi, lastLo = hi, lo
		s.fan[hi>>s.shift+1]++
		if p := s.position(i); p.block() >= len(s.blocks) || p.slot() >= int(s.blocks[p.block()].rows) {
			return fmt.Errorf("%w: key %d is of no row", errDamaged, i)
		}
	}
	for p := 1; p < len(s.fan); p++ {
		s.fan[p] += s.fan[p-1]
	}
	return nil
}

// find returns where the row of a key is.
func (s *segment) find(k Key) (position, bool) {
	hi, lo := binary.BigEndian.Uint64(k[:]), binary.BigEndian.Uint64(k[8:])
	p := hi >> s.shift
	first, end := int(s.fan[p]), int(s.fan[p+1])
	for first < end { // keys are hashes, so this is short; a crafted index costs a binary search over all
		mid := (first + end) / 2
		b := s.keys[mid*keyBytes:]
		switch h := binary.BigEndian.Uint64(b); {
		case h < hi:
			first = mid + 1
		case h > hi:
			end = mid
		default:
			switch l := binary.BigEndian.Uint64(b[8:]); {
			case l < lo:
				first = mid + 1
			case l > lo:
				end = mid
			default:
				return s.position(mid), true
			}
		}
	}
	return 0, false
}

// readBlock reads a block as it is in the file and checks it against its checksum. It is valid until b is used again.
func (s *segment) readBlock(i int, b *[]byte) ([]byte, error) {
	r := s.blocks[i]
	block := grow(b, int(r.bytes))
	if err := readAt(s.file, block, r.offset); err != nil {
		return nil, err
	}
	if crc32.Checksum(block, castagnoli) != r.crc {
		return nil, fmt.Errorf("%w: block %d", errDamaged, i)
	}
	return block, nil
}

// readPlanes returns the byte planes of a block, in the memory of planes; b is scratch.
func (s *segment) readPlanes(i int, b, planes *[]byte) ([]byte, error) {
	block, err := s.readBlock(i, b)
	if err != nil {
		return nil, err
	}
	p, err := decodeBlock(planes, block, int(s.blocks[i].rows)*s.dim)
	if err != nil {
		return nil, fmt.Errorf("%w: block %d: %v", errDamaged, i, err)
	}
	return p, nil
}
