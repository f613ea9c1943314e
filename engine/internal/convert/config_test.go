package convert

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func writeFile(t testing.TB, dir, name, content string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(content), 0o666); err != nil {
		t.Fatal(err)
	}
	return path
}

// wantError demands an error with the given text, or none for "".
func wantError(t *testing.T, name string, err error, want string) {
	t.Helper()
	if want == "" && err != nil {
		t.Errorf("%s: %v", name, err)
	}
	if want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
		t.Errorf("%s: error %v: expected one with %q", name, err, want)
	}
}

// The defaults are those of transformers' CLIPConfig, which is ViT-B/32.
var hfDefault = Spec{512, 224, 32, Tower{768, 12, 12, 3072, 1e-5, quickGELU}, 77, 49408, Tower{512, 12, 8, 2048, 1e-5, quickGELU}, Pair{}}

func TestHFConfig(t *testing.T) {
	for name, c := range map[string]struct {
		json, err string
		want      func(*Spec)
	}{
		"empty":   {`{"model_type":"clip"}`, "", func(*Spec) {}},
		"no type": {`{"architectures":["CLIPModel"]}`, "", func(*Spec) {}},
		"nulls":   {`{"model_type":"clip","text_config":null,"projection_dim":null}`, "", func(*Spec) {}},
		"fields": {`{"model_type":"clip","projection_dim":64,"vision_config":{"hidden_act":"gelu","hidden_size":96,"num_attention_heads":3,"intermediate_size":7,"layer_norm_eps":1e-6,"image_size":64,"patch_size":8,"num_hidden_layers":2}}`, "", func(s *Spec) {
			s.EmbedDim, s.ImageSize, s.PatchSize, s.Vision = 64, 64, 8, Tower{96, 2, 3, 7, 1e-6, gelu}
		}},
		"old dict wins":   {`{"model_type":"clip","text_config":{"num_hidden_layers":3,"hidden_size":64},"text_config_dict":{"num_hidden_layers":4}}`, "", func(s *Spec) { s.Text.Layers = 4 }},
		"old eos":         {`{"model_type":"clip","text_config":{"eos_token_id":2}}`, "", func(*Spec) {}},
		"other eos":       {`{"model_type":"clip","text_config":{"eos_token_id":5}}`, "text_config.eos_token_id", nil},
		"siglip":          {`{"model_type":"siglip"}`, `"siglip" is not supported`, nil},
		"vision only":     {`{"model_type":"clip_vision_model"}`, "clip_vision_model", nil},
		"other class":     {`{"architectures":["BlipModel"]}`, "not supported", nil},
		"grey":            {`{"model_type":"clip","vision_config":{"num_channels":1}}`, "vision_config.num_channels: 1", nil},
		"activation":      {`{"model_type":"clip","vision_config":{"hidden_act":"relu"}}`, `"relu" is not supported`, nil},
		"heads":           {`{"model_type":"clip","vision_config":{"num_attention_heads":7}}`, "no multiple of its 7 heads", nil},
		"zero heads":      {`{"model_type":"clip","vision_config":{"num_attention_heads":0}}`, "vision heads is 0", nil},
		"huge":            {`{"model_type":"clip","vision_config":{"hidden_size":1000000000}}`, "vision width is 1000000000", nil},
		"text for number": {`{"model_type":"clip","projection_dim":"a"}`, `projection_dim: "a" is not an integer`, nil},
		"fraction":        {`{"model_type":"clip","projection_dim":1.5}`, "is not an integer", nil},
		"list for object": {`{"model_type":"clip","text_config":[]}`, "text_config: [] is not an object", nil},
		"epsilon":         {`{"model_type":"clip","text_config":{"layer_norm_eps":0}}`, "epsilon", nil},
		"no JSON":         {`{`, "unexpected end", nil},
	} {
		path := writeFile(t, t.TempDir(), "config.json", c.json)
		got, err := readHF(path)
		wantError(t, name, err, c.err)
		if err != nil {
			if !strings.HasPrefix(err.Error(), path) {
				t.Errorf("%s: %v: the file is not named first", name, err)
			}
			continue
		}
		want := hfDefault
		c.want(&want)
		if *got != want {
			t.Errorf("%s: got %+v, expected %+v", name, *got, want)
		}
	}
}

