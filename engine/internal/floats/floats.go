// Package floats converts float32 values to and from the narrower types that weight files hold: IEEE half, bfloat16,
// and ggml's q8_0 blocks.
//
// Rounding is to nearest, ties to even, as PyTorch and the F16C instructions do; subnormals, infinities and NaN are
// kept. All byte forms are little-endian.
package floats

import (
	"encoding/binary"
	"fmt"
	"math"
)

// FromF16 returns the value of an IEEE half.
func FromF16(h uint16) float32 {
	sign := uint32(h&0x8000) << 16
	exp, frac := uint32(h>>10)&0x1f, uint32(h&0x3ff)
	switch exp {
	case 0: // zero and subnormals: frac * 2^-24, exact in float32
		v := float32(frac) * (1.0 / (1 << 24))
		return math.Float32frombits(sign | math.Float32bits(v))
	case 0x1f:
		return math.Float32frombits(sign | 0x7f800000 | frac<<13)
	}
	return math.Float32frombits(sign | (exp+112)<<23 | frac<<13)
}

// ToF16 rounds to an IEEE half. Values from 65520 on become infinite; a NaN stays a (quiet) NaN.
func ToF16(f float32) uint16 {
	b := math.Float32bits(f)
	sign, abs := uint16(b>>16)&0x8000, b&0x7fffffff
	switch {
	case abs > 0x7f800000:
		return sign | 0x7e00 | uint16(abs>>13)&0x1ff
	case abs >= 0x477ff000: // 65520
		return sign | 0x7c00
	case abs < 0x38800000: // below 2^-14: a multiple of 2^-24
		if abs < 0x33000000 { // below 2^-25: zero (2^-25 itself is a tie and goes to even, zero, below)
			return sign
		}
		exp := abs >> 23
		mant := abs&0x7fffff | 0x800000
		shift := 126 - exp // 14..24
		half, rest := mant>>shift, mant&(1<<shift-1)
		if mid := uint32(1) << (shift - 1); rest > mid || rest == mid && half&1 == 1 {
			half++
		}
		return sign | uint16(half)
	}
	abs += 0xfff + abs>>13&1 // ties to even; a carry moves into the exponent, as it should
	return sign | uint16((abs-0x38000000)>>13)
}

// FromBF16 returns the value of a bfloat16.
func FromBF16(h uint16) float32 { return math.Float32frombits(uint32(h) << 16) }

// ToBF16 rounds to bfloat16. A NaN stays a (quiet) NaN.
func ToBF16(f float32) uint16 {
	b := math.Float32bits(f)
	if b&0x7fffffff > 0x7f800000 {
		return uint16(b>>16) | 0x40
	}
	return uint16((b + 0x7fff + b>>16&1) >> 16)
}

// Q8_0 stores 32 values as a half scale d and 32 signed bytes; a value is d * byte.
const (
	Q8Values = 32 // values a block
	Q8Bytes  = 34 // bytes a block
)

// ToQ8 writes the q8_0 blocks of src to dst, bit for bit as ggml's quantize_row_q8_0_ref does. len(src) must be a
// multiple of 32 and len(dst) what its blocks need.
func ToQ8(dst []byte, src []float32) {
	if len(src)%Q8Values != 0 || len(dst) != len(src)/Q8Values*Q8Bytes {
		panic(fmt.Sprintf("floats: q8_0 of %d values into %d bytes", len(src), len(dst)))
	}
	for ; len(src) > 0; src, dst = src[Q8Values:], dst[Q8Bytes:] {
		var amax float32
		for _, v := range src[:Q8Values] {
			amax = max(amax, float32(math.Abs(float64(v))))
		}
		d := amax / 127
		var inverse float32
		if d >= 1e-37 { // below, 1/d overflows and the half scale is 0 anyhow
			inverse = 1 / d
		}
		binary.LittleEndian.PutUint16(dst, ToF16(d))
		for i, v := range src[:Q8Values] {
			dst[2+i] = byte(int8(math.Round(float64(float32(v * inverse))))) // half away from zero, as C's roundf
		}
	}
}

// FromQ8 writes the values of the q8_0 blocks src to dst, whose length must be 32 for each 34 bytes.
func FromQ8(dst []float32, src []byte) {
	if len(dst)%Q8Values != 0 || len(src) != len(dst)/Q8Values*Q8Bytes {
		panic(fmt.Sprintf("floats: %d values of %d bytes of q8_0", len(dst), len(src)))
	}
	for ; len(dst) > 0; src, dst = src[Q8Bytes:], dst[Q8Values:] {
		d := FromF16(binary.LittleEndian.Uint16(src))
		for i := range Q8Values {
			dst[i] = d * float32(int8(src[2+i]))
		}
	}
}

// NonFinite returns how many values are NaN or infinite.
func NonFinite(x []float32) (n int) {
	for _, v := range x {
		if math.Float32bits(v)&0x7f800000 == 0x7f800000 {
			n++
		}
	}
	return n
}
