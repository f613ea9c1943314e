package embedcache

import (
	"fmt"
	"math"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// blockBytes is the size of a full block before compression. A lookup of one row decodes its whole block: of 8 KiB to
// 128 KiB, 16 KiB costs 1 % of the ratio and a lone lookup some 20 us.
const blockBytes = 16 << 10

// blockRowsMax is what the low byte of a position can count.
const blockRowsMax = 256

// blockRows returns how many rows of width dim a full block holds.
func blockRows(dim int) int { return min(max(blockBytes/(4*dim), 1), blockRowsMax) }

// encoder and decoder are used by EncodeAll and DecodeAll only, which any number of goroutines may call.
var (
	encoder = sync.OnceValue(func() *zstd.Encoder {
		e, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedDefault), zstd.WithEncoderCRC(true),
			zstd.WithSingleSegment(true), zstd.WithEncoderConcurrency(1), zstd.WithLowerEncoderMem(true))
		if err != nil {
			panic(err) // an option is out of its range
		}
		return e
	})
	decoder = sync.OnceValue(func() *zstd.Decoder {
		// The limit is the capacity of the buffer, so that a damaged frame cannot ask for more.
		d, err := zstd.NewReader(nil, zstd.WithDecodeAllCapLimit(true), zstd.WithDecoderConcurrency(0))
		if err != nil {
			panic(err) // an option is out of its range
		}
		return d
	})
)

// appendBlock appends the block of rows to dst: byte plane 0 (the lowest byte of every value), 1, 2 and 3, each a zstd
// frame of its own. In one frame the three planes of noise make the encoder give up on the fourth. planes is scratch.
func appendBlock(dst []byte, rows []float32, planes *[]byte) []byte {
	n := len(rows)
	p := grow(planes, 4*n)
	p0, p1, p2, p3 := p[:n], p[n:2*n], p[2*n:3*n], p[3*n:4*n]
	for i, v := range rows {
		u := math.Float32bits(v)
		p0[i], p1[i], p2[i], p3[i] = byte(u), byte(u>>8), byte(u>>16), byte(u>>24)
	}
	for i := 0; i < 4*n; i += n {
		dst = encoder().EncodeAll(p[i:i+n], dst)
	}
	return dst
}

// decodeBlock returns the byte planes of a block of n values, in the memory of planes.
func decodeBlock(planes *[]byte, block []byte, n int) ([]byte, error) {
	p, err := decoder().DecodeAll(block, grow(planes, 4*n)[:0:4*n])
	if err != nil {
		return nil, err
	}
	if len(p) != 4*n {
		return nil, fmt.Errorf("%d bytes of %d values", len(p), n)
	}
	return p, nil
}

// rowOf copies row slot out of a block's byte planes.
func rowOf(dst []float32, planes []byte, slot int) {
	n, d := len(planes)/4, len(dst)
	at := slot * d
	p0, p1, p2, p3 := planes[at:][:d], planes[n+at:][:d], planes[2*n+at:][:d], planes[3*n+at:][:d]
	for i := range dst {
		dst[i] = math.Float32frombits(uint32(p0[i]) | uint32(p1[i])<<8 | uint32(p2[i])<<16 | uint32(p3[i])<<24)
	}
}

// grow returns n bytes of *b, which it replaces where it is too small.
func grow(b *[]byte, n int) []byte {
	if cap(*b) < n {
		*b = make([]byte, n)
	}
	return (*b)[:n]
}
