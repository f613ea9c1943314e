package convert

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tia2-engine/tia2-engine/engine/internal/floats"
	"github.com/tia2-engine/tia2-engine/engine/internal/gguf"
	"github.com/tia2-engine/tia2-engine/engine/internal/tensorfile"
	"github.com/tia2-engine/tia2-engine/internal/sharedtest"
)

// checkpoints are the paths of golden/clip's checkpoints, in three sets that hold the same weights.
var checkpoints = [][]string{
	{"hf_openai", "openai_jit/model.pt"},
	{"hf_sharded", "hf_bin", "hf_bin_legacy"},
	{"openclip_custom_text", "openclip_pt/model.pt", "openclip_train_pt/epoch_3.pt"},
}

func golden(t testing.TB, path string) string {
	return sharedtest.Path(t, "golden", "clip", "checkpoints", path)
}

// convertTo converts into the test's folder and opens the result.
func convertTo(t testing.TB, src string, opt Options) *gguf.File {
	t.Helper()
	dst := filepath.Join(t.TempDir(), "out.gguf")
	if err := Convert(context.Background(), src, dst, opt); err != nil {
		t.Fatal(err)
	}
	return open(t, dst)
}

func open(t testing.TB, path string) *gguf.File {
	t.Helper()
	g, err := gguf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.Close() })
	return g
}

// values returns a tensor's bytes and what they mean.
func values(t testing.TB, g *gguf.File, name string) ([]byte, []float32) {
	t.Helper()
	tensor := g.Tensor(name)
	if tensor == nil {
		t.Fatalf("no tensor %s", name)
	}
	r, err := g.Data(tensor)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	x := make([]float32, tensor.Elements())
	for i := range x {
		switch tensor.Type {
		case gguf.F32:
			x[i] = math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:]))
		case gguf.F16:
			x[i] = floats.FromF16(binary.LittleEndian.Uint16(raw[2*i:]))
		case gguf.BF16:
			x[i] = floats.FromBF16(binary.LittleEndian.Uint16(raw[2*i:]))
		}
	}
	if tensor.Type == gguf.Q8_0 {
		floats.FromQ8(x, raw)
	}
	return raw, x
}

// The containers of one set of weights must give the same tensors, bit for bit, in every type.
func TestContainersAgree(t *testing.T) {
	dtypes := []string{"f32", "f16", "bf16", "q8_0"}
	if testing.Short() {
		dtypes = dtypes[3:]
	}
	for _, set := range checkpoints {
		for _, dtype := range dtypes {
			first := convertTo(t, golden(t, set[0]), Options{DType: dtype})
			for _, path := range set[1:] {
				other := convertTo(t, golden(t, path), Options{DType: dtype})
				if diff := cmp.Diff(first.Tensors, other.Tensors); diff != "" {
					t.Fatalf("%s, %s: tensors differ from %s: %s", path, dtype, set[0], diff)
				}
				for _, tensor := range first.Tensors {
					a, _ := values(t, first, tensor.Name)
					b, _ := values(t, other, tensor.Name)
					if !slices.Equal(a, b) {
						t.Errorf("%s, %s: tensor %s differs from %s", path, dtype, tensor.Name, set[0])
					}
				}
			}
		}
	}
}

