package engine_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tia2-engine/tia2-engine/cgo"
	"github.com/tia2-engine/tia2-engine/engine"
	"github.com/tia2-engine/tia2-engine/engine/internal/gguf"
)

// tryNative opens a file in C and, where that works, runs all that the model has once. Whatever is in the file, it must not
// crash.
func tryNative(path string) error {
	m, err := cgo.OpenModel(path, "cpu", 1)
	if err != nil {
		return err
	}
	defer m.Close()
	i := m.Info()
	if i.ImageSize > 64 || i.EmbedDim > 1024 || i.ImageVectors > 64 || i.ImageTokens > 300 || i.StateWidth > 1024 {
		return nil // too slow to run for a test
	}
	var dst, states []float32 // nil where the model has none
	if i.EmbedDim > 0 {
		dst = make([]float32, i.ImageVectors*i.EmbedDim)
	}
	if i.PairOutputs > 0 {
		states = make([]float32, i.ImageTokens*i.StateWidth)
	}
	if err := m.EncodeImagesU8(dst, states, make([]uint8, 3*i.ImageSize*i.ImageSize), 1, true); err != nil {
		return err
	}
	ids, offsets := []int32{0, int32(i.VocabSize - 1)}, []int32{0, 2}
	if i.EmbedDim > 0 {
		if err := m.EncodeTexts(dst[:i.EmbedDim], ids, offsets, true); err != nil {
			return err
		}
	}
	if i.PairOutputs == 0 {
		return nil
	}
	return m.Match(make([]float32, i.PairOutputs), &cgo.Pairs{States: states, Images: 1, IDs: ids, Offsets: offsets, ImageOf: []int32{0}, TextOf: []int32{0}})
}

func TestTinyCrossEncodersWork(t *testing.T) {
	for _, reward := range crossRewards {
		drawn := newTinyCross(reward)
		drawn.set(gguf.SeedKey, uint64(7))
		for _, model := range []*tinyModel{newTinyCross(reward), drawn} {
			if err := tryNative(model.write(t)); err != nil {
				t.Errorf("%s: %v", reward, err)
			}
		}
	}
}

func TestTinyCLIPWorks(t *testing.T) {
	if err := tryNative(newTinyCLIP(16).write(t)); err != nil {
		t.Error(err)
	}
	drawn := newTinyCLIP(16)
	drawn.set(gguf.SeedKey, uint64(7))
	if err := tryNative(drawn.write(t)); err != nil {
		t.Errorf("with weights drawn from a seed: %v", err)
	}
	m, err := engine.Open(context.Background(), newTinyCLIP(516).write(t), engine.Options{Backend: "cpu", CacheDir: engine.CacheOff})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if _, err := m.EncodeTexts(context.Background(), []string{"abc", "a text that is longer than the context"}); err != nil {
		t.Error(err)
	}
}