func TestHFPreprocess(t *testing.T) {
	for name, c := range map[string]struct{ json, err, pipeline string }{
		"old":               {`{"size":224,"crop_size":224,"do_center_crop":true,"resample":3,"feature_extractor_type":"CLIPFeatureExtractor"}`, "", "hf_clip"},
		"new":               {`{"size":{"shortest_edge":224},"crop_size":{"height":224,"width":224},"image_processor_type":"CLIPImageProcessor"}`, "", "hf_clip"},
		"defaults":          {`{}`, "", "hf_clip"},
		"squash":            {`{"size":{"height":224,"width":224},"do_center_crop":false}`, "", "blip_squash"},
		"squash and crop":   {`{"size":{"height":224,"width":224},"crop_size":224}`, "", "blip_squash"},
		"no crop":           {`{"size":224,"do_center_crop":false}`, "do_center_crop", ""},
		"crop of a larger":  {`{"size":256,"crop_size":224}`, "crop_size: 224 x 224 of pictures resized to 256", ""},
		"not square":        {`{"size":{"height":224,"width":200},"do_center_crop":false}`, "size: 224 x 200", ""},
		"other model size":  {`{"size":336,"crop_size":336}`, "size: pictures of 336 pixels for a model of 224", ""},
		"bilinear":          {`{"resample":2}`, "resample: 2 is not supported", ""},
		"no RGB":            {`{"do_convert_rgb":false}`, "do_convert_rgb: false", ""},
		"no normalise":      {`{"do_normalize":false}`, "do_normalize", ""},
		"no resize":         {`{"do_resize":false}`, "do_resize", ""},
		"other scale":       {`{"rescale_factor":1.0}`, "rescale_factor", ""},
		"siglip processor":  {`{"image_processor_type":"SiglipImageProcessor"}`, "SiglipImageProcessor", ""},
		"four means":        {`{"image_mean":[1,2,3,4]}`, "image_mean: 4 numbers", ""},
		"longest edge":      {`{"size":{"longest_edge":224}}`, "longest_edge", ""},
		"text for a number": {`{"size":"big"}`, "size", ""},
	} {
		dir := t.TempDir()
		writeFile(t, dir, "preprocessor_config.json", c.json)
		p, _, err := readHFPreprocess(dir, &hfDefault, "CLIPImageProcessor")
		wantError(t, name, err, c.err)
		if err == nil && (p.Pipeline != c.pipeline || p.Size != 224 || p.Mean != openAIMean) {
			t.Errorf("%s: got %+v, expected %s", name, p, c.pipeline)
		}
	}
	if p, notes, err := readHFPreprocess(t.TempDir(), &hfDefault, "CLIPImageProcessor"); err != nil || p.Pipeline != "hf_clip" || len(notes) != 1 {
		t.Errorf("no file: %+v, %q, %v", p, notes, err)
	}
}