// In f32 nothing may be lost: the tensors hold what the checkpoint holds, only stacked and transposed.
func TestTensorsAreTheCheckpoints(t *testing.T) {
	src := golden(t, "hf_openai")
	g := convertTo(t, src, Options{})
	f, err := tensorfile.Open(filepath.Join(src, "model.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	read := func(names ...string) (all []float32) {
		for _, n := range names {
			x, err := f.Tensor(n).Floats()
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, x...)
		}
		return all
	}
	last := func(tower string) (n int) { // how many layers there are depends on the data's seed
		for f.Tensor(fmt.Sprintf("%s_model.encoder.layers.%d.layer_norm1.weight", tower, n+1)) != nil {
			n++
		}
		return n
	}
	vLast, tLast := last("vision"), last("text")
	vBlock, tBlock := fmt.Sprintf("v.blk.%d.", vLast), fmt.Sprintf("t.blk.%d.", tLast)
	v0 := "vision_model.encoder.layers.0."
	v1, t1 := fmt.Sprintf("vision_model.encoder.layers.%d.", vLast), fmt.Sprintf("text_model.encoder.layers.%d.", tLast)
	for name, want := range map[string][]float32{
		"v.patch_embd.weight":      read("vision_model.embeddings.patch_embedding.weight"),
		"v.pre_ln.bias":            read("vision_model.pre_layrnorm.bias"),
		"v.blk.0.attn_qkv.weight":  read(v0+"self_attn.q_proj.weight", v0+"self_attn.k_proj.weight", v0+"self_attn.v_proj.weight"),
		"v.blk.0.attn_qkv.bias":    read(v0+"self_attn.q_proj.bias", v0+"self_attn.k_proj.bias", v0+"self_attn.v_proj.bias"),
		tBlock + "ffn_down.weight": read(t1 + "mlp.fc2.weight"),
		tBlock + "attn_out.bias":   read(t1 + "self_attn.out_proj.bias"),
		"t.token_embd.weight":      read("text_model.embeddings.token_embedding.weight"),
		"t.proj.weight":            read("text_projection.weight"),
		"v.proj.weight":            read("visual_projection.weight"),
		"logit_scale":              read("logit_scale"),
		"v.position_embd":          read("vision_model.embeddings.position_embedding.weight"),
		"v.class_embd":             read("vision_model.embeddings.class_embedding"),
		"t.post_ln.weight":         read("text_model.final_layer_norm.weight"),
		vBlock + "ln2.weight":      read(v1 + "layer_norm2.weight"),
		vBlock + "ffn_up.weight":   read(v1 + "mlp.fc1.weight"),
		"t.position_embd":          read("text_model.embeddings.position_embedding.weight"),
	} {
		if _, got := values(t, g, name); !slices.Equal(got, want) {
			t.Errorf("%s: %d values differ from the checkpoint's %d", name, len(got), len(want))
		}
	}
}

func TestTypes(t *testing.T) {
	for _, c := range []struct {
		dtype           string
		ffn, patch, pos gguf.Type
	}{
		{"", gguf.F32, gguf.F32, gguf.F32}, {"f16", gguf.F16, gguf.F16, gguf.F32}, {"bf16", gguf.BF16, gguf.BF16, gguf.F32},
		{"q8_0", gguf.Q8_0, gguf.Q8_0, gguf.F32},
	} {
		g := convertTo(t, golden(t, "hf_sharded"), Options{DType: c.dtype})
		if s := specOf(g); c.dtype == "q8_0" { // a row that is no whole number of blocks of 32 stays f16
			if s.Vision.Width%32 != 0 {
				c.ffn = gguf.F16
			}
			if 3*s.PatchSize*s.PatchSize%32 != 0 {
				c.patch = gguf.F16
			}
		}
		for name, want := range map[string]gguf.Type{"v.blk.0.ffn_up.weight": c.ffn, "v.patch_embd.weight": c.patch, "v.position_embd": c.pos,
			"t.position_embd": gguf.F32, "v.blk.0.ln1.weight": gguf.F32, "v.blk.0.ffn_up.bias": gguf.F32, "logit_scale": gguf.F32, "v.class_embd": gguf.F32} {
			if got := g.Tensor(name).Type; got != want {
				t.Errorf("%q: %s is %s: expected %s", c.dtype, name, got, want)
			}
		}
	}
	if err := Convert(context.Background(), golden(t, "hf_bin"), filepath.Join(t.TempDir(), "x"), Options{DType: "q4_0"}); err == nil {
		t.Error("q4_0: no error")
	}
}

