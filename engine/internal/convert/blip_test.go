package convert

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"codeberg.org/sbinet/npyio/npz"
	"github.com/google/go-cmp/cmp"

	"github.com/tia2-engine/tia2-engine/engine/internal/gguf"
	"github.com/tia2-engine/tia2-engine/engine/internal/tensorfile"
	"github.com/tia2-engine/tia2-engine/internal/sharedtest"
)

// blipSizes is what golden/blip/expect.json says of a checkpoint; 0 is the family's rule.
type blipSizes struct {
	ImageSize    int     `json:"image_size"`
	ResizedSize  int     `json:"resized_image_size"`
	PatchSize    int     `json:"patch_size"`
	VisionWidth  int     `json:"vision_width"`
	VisionHeads  int     `json:"vision_heads"`
	VisionLayers int     `json:"vision_layers"`
	VisionMLP    int     `json:"vision_intermediate"`
	VisionEps    float32 `json:"vision_eps"`
	TextWidth    int     `json:"text_width"`
	TextHeads    int     `json:"text_heads"`
	TextLayers   int     `json:"text_layers"`
	TextMLP      int     `json:"text_intermediate"`
	EmbedDim     int     `json:"embed_dim"`
	Queries      int     `json:"queries"`
}

// blipGolden is a checkpoint of golden/blip and what must come out of it.
type blipGolden struct {
	folder, weights, family, arch, reward, pipeline string
	maxLength, enc                                  int
	cleaning                                        string
}

var blipGoldens = []blipGolden{
	{"blip_pth", "model.pth", "blip", "blip", "blip", "blip_squash", 35, 30523, ""},
	{"blip_hf", "model.safetensors", "hf blip", "blip", "blip", "blip_squash", 0, 30523, ""},
	{"blip2_hf", "model.safetensors.index.json", "hf blip-2", "blip2", "blip2", "blip_squash", 0, 0, ""},
	{"blip2_lavis", "blip2_pretrained.pth", "lavis blip-2", "blip2", "blip2", "blip_squash", 32, 0, "blip_caption"},
	{"imagereward", "ImageReward.pt", "imagereward", "blip", "imagereward", "openai", 35, 0, ""},
}

func goldenBLIP(t testing.TB, elem ...string) string {
	return sharedtest.Path(t, append([]string{"golden", "blip"}, elem...)...)
}

func readBLIPSizes(t *testing.T) map[string]blipSizes {
	t.Helper()
	b, err := os.ReadFile(goldenBLIP(t, "expect.json"))
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Models map[string]struct{ Sizes blipSizes }
	}
	if err := json.Unmarshal(b, &file); err != nil {
		t.Fatal(err)
	}
	all := map[string]blipSizes{}
	for name, m := range file.Models {
		all[name] = m.Sizes
	}
	return all
}

// or returns the first number that is not 0.
func or[T int | float32](a, b T) T {
	if a != 0 {
		return a
	}
	return b
}

// spec returns the hyper-parameters that a golden checkpoint of these sizes has.
func (z blipSizes) spec(folder string) Spec {
	s := Spec{
		EmbedDim: z.EmbedDim, ImageSize: z.ImageSize, PatchSize: z.PatchSize, Context: 512, VocabSize: 30524,
		Vision: Tower{z.VisionWidth, z.VisionLayers, or(z.VisionHeads, z.VisionWidth/64), or(z.VisionMLP, 4*z.VisionWidth), or(z.VisionEps, 1e-6), gelu},
		Text:   Tower{z.TextWidth, z.TextLayers, z.TextHeads, or(z.TextMLP, 4*z.TextWidth), 1e-12, gelu},
		Pair:   Pair{Outputs: 2, OutputEps: or(z.VisionEps, 1e-6), CrossEvery: 1, Queries: z.Queries},
	}
	switch folder {
	case "blip2_lavis":
		s.Vision.Heads, s.Vision.MLPWidth, s.Pair.OutputEps = z.VisionWidth/88, int(float64(z.VisionWidth)*4.3637), 1e-5
	case "imagereward":
		s.EmbedDim, s.Pair.Outputs = 0, 1
	}
	if z.Queries > 0 {
		s.VocabSize, s.Pair.CrossEvery = 30523, 2
	}
	return s
}