func TestOpenCLIPConfig(t *testing.T) {
	model := func(vision, text, more string) string {
		return `{"model_cfg":{"embed_dim":512,"vision_cfg":{"width":768,"layers":12,"patch_size":32` + vision + `},"text_cfg":{"width":512` + text + `}` + more + `},"preprocess_cfg":{`
	}
	for name, c := range map[string]struct {
		json, err string
		want      func(*Spec)
	}{
		"plain":              {model("", "", "") + `}}`, "", func(*Spec) {}},
		"bare model config":  {`{"embed_dim":512,"vision_cfg":{"width":768,"layers":12,"patch_size":32},"text_cfg":{"width":512}}`, "", func(*Spec) {}},
		"quick_gelu":         {model("", "", `,"quick_gelu":true`) + `}}`, "", func(s *Spec) { s.Vision.Activation, s.Text.Activation = quickGELU, quickGELU }},
		"head width":         {model(`,"head_width":96`, "", "") + `}}`, "", func(s *Spec) { s.Vision.Heads = 8 }},
		"mlp ratio":          {model(`,"mlp_ratio":4.3637`, "", "") + `}}`, "", func(s *Spec) { s.Vision.MLPWidth = 3351 }},
		"size list":          {model(`,"image_size":[256,256]`, "", "") + `"size":[256,256]}}`, "", func(s *Spec) { s.ImageSize = 256 }},
		"norm eps":           {model(`,"norm_kwargs":{"eps":1e-6}`, "", "") + `}}`, "", func(s *Spec) { s.Vision.NormEps = 1e-6 }},
		"norm other":         {model(`,"norm_kwargs":{"bias":false}`, "", "") + `}}`, "vision_cfg.norm_kwargs.bias", nil},
		"not square":         {model(`,"image_size":[256,224]`, "", "") + `}}`, "expected a square", nil},
		"resnet":             {`{"embed_dim":1024,"vision_cfg":{"layers":[3,4,6,3],"width":64},"text_cfg":{}}`, "vision_cfg.layers: a list is a ResNet", nil},
		"timm":               {model(`,"timm_model_name":"vit_base"`, "", "") + `}}`, "vision_cfg.timm_model_name", nil},
		"average pool":       {model(`,"pool_type":"avg"`, "", "") + `}}`, "vision_cfg.pool_type", nil},
		"text tower of HF":   {model("", `,"hf_model_name":"roberta-base"`, "") + `}}`, "text_cfg.hf_model_name", nil},
		"tokenizer":          {model("", `,"hf_tokenizer_name":"bert"`, "") + `}}`, "text_cfg.hf_tokenizer_name", nil},
		"not causal":         {model("", `,"no_causal_mask":true`, "") + `}}`, "text_cfg.no_causal_mask", nil},
		"coca":               {model("", "", `,"multimodal_cfg":{}`) + `}}`, "multimodal_cfg", nil},
		"siglip bias":        {model("", "", `,"init_logit_bias":-10`) + `}}`, "init_logit_bias", nil},
		"bilinear":           {model("", "", "") + `"interpolation":"bilinear"}}`, "preprocess_cfg.interpolation", nil},
		"longest":            {model("", "", "") + `"resize_mode":"longest"}}`, "preprocess_cfg.resize_mode", nil},
		"other size":         {model("", "", "") + `"size":336}}`, "preprocess_cfg.size", nil},
		"zero head width":    {model(`,"head_width":0`, "", "") + `}}`, "vision_cfg.head_width", nil},
		"ratio out of range": {model(`,"mlp_ratio":1e300`, "", "") + `}}`, "MLP width", nil},
		"nothing":            {`{}`, "embed_dim is 0", nil},
	} {
		path := writeFile(t, t.TempDir(), "open_clip_config.json", c.json)
		got, _, _, err := readOpenCLIP(path)
		wantError(t, name, err, c.err)
		if err != nil {
			continue
		}
		want := Spec{512, 224, 32, Tower{768, 12, 12, 3072, 1e-5, gelu}, 77, 49408, Tower{512, 12, 8, 2048, 1e-5, gelu}, Pair{}}
		c.want(&want)
		if *got != want {
			t.Errorf("%s: got %+v, expected %+v", name, *got, want)
		}
	}
	_, _, notes, err := readOpenCLIP(writeFile(t, t.TempDir(), "open_clip_config.json", model(`,"new_thing":1,"patch_dropout":0.5`, "", "")+`}}`))
	if err != nil || len(notes) != 1 || !strings.Contains(notes[0], "new_thing") || strings.Contains(notes[0], "patch_dropout") {
		t.Errorf("an unknown field: %q, %v", notes, err)
	}
}

func TestArch(t *testing.T) {
	for _, name := range []string{"ViT-L-14-336", "vit-l/14@336px", "ViT_L_14_336"} {
		if s, err := findArch(name); err != nil || s.ImageSize != 336 || s.Vision.Heads != 16 || s.Vision.Activation != gelu {
			t.Errorf("%s: %+v, %v", name, s, err)
		}
	}
	if s, err := findArch("ViT-H-14-quickgelu"); err != nil || s.Vision.Heads != 16 || s.Text.Activation != quickGELU {
		t.Errorf("H: %+v, %v", s, err)
	}
	if _, err := findArch("RN50"); err == nil || !strings.Contains(err.Error(), "vit-b-32") {
		t.Errorf("RN50: %v", err)
	}
	for i := range archs {
		if err := archs[i].spec(gelu).check(archs[i].name); err != nil {
			t.Error(err)
		}
	}
}