// expectation is the part of golden/clip/expect.json that says what the references saw.
type expectation struct {
	Path       string
	Tokenizer  string
	Preprocess struct {
		Pipeline   string
		Size       int
		Mean, Std  [3]float32
		ResizeMode string `json:"resize_mode"`
	}
	Config json.RawMessage
}

func readExpectations(t *testing.T, path string) map[string]expectation {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var file struct{ Checkpoints map[string]expectation }
	if err := json.Unmarshal(b, &file); err != nil || len(file.Checkpoints) != 8 {
		t.Fatalf("%d checkpoints, %v", len(file.Checkpoints), err)
	}
	return file.Checkpoints
}

func TestHyperParameters(t *testing.T) {
	root := sharedtest.Path(t, "golden", "clip")
	for name, e := range readExpectations(t, filepath.Join(root, "expect.json")) {
		opt := Options{}
		in, err := Inspect(context.Background(), filepath.Join(root, e.Path), opt)
		if err != nil || in.Problem != "" {
			t.Errorf("%s: %v %s", name, err, in.Problem)
			continue
		}
		if e.Preprocess.ResizeMode == "squash" {
			e.Preprocess.Pipeline = pipelineOpenCLIPSquash
		}
		want := Preprocess{e.Preprocess.Pipeline, e.Preprocess.Size, e.Preprocess.Mean, e.Preprocess.Std}
		if *in.Preprocess != want || in.Tokenizer.Kind != e.Tokenizer || in.Tokenizer.EOT != 49407 || in.Tokenizer.SOT != 49406 {
			t.Errorf("%s: preprocessing %+v and tokenizer %+v: expected %+v and %s", name, in.Preprocess, in.Tokenizer, want, e.Tokenizer)
		}
		checkSpec(t, name, in.Spec, e.Config)
		g := convertTo(t, filepath.Join(root, e.Path), opt)
		if got := specOf(g); *got != *in.Spec {
			t.Errorf("%s: the file says %+v: expected %+v", name, got, in.Spec)
		}
	}
}

// checkSpec compares with either form of expect.json's config.
func checkSpec(t *testing.T, name string, s *Spec, raw json.RawMessage) {
	t.Helper()
	var c struct {
		EmbedDim   int `json:"embed_dim"`
		Activation string
		Vision     struct {
			ImageSize            int `json:"image_size"`
			PatchSize            int `json:"patch_size"`
			Width, Layers, Heads int
		}
		Text      struct{ Width, Layers, Heads int }
		VisionCfg *struct {
			ImageSize     int `json:"image_size"`
			PatchSize     int `json:"patch_size"`
			HeadWidth     int `json:"head_width"`
			Width, Layers int
		} `json:"vision_cfg"`
		TextCfg struct{ Width, Layers, Heads int } `json:"text_cfg"`
	}
	if err := json.Unmarshal(raw, &c); err != nil {
		t.Fatal(err)
	}
	if v := c.VisionCfg; v != nil {
		c.Vision.ImageSize, c.Vision.PatchSize, c.Vision.Width, c.Vision.Layers, c.Vision.Heads = v.ImageSize, v.PatchSize, v.Width, v.Layers, v.Width/v.HeadWidth
		c.Text = c.TextCfg
	}
	want := Spec{c.EmbedDim, c.Vision.ImageSize, c.Vision.PatchSize, Tower{c.Vision.Width, c.Vision.Layers, c.Vision.Heads, 4 * c.Vision.Width, 1e-5, c.Activation},
		77, 49408, Tower{c.Text.Width, c.Text.Layers, c.Text.Heads, 4 * c.Text.Width, 1e-5, c.Activation}, Pair{}}
	if *s != want {
		t.Errorf("%s: got %+v, expected %+v", name, *s, want)
	}
}

