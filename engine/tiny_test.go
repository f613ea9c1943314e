package engine_test

import (
	"context"
	"encoding/binary"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/tia2-engine/tia2-engine/engine"
	"github.com/tia2-engine/tia2-engine/engine/internal/gguf"
)

// tinyModel is a whole model of a few kilobytes: pictures of 8 x 8 in patches of 4 x 4, towers of width 32, embeddings of
// width 8. A CLIP has one block a tower and texts of 4 tokens, and tests damage it; the others have two blocks of text, and
// texts of 12 tokens.
type tinyModel struct {
	kvs     []gguf.KV
	tensors []gguf.Tensor
	values  map[string]float32 // what a tensor is filled with, where it is not noise
}

const tinyImage, tinyWidth, tinyDim, tinyContext = 8, 32, 8, 4

// newTinyCLIP makes one with a vocabulary that fits the tokenizer, or with 16 tokens where only C reads it.
func newTinyCLIP(vocab uint32) *tinyModel {
	c := &tinyModel{values: map[string]float32{"logit_scale": 4}}
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

// tinyWords are the vocabulary of the tiny models with BERT's texts.
var tinyWords = []string{"[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "red", "blue", "green", "circle", "square", "ring", "and", "of", "one", "##s", "."}

const tinyQueries, tinyBERTContext = 3, 12

// newTinyCross makes a model with a cross encoder that gives the rewards "blip", "blip2" or "imagereward".
func newTinyCross(reward string) *tinyModel {
	arch := map[string]string{"blip": "blip", "blip2": "blip2", "imagereward": "blip"}[reward]
	dim, outputs := uint32(tinyDim), uint32(2)
	if reward == "imagereward" {
		dim, outputs = 0, 1
	}
	vocab := uint32(len(tinyWords) + 2)
	c := &tinyModel{values: map[string]float32{}}
	c.kvs = []gguf.KV{
		{Key: "general.architecture", Value: arch}, {Key: "general.name", Value: "tiny " + reward},
		{Key: "tia2.format", Value: uint32(1)}, {Key: "tia2.reward", Value: reward},
		{Key: arch + ".embed_dim", Value: dim}, {Key: arch + ".pair_outputs", Value: outputs},
		{Key: arch + ".vision.image_size", Value: uint32(tinyImage)}, {Key: arch + ".vision.patch_size", Value: uint32(4)},
		{Key: arch + ".vision.output_norm_eps", Value: float32(1e-6)},
		{Key: arch + ".text.context", Value: uint32(tinyBERTContext)}, {Key: arch + ".text.vocab_size", Value: vocab},
		{Key: "tokenizer.kind", Value: "bert"}, {Key: "tokenizer.words", Value: tinyWords}, {Key: "tokenizer.vocab_size", Value: uint32(len(tinyWords))},
		{Key: "tokenizer.max_length", Value: uint32(8)}, {Key: "tokenizer.cleaning", Value: ""},
		{Key: "preprocess.pipeline", Value: "blip_squash"}, {Key: "preprocess.size", Value: uint32(tinyImage)},
		{Key: "preprocess.mean", Value: []float32{0.5, 0.5, 0.5}}, {Key: "preprocess.std", Value: []float32{0.25, 0.25, 0.25}},
	}
	for _, section := range []string{"vision", "text"} {
		c.kvs = append(c.kvs,
			gguf.KV{Key: arch + "." + section + ".width", Value: uint32(tinyWidth)}, gguf.KV{Key: arch + "." + section + ".heads", Value: uint32(2)},
			gguf.KV{Key: arch + "." + section + ".layers", Value: map[string]uint32{"vision": 1, "text": 2}[section]}, gguf.KV{Key: arch + "." + section + ".mlp_width", Value: uint32(32)},
			gguf.KV{Key: arch + "." + section + ".layer_norm_eps", Value: float32(1e-6)}, gguf.KV{Key: arch + "." + section + ".activation", Value: "gelu"})
	}
	switch reward {
	case "blip":
		c.set("tokenizer.enc", vocab-1)
	case "blip2":
		c.set("blip2.queries", uint32(tinyQueries))
		c.set("blip2.cross_attention_every", uint32(2))
		c.set("tokenizer.cleaning", "blip_caption")
	}
	c.addCrossTensors(uint64(vocab), uint64(outputs), reward)
	return c
}

func (c *tinyModel) addCrossTensors(vocab, outputs uint64, reward string) {
	c.add("v.class_embd", tinyWidth)
	c.add("v.position_embd", tinyWidth, 5)
	c.addLinear("v.patch_embd", 3*4*4, tinyWidth)
	c.addNorm("v.blk.0.ln1")
	c.addLinear("v.blk.0.attn_qkv", tinyWidth, 3*tinyWidth)
	c.addLinear("v.blk.0.attn_out", tinyWidth, tinyWidth)
	c.addNorm("v.blk.0.ln2")
	c.addLinear("v.blk.0.ffn_up", tinyWidth, 32)
	c.addLinear("v.blk.0.ffn_down", 32, tinyWidth)
	c.addNorm("v.post_ln")
	c.add("t.token_embd.weight", tinyWidth, vocab)
	c.add("t.position_embd", tinyWidth, tinyBERTContext)
	c.addNorm("t.embd_ln")
	for _, b := range []string{"t.blk.0.", "t.blk.1."} {
		c.addLinear(b+"attn_qkv", tinyWidth, 3*tinyWidth)
		c.addLinear(b+"attn_out", tinyWidth, tinyWidth)
		c.addNorm(b + "attn_ln")
		if reward != "blip2" || b == "t.blk.0." {
			c.addLinear(b+"cross_q", tinyWidth, tinyWidth)
			c.addLinear(b+"cross_kv", tinyWidth, 2*tinyWidth)
			c.addLinear(b+"cross_out", tinyWidth, tinyWidth)
			c.addNorm(b + "cross_ln")
		}
		for _, ffn := range map[bool][]string{false: {"ffn"}, true: {"ffn", "query_ffn"}}[reward == "blip2"] {
			c.addLinear(b+ffn+"_up", tinyWidth, 32)
			c.addLinear(b+ffn+"_down", 32, tinyWidth)
			c.addNorm(b + ffn + "_ln")
		}
	}
	if reward == "blip2" {
		c.add("t.query_embd", tinyWidth, tinyQueries)
	}
	if reward != "imagereward" {
		c.addLinear("v.proj", tinyWidth, tinyDim)
		c.addLinear("t.proj", tinyWidth, tinyDim)
	}
	c.addLinear("pair_head", tinyWidth, outputs)
}

// newTinyHead makes an aesthetic head for embeddings of width dim.
func newTinyHead(dim uint64) *tinyModel {
	c := &tinyModel{values: map[string]float32{"head.bias": 5}}
	c.kvs = []gguf.KV{
		{Key: "general.architecture", Value: "aesthetic"}, {Key: "general.name", Value: "tiny head"},
		{Key: "tia2.format", Value: uint32(1)}, {Key: "tia2.reward", Value: "aesthetic"}, {Key: "aesthetic.embed_dim", Value: uint32(dim)},
	}
	c.add("head.weight", dim)
	c.add("head.bias", 1)
	return c
}

// open opens the model, on the CPU if the options name no other device.
func (c *tinyModel) open(t testing.TB, opt engine.Options) *engine.Model {
	t.Helper()
	if opt.Backend == "" {
		opt.Backend = "cpu"
	}
	opt.CacheDir = engine.CacheOff
	m, err := engine.Open(context.Background(), c.write(t), opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

func (c *tinyModel) add(name string, dims ...uint64) {
	c.tensors = append(c.tensors, gguf.Tensor{Name: name, Dims: dims, Type: gguf.F32})
}

func (c *tinyModel) addNorm(name string) {
	c.add(name+".weight", tinyWidth)
	c.add(name+".bias", tinyWidth)
	c.values[name+".weight"] = 1
}

func (c *tinyModel) addLinear(name string, in, out uint64) {
	c.add(name+".weight", in, out)
	c.add(name+".bias", out)
}

// set changes a metadata key or adds it; nil removes it.
func (c *tinyModel) set(key string, value any) {
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
	if value != nil {
		c.kvs = append(c.kvs, gguf.KV{Key: key, Value: value})
	}
}

func (c *tinyModel) tensor(name string) *gguf.Tensor {
	for i := range c.tensors {
		if c.tensors[i].Name == name {
			return &c.tensors[i]
		}
	}
	panic("no tensor " + name)
}

// write puts the model into a new file.
func (c *tinyModel) write(t testing.TB) string {
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
func (c *tinyModel) fill(out io.Writer, tensor gguf.Tensor, noise *rand.Rand) error {
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
func (c *tinyModel) bytes(t testing.TB) []byte {
	t.Helper()
	data, err := os.ReadFile(c.write(t))
	if err != nil {
		t.Fatal(err)
	}
	return data
}