// Each model is spoiled in one way; C must refuse it, saying what is wrong.
func TestNativeRefusesSpoiledModels(t *testing.T) {
	nan := float32(math.NaN())
	set := setKey
	retype := func(name string, typ gguf.Type) func(*tinyModel) {
		return func(c *tinyModel) { c.tensor(name).Type = typ }
	}
	reshape := func(name string, dims ...uint64) func(*tinyModel) {
		return func(c *tinyModel) { c.tensor(name).Dims = dims }
	}
	for _, tt := range []struct {
		name, message string
		spoil         func(*tinyModel)
	}{
		{"other architecture", `general.architecture is "llama"`, set("general.architecture", "llama")},
		{"no architecture", "general.architecture is missing", set("general.architecture", nil)},
		{"architecture no string", "general.architecture has type u32, expected str", set("general.architecture", uint32(1))},
		{"missing key", "clip.text.context is missing", set("clip.text.context", nil)},
		{"number as text", "clip.embed_dim has type str, expected u32", set("clip.embed_dim", "8")},
		{"number as array", "clip.embed_dim has type arr, expected u32", set("clip.embed_dim", []uint32{8})},
		{"heads", "clip.vision.width is no multiple of clip.vision.heads", set("clip.vision.heads", uint32(3))},
		{"no heads", "clip.text.heads is 0", set("clip.text.heads", uint32(0))},
		{"no layers", "clip.vision.layers is 0, expected 1 to 256", set("clip.vision.layers", uint32(0))},
		{"too many layers", "clip.vision.layers is 4294967295", set("clip.vision.layers", uint32(math.MaxUint32))},
		{"more layers than tensors", "tensor v.blk.1.ln1.weight is missing", set("clip.vision.layers", uint32(2))},
		{"huge width", "clip.text.width is 2147483648", set("clip.text.width", uint32(1<<31))},
		{"other width", "has shape [32], expected [64]", set("clip.vision.width", uint32(64))},
		{"picture size", "image_size 9 is no multiple of patch_size 4", set("clip.vision.image_size", uint32(9))},
		{"larger picture", "v.position_embd has shape [32, 5], expected [32, 1048577]", set("clip.vision.image_size", uint32(4096))},
		{"no patches", "clip.vision.patch_size is 0", set("clip.vision.patch_size", uint32(0))},
		{"no vocabulary", "clip.text.vocab_size is 0", set("clip.text.vocab_size", uint32(0))},
		{"larger vocabulary", "t.token_embd.weight has shape [32, 16], expected [32, 17]", set("clip.text.vocab_size", uint32(17))},
		{"no context", "clip.text.context is 0", set("clip.text.context", uint32(0))},
		{"epsilon NaN", "clip.text.layer_norm_eps is nan", set("clip.text.layer_norm_eps", nan)},
		{"epsilon 0", "clip.vision.layer_norm_eps is 0", set("clip.vision.layer_norm_eps", float32(0))},
		{"activation", `clip.text.activation is "relu"`, set("clip.text.activation", "relu")},
		{"mean of two", "preprocess.mean is not an array of 3 floats", set("preprocess.mean", []float32{0, 0})},
		{"mean of doubles", "preprocess.mean is not an array of 3 floats", set("preprocess.mean", []float64{0, 0, 0})},
		{"std 0", "preprocess.std has 0", set("preprocess.std", []float32{1, 0, 1})},
		{"std NaN", "preprocess.std has nan", set("preprocess.std", []float32{1, nan, 1})},
		{"missing tensor", "tensor t.blk.0.attn_out.bias is missing", func(c *tinyModel) { c.tensor("t.blk.0.attn_out.bias").Name = "t.blk.0.attn_out.bios" }},
		{"transposed", "v.proj.weight has shape [8, 32], expected [32, 8]", reshape("v.proj.weight", 8, 32)},
		{"flat", "v.proj.weight has shape [256], expected [32, 8]", reshape("v.proj.weight", 256)},
		{"three dimensions", "t.proj.weight has shape [32, 4, 2]", reshape("t.proj.weight", 32, 4, 2)},
		{"norm in f16", "v.pre_ln.bias has type f16, expected f32", retype("v.pre_ln.bias", gguf.F16)},
		{"unknown matrix type", "v.blk.0.ffn_up.weight has type q4_0", retype("v.blk.0.ffn_up.weight", 2)},
		{"integer matrix", "t.token_embd.weight has type i32", retype("t.token_embd.weight", 26)},
		{"a type nobody asked for", "extra has type f64", func(c *tinyModel) { c.add("extra", 4); c.tensor("extra").Type = 28 }},
		{"logit scale NaN", "logit_scale is nan", func(c *tinyModel) { c.values["logit_scale"] = nan }},
		{"logit scale huge", "logit_scale is 1000", func(c *tinyModel) { c.values["logit_scale"] = 1000 }},
		{"alignment as text", "general.alignment: expected a u32", set("general.alignment", "32")},
		{"alignment as array", "general.alignment: expected a u32", set("general.alignment", []uint32{32})},
		{"alignment 48", "general.alignment is 48", set("general.alignment", uint32(48))},
		{"alignment 1", "general.alignment is 1", set("general.alignment", uint32(1))},
		{"alignment 0", "general.alignment is 0", set("general.alignment", uint32(0))},
		{"seed as text", "tia2.random.seed has type str", set(gguf.SeedKey, "7")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := newTinyCLIP(16)
			tt.spoil(c)
			path := c.write(t)
			err := tryNative(path)
			if !errors.Is(err, cgo.ErrModel) || !strings.Contains(err.Error(), tt.message) || !strings.Contains(err.Error(), path) {
				t.Errorf("error %v, want ErrModel naming the file, with %q", err, tt.message)
			}
		})
	}
}

