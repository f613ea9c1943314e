package embedcache

import (
	"crypto/sha256"
	"encoding/binary"
	"hash"
)

// Key names one item: the first 128 bits of the SHA-256 of its framed parts. What the parts must tell apart is the items
// of one table, so the same picture has one key for every model that reads it.
type Key [16]byte

// Kinds of parts, which a hasher frames with.
const (
	partBytes  = 'b'
	partInt32s = 'i'
)

// KeyHasher makes keys of parts. Hashed is of each part a byte for its kind (b: bytes, i: numbers of four bytes, the
// lowest first), its length as eight bytes, the lowest first, and its content; so ("ab", "c") and ("a", "bc"), or the ids
// {1} and the four bytes of that number, have different keys. One hasher serves many keys and allocates nothing after the
// first; it is not safe for use from several goroutines.
type KeyHasher struct {
	h     hash.Hash
	frame [9]byte
	chunk [512]byte
	sum   [sha256.Size]byte
}

// NewKeyHasher returns a hasher without parts.
func NewKeyHasher() *KeyHasher { return &KeyHasher{h: sha256.New()} }

// Bytes adds a part.
func (k *KeyHasher) Bytes(b []byte) {
	k.begin(partBytes, len(b))
	k.h.Write(b)
}

// String adds the same part as Bytes of the string's bytes.
func (k *KeyHasher) String(s string) {
	k.begin(partBytes, len(s))
	for len(s) > 0 {
		n := copy(k.chunk[:], s)
		k.h.Write(k.chunk[:n])
		s = s[n:]
	}
}

// Int32s adds numbers, such as token ids, as one part.
func (k *KeyHasher) Int32s(v []int32) {
	k.begin(partInt32s, len(v))
	for len(v) > 0 {
		n := min(len(v), len(k.chunk)/4)
		for i, x := range v[:n] {
			binary.LittleEndian.PutUint32(k.chunk[4*i:], uint32(x))
		}
		k.h.Write(k.chunk[:4*n])
		v = v[n:]
	}
}

// begin writes the frame of a part of n bytes or numbers.
func (k *KeyHasher) begin(kind byte, n int) {
	k.frame[0] = kind
	binary.LittleEndian.PutUint64(k.frame[1:], uint64(n))
	k.h.Write(k.frame[:])
}

// Key returns the key of the parts since the last Key, and forgets them.
func (k *KeyHasher) Key() Key {
	return Key(k.digest()[:len(Key{})])
}

// digest is Key before it is cut. It is valid until the next digest.
func (k *KeyHasher) digest() []byte {
	sum := k.h.Sum(k.sum[:0])
	k.h.Reset()
	return sum
}
