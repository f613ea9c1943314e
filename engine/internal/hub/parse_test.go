package hub

import (
	"encoding/json"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// writeTree sends the siblings of a listing as the tree call would.
func writeTree(w http.ResponseWriter, siblings []any) {
	entries := []any{map[string]any{"type": "directory", "path": "onnx", "oid": "", "size": 0}}
	for _, s := range siblings {
		m := s.(map[string]any)
		e := map[string]any{"type": "file", "path": m["rfilename"], "oid": m["blobId"], "size": m["size"]}
		if lfs, ok := m["lfs"].(map[string]any); ok {
			e["lfs"] = map[string]any{"oid": lfs["sha256"], "size": lfs["size"], "pointerSize": 134}
		}
		entries = append(entries, e)
	}
	_ = json.NewEncoder(w).Encode(entries)
}

func TestParseRef(t *testing.T) {
	for s, want := range map[string]Ref{
		"hf:openai/clip-vit-base-patch32":      {Repo: "openai/clip-vit-base-patch32"},
		"openai/clip@v1.0":                     {Repo: "openai/clip", Revision: "v1.0"},
		"hf:a/b@refs/pr/3":                     {Repo: "a/b", Revision: "refs/pr/3"},
		"hf:xswu/HPSv2/HPS_v2.1_compressed.pt": {Repo: "xswu/HPSv2", File: "HPS_v2.1_compressed.pt"},
		"hf:a/b/c/d.pt@main":                   {Repo: "a/b", File: "c/d.pt", Revision: "main"},
	} {
		got, err := ParseRef(s)
		if err != nil || got != want {
			t.Errorf("%s: %+v, %v, want %+v", s, got, err, want)
		}
		if back, err := ParseRef(got.String()); err != nil || back != got {
			t.Errorf("%s: written as %s, read as %+v", s, got, back)
		}
	}
	for _, s := range []string{"", "hf:", "hf:gpt2", "hf:a/", "hf:../b", "hf:a/..", "hf:a/b@", "hf:a/b@../x", "hf:a/b@-x", "hf:a/b/../c", "hf:a b/c", "hf:a/b@x y"} {
		if got, err := ParseRef(s); err == nil {
			t.Errorf("%q was read as %+v", s, got)
		}
	}
}

func TestChoose(t *testing.T) {
	for _, c := range []struct {
		name    string
		listed  string
		file    string
		include []string
		want    string // or, after "!", part of the error
	}{
		{"safetensors before bin", "README.md config.json model.safetensors pytorch_model.bin tf_model.h5 vocab.json", "", nil,
			"config.json vocab.json model.safetensors"},
		{"shards", "config.json model-00001-of-00002.safetensors model-00002-of-00002.safetensors model.safetensors.index.json model.fp16.safetensors", "", nil,
			"config.json model-00001-of-00002.safetensors model-00002-of-00002.safetensors model.safetensors.index.json"},
		{"open_clip", "open_clip_config.json open_clip_model.safetensors open_clip_pytorch_model.bin tokenizer.json", "", nil,
			"open_clip_config.json tokenizer.json open_clip_model.safetensors"},
		{"open_clip beside transformers", "config.json open_clip_config.json open_clip_pytorch_model.bin pytorch_model.bin", "", nil,
			"config.json pytorch_model.bin"},
		{"open_clip safetensors before transformers bin", "config.json open_clip_config.json open_clip_model.safetensors pytorch_model.bin", "", nil,
			"open_clip_config.json open_clip_model.safetensors"},
		{"one checkpoint", "README.md ViT-B-32.pt", "", nil, "ViT-B-32.pt"},
		{"two checkpoints", "HPS_v2.1_compressed.pt HPS_v2_compressed.pt", "", nil, `!name one as hf:OWNER/REPO/FILE: "HPS_v2.1_compressed.pt"`},
		{"named", "HPS_v2.1_compressed.pt HPS_v2_compressed.pt", "HPS_v2_compressed.pt", nil, "HPS_v2_compressed.pt"},
		{"named in a folder", "config.json sub/config.json sub/a.pt sub/b.pt", "sub/a.pt", nil, "sub/config.json sub/a.pt"},
		{"named, not there", "a.pt", "b.pt", nil, `!no file "b.pt"; its weights files are "a.pt"`},
		{"ImageReward", "README.md ImageReward.pt med_config.json", "", nil, "med_config.json ImageReward.pt"},
		{"BLIP", "config.json model.safetensors preprocessor_config.json pytorch_model.bin tf_model.h5 tokenizer_config.json vocab.txt", "", nil,
			"config.json preprocessor_config.json tokenizer_config.json vocab.txt model.safetensors"},
		{"BLIP-2 of LAVIS", "README.md blip2_pretrained.pth eva_vit_g.pth", "", nil, "eva_vit_g.pth blip2_pretrained.pth"},
		{"its image tower first", "eva_vit_g.pth blip2_a.pth", "", nil, "eva_vit_g.pth blip2_a.pth"},
		{"several of it", "blip2_a.pth blip2_b.pth eva_vit_g.pth", "", nil, `!name one as hf:OWNER/REPO/FILE: "blip2_a.pth"`},
		{"one of them", "blip2_a.pth blip2_b.pth eva_vit_g.pth vocab.txt", "blip2_b.pth", nil, "blip2_b.pth eva_vit_g.pth vocab.txt"},
		{"the image tower alone", "blip2_a.pth eva_vit_g.pth", "eva_vit_g.pth", nil, "eva_vit_g.pth"},
		{"not its image tower", "blip_base.pth eva_vit_g.pth", "blip_base.pth", nil, "blip_base.pth"},
		{"include", "a.pt b.txt c/d.txt", "", []string{"*.txt"}, "b.txt c/d.txt"},
		{"include nothing", "a.pt", "", []string{"*.md"}, "!matches"},
		{"bad pattern", "a.pt", "", []string{"["}, "!pattern"},
		{"no checkpoint", "README.md", "", nil, "!no checkpoint"},
		{"twice", "config.json model.safetensors model.safetensors", "", nil, "!listed twice"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var l Listing
			for _, name := range strings.Fields(c.listed) {
				l.Files = append(l.Files, File{Name: name})
			}
			files, err := choose(l, Ref{Repo: "a/b", File: c.file}, c.include)
			if part, ok := strings.CutPrefix(c.want, "!"); ok {
				if err == nil || !strings.Contains(err.Error(), part) {
					t.Fatalf("error %v, want %q in it", err, part)
				}
				return
			}
			var got []string
			for _, f := range files {
				got = append(got, f.Name)
			}
			if err != nil || !slices.Equal(got, strings.Fields(c.want)) {
				t.Fatalf("%q, %v, want %s", got, err, c.want)
			}
		})
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for value, want := range map[string]time.Duration{
		"": 0, "7": 7 * time.Second, " 2 ": 2 * time.Second, "-3": 0, "soon": 0, "99999999999999": 0,
		"Fri, 02 Jan 2026 03:04:35 GMT": 30 * time.Second, "Fri, 02 Jan 2026 03:00:00 GMT": 0,
	} {
		if got := retryAfter(value, now); got != want {
			t.Errorf("%q: %s, want %s", value, got, want)
		}
	}
}

func TestParseContentRange(t *testing.T) {
	for _, c := range []struct {
		s            string
		first, total int64
		ok           bool
	}{
		{"bytes 5-9/10", 5, 10, true}, {"bytes 5-9/*", 5, -1, true}, {"bytes */10", 0, 0, false}, {"", 0, 0, false},
		{"bytes 5-9/3", 5, 3, false}, {"bytes -5-9/10", 0, 0, false}, {"items 5-9/10", 0, 0, false},
	} {
		first, total, ok := parseContentRange(c.s)
		if ok != c.ok || ok && (first != c.first || total != c.total) {
			t.Errorf("%q: %d, %d, %v", c.s, first, total, ok)
		}
	}
}

func TestFromEnv(t *testing.T) {
	env := map[string]string{"HUGGING_FACE_HUB_TOKEN": "old", "HF_HUB_OFFLINE": "1"}
	opt := Options{}.FromEnv(func(k string) string { return env[k] })
	if opt.Endpoint != DefaultEndpoint || opt.Token != "old" || !opt.Offline {
		t.Errorf("%+v", opt)
	}
	env["HF_TOKEN"], env["HF_ENDPOINT"], env["HF_HUB_OFFLINE"] = "new\n", "http://mirror", "0"
	opt = Options{}.FromEnv(func(k string) string { return env[k] })
	if opt.Endpoint != "http://mirror" || opt.Token != "new" || opt.Offline {
		t.Errorf("%+v", opt)
	}
	if opt = (Options{Token: "mine"}).FromEnv(func(k string) string { return env[k] }); opt.Token != "mine" {
		t.Errorf("%+v", opt)
	}
}

// Whatever a hub answers, nothing is chosen that would be written outside the folder.
func FuzzListing(f *testing.F) {
	f.Add([]byte(`{"sha":"0123456789abcdef0123456789abcdef01234567","siblings":[{"rfilename":"../x.pt","size":3}]}`))
	f.Add([]byte(`{"sha":"0123456789abcdef0123456789abcdef01234567","gated":"auto","siblings":[{"rfilename":"config.json"},` +
		`{"rfilename":"model.safetensors","size":9,"lfs":{"sha256":"` + strings.Repeat("ab", 32) + `","size":-4}}]}`))
	f.Add([]byte(`[{"type":"file","path":"a/../../b.pt","oid":"` + strings.Repeat("0", 40) + `","size":1}]`))
	f.Fuzz(func(t *testing.T, body []byte) {
		l, err := parseListing(body)
		if files, treeErr := parseTree(body); treeErr == nil {
			l.Files, err = append(l.Files, files...), nil
		}
		if err != nil {
			return
		}
		for _, include := range [][]string{nil, {"*"}, {"*/*"}} {
			files, err := choose(l, Ref{Repo: "a/b"}, include)
			if err != nil {
				continue
			}
			for _, file := range files {
				if !filepath.IsLocal(file.Name) || strings.HasPrefix(file.Name, stateDir+"/") {
					t.Errorf("chose %q", file.Name)
				}
			}
		}
	})
}