// A file of a few kilobytes may ask for any amount of memory when its weights are to be drawn.
func TestNativeRefusesMoreMemoryThanThereIs(t *testing.T) {
	c := newTinyCLIP(1 << 24)
	c.set(gguf.SeedKey, uint64(1))
	c.set("clip.text.mlp_width", uint32(1<<17))
	c.tensor("t.blk.0.ffn_up.weight").Dims[1], c.tensor("t.blk.0.ffn_up.bias").Dims[0] = 1<<17, 1<<17
	c.tensor("t.blk.0.ffn_down.weight").Dims[0] = 1 << 17
	c.add("extra", 1<<14, 1<<24) // 1 TiB
	if err := tryNative(c.write(t)); !errors.Is(err, cgo.ErrMemory) {
		t.Errorf("error %v, want ErrMemory", err)
	}
}

// Bytes that no writer of ours makes.
func TestNativeRefusesDamagedBytes(t *testing.T) {
	whole := newTinyCLIP(16).bytes(t)
	patch := func(find string, shift int, with ...byte) []byte {
		b := bytes.Clone(whole)
		at := bytes.Index(b, []byte(find))
		copy(b[at+shift:], with)
		return b
	}
	u64 := func(v uint64) []byte { return binary.LittleEndian.AppendUint64(nil, v) }
	for _, tt := range []struct {
		name, message string
		data          []byte
	}{
		{"magic only", "ends inside its header", []byte("GGUF")},
		{"another magic", "not a GGUF file", []byte("PK\x03\x04 and more")},
		{"version 1", "GGUF version 1", append([]byte("GGUF\x01\x00\x00\x00"), whole[8:]...)},
		{"big-endian", "GGUF version 50331648", append([]byte("GGUF\x00\x00\x00\x03"), whole[8:]...)},
		{"tensors without end", "18446744073709551615 tensors", append(append(bytes.Clone(whole[:8]), u64(math.MaxUint64)...), whole[16:]...)},
		{"keys without end", "metadata keys, expected at most", append(append(bytes.Clone(whole[:16]), u64(1<<40)...), whole[24:]...)},
		{"empty key", "a metadata key has 0 bytes", append(append(bytes.Clone(whole[:24]), u64(0)...), whole[32:]...)},
		{"key without end", "a metadata key has 9223372036854775807 bytes", append(append(bytes.Clone(whole[:24]), u64(math.MaxInt64)...), whole[32:]...)},
		{"unknown kind", "unknown type 99", patch("general.name", len("general.name"), 99)},
		{"array of arrays", "unknown type 9", patch("preprocess.mean", len("preprocess.mean")+4, 9)},
		{"array without end", "ends inside key preprocess.mean", patch("preprocess.mean", len("preprocess.mean")+8, u64(1<<61)...)},
		{"string without end", "ends inside its header", patch("general.name", len("general.name")+4, u64(math.MaxUint64)...)},
		{"no dimensions", "tensor v.class_embd has 0 dimensions", patch("v.class_embd", len("v.class_embd"), 0)},
		{"five dimensions", "tensor v.class_embd has 5 dimensions", patch("v.class_embd", len("v.class_embd"), 5)},
		{"empty dimension", "v.position_embd has a dimension of 0", patch("v.position_embd", len("v.position_embd")+12, u64(0)...)},
		{"negative dimension", "v.position_embd has a dimension of -1", patch("v.position_embd", len("v.position_embd")+4, u64(math.MaxUint64)...)},
		{"unknown tensor type", "damaged", patch("v.class_embd", len("v.class_embd")+4+8, 200)},
		{"offset", "damaged", patch("v.position_embd", len("v.position_embd")+4+16+4, 64, 1)},
		{"doubled tensor", "damaged", patch("v.post_ln.weight", 0, []byte("t.post_ln.weight")...)},
		{"cut off data", "the file ends before tensor", whole[:len(whole)-40]},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "damaged.gguf")
			if err := os.WriteFile(path, tt.data, 0o666); err != nil {
				t.Fatal(err)
			}
			err := tryNative(path)
			if !errors.Is(err, cgo.ErrModel) || !strings.Contains(err.Error(), tt.message) || !strings.Contains(err.Error(), path) {
				t.Errorf("error %v, want ErrModel naming the file, with %q", err, tt.message)
			}
		})
	}
}