// blipTensors lists the tensors of a file of the BLIP family with their shapes, as ARCHITECTURE.md says under "GGUF".
func blipTensors(s *Spec) tensors {
	v, w, vMLP, wMLP := int64(s.Vision.Width), int64(s.Text.Width), int64(s.Vision.MLPWidth), int64(s.Text.MLPWidth)
	d, p := int64(s.EmbedDim), int64(s.PatchSize)
	list := tensors{
		"v.class_embd": {v}, "v.position_embd": {int64(s.imageTokens()), v}, "v.patch_embd.weight": {v, 3 * p * p}, "v.patch_embd.bias": {v},
		"t.token_embd.weight": {int64(s.VocabSize), w}, "t.position_embd": {int64(s.Context), w},
	}
	linear := func(name string, out, in int64) {
		list[name+".weight"], list[name+".bias"] = []int64{out, in}, []int64{out}
	}
	norm := func(name string, n int64) { list[name+".weight"], list[name+".bias"] = []int64{n}, []int64{n} }
	for i := range s.Vision.Layers {
		b := fmt.Sprintf("v.blk.%d.", i)
		norm(b+"ln1", v)
		norm(b+"ln2", v)
		linear(b+"attn_qkv", 3*v, v)
		linear(b+"attn_out", v, v)
		linear(b+"ffn_up", vMLP, v)
		linear(b+"ffn_down", v, vMLP)
	}
	norm("v.post_ln", v)
	norm("t.embd_ln", w)
	for i := range s.Text.Layers {
		b := fmt.Sprintf("t.blk.%d.", i)
		linear(b+"attn_qkv", 3*w, w)
		linear(b+"attn_out", w, w)
		norm(b+"attn_ln", w)
		if s.Pair.Queries == 0 || i%2 == 0 {
			linear(b+"cross_q", w, w)
			linear(b+"cross_kv", 2*w, v)
			linear(b+"cross_out", w, w)
			norm(b+"cross_ln", w)
		}
		for _, ffn := range []string{"", "query_"} {
			if ffn == "" || s.Pair.Queries > 0 {
				linear(b+ffn+"ffn_up", wMLP, w)
				linear(b+ffn+"ffn_down", w, wMLP)
				norm(b+ffn+"ffn_ln", w)
			}
		}
	}
	if d > 0 {
		in := v
		if s.Pair.Queries > 0 {
			in = w
		}
		linear("v.proj", d, in)
		linear("t.proj", d, w)
	}
	if s.Pair.Queries > 0 {
		list["t.query_embd"] = []int64{int64(s.Pair.Queries), w}
	}
	linear("pair_head", int64(s.Pair.Outputs), w)
	return list
}

// checkTypes demands the tensors of a list, in the type of matrices or f32, and no others.
func checkTypes(t *testing.T, name string, g *gguf.File, want tensors, matrix gguf.Type) {
	t.Helper()
	got := tensors{}
	for _, x := range g.Tensors {
		shape := []int64{}
		for d := len(x.Dims) - 1; d >= 0; d-- {
			shape = append(shape, int64(x.Dims[d]))
		}
		got[x.Name] = shape
		isMatrix := len(shape) == 2 && strings.HasSuffix(x.Name, ".weight") && x.Name != "pair_head.weight"
		if (x.Type != gguf.F32) != (isMatrix && matrix != gguf.F32) {
			t.Errorf("%s: tensor %s %v is %s", name, x.Name, shape, x.Type)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s: tensors (-want +got): %s", name, diff)
	}
}

func TestBLIPGoldens(t *testing.T) {
	sizes := readBLIPSizes(t)
	for _, c := range blipGoldens {
		src, spec := goldenBLIP(t, c.folder), sizes[c.folder].spec(c.folder)
		in, err := Inspect(context.Background(), src, Options{})
		if err != nil || in.Problem != "" || in.Family != c.family {
			t.Errorf("%s: %v, %s, family %q", c.folder, err, in.Problem, in.Family)
			continue
		}
		g := convertTo(t, src, Options{DType: "f16"})
		checkTypes(t, c.folder, g, blipTensors(&spec), gguf.F16)
		if got := specOf(g); *got != spec || *in.Spec != spec {
			t.Errorf("%s: got %+v, inspect %+v, expected %+v", c.folder, *got, *in.Spec, spec)
		}
		want := Preprocess{c.pipeline, spec.ImageSize, openAIMean, openAIStd}
		if got := preprocessOf(g); *got != want {
			t.Errorf("%s: preprocessing %+v", c.folder, got)
		}
		tok := tokenizerOf(g)
		if tok.Kind != "bert" || len(tok.Words) != 30522 || tok.VocabSize != 30522 || tok.Words[101] != "[CLS]" || tok.MaxLength != c.maxLength || tok.ENC != c.enc || tok.Cleaning != c.cleaning {
			t.Errorf("%s: tokenizer %+v, %d words", c.folder, tok, len(tok.Words))
		}
		if from := "embedded"; c.maxLength == 0 && in.Tokenizer.Source != "vocab.txt" || c.maxLength != 0 && in.Tokenizer.Source != from {
			t.Errorf("%s: words from %s", c.folder, in.Tokenizer.Source)
		}
		if g.Str("general.architecture") != c.arch || g.Str("tia2.reward") != c.reward || g.Str("tia2.source.file") != c.folder+"/"+c.weights {
			t.Errorf("%s: %s, %s, %s", c.folder, g.Str("general.architecture"), g.Str("tia2.reward"), g.Str("tia2.source.file"))
		}
		for key, want := range map[string]any{
			c.arch + ".embed_dim": uint32(spec.EmbedDim), c.arch + ".pair_outputs": uint32(spec.Pair.Outputs), c.arch + ".vision.activation": "gelu",
			c.arch + ".vision.output_norm_eps": spec.Pair.OutputEps, c.arch + ".text.context": uint32(512), c.arch + ".text.layer_norm_eps": float32(1e-12),
			"tokenizer.cleaning": c.cleaning, "tokenizer.max_length": uint32(c.maxLength),
		} {
			if got := g.Value(key); got != want {
				t.Errorf("%s: key %s is %v: expected %v", c.folder, key, got, want)
			}
		}
	}
}

// blipSource opens the checkpoint that a golden folder holds, the two of LAVIS as one.
func blipSource(t *testing.T, folder string) func(names ...string) []float32 {
	t.Helper()
	m, err := load(goldenBLIP(t, folder), Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.file.Close() })
	return func(names ...string) (all []float32) {
		for _, n := range names {
			if count, ok := strings.CutPrefix(n, "zeros "); ok {
				var zeros int
				fmt.Sscan(count, &zeros)
				all = append(all, make([]float32, zeros)...)
				continue
			}
			x, err := m.file.Tensor(n).Floats()
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, x...)
		}
		return all
	}
}

