package convert

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tia2-engine/tia2-engine/engine/internal/gguf"
	"github.com/tia2-engine/tia2-engine/third_party/vocab"
)

// tensors maps names to shapes.
type tensors map[string][]int64

// writeSafetensors writes float32 tensors whose values are all v.
func writeSafetensors(t testing.TB, path string, list tensors, v float32) {
	t.Helper()
	header := map[string]any{}
	end := int64(0)
	for _, name := range sortedKeys(list) {
		n := int64(4)
		for _, d := range list[name] {
			n *= d
		}
		header[name] = map[string]any{"dtype": "F32", "shape": append([]int64{}, list[name]...), "data_offsets": []int64{end, end + n}}
		end += n
	}
	text, err := json.Marshal(header)
	if err != nil {
		t.Fatal(err)
	}
	b := append(binary.LittleEndian.AppendUint64(nil, uint64(len(text))), text...)
	for range end / 4 {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
	}
	if err := os.WriteFile(path, b, 0o666); err != nil {
		t.Fatal(err)
	}
}

// tiny is a model with a vocabulary of 512 + 2 merges + 2.
var tiny = Spec{4, 8, 4, Tower{8, 1, 2, 16, 1e-5, gelu}, 5, 516, Tower{6, 1, 3, 12, 1e-5, gelu}, Pair{}}

// tinyTensors lists what a checkpoint of a spec holds.
func tinyTensors(s *Spec, n clipNames) tensors {
	list := tensors{}
	for _, o := range planCLIP(s, n, nil) {
		for _, in := range o.inputs {
			list[in.name] = in.shape
		}
	}
	return list
}

const tinyConfig = `{"model_cfg":{"embed_dim":4,"vision_cfg":{"image_size":8,"layers":1,"width":8,"head_width":4,"mlp_ratio":2,"patch_size":4},
"text_cfg":{"context_length":5,"vocab_size":516,"width":6,"heads":3,"layers":1,"mlp_ratio":2}},"preprocess_cfg":{}}`

// tinyFolder writes an open_clip folder with its own merges; edit may change the tensors.
func tinyFolder(t testing.TB, edit func(tensors)) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "tiny")
	if err := os.Mkdir(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	list := tinyTensors(&tiny, openAINames(""))
	if edit != nil {
		edit(list)
	}
	writeSafetensors(t, filepath.Join(dir, "open_clip_model.safetensors"), list, 0.5)
	writeFile(t, dir, "open_clip_config.json", tinyConfig)
	writeFile(t, dir, "merges.txt", "#version: 0.2\na b\nab c</w>\n")
	return dir
}

func TestOwnMerges(t *testing.T) {
	g := convertTo(t, tinyFolder(t, nil), Options{Name: "demo"})
	tok := tokenizerOf(g)
	if !slices.Equal(tok.Merges, []string{"a b", "ab c</w>"}) || tok.VocabSize != 516 || tok.SOT != 514 || tok.EOT != 515 || g.Str("general.name") != "demo" {
		t.Errorf("got %+v, %q", tok, tok.Merges)
	}
	if *specOf(g) != tiny {
		t.Errorf("got %+v", specOf(g))
	}
	if _, x := values(t, g, "v.proj.weight"); len(x) != 32 || x[7] != 0.5 {
		t.Errorf("v.proj.weight: %v", x)
	}
}

