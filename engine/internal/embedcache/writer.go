package embedcache

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/binary"
	"hash/crc32"
	"os"
	"slices"
	"time"

	"github.com/tia2-engine/tia2-engine/internal/atomicfile"
)

// entry is a key and where its row is.
type entry struct {
	key Key
	pos position
}

// segmentWriter writes a segment, which exists from commit on. It is not safe for use from several goroutines.
//
// A position has 24 bits for the block. No segment comes near: segmentBytesMax of full blocks of zeros, the most that
// compression can do, are some ten million.
type segmentWriter struct {
	file    *atomicfile.File
	buf     *bufio.Writer
	id      tableID
	dim     int
	entries []entry
	blocks  []blockRef
	data    int64

	keys          []Key // of the rows that wait for their block to be full
	rows          []float32
	block, planes []byte // scratch
}

func newSegmentWriter(path string, id tableID, dim int) (*segmentWriter, error) {
	f, err := atomicfile.Create(path)
	if err != nil {
		return nil, err
	}
	w := &segmentWriter{file: f, buf: bufio.NewWriterSize(f, 256<<10), id: id, dim: dim}
	_, _ = w.buf.WriteString(magic) // errors come again at Flush
	return w, nil
}

// add adds the row of a key that was not added before.
func (w *segmentWriter) add(key Key, row []float32) error {
	w.keys = append(w.keys, key)
	w.rows = append(w.rows, row...)
	if len(w.keys) < blockRows(w.dim) {
		return nil
	}
	return w.endBlock()
}

// endBlock writes the rows that wait.
func (w *segmentWriter) endBlock() error {
	if len(w.keys) == 0 {
		return nil
	}
	w.block = appendBlock(w.block[:0], w.rows, &w.planes)
	err := w.addBlock(w.block, w.keys)
	w.keys, w.rows = w.keys[:0], w.rows[:0]
	return err
}

// addBlock adds a compressed block as it is, with the keys of all its rows.
func (w *segmentWriter) addBlock(block []byte, keys []Key) error {
	for slot, key := range keys {
		w.entries = append(w.entries, entry{key, position(len(w.blocks)<<8 | slot)})
	}
	crc := crc32.Checksum(block, castagnoli)
	w.blocks = append(w.blocks, blockRef{bytes: uint32(len(block)), crc: crc, rows: uint32(len(keys))})
	w.data += int64(len(block))
	_, err := w.buf.Write(block)
	return err
}

// commit ends the segment and gives it its final name and, unless zero, the time of its last use.
func (w *segmentWriter) commit(used time.Time) error {
	defer w.abort()
	if err := w.endBlock(); err != nil {
		return err
	}
	slices.SortFunc(w.entries, func(a, b entry) int { return bytes.Compare(a.key[:], b.key[:]) })
	index := make([]byte, 0, len(w.entries)*(keyBytes+posBytes)+len(w.blocks)*refBytes+trailerBytes)
	for _, e := range w.entries {
		index = append(index, e.key[:]...)
	}
	for _, e := range w.entries {
		index = binary.LittleEndian.AppendUint32(index, uint32(e.pos))
	}
	for _, r := range w.blocks {
		index = binary.LittleEndian.AppendUint32(index, r.bytes)
		index = binary.LittleEndian.AppendUint32(index, r.crc)
		index = binary.LittleEndian.AppendUint32(index, r.rows)
	}
	index = w.appendTrailer(index)
	if _, err := w.buf.Write(index); err != nil {
		return err
	}
	if err := w.buf.Flush(); err != nil {
		return err
	}
	if !used.IsZero() {
		if err := os.Chtimes(w.file.Name(), time.Time{}, used); err != nil {
			return err
		}
	}
	return w.file.Commit()
}

// appendTrailer appends the trailer of an index.
func (w *segmentWriter) appendTrailer(index []byte) []byte {
	crc := crc32.Checksum(index, castagnoli)
	t := len(index)
	index = append(index, w.id[:]...)
	index = binary.LittleEndian.AppendUint32(index, uint32(w.dim))
	index = binary.LittleEndian.AppendUint32(index, uint32(len(w.entries)))
	index = binary.LittleEndian.AppendUint32(index, uint32(len(w.blocks)))
	index = binary.LittleEndian.AppendUint32(index, codecPlanes)
	index = binary.LittleEndian.AppendUint64(index, uint64(w.data))
	index = binary.LittleEndian.AppendUint32(index, crc)
	index = binary.LittleEndian.AppendUint32(index, crc32.Checksum(index[t:], castagnoli))
	return append(index, magic...)
}

// abort removes what was written. After a commit that succeeded it does nothing.
func (w *segmentWriter) abort() { w.file.Abort() }

// sortByPosition orders entries as their rows are in the file.
func sortByPosition(entries []entry) {
	slices.SortFunc(entries, func(a, b entry) int { return cmp.Compare(a.pos, b.pos) })
}