// Every byte of the header takes other values, one at a time: C must refuse the file or be able to run it.
func TestNativeSurvivesEveryByteOfTheHeader(t *testing.T) {
	if testing.Short() {
		t.Skip("opens thousands of files")
	}
	for name, model := range map[string]*tinyModel{"clip": newTinyCLIP(16), "blip": newTinyCross("blip"), "blip2": newTinyCross("blip2")} {
		model.set("tokenizer.words", nil) // which C does not read
		t.Run(name, func(t *testing.T) { checkEveryByte(t, model.bytes(t)) })
	}
}

func checkEveryByte(t *testing.T, whole []byte) {
	g, err := gguf.Read(bytes.NewReader(whole), int64(len(whole)), "tiny.gguf")
	if err != nil {
		t.Fatal(err)
	}
	header := whole[:g.DataOffset]
	path := filepath.Join(t.TempDir(), "damaged.gguf")
	if err := os.WriteFile(path, whole, 0o666); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for i, right := range header {
		for _, v := range []byte{0, right + 1, right ^ 0x80, 0xff, right} { // the right one last
			if _, err := f.WriteAt([]byte{v}, int64(i)); err != nil {
				t.Fatal(err)
			}
			if err := tryNative(path); err != nil && v == right {
				t.Fatalf("byte %d: %v", i, err)
			}
		}
	}
	for n := len(header) - 1; n >= 0; n-- {
		if err := f.Truncate(int64(n)); err != nil {
			t.Fatal(err)
		}
		if err := tryNative(path); err == nil {
			t.Errorf("the first %d of %d bytes of the header open as a model", n, len(header))
		}
	}
}

// setKey returns what spoils one key.
func setKey(key string, value any) func(*tinyModel) { return func(c *tinyModel) { c.set(key, value) } }