// In f32 nothing is lost: what of the checkpoint each tensor holds.
func TestBLIPValues(t *testing.T) {
	width := readBLIPSizes(t)["blip2_lavis"].VisionWidth
	for folder, list := range map[string]map[string][]string{
		"blip_pth": {
			"v.class_embd": {"visual_encoder.cls_token"}, "v.position_embd": {"visual_encoder.pos_embed"}, "v.patch_embd.weight": {"visual_encoder.patch_embed.proj.weight"},
			"v.patch_embd.bias": {"visual_encoder.patch_embed.proj.bias"}, "v.blk.1.attn_qkv.bias": {"visual_encoder.blocks.1.attn.qkv.bias"},
			"v.blk.0.ffn_down.weight": {"visual_encoder.blocks.0.mlp.fc2.weight"}, "v.post_ln.weight": {"visual_encoder.norm.weight"},
			"t.token_embd.weight": {"text_encoder.embeddings.word_embeddings.weight"}, "t.embd_ln.bias": {"text_encoder.embeddings.LayerNorm.bias"},
			"t.blk.1.attn_qkv.weight": {"text_encoder.encoder.layer.1.attention.self.query.weight", "text_encoder.encoder.layer.1.attention.self.key.weight", "text_encoder.encoder.layer.1.attention.self.value.weight"},
			"t.blk.0.attn_ln.weight":  {"text_encoder.encoder.layer.0.attention.output.LayerNorm.weight"},
			"t.blk.0.cross_kv.weight": {"text_encoder.encoder.layer.0.crossattention.self.key.weight", "text_encoder.encoder.layer.0.crossattention.self.value.weight"},
			"t.blk.0.cross_kv.bias":   {"text_encoder.encoder.layer.0.crossattention.self.key.bias", "text_encoder.encoder.layer.0.crossattention.self.value.bias"},
			"t.blk.1.cross_q.weight":  {"text_encoder.encoder.layer.1.crossattention.self.query.weight"}, "t.blk.1.cross_out.bias": {"text_encoder.encoder.layer.1.crossattention.output.dense.bias"},
			"t.blk.1.cross_ln.bias": {"text_encoder.encoder.layer.1.crossattention.output.LayerNorm.bias"}, "t.blk.1.ffn_ln.bias": {"text_encoder.encoder.layer.1.output.LayerNorm.bias"},
			"v.proj.weight": {"vision_proj.weight"}, "t.proj.bias": {"text_proj.bias"}, "pair_head.weight": {"itm_head.weight"}, "pair_head.bias": {"itm_head.bias"},
		},
		"blip_hf": {
			"v.class_embd": {"vision_model.embeddings.class_embedding"}, "v.position_embd": {"vision_model.embeddings.position_embedding"},
			"v.blk.1.attn_out.weight": {"vision_model.encoder.layers.1.self_attn.projection.weight"}, "v.post_ln.bias": {"vision_model.post_layernorm.bias"},
			"t.blk.2.ffn_up.weight": {"text_encoder.encoder.layer.2.intermediate.dense.weight"}, "pair_head.weight": {"itm_head.weight"},
		},
		"blip2_hf": {
			"t.query_embd": {"query_tokens"}, "t.embd_ln.weight": {"qformer.layernorm.weight"}, "t.position_embd": {"embeddings.position_embeddings.weight"},
			"t.blk.1.attn_qkv.bias":       {"qformer.encoder.layer.1.attention.attention.query.bias", "qformer.encoder.layer.1.attention.attention.key.bias", "qformer.encoder.layer.1.attention.attention.value.bias"},
			"t.blk.2.cross_kv.weight":     {"qformer.encoder.layer.2.crossattention.attention.key.weight", "qformer.encoder.layer.2.crossattention.attention.value.weight"},
			"t.blk.3.query_ffn_ln.bias":   {"qformer.encoder.layer.3.output_query.LayerNorm.bias"},
			"t.blk.0.query_ffn_up.weight": {"qformer.encoder.layer.0.intermediate_query.dense.weight"}, "v.proj.weight": {"vision_projection.weight"},
		},
		"blip2_lavis": {
			"v.class_embd": {"visual_encoder.cls_token"}, "v.blk.1.attn_qkv.weight": {"visual_encoder.blocks.1.attn.qkv.weight"},
			"v.blk.1.attn_qkv.bias": {"visual_encoder.blocks.1.attn.q_bias", fmt.Sprint("zeros ", width), "visual_encoder.blocks.1.attn.v_bias"},
			"v.post_ln.weight":      {"ln_vision.weight"}, "t.token_embd.weight": {"Qformer.bert.embeddings.word_embeddings.weight"},
			"t.blk.2.query_ffn_down.weight": {"Qformer.bert.encoder.layer.2.output_query.dense.weight"}, "t.blk.1.ffn_down.weight": {"Qformer.bert.encoder.layer.1.output.dense.weight"},
			"t.proj.weight": {"text_proj.weight"}, "t.query_embd": {"query_tokens"},
		},
		"imagereward": {"v.blk.0.ln2.bias": {"blip.visual_encoder.blocks.0.norm2.bias"}, "t.blk.1.cross_q.bias": {"blip.text_encoder.encoder.layer.1.crossattention.self.query.bias"}},
	} {
		read, g := blipSource(t, folder), convertTo(t, goldenBLIP(t, folder), Options{})
		for name, from := range list {
			if _, got := values(t, g, name); !slices.Equal(got, read(from...)) {
				t.Errorf("%s: %s is not %v", folder, name, from)
			}
		}
	}
}