func TestTensorProblems(t *testing.T) {
	for name, c := range map[string]struct {
		edit func(tensors)
		want string
	}{
		"missing":        {func(l tensors) { delete(l, "visual.ln_pre.weight") }, "tensor visual.ln_pre.weight is missing"},
		"wrong shape":    {func(l tensors) { l["ln_final.bias"] = []int64{7} }, "tensor ln_final.bias has shape [7]: expected [6]"},
		"one layer more": {func(l tensors) { l["transformer.resblocks.1.ln_1.weight"] = []int64{6} }, "transformer.resblocks.1.ln_1.weight is not part"},
		"layer scale":    {func(l tensors) { l["visual.transformer.resblocks.0.ls_1.gamma"] = []int64{8} }, "ls_1.gamma is not part"},
		"leftover":       {func(l tensors) { l["ema.decay"] = []int64{1}; l["attn_mask"] = []int64{5, 5} }, ""},
		"projection bias": {func(l tensors) {
			delete(l, "text_projection")
			l["text_projection.weight"] = []int64{4, 6}
			l["text_projection.bias"] = []int64{4}
		}, ""},
		"scale of one": {func(l tensors) { l["logit_scale"] = nil }, ""},
		"two scales":   {func(l tensors) { l["logit_scale"] = []int64{2} }, "logit_scale has shape [2]"},
	} {
		dir := tinyFolder(t, c.edit)
		dst := filepath.Join(t.TempDir(), "x.gguf")
		err := Convert(context.Background(), dir, dst, Options{})
		wantError(t, name, err, c.want)
		if err != nil && !strings.Contains(err.Error(), "open_clip_model.safetensors") {
			t.Errorf("%s: %v: the file is not named", name, err)
		}
		if name == "projection bias" {
			if g := open(t, dst); g.Tensor("t.proj.bias") == nil || !slices.Equal(g.Tensor("t.proj.weight").Dims, []uint64{6, 4}) {
				t.Errorf("%s: %+v", name, g.Tensor("t.proj.weight"))
			}
		}
	}
}

func TestOddValues(t *testing.T) {
	dir := tinyFolder(t, nil)
	list := tinyTensors(&tiny, openAINames(""))
	var notes []string
	opt := Options{DType: "f16", Note: func(s string) { notes = append(notes, s) }}
	writeSafetensors(t, filepath.Join(dir, "open_clip_model.safetensors"), list, float32(math.NaN()))
	if err := Convert(context.Background(), dir, filepath.Join(t.TempDir(), "x"), opt); err != nil || len(notes) == 0 || !strings.Contains(notes[0], "NaN") {
		t.Errorf("NaN: %v, %q", err, notes)
	}
	writeSafetensors(t, filepath.Join(dir, "open_clip_model.safetensors"), list, 1e5)
	err := Convert(context.Background(), dir, filepath.Join(t.TempDir(), "x"), opt)
	wantError(t, "beyond f16", err, "do not fit f16")
	wantError(t, "bf16", Convert(context.Background(), dir, filepath.Join(t.TempDir(), "x"), Options{DType: "bf16"}), "")
}

func TestFamilies(t *testing.T) {
	one := []int64{1}
	for name, c := range map[string]struct {
		list tensors
		want string
	}{
		"resnet":      {tensors{"visual.conv1.weight": one, "visual.layer1.0.conv1.weight": one}, "ResNet"},
		"blip":        {tensors{"visual_encoder.blocks.0.norm1.weight": one}, "a BLIP or a relative of it without"},
		"imagereward": {tensors{"blip.visual_encoder.blocks.0.norm1.weight": one}, "ImageReward without its head"},
		"blip2":       {tensors{"Qformer.bert.embeddings.LayerNorm.weight": one, "visual_encoder.blocks.0.norm1.weight": one}, "Q-Former of BLIP-2"},
		"coca":        {tensors{"visual.conv1.weight": one, "text_decoder.resblocks.0.ln_1.weight": one}, "CoCa"},
		"siglip":      {tensors{"vision_model.head.probe": one, "text_model.embeddings.token_embedding.weight": one}, "SigLIP"},
		"timm":        {tensors{"visual.trunk.cls_token": one}, "timm"},
		"logit_bias":  {tensors{"logit_bias": one, "visual.conv1.weight": one}, "logit_bias"},
		"vision only": {tensors{"vision_model.embeddings.class_embedding": one}, "text tower is missing"},
		"text only":   {tensors{"text_model.embeddings.token_embedding.weight": one}, "image tower is missing"},
		"aesthetic":   {tensors{"layers.0.weight": one, "layers.7.weight": one}, "aesthetic head"},
		"other":       {tensors{"lm_head.weight": one}, "the first is lm_head.weight"},
	} {
		path := filepath.Join(t.TempDir(), "x.safetensors")
		writeSafetensors(t, path, c.list, 0)
		err := Convert(context.Background(), path, filepath.Join(t.TempDir(), "y"), Options{})
		wantError(t, name, err, c.want)
		in, err := Inspect(context.Background(), path, Options{})
		if err != nil || !strings.Contains(in.Problem, c.want) || len(in.Tensors) != len(c.list) {
			t.Errorf("%s: inspect: %v, %+v", name, err, in)
		}
	}
}

