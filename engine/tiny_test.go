package engine_test

import (
	"encoding/binary"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/tia2-engine/tia2-engine/engine/internal/gguf"
)

// tinyCLIP is a whole CLIP of a few kilobytes that tests damage: pictures of 8 x 8 in patches of 4 x 4, one block per
// tower of width 32, texts of 4 tokens, embeddings of width 8.
type tinyCLIP struct {
	kvs     []gguf.KV
	tensors []gguf.Tensor
	values  map[string]float32 // what a tensor is filled with, where it is not noise
}

const tinyImage, tinyWidth, tinyDim, tinyContext = 8, 32, 8, 4

// newTinyCLIP makes one with a vocabulary that fits the tokenizer, or with 16 tokens where only C reads it.
func newTinyCLIP(vocab uint32) *tinyCLIP {
	c := &tinyCLIP{values: map[string]float32{"logit_scale": 4}}
	c.kvs = []gguf.KV{
		{Key: "general.architecture", Value: "clip"}, {Key: "general.name", Value: "tiny"},
		{Key: "tia2.format", Value: uint32(1)}, {Key: "tia2.reward", Value: "clip"}, {Key: "clip.embed_dim", Value: uint32(tinyDim)},
		{Key: "clip.vision.image_size", Value: uint32(tinyImage)}, {Key: "clip.vision.patch_size", Value: uint32(4)},
		{Key: "clip.text.context", Value: uint32(tinyContext)}, {Key: "clip.text.vocab_size", Value: vocab},
		{Key: "tokenizer.kind", Value: "open_clip"}, {Key: "tokenizer.merges", Value: []string{"a b", "ab c</w>"}},
		{Key: "tokenizer.vocab_size", Value: vocab}, {Key: "tokenizer.sot", Value: vocab - 2}, {Key: "tokenizer.eot", Value: vocab - 1},
		{Key: "preprocess.pipeline", Value: "open_clip"}, {Key: "preprocess.size", Value: uint32(tinyImage)},
		{Key: "preprocess.mean", Value: []float32{0.5, 0.5, 0.5}}, {Key: "preprocess.std", Value: []float32{0.25, 0.25, 0.25}},
	}
	for _, section := range []string{"vision", "text"} {
		c.kvs = append(c.kvs,
			gguf.KV{Key: "clip." + section + ".width", Value: uint32(tinyWidth)}, gguf.KV{Key: "clip." + section + ".heads", Value: uint32(2)},
			gguf.KV{Key: "clip." + section + ".layers", Value: uint32(1)}, gguf.KV{Key: "clip." + section + ".mlp_width", Value: uint32(32)},
			gguf.KV{Key: "clip." + section + ".layer_norm_eps", Value: float32(1e-5)}, gguf.KV{Key: "clip." + section + ".activation", Value: "gelu"})
	}
	c.add("v.class_embd", tinyWidth)
	c.add("v.position_embd", tinyWidth, 5)
	c.add("v.patch_embd.weight", 3*4*4, tinyWidth)
	c.addNorm("v.pre_ln")
	c.add("t.token_embd.weight", tinyWidth, uint64(vocab))
	c.add("t.position_embd", tinyWidth, tinyContext)
	for _, tower := range []string{"v", "t"} {
		b := tower + ".blk.0."
		c.addNorm(b + "ln1")
		c.addLinear(b+"attn_qkv", tinyWidth, 3*tinyWidth)
		c.addLinear(b+"attn_out", tinyWidth, tinyWidth)
		c.addNorm(b + "ln2")
		c.addLinear(b+"ffn_up", tinyWidth, 32)
		c.addLinear(b+"ffn_down", 32, tinyWidth)
		c.addNorm(tower + ".post_ln")
		c.add(tower+".proj.weight", tinyWidth, tinyDim)
	}
	c.add("logit_scale", 1)
	return c
}

func (c *tinyCLIP) add(name string, dims ...uint64) {
	c.tensors = append(c.tensors, gguf.Tensor{Name: name, Dims: dims, Type: gguf.F32})
}

func (c *tinyCLIP) addNorm(name string) {
	c.add(name+".weight", tinyWidth)
	c.add(name+".bias", tinyWidth)
	c.values[name+".weight"] = 1
}

func (c *tinyCLIP) addLinear(name string, in, out uint64) {
	c.add(name+".weight", in, out)
	c.add(name+".bias", out)
}

// set changes a metadata key or adds it; nil removes it.
func (c *tinyCLIP) set(key string, value any) {
	for i := range c.kvs {
		if c.kvs[i].Key == key {
			if value == nil {
				c.kvs = append(c.kvs[:i], c.kvs[i+1:]...)
			} else {
				c.kvs[i].Value = value
			}
			return
		}
	}
	c.kvs = append(c.kvs, gguf.KV{Key: key, Value: value})
}

func (c *tinyCLIP) tensor(name string) *gguf.Tensor {
	for i := range c.tensors {
		if c.tensors[i].Name == name {
			return &c.tensors[i]
		}
	}
	panic("no tensor " + name)
}

// write puts the model into a new file.
func (c *tinyCLIP) write(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "tiny.gguf")
	w, err := gguf.Create(path, c.kvs, c.tensors)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	random := false
	for _, kv := range c.kvs {
		random = random || kv.Key == gguf.SeedKey
	}
	noise := rand.New(rand.NewPCG(1, 2))
	for _, tensor := range w.Tensors() {
		if random {
			break
		}
		if err := w.WriteTensor(func(out io.Writer) error { return c.fill(out, tensor, noise) }); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Commit(); err != nil {
		t.Fatal(err)
	}
	return path
}

// fill writes a tensor's bytes: noise or its value in f32, zeros in every other type.
func (c *tinyCLIP) fill(out io.Writer, tensor gguf.Tensor, noise *rand.Rand) error {
	data := make([]byte, tensor.Bytes)
	value, fixed := c.values[tensor.Name]
	for i := 0; tensor.Type == gguf.F32 && i < len(data); i += 4 {
		v := value
		if !fixed {
			v = float32(0.3 * noise.NormFloat64())
		}
		binary.LittleEndian.PutUint32(data[i:], math.Float32bits(v))
	}
	_, err := out.Write(data)
	return err
}

// bytes is the model as a file's bytes.
func (c *tinyCLIP) bytes(t testing.TB) []byte {
	t.Helper()
	data, err := os.ReadFile(c.write(t))
	if err != nil {
		t.Fatal(err)
	}
	return data
}