// npzArray reads an array of float32, and its first dimension.
func npzArray(t *testing.T, path, name string) []float32 {
	t.Helper()
	r, err := npz.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var values []float32
	if err := r.Read(name+".npy", &values); err != nil {
		t.Fatalf("%s, %s: %v", path, name, err)
	}
	return values
}

// affine is weight * x + bias.
func affine(weight, x, bias []float32) float64 {
	sum := float64(bias[0])
	for i, w := range weight {
		sum += float64(w) * float64(x[i])
	}
	return sum
}

// ImageReward's five layers must be one: on the last state of the golden pair, and on the standardised reward.
func TestImageRewardHead(t *testing.T) {
	g := convertTo(t, goldenBLIP(t, "imagereward"), Options{DType: "q8_0"})
	layers := goldenBLIP(t, "imagereward", "layers.npz")
	size := readBLIPSizes(t)["imagereward"]
	state := npzArray(t, layers, fmt.Sprintf("itm.layer%02d.out", size.TextLayers-1))[:size.TextWidth]
	raw := npzArray(t, layers, "mlp.7")[0]
	_, weight := values(t, g, "pair_head.weight")
	_, bias := values(t, g, "pair_head.bias")
	got, want := affine(weight, state, bias), (float64(raw)-0.16717362830052426)/1.0333394966054072
	if math.Abs(got-want) > 1e-5 {
		t.Errorf("reward %g: expected %g", got, want)
	}
	if reward := npzArray(t, goldenBLIP(t, "imagereward", "expect.npz"), "rewards")[0]; math.Abs(got-float64(reward)) > 5e-5 {
		t.Errorf("reward %g: expected %g", got, reward)
	}
}

func TestAestheticHeads(t *testing.T) {
	clip := sharedtest.Path(t, "golden", "clip")
	embeds := npzArray(t, filepath.Join(clip, "expected", "openai_jit.npz"), "image_embeds_norm")
	for array, file := range map[string]string{"aesthetic_v2": "aesthetic_v2.pth", "aesthetic_v1": "aesthetic_v1_linear.pth"} {
		path := golden(t, "aesthetic/"+file)
		g := convertTo(t, path, Options{DType: "q8_0"})
		want := npzArray(t, filepath.Join(clip, "expected", "aesthetic.npz"), array)
		d := len(embeds) / len(want)
		_, weight := values(t, g, "head.weight")
		_, bias := values(t, g, "head.bias")
		if g.Str("general.architecture") != "aesthetic" || g.Str("tia2.reward") != "aesthetic" || g.Value("aesthetic.embed_dim") != uint32(d) || len(g.Tensors) != 2 || len(weight) != d {
			t.Errorf("%s: %v, %d tensors, %d weights", file, g.KVs, len(g.Tensors), len(weight))
		}
		for i, w := range want {
			if got := affine(weight, embeds[i*d:(i+1)*d], bias); math.Abs(got-float64(w)) > 1e-5 {
				t.Errorf("%s: picture %d has %g: expected %g", file, i, got, w)
			}
		}
		in, err := Inspect(context.Background(), path, Options{})
		if err != nil || in.Problem != "" || in.Family != "aesthetic head" || in.Spec.EmbedDim != d || in.Preprocess != nil || in.Tokenizer != nil {
			t.Errorf("%s: inspect: %v, %+v", file, err, in)
		}
	}
}

