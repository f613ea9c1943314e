package floats

import (
	"bytes"
	"encoding/binary"
	"math"
	"os"
	"testing"
)

// casts.bin: see testdata/make_casts.py. NaNs may differ in payload but must stay NaN with the same sign.
func TestCastsEqualPyTorch(t *testing.T) {
	b, err := os.ReadFile("testdata/casts.bin")
	if err != nil {
		t.Fatal(err)
	}
	n := int(binary.LittleEndian.Uint32(b))
	if b = b[4:]; n == 0 || len(b) != 8*n {
		t.Fatalf("%d values in %d bytes", n, len(b))
	}
	f16, bf16 := b[4*n:6*n], b[6*n:]
	for i := range n {
		v := math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:]))
		want16, wantBF := binary.LittleEndian.Uint16(f16[2*i:]), binary.LittleEndian.Uint16(bf16[2*i:])
		got16, gotBF := ToF16(v), ToBF16(v)
		if v != v {
			if x := FromF16(got16); x == x || math.Signbit(float64(x)) != math.Signbit(float64(v)) {
				t.Errorf("f16 of NaN %08x: got %04x", math.Float32bits(v), got16)
			}
			if x := FromBF16(gotBF); x == x {
				t.Errorf("bf16 of NaN %08x: got %04x", math.Float32bits(v), gotBF)
			}
			continue
		}
		if got16 != want16 {
			t.Errorf("f16 of %g (%08x): got %04x, PyTorch %04x", v, math.Float32bits(v), got16, want16)
		}
		if gotBF != wantBF {
			t.Errorf("bf16 of %g (%08x): got %04x, PyTorch %04x", v, math.Float32bits(v), gotBF, wantBF)
		}
	}
}

func TestEveryHalfSurvives(t *testing.T) {
	for h := range 1 << 16 {
		v := FromF16(uint16(h))
		want := float64(h&0x3ff) / 1024 // from the definition: (-1)^s 2^(e-15) (1 + f/1024), subnormal 2^-14 f/1024
		switch exp := h >> 10 & 0x1f; exp {
		case 0:
			want *= math.Pow(2, -14)
		case 31:
			if h&0x3ff != 0 {
				if v == v {
					t.Fatalf("%04x: got %g, expected NaN", h, v)
				}
				continue
			}
			want = math.Inf(1)
		default:
			want = (1 + want) * math.Pow(2, float64(exp-15))
		}
		if h&0x8000 != 0 {
			want = -want
		}
		if float64(v) != want || math.Signbit(float64(v)) != (h&0x8000 != 0) {
			t.Fatalf("%04x: got %g, expected %g", h, v, want)
		}
		if back := ToF16(v); back != uint16(h) {
			t.Fatalf("%04x: came back as %04x", h, back)
		}
		if v := FromBF16(uint16(h)); v == v && ToBF16(v) != uint16(h) {
			t.Fatalf("bf16 %04x: came back as %04x", h, ToBF16(v))
		}
	}
}

// q8_0.bin: see testdata/make_q8.c.
func TestQ8EqualsGGML(t *testing.T) {
	b, err := os.ReadFile("testdata/q8_0.bin")
	if err != nil {
		t.Fatal(err)
	}
	n := len(b) / (4*Q8Values + Q8Bytes) * Q8Values
	x := make([]float32, n)
	for i := range x {
		x[i] = math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:]))
	}
	want := b[4*n:]
	got := make([]byte, len(want))
	ToQ8(got, x)
	for i := 0; i < len(want); i += Q8Bytes {
		if !bytes.Equal(got[i:i+Q8Bytes], want[i:i+Q8Bytes]) {
			t.Errorf("block %d: got % x, ggml % x", i/Q8Bytes, got[i:i+Q8Bytes], want[i:i+Q8Bytes])
		}
	}
	back := make([]float32, n)
	FromQ8(back, got)
	for i := range x {
		d := FromF16(binary.LittleEndian.Uint16(got[i/Q8Values*Q8Bytes:]))
		// half a step of rounding, and the scale's own rounding (2^-11, or 2^-25 below f16's normal range) of 127 steps
		if tol := 0.5*d + 127*max(d/2048, 1.0/(1<<25)); float32(math.Abs(float64(back[i]-x[i]))) > tol {
			t.Errorf("value %d: %g came back as %g", i, x[i], back[i])
		}
	}
}

func TestNonFinite(t *testing.T) {
	inf, nan := float32(math.Inf(-1)), float32(math.NaN())
	if n := NonFinite([]float32{0, 1, inf, math.MaxFloat32, nan, -nan}); n != 3 {
		t.Errorf("got %d, expected 3", n)
	}
}
