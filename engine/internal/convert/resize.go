package convert

import (
	"fmt"
	"math"
)

// resize makes a model of the BLIP family one of another picture size: it interpolates the position embedding. 0: none.
func (m *model) resize(side int) error {
	switch s := m.spec; {
	case side == 0:
		return nil
	case s.Pair.Outputs == 0:
		return fmt.Errorf("%s: the picture size of this model (%s) is fixed: --image-size (the option ImageSize) is for BLIP, BLIP-2 and ImageReward", m.source.path, m.family.name)
	case side < 0 || side > maxSide || side%s.PatchSize != 0:
		return fmt.Errorf("%s: --image-size (the option ImageSize) is %d: expected a multiple of the patches' %d pixels, at most %d", m.source.path, side, s.PatchSize, maxSide)
	case side == s.ImageSize:
		return nil
	}
	from, width := m.spec.ImageSize/m.spec.PatchSize, m.spec.Vision.Width
	m.spec.ImageSize, m.preprocess.Size = side, side
	for i := range m.outputs {
		if o := &m.outputs[i]; o.name == "v.position_embd" {
			o.rows = int64(m.spec.imageTokens())
			o.compute = func(values [][]float32) []float32 {
				return resizePositions(values[0], from, side/m.spec.PatchSize, width)
			}
		}
	}
	return nil
}

// resizePositions interpolates a position embedding [1 + from*from, width] to [1 + to*to, width]. The class token's row
// stays; the others are a square picture that is resized bicubically (a = -0.75, pixels' centres, no antialiasing), its
// border repeated outwards.
//
// Source: BLIP models/vit.py interpolate_pos_embed, torch aten UpSampleKernel.cpp.
func resizePositions(x []float32, from, to, width int) []float32 {
	out := make([]float32, (1+to*to)*width)
	copy(out, x[:width])
	grid, taps := x[width:], bicubicTaps(from, to)
	sum := make([]float64, width)
	for r, rows := range taps {
		for c, cols := range taps {
			clear(sum)
			for _, row := range rows {
				for _, col := range cols {
					weight := row.weight * col.weight
					for i, v := range grid[(row.at*from+col.at)*width:][:width] {
						sum[i] += weight * float64(v)
					}
				}
			}
			copy(out[(1+r*to+c)*width:], round(sum))
		}
	}
	return out
}

// tap is a value that counts for a resized one, and how much.
type tap struct {
	at     int
	weight float64
}

// bicubicTaps returns the four taps of each of `to` values that are resized from `from`. Positions are float32, as torch
// has them.
func bicubicTaps(from, to int) [][4]tap {
	taps := make([][4]tap, to)
	scale := float32(from) / float32(to)
	for i := range taps {
		at := float32(scale*(float32(i)+0.5)) - 0.5
		first := math.Floor(float64(at))
		t := float64(at) - first
		for k, distance := range []float64{t + 1, t, 1 - t, 2 - t} {
			taps[i][k] = tap{min(max(int(first)+k-1, 0), from-1), cubic(distance)}
		}
	}
	return taps
}

// cubic is the convolution kernel of Keys with a = -0.75, for distances of 0 to 2.
func cubic(d float64) float64 {
	const a = -0.75
	if d <= 1 {
		return ((a+2)*d-(a+3))*d*d + 1
	}
	return ((a*d-5*a)*d+8*a)*d - 4*a
}