func TestResizedPositions(t *testing.T) {
	src, size := goldenBLIP(t, "blip_pth"), readBLIPSizes(t)["blip_pth"]
	g := convertTo(t, src, Options{ImageSize: size.ResizedSize})
	want := npzArray(t, goldenBLIP(t, "blip_pth", "expect.npz"), "resized_pos_embed")
	_, got := values(t, g, "v.position_embd")
	if len(got) != len(want) {
		t.Fatalf("%d values: expected %d", len(got), len(want))
	}
	worst := 0.0
	for i := range got {
		worst = max(worst, math.Abs(float64(got[i])-float64(want[i])))
	}
	if worst > 1e-6 {
		t.Errorf("the position embedding is off by %g", worst)
	}
	if s, p := specOf(g), preprocessOf(g); s.ImageSize != size.ResizedSize || p.Size != size.ResizedSize {
		t.Errorf("the file says %d and %d pixels: expected %d", s.ImageSize, p.Size, size.ResizedSize)
	}
	same := convertTo(t, src, Options{ImageSize: size.ImageSize})
	_, a := values(t, same, "v.position_embd")
	_, b := values(t, convertTo(t, src, Options{}), "v.position_embd")
	if !slices.Equal(a, b) {
		t.Error("the checkpoint's own size changes the position embedding")
	}
	dst := filepath.Join(t.TempDir(), "x")
	for _, c := range []struct {
		src, want string
		size      int
	}{
		{src, "expected a multiple of the patches' 16 pixels", 100}, {src, "expected a multiple", -16}, {src, "expected a multiple", 1 << 20},
		{golden(t, "hf_openai"), "is for BLIP, BLIP-2 and ImageReward", 64}, {golden(t, "aesthetic/aesthetic_v2.pth"), "is for BLIP", 224},
		{goldenBLIP(t, "blip2_lavis"), "", 140}, {goldenBLIP(t, "blip2_hf"), "", 140}, {goldenBLIP(t, "blip_hf"), "", 96},
	} {
		wantError(t, c.src, Convert(context.Background(), c.src, dst, Options{ImageSize: c.size, DType: "q8_0"}), c.want)
	}
}

// The class token's row stays, a constant stays one, and rows and columns are treated alike.
func TestResizeIsSymmetric(t *testing.T) {
	const from, to = 7, 9
	flat, x, y := []float32{7}, []float32{7}, []float32{7}
	for r := range from {
		for c := range from {
			flat, x, y = append(flat, 2.5), append(x, float32(r*r+5*c)), append(y, float32(c*c+5*r))
		}
	}
	flat, x, y = resizePositions(flat, from, to, 1), resizePositions(x, from, to, 1), resizePositions(y, from, to, 1)
	for r := range to {
		for c := range to {
			i, j := 1+r*to+c, 1+c*to+r
			if flat[i] != 2.5 || math.Abs(float64(x[i]-y[j])) > 1e-5 {
				t.Fatalf("row %d, column %d: %g, %g and %g", r, c, flat[i], x[i], y[j])
			}
		}
	}
	if len(x) != 1+to*to || flat[0] != 7 {
		t.Errorf("%d values, the first %g", len(x), flat[0])
	}
}

// Momentum copies, queues and decoders hold other values; they are told and not read.
func TestLeftovers(t *testing.T) {
	for folder, want := range map[string][]string{
		"blip_pth": {"temp", "image_queue", "text_queue", "idx_queue", "ptr_queue", "visual_encoder_m.blocks.0.attn.qkv.weight", "text_encoder_m.encoder.layer.0.attention.self.query.weight",
			"text_decoder.bert.encoder.layer.0.attention.self.query.weight", "vision_proj_m.weight"},
		"blip2_lavis": {"Qformer.cls.predictions.decoder.weight", "temp", "visual_encoder.norm.weight", "visual_encoder.head.bias", fmt.Sprintf("visual_encoder.blocks.%d.mlp.fc1.weight", readBLIPSizes(t)["blip2_lavis"].VisionLayers)},
		"imagereward": {"blip.vision_proj.weight", "blip.text_proj.bias"},
		"blip_hf":     {"text_encoder.embeddings.position_ids"},
	} {
		in, err := Inspect(context.Background(), goldenBLIP(t, folder), Options{})
		if err != nil || in.Problem != "" || len(in.Notes) > 0 {
			t.Errorf("%s: %v, %s, %q", folder, err, in.Problem, in.Notes)
			continue
		}
		for _, name := range want {
			if !slices.Contains(in.Ignored, name) {
				t.Errorf("%s: %s is not among the ignored %q", folder, name, in.Ignored)
			}
		}
		if slices.ContainsFunc(in.Ignored, func(n string) bool { return strings.HasPrefix(n, "visual_encoder.blocks.0.") }) {
			t.Errorf("%s: block 0 is ignored", folder)
		}
	}
}