func TestWithoutConfig(t *testing.T) {
	dir := t.TempDir()
	b32 := archs[0].spec("")
	b32.Vision.Layers, b32.Text.Layers = 1, 1 // far smaller than the real one, so no known architecture
	list := tinyTensors(b32, openAINames(""))
	writeSafetensors(t, filepath.Join(dir, "x.safetensors"), list, 0)
	dst := filepath.Join(t.TempDir(), "y")
	wantError(t, "unknown shapes", Convert(context.Background(), filepath.Join(dir, "x.safetensors"), dst, Options{}), "name it with --arch (the option Arch), or put its open_clip_config.json beside it")
	wantError(t, "named architecture", Convert(context.Background(), filepath.Join(dir, "x.safetensors"), dst, Options{Arch: "ViT-B-32"}), "visual.transformer.resblocks.1.ln_1.weight is missing")
	for _, n := range []string{"input_resolution", "context_length", "vocab_size"} {
		list[n] = nil // what tells OpenAI's own files
	}
	writeSafetensors(t, filepath.Join(dir, "o.safetensors"), list, 0)
	g := convertTo(t, filepath.Join(dir, "o.safetensors"), Options{DType: "q8_0"})
	want := *b32
	want.Vision.Activation, want.Text.Activation = quickGELU, quickGELU
	if *specOf(g) != want || preprocessOf(g).Pipeline != "openai" {
		t.Errorf("OpenAI's: %+v, %+v", specOf(g), preprocessOf(g))
	}
	hf := filepath.Join(t.TempDir(), "h.safetensors")
	writeSafetensors(t, hf, tinyTensors(&tiny, hfNames), 0)
	wantError(t, "HF alone", Convert(context.Background(), hf, dst, Options{}), "no config.json")
	// Published architectures are told by their shapes; only the table says ViT-H's head width.
	h14 := &archs[11]
	if s := h14.spec(gelu); !h14.matches(s) || archs[10].matches(s) || s.Vision.Heads != 16 {
		t.Errorf("ViT-H-14: %+v", s)
	}
}

func TestFolders(t *testing.T) {
	dst := filepath.Join(t.TempDir(), "y")
	for name, c := range map[string]struct {
		files []string
		want  string
	}{
		"empty":          {nil, "no weights"},
		"several":        {[]string{"a.pt", "b.safetensors", "optimizer.pt"}, "name one of a.pt, b.safetensors"},
		"other model":    {[]string{"config.json", "model.safetensors"}, `model_type "llama" is not supported`},
		"missing folder": {nil, "no such file"},
	} {
		dir := t.TempDir()
		for _, f := range c.files {
			writeFile(t, dir, f, `{"model_type":"llama"}`)
		}
		if name == "missing folder" {
			dir = filepath.Join(dir, "none")
		}
		wantError(t, name, Convert(context.Background(), dir, dst, Options{}), c.want)
	}
}

func TestTokenizerFiles(t *testing.T) {
	table := map[string]int{}
	for _, end := range []string{"", "</w>"} {
		for _, r := range byteAlphabet() {
			table[string(r)+end] = len(table)
		}
	}
	table["ab"], table["abc</w>"], table["<sot>"], table["<eot>"] = 512, 513, 514, 515
	file := func(merges string, suffix string) string {
		b, err := json.Marshal(table)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf(`{"model":{"type":"BPE","end_of_word_suffix":%q,"vocab":%s,"merges":%s}}`, suffix, b, merges)
	}
	for name, c := range map[string]struct{ name, content, want string }{
		"texts":        {"tokenizer.json", file(`["a b","ab c</w>"]`, "</w>"), ""},
		"pairs":        {"tokenizer.json", file(`[["a","b"],["ab","c</w>"]]`, "</w>"), ""},
		"other order":  {"tokenizer.json", file(`["ab c</w>","a b"]`, "</w>"), `"abc</w>" has id 513: expected 512`},
		"not CLIP's":   {"tokenizer.json", file(`[]`, ""), "end_of_word_suffix"},
		"no pair":      {"tokenizer.json", file(`["ab"]`, "</w>"), `"ab"`},
		"numbers":      {"tokenizer.json", file(`[1]`, "</w>"), "expected a text"},
		"no JSON":      {"tokenizer.json", `{`, "unexpected end"},
		"lines":        {"merges.txt", "#version: 0.2\na b\nab c</w>\n", ""},
		"lines of DOS": {"merges.txt", "#version: 0.2\r\na b\r\nab c</w>\r\n", ""},
		"three pieces": {"merges.txt", "a b c\n", "expected two pieces"},
		"empty":        {"merges.txt", "", "expected two pieces"},
		"wrong count":  {"merges.txt", "a b\n", "the model has 516 tokens, the tokenizer (merges.txt) 515"},
		"none":         {"other.txt", "", "the model has 516 tokens, the tokenizer (embedded) 49408"},
		"damaged gzip": {"bpe_simple_vocab_16e6.txt.gz", "x", "EOF"},
	} {
		dir := t.TempDir()
		writeFile(t, dir, c.name, c.content)
		tok, err := readTokenizer(tokenizerHFCLIP, dir, &tiny)
		wantError(t, name, err, c.want)
		if err == nil && !slices.Equal(tok.Merges, []string{"a b", "ab c</w>"}) {
			t.Errorf("%s: %q", name, tok.Merges)
		}
	}
	if err := checkMerges(vocab.CLIPMerges()); err != nil {
		t.Error(err)
	}
}