func TestMetadata(t *testing.T) {
	src := golden(t, "openclip_pt/model.pt")
	g := convertTo(t, src, Options{})
	b, err := os.ReadFile(src)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(b)
	e := readExpectations(t, sharedtest.Path(t, "golden", "clip", "expect.json"))["openclip_pt"]
	if e.Preprocess.ResizeMode == "squash" {
		e.Preprocess.Pipeline = pipelineOpenCLIPSquash
	}
	for key, want := range map[string]any{
		"general.architecture": "clip", "general.name": "model", "tia2.format": uint32(1), "tia2.source.file": "model.pt", "tia2.reward": "clip",
		"tia2.source.sha256": hex.EncodeToString(sum[:]), "tia2.source.container": "torch zip", "preprocess.pipeline": e.Preprocess.Pipeline,
		"tokenizer.vocab_size": uint32(49408), "preprocess.mean": e.Preprocess.Mean[:],
	} {
		if got := g.Value(key); !cmp.Equal(got, want) {
			t.Errorf("%s is %v: expected %v", key, got, want)
		}
	}
	if merges, _ := g.Value("tokenizer.merges").([]string); len(merges) != 48894 || merges[0] != "i n" {
		t.Errorf("%d merges", len(merges))
	}
	sharded := convertTo(t, golden(t, "hf_sharded"), Options{})
	all := sha256.New()
	for _, part := range []string{"model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"} {
		b, err := os.ReadFile(filepath.Join(golden(t, "hf_sharded"), part))
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(b)
		io.WriteString(all, hex.EncodeToString(sum[:])+"\n")
	}
	if got, want := sharded.Str("tia2.source.sha256"), hex.EncodeToString(all.Sum(nil)); got != want {
		t.Errorf("sha256 of shards: %s, expected %s", got, want)
	}
	if got := sharded.Str("tia2.source.file"); got != "hf_sharded/model.safetensors.index.json" {
		t.Errorf("source %q", got)
	}
}