// What Go reads of a file is checked as well as what C reads.
func TestOpenRefusesSpoiledModels(t *testing.T) {
	for _, tt := range []struct {
		name, key, message string
		value              any
	}{
		{"tokenizer", "tokenizer.kind", `tokenizer.kind is "words"`, "words"},
		{"no merges", "tokenizer.merges", "tokenizer.merges: expected an array of strings", nil},
		{"bad merges", "tokenizer.merges", "expected two symbols", []string{"ab"}},
		{"too many tokens", "tokenizer.merges", "the tokenizer has 517 tokens: expected at most 516", []string{"a b", "ab c</w>", "a c"}},
		{"pipeline size", "preprocess.size", "preprocess.size is 9: expected 8", uint32(9)},
		{"no mean", "preprocess.mean", "preprocess.mean: expected an array of 3 floats", nil},
		{"reward", "tia2.reward", `tia2.reward is "beauty"`, "beauty"},
		{"architecture", "general.architecture", "general.architecture", "llama"},
		{"pipeline", "preprocess.pipeline", `pipeline "squeeze"`, "squeeze"},
		{"std 0", "preprocess.std", "preprocess.std", []float32{0, 1, 1}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := newTinyCLIP(516)
			c.set(tt.key, tt.value)
			path := c.write(t)
			m, err := engine.Open(context.Background(), path, engine.Options{Backend: "cpu", CacheDir: engine.CacheOff})
			if err == nil {
				m.Close()
			}
			if err == nil || !strings.Contains(err.Error(), tt.message) || !strings.Contains(err.Error(), path) {
				t.Errorf("error %v, want one that names the file and has %q", err, tt.message)
			}
		})
	}
	for _, tt := range []struct {
		name, message string
		model         *tinyModel
		spoil         func(*tinyModel)
	}{
		{"no words", "tokenizer.words: expected an array of strings", newTinyCross("blip"), setKey("tokenizer.words", nil)},
		{"words without [SEP]", "[SEP] is missing", newTinyCross("blip"), setKey("tokenizer.words", []string{"[UNK]", "[CLS]"})},
		{"more words", "the tokenizer has 19 tokens: expected at most 18, as blip2.text.vocab_size", newTinyCross("blip2"),
			setKey("tokenizer.words", append(slices.Clone(tinyWords), "x", "y", "z"))},
		{"a length of 1", "tokenizer.max_length and .enc are 1 and 0", newTinyCross("imagereward"), setKey("tokenizer.max_length", uint32(1))},
		{"[ENC] beyond", "tokenizer.enc is 18: expected less than 18, as blip.text.vocab_size", newTinyCross("blip"), setKey("tokenizer.enc", uint32(18))},
		{"cleaning", `tokenizer.cleaning is "soap"`, newTinyCross("blip"), setKey("tokenizer.cleaning", "soap")},
		{"a CLIP's reward", `tia2.reward is "clip": expected blip or imagereward`, newTinyCross("blip"), setKey("tia2.reward", "clip")},
		{"a BLIP's reward", `tia2.reward is "blip2": expected clip or pickscore or hpsv2`, newTinyCLIP(516), setKey("tia2.reward", "blip2")},
		{"one output for two", "blip.pair_outputs is 2: expected 1, for imagereward", newTinyCross("blip"), setKey("tia2.reward", "imagereward")},
		{"no embeddings", "blip.embed_dim is 0: expected embeddings, for blip_itc", newTinyCross("imagereward"), setKey("tia2.reward", "blip")},
		{"BERT for CLIP", "the tokenizer does not fit a clip", newTinyCLIP(516), func(c *tinyModel) {
			c.set("tokenizer.kind", "bert")
			c.set("tokenizer.words", tinyWords)
		}},
		{"head of no width", "aesthetic.embed_dim is 0", newTinyHead(8), setKey("aesthetic.embed_dim", uint32(0))},
		{"head of another width", "tensor head.weight: expected f32 [9]", newTinyHead(8), setKey("aesthetic.embed_dim", uint32(9))},
		{"head without bias", "tensor head.bias: expected f32 [1]", newTinyHead(8), func(c *tinyModel) { c.tensor("head.bias").Name = "head.bios" }},
		{"head in f16", "tensor head.weight: expected f32 [8]", newTinyHead(8), func(c *tinyModel) { c.tensor("head.weight").Type = gguf.F16 }},
		{"head that is infinite", "tensor head.bias: value 0 is +Inf", newTinyHead(8), func(c *tinyModel) { c.values["head.bias"] = float32(math.Inf(1)) }},
		{"head without values", "the file holds no weights", newTinyHead(8), setKey(gguf.SeedKey, uint64(1))},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.spoil(tt.model)
			path := tt.model.write(t)
			m, err := engine.Open(context.Background(), path, engine.Options{Backend: "cpu", CacheDir: engine.CacheOff})
			if err == nil {
				m.Close()
			}
			if err == nil || !strings.Contains(err.Error(), tt.message) || strings.Count(err.Error(), path) < 2 { // as the spec, and as the file
				t.Errorf("error %v, want one that names the file and has %q", err, tt.message)
			}
		})
	}
	for _, spec := range []string{"", "no/such/folder", "random:vit-b-33", "random:", t.TempDir()} {
		m, err := engine.Open(context.Background(), spec, engine.Options{Backend: "cpu", CacheDir: engine.CacheOff})
		if err == nil {
			m.Close()
			t.Errorf("spec %q opens", spec)
		}
	}
}

// FuzzOpenGGUF opens damaged files in C. Go's reader runs first: its branches lead the fuzzer through the format.
func FuzzOpenGGUF(f *testing.F) {
	c := newTinyCLIP(16)
	f.Add(c.bytes(f))
	c.set(gguf.SeedKey, uint64(7))
	f.Add(c.bytes(f))
	c.set("general.alignment", uint32(64))
	c.tensor("v.blk.0.attn_qkv.weight").Type = gguf.Q8_0
	c.tensor("t.blk.0.ffn_up.weight").Type = gguf.BF16
	f.Add(c.bytes(f))
	for _, reward := range crossRewards {
		c := newTinyCross(reward)
		c.set(gguf.SeedKey, uint64(7))
		f.Add(c.bytes(f))
	}
	f.Add([]byte("GGUF\x03\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"))
	path := filepath.Join(f.TempDir(), "fuzz.gguf")
	f.Fuzz(func(t *testing.T, data []byte) {
		_, _ = gguf.Read(bytes.NewReader(data), int64(len(data)), "fuzz.gguf")
		if err := os.WriteFile(path, data, 0o666); err != nil {
			t.Fatal(err)
		}
		if err := tryNative(path); err != nil && errors.Is(err, cgo.ErrInternal) {
			t.Error(err)
		}
	})
}