func TestRandom(t *testing.T) {
	dir := t.TempDir()
	for _, name := range RandomNames() {
		dst := filepath.Join(dir, name+".gguf")
		if err := Random(name, dst, 7, Options{DType: "q8_0"}); err != nil {
			t.Fatal(err)
		}
		if st, err := os.Stat(dst); err != nil || st.Size() > 2<<20 {
			t.Errorf("%s: %d bytes, %v", name, st.Size(), err)
		}
		g := open(t, dst)
		if g.Str("general.name") != "random:"+name {
			t.Errorf("%s: the name is %q", name, g.Str("general.name"))
		}
		if name == "aesthetic" {
			continue
		}
		if g.HasData() || g.Value(gguf.SeedKey) != uint64(7) || g.Tensor("v.blk.0.attn_qkv.weight").Type != gguf.Q8_0 {
			t.Errorf("%s: has data %v, seed %v", name, g.HasData(), g.Value(gguf.SeedKey))
		}
	}
	wantError(t, "unknown", Random("resnet", filepath.Join(dir, "x"), 1, Options{}), "vit-b-32")
	g := open(t, filepath.Join(dir, "vit-g-14.gguf"))
	if s := specOf(g); s.Vision.Heads != 16 || s.Vision.MLPWidth != 6144 || s.Vision.Layers != 40 {
		t.Errorf("vit-g-14: %+v", s)
	}
}

// Full-size models of the BLIP family must have the sizes of the published ones.
func TestRandomBLIP(t *testing.T) {
	bert := Tower{768, 12, 12, 3072, 1e-12, gelu}
	for name, c := range map[string]struct {
		reward, pipeline string
		spec             Spec
	}{
		"blip-itm-base":  {"blip", "blip_squash", Spec{256, 384, 16, Tower{768, 12, 12, 3072, 1e-6, gelu}, 512, 30524, bert, Pair{2, 1e-6, 1, 0}}},
		"blip-itm-large": {"blip", "blip_squash", Spec{256, 384, 16, Tower{1024, 24, 16, 4096, 1e-6, gelu}, 512, 30524, bert, Pair{2, 1e-6, 1, 0}}},
		"imagereward":    {"imagereward", "openai", Spec{0, 224, 16, Tower{1024, 24, 16, 4096, 1e-6, gelu}, 512, 30524, bert, Pair{1, 1e-6, 1, 0}}},
		"blip2-itm":      {"blip2", "blip_squash", Spec{256, 224, 14, Tower{1408, 39, 16, 6144, 1e-6, gelu}, 512, 30523, bert, Pair{2, 1e-5, 2, 32}}},
	} {
		dst := filepath.Join(t.TempDir(), "x.gguf")
		if err := Random(name, dst, 1, Options{DType: "bf16"}); err != nil {
			t.Fatal(err)
		}
		g := open(t, dst)
		if s, p := specOf(g), preprocessOf(g); *s != c.spec || *p != (Preprocess{c.pipeline, c.spec.ImageSize, openAIMean, openAIStd}) || g.Str("tia2.reward") != c.reward {
			t.Errorf("%s: %+v, %+v, %s", name, s, p, g.Str("tia2.reward"))
		}
		checkTypes(t, name, g, blipTensors(&c.spec), gguf.BF16)
	}
	dst := filepath.Join(t.TempDir(), "x.gguf")
	if err := Random("blip-itm-base", dst, 1, Options{ImageSize: 224}); err != nil {
		t.Fatal(err)
	}
	if g := open(t, dst); specOf(g).ImageSize != 224 || preprocessOf(g).Size != 224 || g.Tensor("v.position_embd").Dims[1] != 197 {
		t.Errorf("at 224 pixels: %+v", specOf(g))
	}
	wantError(t, "a CLIP of another size", Random("vit-b-32", dst, 1, Options{ImageSize: 64}), "is for BLIP")
}