func TestRewards(t *testing.T) {
	train := golden(t, "openclip_train_pt/epoch_3.pt")
	g := convertTo(t, train, Options{Reward: "hpsv2"})
	if p := preprocessOf(g); g.Str("tia2.reward") != "hpsv2" || p.Pipeline != "hpsv2" || p.Mean != openAIMean || p.Std != openAIStd {
		t.Errorf("hpsv2 asked for: %s, %+v", g.Str("tia2.reward"), p)
	}
	dir := t.TempDir()
	copyFile(t, train, filepath.Join(dir, "HPS_v2.1_compressed.pt"))
	copyFile(t, golden(t, "openclip_train_pt/open_clip_config.json"), filepath.Join(dir, "open_clip_config.json"))
	g = convertTo(t, filepath.Join(dir, "HPS_v2.1_compressed.pt"), Options{})
	if g.Str("tia2.reward") != "hpsv2" || preprocessOf(g).Pipeline != "hpsv2" {
		t.Errorf("by name: %s, %s", g.Str("tia2.reward"), preprocessOf(g).Pipeline)
	}
	pick := filepath.Join(t.TempDir(), "PickScore_v1")
	copyDir(t, golden(t, "hf_bin"), pick)
	if g = convertTo(t, pick, Options{DType: "q8_0"}); g.Str("tia2.reward") != "pickscore" || preprocessOf(g).Pipeline != "hf_clip" {
		t.Errorf("by name: %s, %s", g.Str("tia2.reward"), preprocessOf(g).Pipeline)
	}
	if g = convertTo(t, golden(t, "hf_sharded"), Options{DType: "q8_0", Name: "yuvalkirstain/PickScore_v1"}); g.Str("tia2.reward") != "pickscore" {
		t.Errorf("by the name asked for: %s", g.Str("tia2.reward"))
	}
	if g = convertTo(t, golden(t, "hf_bin"), Options{DType: "q8_0", Reward: "pickscore"}); g.Str("tia2.reward") != "pickscore" {
		t.Errorf("pickscore asked for: %s", g.Str("tia2.reward"))
	}
	came := filepath.Join(t.TempDir(), "scorer")
	copyDir(t, golden(t, "hf_bin"), came)
	config, err := os.ReadFile(filepath.Join(came, "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, came, "config.json", strings.Replace(string(config), "{", `{"_name_or_path": "yuvalkirstain/PickScore_v1",`, 1))
	if g = convertTo(t, came, Options{DType: "q8_0"}); g.Str("tia2.reward") != "pickscore" {
		t.Errorf("by where it came from: %s", g.Str("tia2.reward"))
	}
	for _, opt := range []Options{{Reward: "best"}, {Pipeline: "crop"}} {
		if err := Convert(context.Background(), train, filepath.Join(dir, "x"), opt); err == nil || !strings.Contains(err.Error(), "expected") {
			t.Errorf("%+v: %v", opt, err)
		}
	}
}

func copyFile(t testing.TB, src, dst string) {
	t.Helper()
	b, err := os.ReadFile(src)
	if err == nil {
		err = os.WriteFile(dst, b, 0o666)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func copyDir(t testing.TB, src, dst string) {
	t.Helper()
	if err := os.MkdirAll(dst, 0o777); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(src)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		copyFile(t, filepath.Join(src, e.Name()), filepath.Join(dst, e.Name()))
	}
}

func TestConvertOverItselfIsRefused(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "m")
	copyDir(t, golden(t, "openclip_pt"), dir)
	src := filepath.Join(dir, "model.pt")
	if err := Convert(context.Background(), src, src, Options{}); err == nil || !strings.Contains(err.Error(), "itself") {
		t.Errorf("error %v", err)
	}
}

func TestProgressAndCancel(t *testing.T) {
	src, dir := golden(t, "hf_bin"), t.TempDir()
	var last, total int64
	opt := Options{Progress: func(done, of int64) {
		if done < last {
			t.Errorf("progress went back from %d to %d", last, done)
		}
		last, total = done, of
	}}
	if err := Convert(context.Background(), src, filepath.Join(dir, "a"), opt); err != nil {
		t.Fatal(err)
	}
	if last == 0 || last != total {
		t.Errorf("progress ended at %d of %d", last, total)
	}
	ctx, cancel := context.WithCancel(context.Background())
	opt.Progress = func(done, of int64) {
		if done > of/2 {
			cancel()
		}
	}
	if err := Convert(ctx, src, filepath.Join(dir, "b"), opt); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("left behind: %v", entries)
	}
}

func TestQuantize(t *testing.T) {
	dir := t.TempDir()
	src := filepath.Join(dir, "f32.gguf")
	if err := Convert(context.Background(), golden(t, "hf_openai"), src, Options{}); err != nil {
		t.Fatal(err)
	}
	for _, dtype := range []string{"f16", "bf16", "q8_0"} {
		dst := filepath.Join(dir, dtype+".gguf")
		if err := Quantize(context.Background(), src, dst, Options{DType: dtype}); err != nil {
			t.Fatal(err)
		}
		got, want := open(t, dst), convertTo(t, golden(t, "hf_openai"), Options{DType: dtype})
		if diff := cmp.Diff(want.KVs, got.KVs); diff != "" {
			t.Errorf("%s: metadata: %s", dtype, diff)
		}
		for _, tensor := range want.Tensors {
			a, _ := values(t, want, tensor.Name)
			b, _ := values(t, got, tensor.Name)
			if got.Tensor(tensor.Name).Type != tensor.Type || !slices.Equal(a, b) {
				t.Errorf("%s: tensor %s differs from a direct conversion", dtype, tensor.Name)
			}
		}
	}
	q8 := filepath.Join(dir, "q8_0.gguf")
	if err := Quantize(context.Background(), q8, filepath.Join(dir, "x"), Options{DType: "f16"}); err == nil || !strings.Contains(err.Error(), "is q8_0") {
		t.Errorf("q8_0 to f16: %v", err)
	}
	if err := Quantize(context.Background(), q8, q8, Options{DType: "q8_0"}); err == nil {
		t.Error("a file over itself: no error")
	}
}
