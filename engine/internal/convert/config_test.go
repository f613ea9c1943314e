package convert

import (
	"encoding/json"
	"os"
	"path/filepath"
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
var hfDefault = Spec{512, 224, 32, Tower{768, 12, 12, 3072, 1e-5, quickGELU}, 77, 49408, Tower{512, 12, 8, 2048, 1e-5, quickGELU}}

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
		got, _, err := readHF(path)
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
		p, _, err := readHFPreprocess(dir, &hfDefault)
		wantError(t, name, err, c.err)
		if err == nil && (p.Pipeline != c.pipeline || p.Size != 224 || p.Mean != openAIMean) {
			t.Errorf("%s: got %+v, expected %s", name, p, c.pipeline)
		}
	}
	if p, notes, err := readHFPreprocess(t.TempDir(), &hfDefault); err != nil || p.Pipeline != "hf_clip" || len(notes) != 1 {
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
		want := Spec{512, 224, 32, Tower{768, 12, 12, 3072, 1e-5, gelu}, 77, 49408, Tower{512, 12, 8, 2048, 1e-5, gelu}}
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
		"x/dfn2b_s39b.bin": gelu, "x/vit_b_32-laion2b_e16.pt": gelu, "x/datacomp_xl.pt": gelu,
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

// FuzzConfig feeds all readers of JSON.
func FuzzConfig(f *testing.F) {
	f.Add([]byte(`{"model_type":"clip","text_config":{"eos_token_id":2},"text_config_dict":{"hidden_size":64},"vision_config":{"image_size":64}}`))
	f.Add([]byte(`{"size":{"height":224,"width":224},"crop_size":224,"image_mean":[0.5,0.5,0.5]}`))
	f.Add([]byte(`{"model_cfg":{"embed_dim":8,"vision_cfg":{"image_size":[8,8],"norm_kwargs":{"eps":1e-6}},"text_cfg":{"mlp_ratio":2}},"preprocess_cfg":{"resize_mode":"squash"}}`))
	f.Add([]byte(`{"model":{"type":"BPE","end_of_word_suffix":"</w>","vocab":{"!":0},"merges":["i n",["t","h"]]}}`))
	f.Add([]byte(`{"model_type":null,"architectures":[null]}`))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, b []byte) {
		path := writeFile(t, dir, "preprocessor_config.json", string(b))
		if s, _, err := readHF(path); err == nil {
			if err := s.check(""); err != nil {
				t.Fatal(err)
			}
		}
		if s, _, _, err := readOpenCLIP(path); err == nil {
			if err := s.check(""); err != nil {
				t.Fatal(err)
			}
		}
		readHFPreprocess(dir, &hfDefault)
		if merges, err := readTokenizerJSON(path); err == nil && !json.Valid(b) {
			t.Fatalf("%d merges of what is no JSON", len(merges))
		}
	})
}