func TestRandomRewards(t *testing.T) {
	for name, want := range map[string][3]string{"pickscore": {"pickscore", "hf_clip", "hf_clip"}, "hpsv2": {"hpsv2", "hpsv2", "open_clip"}, "vit-h-14": {"clip", "open_clip", "open_clip"}} {
		dst := filepath.Join(t.TempDir(), "x.gguf")
		if err := Random(name, dst, 1, Options{}); err != nil {
			t.Fatal(err)
		}
		g := open(t, dst)
		got := [3]string{g.Str("tia2.reward"), g.Str("preprocess.pipeline"), g.Str("tokenizer.kind")}
		if s := specOf(g); got != want || s.Vision.Width != 1280 || s.Vision.Heads != 16 || s.Vision.Activation != gelu {
			t.Errorf("%s: %v, %+v", name, got, s)
		}
	}
	heads := map[uint64][]float32{}
	for _, seed := range []uint64{1, 2, 1} {
		dst := filepath.Join(t.TempDir(), "x.gguf")
		if err := Random("aesthetic", dst, seed, Options{DType: "q8_0"}); err != nil {
			t.Fatal(err)
		}
		g := open(t, dst)
		_, weight := values(t, g, "head.weight")
		_, bias := values(t, g, "head.bias")
		if len(weight) != 768 || bias[0] != 5 || heads[seed] != nil && !slices.Equal(heads[seed], weight) {
			t.Errorf("seed %d: %d weights, bias %v, or other weights than before", seed, len(weight), bias)
		}
		heads[seed] = weight
	}
	if slices.Equal(heads[1], heads[2]) {
		t.Error("two seeds give one head")
	}
}