func TestActivationByName(t *testing.T) {
	b32, h14 := &archs[0], &archs[11]
	for label, want := range map[string]string{
		"x/vit-b-32-quickgelu-laion400m_e31.pt": quickGELU, "x/vit_b_32-laion400m_e32.pt": quickGELU, "vit-b-32-openai/model.safetensors": quickGELU,
		"x/h14_v1.2_altogether-metaclip.pt": quickGELU, "dfn5b-clip-vit-h-14/open_clip_pytorch_model.bin": quickGELU, "x/dfn2b.bin": quickGELU,
		"x/dfn2b_s39b.bin": gelu, "x/vit_b_32-laion2b_e16.pt": gelu, "x/datacomp_xl.pt": gelu, "x/model.pt hpsv2": gelu,
	} {
		if got, notes := activationByName(label, b32); got != want || len(notes) > 0 {
			t.Errorf("%s: got %s, %q: expected %s", label, got, notes, want)
		}
	}
	if got, _ := activationByName("x/laion400m_e32.pt", h14); got != gelu {
		t.Error("laion400m is QuickGELU only for ViT-B-32")
	}
	if got, notes := activationByName("x/model.pt", h14); got != gelu || len(notes) != 1 {
		t.Errorf("a name that says nothing: %s, %q", got, notes)
	}
}

func TestBLIPConfig(t *testing.T) {
	def := Spec{256, 384, 16, Tower{768, 12, 12, 3072, 1e-5, gelu}, 512, 30524, Tower{768, 12, 8, 3072, 1e-12, gelu}, Pair{2, 1e-5, 1, 0}}
	for name, c := range map[string]struct {
		json, err string
		want      func(*Spec)
	}{
		"defaults": {`{"model_type":"blip"}`, "", func(*Spec) {}},
		"fields": {`{"model_type":"blip","image_text_hidden_size":96,"vision_config":{"hidden_size":64,"num_attention_heads":2,"layer_norm_eps":1e-6,"image_size":48,"patch_size":8},
			"text_config":{"hidden_size":48,"num_attention_heads":3,"num_hidden_layers":2,"intermediate_size":100,"vocab_size":30522,"is_decoder":true}}`, "", func(s *Spec) {
			s.EmbedDim, s.ImageSize, s.PatchSize = 96, 48, 8
			s.Vision.Width, s.Vision.Heads, s.Vision.NormEps, s.Pair.OutputEps = 64, 2, 1e-6, 1e-6
			s.Text.Width, s.Text.Heads, s.Text.Layers, s.Text.MLPWidth, s.VocabSize = 48, 3, 2, 100, 30522
		}},
		"projection_dim is not read": {`{"model_type":"blip","projection_dim":7}`, "", func(*Spec) {}},
		"BLIP-2":                     {`{"model_type":"blip-2"}`, `"blip-2" is not supported: expected blip`, nil},
		"no type":                    {`{}`, `"clip" is not supported`, nil},
		"quick_gelu":                 {`{"model_type":"blip","vision_config":{"hidden_act":"quick_gelu"}}`, "expected gelu", nil},
		"no decoder":                 {`{"model_type":"blip","text_config":{"is_decoder":false}}`, "text_config.is_decoder", nil},
		"relative":                   {`{"model_type":"blip","text_config":{"position_embedding_type":"relative_key"}}`, "position_embedding_type", nil},
		"heads":                      {`{"model_type":"blip","text_config":{"num_attention_heads":7}}`, "text width 768 is no multiple of its 7 heads", nil},
		"no embedding":               {`{"model_type":"blip","image_text_hidden_size":0}`, "embed_dim is 0", nil},
	} {
		checkConfig(t, name, c.json, c.err, def, c.want, readBLIPConfig)
	}
}

