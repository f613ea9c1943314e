package embedcache

import (
	"crypto/sha256"
	"encoding/binary"
	"strings"
	"testing"
)

func TestKeyFraming(t *testing.T) {
	long := strings.Repeat("0123456789", 300)
	ids := make([]int32, 700)
	for i := range ids {
		ids[i] = int32(-i * 7919)
	}
	parts := map[string]func(h *KeyHasher){
		"nothing":      func(*KeyHasher) {},
		"empty":        func(h *KeyHasher) { h.String("") },
		"empty ids":    func(h *KeyHasher) { h.Int32s(nil) },
		"two empty":    func(h *KeyHasher) { h.String(""); h.Bytes(nil) },
		"abc":          func(h *KeyHasher) { h.String("abc") },
		"ab c":         func(h *KeyHasher) { h.String("ab"); h.String("c") },
		"a bc":         func(h *KeyHasher) { h.String("a"); h.String("bc") },
		"1":            func(h *KeyHasher) { h.Int32s([]int32{1}) },
		"1 as bytes":   func(h *KeyHasher) { h.Bytes([]byte{1, 0, 0, 0}) },
		"1 2":          func(h *KeyHasher) { h.Int32s([]int32{1, 2}) },
		"1, 2":         func(h *KeyHasher) { h.Int32s([]int32{1}); h.Int32s([]int32{2}) },
		"long":         func(h *KeyHasher) { h.String(long) },
		"long but one": func(h *KeyHasher) { h.String(long[1:]) },
		"ids":          func(h *KeyHasher) { h.Int32s(ids) },
		"ids but one":  func(h *KeyHasher) { h.Int32s(ids[:699]) },
	}
	h := NewKeyHasher()
	seen := map[Key]string{}
	for name, add := range parts {
		add(h)
		k := h.Key()
		if other, found := seen[k]; found {
			t.Errorf("%q and %q have one key", name, other)
		}
		seen[k] = name
		fresh := NewKeyHasher()
		if add(fresh); fresh.Key() != k {
			t.Errorf("%q: a used hasher gives another key", name)
		}
	}
	h.String(long)
	a := h.Key()
	if h.Bytes([]byte(long)); h.Key() != a {
		t.Error("String and Bytes differ")
	}
}

// The key is what KeyHasher's comment says, so that another program could make it.
func TestKeyIsSHA256(t *testing.T) {
	h := NewKeyHasher()
	h.String("ab")
	h.Int32s([]int32{-2, 5})
	framed := []byte("b\x02\x00\x00\x00\x00\x00\x00\x00abi\x02\x00\x00\x00\x00\x00\x00\x00")
	framed = binary.LittleEndian.AppendUint32(framed, 0xfffffffe)
	framed = binary.LittleEndian.AppendUint32(framed, 5)
	sum := sha256.Sum256(framed)
	if got := h.Key(); got != Key(sum[:16]) {
		t.Errorf("%x, want %x", got, sum[:16])
	}
}

func TestKeyAllocates(t *testing.T) {
	h := NewKeyHasher()
	picture, ids, text := make([]byte, 10_000), make([]int32, 77), strings.Repeat("a photo ", 100)
	if n := testing.AllocsPerRun(100, func() { h.Bytes(picture); h.Int32s(ids); h.String(text); h.Key() }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkKey(b *testing.B) {
	h, picture := NewKeyHasher(), make([]byte, 200_000)
	b.SetBytes(int64(len(picture)))
	for b.Loop() {
		h.Bytes(picture)
		h.Key()
	}
}