// Both files of LAVIS's BLIP-2 lead to the same model, and its sum covers both.
func TestBLIP2Files(t *testing.T) {
	dir := goldenBLIP(t, "blip2_lavis")
	first := convertTo(t, dir, Options{})
	for _, file := range []string{"blip2_pretrained.pth", "eva_vit_g.pth"} {
		g := convertTo(t, filepath.Join(dir, file), Options{})
		if diff := cmp.Diff(first.Tensors, g.Tensors); diff != "" || first.Str("tia2.source.sha256") != g.Str("tia2.source.sha256") || g.Str("tia2.source.file") != "blip2_pretrained.pth" {
			t.Errorf("%s: %s, %s", file, diff, g.Str("tia2.source.file"))
		}
	}
	in, err := Inspect(context.Background(), dir, Options{})
	if err != nil || len(in.Parts) != 2 || in.SHA256 != first.Str("tia2.source.sha256") || filepath.Base(in.Parts[1]) != "eva_vit_g.pth" {
		t.Errorf("inspect: %v, %q, %s", err, in.Parts, in.SHA256)
	}
	// Without the image tower, and with another file in its place.
	alone := t.TempDir()
	copyFile(t, filepath.Join(dir, "blip2_pretrained.pth"), filepath.Join(alone, "blip2_pretrained.pth"))
	err = Convert(context.Background(), filepath.Join(alone, "blip2_pretrained.pth"), filepath.Join(alone, "x"), Options{})
	wantError(t, "no image tower", err, "expected eva_vit_g.pth beside it, at "+filepath.Join(alone, "eva_vit_g.pth"))
	copyFile(t, golden(t, "aesthetic/aesthetic_v2.pth"), filepath.Join(alone, "eva_vit_g.pth"))
	wantError(t, "another file", Convert(context.Background(), alone, filepath.Join(alone, "x"), Options{}), "eva_vit_g.pth: expected EVA's image tower")
	eva := filepath.Join(t.TempDir(), "eva_vit_g.pth")
	copyFile(t, filepath.Join(dir, "eva_vit_g.pth"), eva)
	wantError(t, "image tower alone", Convert(context.Background(), eva, filepath.Join(alone, "x"), Options{}), "name blip2_pretrained.pth")
}

// tinyBLIP is a model of each kind, small enough to write by hand; tinyBLIPTensors is a checkpoint of it.
var tinyBLIP = Spec{EmbedDim: 4, ImageSize: 32, PatchSize: 16, Vision: Tower{64, 1, 1, 8, 1e-6, gelu}, Context: 8, VocabSize: 30524, Text: Tower{64, 1, 1, 12, 1e-12, gelu},
	Pair: Pair{Outputs: 2, OutputEps: 1e-6, CrossEvery: 1}}

func tinyBLIPTensors(s *Spec, n *blipNames) tensors {
	list := tensors{}
	for _, o := range planBLIP(s, n) {
		for _, in := range o.inputs {
			list[in.name] = in.shape
		}
	}
	return list
}

func tinyQFormer() *Spec {
	s := tinyBLIP
	s.Vision.Width, s.Vision.Layers, s.Pair = 88, 2, Pair{2, 1e-5, 2, 3}
	return &s
}

// A checkpoint that holds its image tower uses that, all blocks of it, and needs no second file.
func TestBLIP2WithImageTower(t *testing.T) {
	path := filepath.Join(t.TempDir(), "blip2_finetune_coco.safetensors")
	writeSafetensors(t, path, tinyBLIPTensors(tinyQFormer(), &lavisNames), 0.5)
	g := convertTo(t, path, Options{DType: "q8_0"})
	if s := specOf(g); *s != *tinyQFormer() {
		t.Errorf("got %+v", s)
	}
	if _, x := values(t, g, "v.blk.1.attn_qkv.bias"); x[0] != 0.5 || x[88] != 0 || x[2*88] != 0.5 {
		t.Errorf("qkv bias %v", x)
	}
}

