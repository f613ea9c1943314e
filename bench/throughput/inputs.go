package throughput

import (
	"bytes"
	"fmt"
	"hash/fnv"
	"image"
	"image/color"
	"image/jpeg"
	"math/rand/v2"

	"github.com/tia2-engine/tia2-engine/engine"
)

// TextSetSize is the number of texts of one prompt set of [Texts]: a prompt and its 32 contrastive ones, as in TIA2's
// composition set.
const TextSetSize = 33

// nouns are what the texts speak of, each with its article and its plural.
var nouns = []struct{ one, many string }{
	{"an airplane", "airplanes"}, {"an apple", "apples"}, {"a bicycle", "bicycles"}, {"a cat", "cats"},
	{"a chair", "chairs"}, {"a dog", "dogs"}, {"an elephant", "elephants"}, {"a horse", "horses"},
	{"a teddy bear", "teddy bears"}, {"an umbrella", "umbrellas"}, {"a vase", "vases"}, {"a wine glass", "wine glasses"},
}

var numbers = []string{"two", "three", "four", "five"}

// Texts returns n texts, the same ones every time, in the manner of TIA2's composition prompts: sets of TextSetSize
// that share a pair of things and differ in how many of each there are. They repeat after 66 sets.
func Texts(n int) []string {
	texts := make([]string, 0, n+TextSetSize)
	for len(texts) < n {
		for a := range nouns {
			for b := a + 1; b < len(nouns) && len(texts) < n; b++ {
				texts = appendSet(texts, a, b)
			}
		}
	}
	return texts[:n]
}

// appendSet appends the prompt "a and b", then each thing alone in every number, then all other pairs of numbers.
func appendSet(texts []string, a, b int) []string {
	counts := func(i int) []string {
		out := []string{nouns[i].one}
		for _, n := range numbers {
			out = append(out, n+" "+nouns[i].many)
		}
		return out
	}
	as, bs := counts(a), counts(b)
	const start = "a realistic photo of "
	texts = append(texts, start+as[0]+" and "+bs[0])
	for i := range len(numbers) { // alone: one to four
		texts = append(texts, start+as[i], start+bs[i])
	}
	for i := range as {
		for j := range bs {
			if i+j > 0 {
				texts = append(texts, start+as[i]+" and "+bs[j])
			}
		}
	}
	return texts
}

// Pictures returns n JPEG files of side x side pixels, held in memory, the same ones every time: coloured shapes on a
// gradient under camera-like noise, which compress about as far as a photograph of that size.
func Pictures(n, side int) ([]engine.Image, error) {
	pictures := make([]engine.Image, n)
	for i := range pictures {
		var file bytes.Buffer
		if err := jpeg.Encode(&file, drawPicture(uint64(i), side), &jpeg.Options{Quality: 90}); err != nil {
			return nil, fmt.Errorf("picture %d: %w", i, err)
		}
		pictures[i] = engine.Image{Name: fmt.Sprintf("picture_%03d.jpg", i), Data: file.Bytes()}
	}
	return pictures, nil
}

func drawPicture(seed uint64, side int) image.Image {
	rng := rand.New(rand.NewPCG(seed, 2024))
	img := image.NewRGBA(image.Rect(0, 0, side, side))
	type disc struct {
		x, y, r int
		c       [3]int
	}
	discs := make([]disc, 24)
	for i := range discs {
		discs[i] = disc{rng.IntN(side), rng.IntN(side), side/32 + rng.IntN(side/6+1), [3]int{rng.IntN(256), rng.IntN(256), rng.IntN(256)}}
	}
	sky := [3]int{rng.IntN(128), rng.IntN(128), rng.IntN(128)}
	for y := range side {
		for x := range side {
			c := [3]int{sky[0] + 127*y/side, sky[1] + 127*x/side, sky[2] + 127*(x+y)/(2*side)}
			for _, d := range discs {
				if (x-d.x)*(x-d.x)+(y-d.y)*(y-d.y) < d.r*d.r {
					c = d.c
				}
			}
			noise := rng.Uint32()
			for k := range c {
				c[k] += int(noise>>(8*k)&15) - 8
			}
			img.SetRGBA(x, y, color.RGBA{clamp(c[0]), clamp(c[1]), clamp(c[2]), 255})
		}
	}
	return img
}

func clamp(v int) uint8 { return uint8(min(max(v, 0), 255)) }

// noisePixels returns n preprocessed pictures of random bytes: u8 [n, side, side, 3].
func noisePixels(n, side int) engine.Pixels {
	u8 := make([]uint8, n*side*side*3)
	rng := rand.New(rand.NewPCG(1, 2024))
	for i := range u8 {
		u8[i] = uint8(rng.Uint32())
	}
	return engine.Pixels{N: n, U8: u8}
}

// Tokenizer is what a model may have besides [Model]: the token ids of texts, each from its first special token to the
// one it is pooled at. A model without it is measured with made-up ids of the same number.
type Tokenizer interface {
	Tokenize(texts []string) ([][]int32, error)
}

// tokenIDs returns the ids of texts by the model's own tokenizer, or ids drawn from its vocabulary where it offers none:
// a start token, one a word, an end token, the same word always the same id.
func tokenIDs(m any, info engine.Info, texts []string) ([][]int32, error) {
	if t, ok := m.(Tokenizer); ok {
		return t.Tokenize(texts)
	}
	if info.VocabSize < 3 || info.Context < 2 {
		return nil, fmt.Errorf("model %s: vocabulary of %d, context of %d: expected at least 3 and 2", info.Spec, info.VocabSize, info.Context)
	}
	start, end := int32(info.VocabSize-2), int32(info.VocabSize-1)
	ids := make([][]int32, len(texts))
	for i, text := range texts {
		row := []int32{start}
		for _, word := range bytes.Fields([]byte(text)) {
			if len(row) == info.Context-1 {
				break
			}
			hash := fnv.New32a()
			_, _ = hash.Write(word)
			row = append(row, int32(hash.Sum32()%uint32(info.VocabSize-2)))
		}
		ids[i] = append(row, end)
	}
	return ids, nil
}