func TestBLIP2Config(t *testing.T) {
	def := Spec{256, 224, 14, Tower{1408, 39, 16, 6144, 1e-6, gelu}, 512, 30522, Tower{768, 12, 12, 3072, 1e-12, gelu}, Pair{2, 1e-6, 2, 32}}
	for name, c := range map[string]struct {
		json, err string
		want      func(*Spec)
	}{
		"defaults": {`{"model_type":"blip-2"}`, "", func(*Spec) {}},
		"fields": {`{"model_type":"blip-2","num_query_tokens":16,"qformer_config":{"cross_attention_frequency":3,"vocab_size":30523},"vision_config":{"layer_norm_eps":1e-5}}`, "", func(s *Spec) {
			s.Pair, s.VocabSize, s.Vision.NormEps = Pair{2, 1e-5, 3, 16}, 30523, 1e-5
		}},
		"frequency 0": {`{"model_type":"blip-2","qformer_config":{"cross_attention_frequency":0}}`, "cross-attention frequency is 0", nil},
		"queries":     {`{"model_type":"blip-2","num_query_tokens":-1}`, "num_query_tokens: -1: expected at least 1", nil},
		"no queries":  {`{"model_type":"blip-2","num_query_tokens":0}`, "num_query_tokens: 0", nil},
		"no bias":     {`{"model_type":"blip-2","vision_config":{"qkv_bias":false}}`, "vision_config.qkv_bias", nil},
		"instructed":  {`{"model_type":"instructblip"}`, `"instructblip" is not supported`, nil},
	} {
		checkConfig(t, name, c.json, c.err, def, c.want, readBLIP2Config)
	}
}

func checkConfig(t *testing.T, name, json, wrong string, want Spec, edit func(*Spec), read func(string) (*Spec, error)) {
	t.Helper()
	path := writeFile(t, t.TempDir(), "config.json", json)
	got, err := read(path)
	wantError(t, name, err, wrong)
	if err != nil {
		if !strings.HasPrefix(err.Error(), path) {
			t.Errorf("%s: %v: the file is not named first", name, err)
		}
		return
	}
	edit(&want)
	if *got != want {
		t.Errorf("%s: got %+v, expected %+v", name, *got, want)
	}
}

func TestMedConfig(t *testing.T) {
	for name, c := range map[string]struct {
		json, err string
		want      Tower
	}{
		"BLIP's":     {`{"hidden_size":72,"num_hidden_layers":2,"intermediate_size":288,"num_attention_heads":3,"layer_norm_eps":1e-12,"hidden_act":"gelu","add_cross_attention":true,"encoder_width":768,"vocab_size":30524}`, "", Tower{72, 2, 3, 288, 1e-12, gelu}},
		"defaults":   {`{}`, "", Tower{72, 2, 12, 288, 1e-12, gelu}},
		"eps":        {`{"layer_norm_eps":1e-5}`, "", Tower{72, 2, 12, 288, 1e-5, gelu}},
		"width":      {`{"hidden_size":768}`, "hidden_size: 768: the checkpoint's tensors say 72", Tower{}},
		"layers":     {`{"num_hidden_layers":12}`, "num_hidden_layers: 12", Tower{}},
		"types":      {`{"add_type_embeddings":true}`, "add_type_embeddings", Tower{}},
		"no crosses": {`{"add_cross_attention":false}`, "add_cross_attention", Tower{}},
		"a text":     {`{"num_attention_heads":"a"}`, "num_attention_heads", Tower{}},
	} {
		got := Tower{Width: 72, Layers: 2, MLPWidth: 288}
		err := readMedConfig(writeFile(t, t.TempDir(), "med_config.json", c.json), &got)
		wantError(t, name, err, c.err)
		if err == nil && got != c.want {
			t.Errorf("%s: got %+v, expected %+v", name, got, c.want)
		}
	}
}