// What is nearly a model must be told what it lacks.
func TestNearMisses(t *testing.T) {
	blip := func(edit func(tensors)) tensors {
		list := tinyBLIPTensors(&tinyBLIP, &blipOriginalNames)
		edit(list)
		return list
	}
	without := func(prefix string, also ...string) func(tensors) {
		return func(l tensors) {
			for name := range l {
				if strings.HasPrefix(name, prefix) {
					delete(l, name)
				}
			}
			for _, name := range also {
				l[name] = []int64{1}
			}
		}
	}
	reward := tinyBLIP
	reward.EmbedDim, reward.Pair.Outputs = 0, 1
	imageReward := func(edit func(tensors)) tensors {
		list := tinyBLIPTensors(&reward, &imageRewardNames)
		edit(list)
		return list
	}
	qformer := func(edit func(tensors)) tensors {
		list := tinyBLIPTensors(tinyQFormer(), &lavisNames)
		edit(list)
		return list
	}
	hf := func(edit func(tensors)) tensors {
		list := tinyBLIPTensors(&tinyBLIP, &blipHFNames)
		edit(list)
		return list
	}
	head := func(layers ...int) tensors {
		list := tensors{}
		for i, layer := range layers {
			list[fmt.Sprintf("layers.%d.weight", layer)], list[fmt.Sprintf("layers.%d.bias", layer)] = []int64{headWidths[i], append([]int64{8}, headWidths...)[i]}, []int64{headWidths[i]}
		}
		return list
	}
	for name, c := range map[string]struct {
		file string
		list tensors
		want string
	}{
		"whole BLIP":         {"x", blip(func(tensors) {}), ""},
		"whole ImageReward":  {"x", imageReward(func(tensors) {}), ""},
		"whole BLIP-2":       {"x", qformer(func(tensors) {}), ""},
		"LoRA":               {"x", tensors{"base_model.visual_encoder.blocks.0.attn.qkv.lora_A.weight": {1}}, "LoRA weights without the model"},
		"LoRA of kohya":      {"x", tensors{"lora_te_text_model_encoder_layers_0.lora_up.weight": {1}}, "LoRA weights without the model"},
		"captions":           {"x", blip(without("itm_head.", "text_decoder.bert.encoder.layer.0.output.dense.weight")), "captions or questions"},
		"no text":            {"x", blip(without("text_encoder.")), "without text_encoder"},
		"no head":            {"x", blip(without("itm_head.")), "itm_head"},
		"half a head":        {"x", blip(without("itm_head.bias")), "tensor itm_head.bias is missing"},
		"no projection":      {"x", blip(without("vision_proj.")), "tensor vision_proj.weight is missing"},
		"other head":         {"x", blip(func(l tensors) { l["itm_head.weight"] = []int64{3, 64} }), "itm_head.weight has shape [3 64]: expected [2 64]"},
		"unknown in a tower": {"x", blip(func(l tensors) { l["visual_encoder.blocks.0.ls1.gamma"] = []int64{64} }), "visual_encoder.blocks.0.ls1.gamma is not part of this model (blip)"},
		"one layer more":     {"x", blip(func(l tensors) { l["text_encoder.encoder.layer.1.output.dense.weight"] = []int64{64, 12} }), "layer.1.output.dense.weight is not part"},
		"token types":        {"x", blip(func(l tensors) { l["text_encoder.embeddings.token_type_embeddings.weight"] = []int64{2, 64} }), "token_type_embeddings.weight is not part"},
		"not square":         {"x", blip(func(l tensors) { l["visual_encoder.pos_embed"] = []int64{1, 7, 64} }), "pos_embed has shape [1 7 64]: expected [1 5 64]"},
		"flat positions":     {"x", blip(func(l tensors) { l["visual_encoder.pos_embed"] = []int64{5, 64} }), "pos_embed has shape [5 64]: expected 3 dimensions"},
		"ImageReward's head": {"x", imageReward(func(l tensors) { l["mlp.layers.2.weight"] = []int64{64, 1024} }), "mlp.layers.2.weight has shape [64 1024]: expected [128 1024]"},
		"less of its head":   {"x", imageReward(without("mlp.layers.7")), "tensor mlp.layers.7.weight is missing"},
		"more of its head":   {"x", imageReward(without("none", "mlp.layers.9.weight")), "mlp.layers.9.weight is not part"},
		"no head at all":     {"x", imageReward(without("mlp.")), "ImageReward without its head"},
		"Q-Former alone":     {"x", qformer(without("visual_encoder.")), "expected eva_vit_g.pth beside it"},
		"no matching head":   {"x", qformer(without("itm_head.")), "Q-Former of BLIP-2 without the matching head"},
		"BLIP-2 of LAVIS with OPT": {"x", qformer(func(l tensors) {
			without("itm_head.", "opt_proj.weight")(l)
			without("text_proj.")(l)
		}), "with a language model"},
		"BLIP-2 of HF with T5": {"x", tensors{"language_model.shared.weight": {1}, "query_tokens": {1}, "qformer.encoder.layer.0.output.dense.weight": {1}}, "with a language model"},
		"BLIP-2 with CLIP's image tower": {"x", qformer(func(l tensors) {
			without("visual_encoder.")(l)
			l["ln_vision.weight"] = []int64{1024}
		}), "ViT-L/14, which is not supported"},
		"HF captions":       {"x", hf(without("itm_head.", "text_decoder.bert.embeddings.LayerNorm.weight")), "captions or questions"},
		"HF without text":   {"x", hf(without("text_encoder.")), "expected BlipForImageTextRetrieval"},
		"HF without image":  {"x", hf(without("vision_model.")), "without its image tower"},
		"HF without config": {"x", hf(func(tensors) {}), "no config.json beside it"},
		"head":              {"x", head(0, 2, 4, 6, 7), ""},
		"relu head":         {"ava+logos-l14-reluMSE", head(0, 2, 4, 6, 7), "by its name an aesthetic head with ReLU"},
		"other layers":      {"x", head(0, 3, 6, 9, 11), "Linear layers [0 3 6 9 11]: expected [0 2 4 6 7]"},
		"other width":       {"x", func() tensors { l := head(0, 2, 4, 6, 7); l["layers.4.weight"] = []int64{32, 128}; return l }(), "layers.4.weight has shape [32 128]: expected [64 128]"},
		"linear":            {"x", tensors{"weight": {1, 8}, "bias": {1}}, ""},
		"linear probe":      {"x", tensors{"weight": {1000, 8}, "bias": {1000}}, "no model that is known here"},
	} {
		path := filepath.Join(t.TempDir(), c.file+".safetensors")
		writeSafetensors(t, path, c.list, 0)
		err := Convert(context.Background(), path, filepath.Join(t.TempDir(), "y"), Options{})
		wantError(t, name, err, c.want)
		if err != nil && !strings.HasPrefix(err.Error(), path) {
			t.Errorf("%s: %v: the file is not named first", name, err)
		}
	}
}

