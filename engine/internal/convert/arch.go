package convert

import (
	"fmt"
	"strings"
)

// arch is a published architecture. The text tower's MLP is always four times its width.
type arch struct {
	name                     string
	image, patch             int
	width, layers, headWidth int
	mlp                      int
	textWidth, textLayers    int
	textHeads, embed         int
}

// archs are open_clip's ViT configurations that this engine computes (open_clip/model_configs/ViT-*.json). heads are
// width / headWidth; mlp is int(width * mlp_ratio).
var archs = []arch{
	{"vit-b-32", 224, 32, 768, 12, 64, 3072, 512, 12, 8, 512},
	{"vit-b-32-256", 256, 32, 768, 12, 64, 3072, 512, 12, 8, 512},
	{"vit-b-16", 224, 16, 768, 12, 64, 3072, 512, 12, 8, 512},
	{"vit-b-16-plus", 224, 16, 896, 12, 64, 3584, 640, 12, 10, 640},
	{"vit-b-16-plus-240", 240, 16, 896, 12, 64, 3584, 640, 12, 10, 640},
	{"vit-b-32-plus-256", 256, 32, 896, 12, 64, 3584, 640, 12, 10, 640},
	{"vit-l-14", 224, 14, 1024, 24, 64, 4096, 768, 12, 12, 768},
	{"vit-l-14-280", 280, 14, 1024, 24, 64, 4096, 768, 12, 12, 768},
	{"vit-l-14-336", 336, 14, 1024, 24, 64, 4096, 768, 12, 12, 768},
	{"vit-l-16", 224, 16, 1024, 24, 64, 4096, 768, 12, 12, 768},
	{"vit-l-16-320", 320, 16, 1024, 24, 64, 4096, 768, 12, 12, 768},
	{"vit-h-14", 224, 14, 1280, 32, 80, 5120, 1024, 24, 16, 1024},
	{"vit-h-14-378", 378, 14, 1280, 32, 80, 5120, 1024, 24, 16, 1024},
	{"vit-h-16", 224, 16, 1280, 32, 80, 5120, 1024, 24, 16, 1024},
	{"vit-g-14", 224, 14, 1408, 40, 88, 6144, 1024, 24, 16, 1024},
	{"vit-bigg-14", 224, 14, 1664, 48, 104, 8192, 1280, 32, 20, 1280},
	{"vit-e-14", 224, 14, 1792, 56, 112, 15360, 1280, 36, 20, 1280},
	{"vit-s-32", 224, 32, 384, 12, 64, 1536, 384, 12, 6, 384},
	{"vit-s-16", 224, 16, 384, 12, 64, 1536, 384, 12, 6, 384},
	{"vit-s-32-alt", 224, 32, 384, 12, 64, 1536, 256, 10, 4, 256},
	{"vit-s-16-alt", 224, 16, 384, 12, 64, 1536, 256, 10, 4, 256},
	{"vit-m-32", 224, 32, 512, 12, 64, 2048, 512, 12, 8, 512},
	{"vit-m-16", 224, 16, 512, 12, 64, 2048, 512, 12, 8, 512},
	{"vit-m-32-alt", 224, 32, 512, 12, 64, 2048, 384, 12, 6, 384},
}

// CLIP's text side is the same in all of them.
const (
	clipContext = 77
	clipVocab   = 49408
	normEps     = 1e-5 // PyTorch's default
)

// findArch returns the architecture of a name: "ViT-B-32", "vit-l/14@336px", "ViT-H-14-quickgelu".
func findArch(name string) (*Spec, error) {
	key := strings.ToLower(name)
	key = strings.TrimSuffix(strings.NewReplacer("/", "-", "_", "-", "@", "-").Replace(key), "px")
	activation := gelu
	for _, suffix := range []string{"-quickgelu", "-quick-gelu"} {
		if strings.HasSuffix(key, suffix) {
			key, activation = strings.TrimSuffix(key, suffix), quickGELU
		}
	}
	for _, a := range archs {
		if a.name == key {
			return a.spec(activation), nil
		}
	}
	names := make([]string, len(archs))
	for i, a := range archs {
		names[i] = a.name
	}
	return nil, fmt.Errorf("architecture %q is not known: expected one of %s, with -quickgelu after it where the model has QuickGELU", name, strings.Join(names, ", "))
}

func (a *arch) spec(activation string) *Spec {
	return &Spec{
		EmbedDim: a.embed, ImageSize: a.image, PatchSize: a.patch, Context: clipContext, VocabSize: clipVocab,
		Vision: Tower{a.width, a.layers, a.width / a.headWidth, a.mlp, normEps, activation},
		Text:   Tower{a.textWidth, a.textLayers, a.textHeads, 4 * a.textWidth, normEps, activation},
	}
}

// matches tells whether a model has this architecture but for the picture's size, which a fine-tuned one may change.
func (a *arch) matches(s *Spec) bool {
	return a.patch == s.PatchSize && a.width == s.Vision.Width && a.layers == s.Vision.Layers && a.mlp == s.Vision.MLPWidth &&
		a.textWidth == s.Text.Width && a.textLayers == s.Text.Layers && 4*a.textWidth == s.Text.MLPWidth && a.embed == s.EmbedDim
}