func TestBLIPPreprocess(t *testing.T) {
	spec := blipBase
	for name, c := range map[string]struct {
		json, err string
		notes     int
	}{
		"own":             {`{"image_processor_type":"BlipImageProcessor","size":{"height":384,"width":384},"resample":3,"rescale_factor":0.00392156862745098}`, "", 0},
		"fast":            {`{"image_processor_type":"BlipImageProcessorFast","size":{"height":384,"width":384},"do_center_crop":null}`, "", 1},
		"defaults":        {`{}`, "", 0},
		"number":          {`{"size":384}`, "", 0},
		"other size":      {`{"size":{"height":224,"width":224}}`, "size: pictures of 224 pixels for a model of 384", 0},
		"shortest edge":   {`{"size":{"shortest_edge":384}}`, "expected height and width", 0},
		"not square":      {`{"size":{"height":384,"width":224}}`, "384 x 224 is not supported", 0},
		"crop":            {`{"do_center_crop":true}`, "do_center_crop", 0},
		"CLIP's":          {`{"image_processor_type":"CLIPImageProcessor"}`, "expected BlipImageProcessor", 0},
		"bilinear":        {`{"resample":2}`, "resample", 0},
		"own mean":        {`{"image_mean":[0.5,0.5,0.5]}`, "", 0},
		"no conversion":   {`{"do_convert_rgb":false}`, "do_convert_rgb", 0},
		"a text for size": {`{"size":"big"}`, "size", 0},
	} {
		dir := t.TempDir()
		writeFile(t, dir, "preprocessor_config.json", c.json)
		p, notes, err := readHFPreprocess(dir, &spec, "BlipImageProcessor")
		wantError(t, name, err, c.err)
		if err == nil && (p.Pipeline != "blip_squash" || p.Size != 384 || len(notes) != c.notes || (name == "own mean") != (p.Mean[0] == 0.5)) {
			t.Errorf("%s: got %+v, %q", name, p, notes)
		}
	}
	if p, notes, err := readHFPreprocess(t.TempDir(), &spec, "BlipImageProcessor"); err != nil || p.Pipeline != "blip_squash" || p.Size != 384 || len(notes) != 1 {
		t.Errorf("no file: %+v, %q, %v", p, notes, err)
	}
}

func TestWords(t *testing.T) {
	spec := Spec{VocabSize: 7}
	lines := "[PAD]\n[UNK]\n[CLS]\n[SEP]\ncat\n"
	for name, c := range map[string]struct {
		name, content, err, from string
		words, enc               int
	}{
		"lines":               {"vocab.txt", lines, "", "vocab.txt", 5, 6},
		"lines of DOS":        {"vocab.txt", strings.ReplaceAll(lines, "\n", "\r\n"), "", "vocab.txt", 5, 6},
		"with BLIP's own":     {"vocab.txt", lines + "[DEC]\n[ENC]\n", "", "vocab.txt", 5, 6},
		"six":                 {"vocab.txt", lines + "dog\n", "", "vocab.txt", 6, 0},
		"too many":            {"vocab.txt", lines + "dog\nfox\nowl\n", "the model has 7 tokens, the tokenizer (vocab.txt) 8", "", 0, 0},
		"empty line":          {"vocab.txt", "[CLS]\n\n", "line 2 is empty", "", 0, 0},
		"not BERT's":          {"vocab.txt", "a\nb\n", "expected a vocabulary of BERT", "", 0, 0},
		"nothing":             {"vocab.txt", "", "0 words", "", 0, 0},
		"tokenizer.json":      {"tokenizer.json", `{"model":{"type":"WordPiece","vocab":{"cat":4,"[PAD]":0,"[UNK]":1,"[SEP]":3,"[CLS]":2}},"normalizer":{"lowercase":true}}`, "", "tokenizer.json", 5, 6},
		"an id twice":         {"tokenizer.json", `{"model":{"type":"WordPiece","vocab":{"[UNK]":0,"[CLS]":1,"[SEP]":1}}}`, "expected ids 0 to 2, each once", "", 0, 0},
		"an id beyond":        {"tokenizer.json", `{"model":{"type":"WordPiece","vocab":{"[UNK]":0,"[CLS]":1,"[SEP]":3}}}`, "has id 3", "", 0, 0},
		"cased":               {"tokenizer.json", `{"model":{"type":"WordPiece","vocab":{}},"normalizer":{"lowercase":false}}`, "normalizer.lowercase", "", 0, 0},
		"CLIP's":              {"tokenizer.json", `{"model":{"type":"BPE"}}`, "expected WordPiece", "", 0, 0},
		"cased by its config": {"tokenizer_config.json", `{"do_lower_case":false}`, "do_lower_case", "", 0, 0},
		"accents":             {"tokenizer_config.json", `{"strip_accents":false}`, "strip_accents", "", 0, 0},
		"embedded":            {"other.txt", "", "the model has 7 tokens, the tokenizer (embedded) 30522", "", 0, 0},
	} {
		dir := t.TempDir()
		writeFile(t, dir, c.name, c.content)
		tok, err := bertTokenizer{maxLength: 3, cleaning: "x", enc: true}.read(dir, &spec)
		wantError(t, name, err, c.err)
		if err == nil && (tok.Source != c.from || len(tok.Words) != c.words || tok.VocabSize != c.words || tok.ENC != c.enc || tok.MaxLength != 3 || tok.Cleaning != "x" || tok.Words[4] != "cat") {
			t.Errorf("%s: %+v, %q", name, tok, tok.Words)
		}
	}
}