func TestCached(t *testing.T) {
	ctx, src, cache := context.Background(), tinyFolder(t, nil), t.TempDir()
	path, err := Cached(ctx, src, cache, Options{})
	if err != nil {
		t.Fatal(err)
	}
	before, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	var wait sync.WaitGroup
	for range 4 {
		wait.Go(func() {
			if again, err := Cached(ctx, src, cache, Options{}); err != nil || again != path {
				t.Errorf("again: %s, %v", again, err)
			}
		})
	}
	wait.Wait()
	if after, err := os.Stat(path); err != nil || !os.SameFile(before, after) {
		t.Error("the file was made again")
	}
	if other, err := Cached(ctx, src, cache, Options{DType: "f16"}); err != nil || other == path {
		t.Errorf("another type: %s, %v", other, err)
	}
	if err := os.Truncate(path, 100); err != nil { // damaged: made again
		t.Fatal(err)
	}
	if _, err := Cached(ctx, src, cache, Options{}); err != nil || !usable(path) {
		t.Errorf("after damage: %v", err)
	}
	later := time.Now().Add(time.Hour)
	if err := os.Chtimes(filepath.Join(src, "open_clip_model.safetensors"), later, later); err != nil {
		t.Fatal(err)
	}
	if other, err := Cached(ctx, src, cache, Options{}); err != nil || other == path {
		t.Errorf("a changed source: %s, %v", other, err)
	}
	a, err := CachedRandom(ctx, "vit-b-32", 1, cache, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if b, err := CachedRandom(ctx, "vit-b-32", 1, cache, Options{}); err != nil || a != b {
		t.Errorf("random: %s, %v", b, err)
	}
	if _, err := CachedRandom(ctx, "resnet", 1, cache, Options{}); err == nil {
		t.Error("random:resnet: no error")
	}
	small, err := CachedRandom(ctx, "imagereward", 1, cache, Options{ImageSize: 112})
	if err != nil {
		t.Fatal(err)
	}
	if own, err := CachedRandom(ctx, "imagereward", 1, cache, Options{}); err != nil || own == small {
		t.Errorf("another picture size: %s, %v", own, err)
	}
}

// Everything that a converted file depends on makes it another file in the cache.
func TestFingerprint(t *testing.T) {
	dir := t.TempDir()
	for _, name := range append([]string{"blip2_pretrained.pth"}, besideWeights...) {
		writeFile(t, dir, name, `{"model_type":"clip"}`)
	}
	key := func(opt Options) string {
		s, err := findSource(filepath.Join(dir, "blip2_pretrained.pth"))
		if err != nil {
			t.Fatal(err)
		}
		k, err := s.fingerprint(opt)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	first := key(Options{})
	for name, opt := range map[string]Options{"size": {ImageSize: 224}, "type": {DType: "f16"}, "reward": {Reward: "hpsv2"}, "pipeline": {Pipeline: "openai"}, "arch": {Arch: "a"}, "name": {Name: "a"}} {
		if key(opt) == first {
			t.Errorf("%s: the same key", name)
		}
	}
	for _, name := range []string{"med_config.json", "vocab.txt", "tokenizer.json", "tokenizer_config.json", "config.json", "preprocessor_config.json", "eva_vit_g.pth", "blip2_pretrained.pth"} {
		before := key(Options{})
		writeFile(t, dir, name, `{"model_type":"clip","more":1}`)
		if key(Options{}) == before {
			t.Errorf("%s changed: the same key", name)
		}
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
		if name != "blip2_pretrained.pth" && key(Options{}) == before {
			t.Errorf("%s is gone: the same key", name)
		}
		writeFile(t, dir, name, `{"model_type":"clip","more":1}`)
	}
}

// TestKilled kills a converting process at several moments: no file may stand under the final name, and a rerun must
// work and clean up.
func TestKilled(t *testing.T) {
	if dst := os.Getenv("TIA2_TEST_CONVERT_TO"); dst != "" { // the child: wait at a given share of the work
		share := os.Getenv("TIA2_TEST_STOP_AT")
		err := Convert(context.Background(), os.Getenv("TIA2_TEST_CONVERT"), dst, Options{Progress: func(done, total int64) {
			if at := float64(done) / float64(total); fmt.Sprintf("%.1f", at) >= share {
				fmt.Println("waiting")
				time.Sleep(time.Minute)
			}
		}})
		t.Fatalf("the child was not killed: %v", err)
	}
	src, dir := tinyFolder(t, nil), t.TempDir()
	dst := filepath.Join(dir, "out.gguf")
	for _, share := range []string{"0.3", "0.6", "1.0"} {
		child := exec.Command(os.Args[0], "-test.run=^TestKilled$")
		child.Env = append(os.Environ(), "TIA2_TEST_CONVERT="+src, "TIA2_TEST_CONVERT_TO="+dst, "TIA2_TEST_STOP_AT="+share)
		out, err := child.StdoutPipe()
		if err == nil {
			err = child.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		line := make([]byte, len("waiting"))
		if _, err := out.Read(line); err != nil || string(line) != "waiting" {
			t.Fatalf("the child says %q, %v", line, err)
		}
		child.Process.Kill()
		child.Wait()
		if _, err := os.Stat(dst); err == nil {
			t.Fatalf("killed at %s: a file stands under the final name", share)
		}
		if parts, _ := filepath.Glob(dst + ".*.part"); len(parts) == 0 && share != "0.3" { // at 0.3 it still reads the source
			t.Fatalf("killed at %s: the child wrote nothing", share)
		}
	}
	if err := Convert(context.Background(), src, dst, Options{}); err != nil {
		t.Fatal(err)
	}
	open(t, dst)
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("left behind: %v", entries)
	}
}

func TestInspectEncodes(t *testing.T) {
	src := tinyFolder(t, nil)
	dst := filepath.Join(t.TempDir(), "x.gguf")
	if err := Convert(context.Background(), src, dst, Options{DType: "bf16"}); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{src, dst} {
		in, err := Inspect(context.Background(), path, Options{})
		if err != nil || in.Problem != "" || *in.Spec != tiny || len(in.SHA256) != 64 || in.Parameters == 0 {
			t.Fatalf("%s: %v, %+v", path, err, in)
		}
		b, err := json.Marshal(in)
		if err != nil || !strings.Contains(string(b), `"hyper_parameters":{"embed_dim":4`) {
			t.Errorf("%s: %s, %v", path, b, err)
		}
	}
}