// A prefix before all names of a head is taken off; other rewards than the model's are refused.
func TestHeadPrefixAndRewards(t *testing.T) {
	dir := t.TempDir()
	list := tensors{}
	for _, in := range headInputs("aesthetic.layers.", 8) {
		list[in.name] = in.shape
	}
	path := filepath.Join(dir, "head.safetensors")
	writeSafetensors(t, path, list, 0.5)
	g := convertTo(t, path, Options{})
	_, weight := values(t, g, "head.weight")
	_, bias := values(t, g, "head.bias")
	// All ones half: the weight is 0.5^5 times the product of the inner widths, the bias the sum over the layers.
	if want := float32(math.Pow(0.5, 5) * 1024 * 128 * 64 * 16); weight[0] != want {
		t.Errorf("weight %g: expected %g", weight[0], want)
	}
	want, product := 0.0, 1.0
	for _, w := range []float64{1, 16, 64, 128, 1024} {
		product *= w
		want += 0.5 * product
		product *= 0.5
	}
	if bias[0] != float32(want) {
		t.Errorf("bias %g: expected %g", bias[0], want)
	}
	wantError(t, "reward", Convert(context.Background(), path, filepath.Join(dir, "x"), Options{Reward: "clip"}), `reward "clip" is none of this model (aesthetic head): expected aesthetic`)
	wantError(t, "CLIP", Convert(context.Background(), golden(t, "hf_openai"), filepath.Join(dir, "x"), Options{Reward: "blip"}), "expected clip, pickscore or hpsv2")
}

func TestUnknownTensorsAreNoted(t *testing.T) {
	list := tinyBLIPTensors(&tinyBLIP, &blipOriginalNames)
	list["adapter.weight"], list["image_queue"] = []int64{4}, []int64{4, 4}
	path := filepath.Join(t.TempDir(), "x.safetensors")
	writeSafetensors(t, path, list, 0)
	in, err := Inspect(context.Background(), path, Options{})
	if err != nil || in.Problem != "" || !slices.Equal(in.Ignored, []string{"adapter.weight", "image_queue"}) {
		t.Fatalf("%v, %+v", err, in)
	}
	if len(in.Notes) != 2 || !strings.Contains(in.Notes[0], "no med_config.json: 1 heads") || !strings.HasSuffix(in.Notes[1], "ignored: adapter.weight") {
		t.Errorf("notes %q", in.Notes)
	}
}

func TestJoinTwice(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.safetensors")
	writeSafetensors(t, path, tensors{"a": {1}}, 0)
	var files [2]*tensorfile.File
	for i := range files {
		f, err := tensorfile.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		files[i] = f
	}
	defer files[0].Close()
	if err := files[0].Join(files[1], ""); err == nil || !strings.Contains(err.Error(), "stands twice") {
		t.Errorf("error %v", err)
	}
}

// Quantised files of the new families must be what a direct conversion gives.
func TestQuantizeBLIP(t *testing.T) {
	for _, path := range []string{goldenBLIP(t, "blip_pth"), goldenBLIP(t, "blip2_lavis"), goldenBLIP(t, "imagereward"), golden(t, "aesthetic/aesthetic_v2.pth")} {
		src := filepath.Join(t.TempDir(), "f32.gguf")
		if err := Convert(context.Background(), path, src, Options{}); err != nil {
			t.Fatal(err)
		}
		dst := filepath.Join(t.TempDir(), "q8.gguf")
		if err := Quantize(context.Background(), src, dst, Options{DType: "q8_0"}); err != nil {
			t.Fatal(err)
		}
		got, want := open(t, dst), convertTo(t, path, Options{DType: "q8_0"})
		if diff := cmp.Diff(want.Tensors, got.Tensors); diff != "" {
			t.Errorf("%s: %s", path, diff)
		}
		for i := range want.Tensors {
			name := want.Tensors[i].Name
			a, _ := values(t, want, name)
			b, _ := values(t, got, name)
			if !slices.Equal(a, b) {
				t.Errorf("%s: tensor %s differs from a direct conversion", path, name)
			}
		}
	}
}