// FuzzConfig feeds all readers of JSON.
func FuzzConfig(f *testing.F) {
	f.Add([]byte(`{"model_type":"clip","text_config":{"eos_token_id":2},"text_config_dict":{"hidden_size":64},"vision_config":{"image_size":64}}`))
	f.Add([]byte(`{"size":{"height":224,"width":224},"crop_size":224,"image_mean":[0.5,0.5,0.5]}`))
	f.Add([]byte(`{"model_cfg":{"embed_dim":8,"vision_cfg":{"image_size":[8,8],"norm_kwargs":{"eps":1e-6}},"text_cfg":{"mlp_ratio":2}},"preprocess_cfg":{"resize_mode":"squash"}}`))
	f.Add([]byte(`{"model":{"type":"BPE","end_of_word_suffix":"</w>","vocab":{"!":0},"merges":["i n",["t","h"]]}}`))
	f.Add([]byte(`{"model_type":null,"architectures":[null]}`))
	f.Add([]byte(`{"model_type":"blip","image_text_hidden_size":8,"text_config":{"is_decoder":true,"num_attention_heads":12},"vision_config":{"image_size":48}}`))
	f.Add([]byte(`{"model_type":"blip-2","num_query_tokens":4,"qformer_config":{"cross_attention_frequency":2},"vision_config":{"qkv_bias":true}}`))
	f.Add([]byte(`{"model":{"type":"WordPiece","vocab":{"[UNK]":0,"[CLS]":1,"[SEP]":2}},"normalizer":{"lowercase":true},"do_lower_case":true}`))
	f.Add([]byte("[UNK]\n[CLS]\n[SEP]\r\n##s\n[DEC]\n"))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, b []byte) {
		path := writeFile(t, dir, "preprocessor_config.json", string(b))
		if s, err := readHF(path); err == nil {
			if err := s.check(""); err != nil {
				t.Fatal(err)
			}
		}
		if s, _, _, err := readOpenCLIP(path); err == nil {
			if err := s.check(""); err != nil {
				t.Fatal(err)
			}
		}
		for _, read := range []func(string) (*Spec, error){readBLIPConfig, readBLIP2Config} {
			if s, err := read(path); err == nil {
				if err := s.check(""); err != nil {
					t.Fatal(err)
				}
			}
		}
		readHFPreprocess(dir, &hfDefault, "CLIPImageProcessor")
		readHFPreprocess(dir, &blipBase, "BlipImageProcessor")
		readMedConfig(path, &Tower{Width: 64, Layers: 2, MLPWidth: 128})
		checkUncased(path)
		for _, read := range []func(string) ([]string, error){readWordsText, readWordsJSON} {
			if words, err := read(path); err == nil && slices.Contains(words, "") {
				t.Fatalf("an empty word among %q", words)
			}
		}
		if merges, err := readTokenizerJSON(path); err == nil && !json.Valid(b) {
			t.Fatalf("%d merges of what is no JSON", len(merges))
		}
	})
}
