package cgo

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tia2-engine/tia2-engine/internal/sharedtest"
)

// picture is what Pillow says of a file. RGB is the sha256 of its pixels after convert("RGB").
type picture struct {
	Format, Mode  string
	Width, Height int
	RGB           string
}

func readJSON(t testing.TB, path string, v any) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, v); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

func decodeSHA(t *testing.T, data []byte, want picture) {
	t.Helper()
	info, err := ProbeImage(data, ImageLimits{})
	if err != nil {
		t.Fatal(err)
	}
	if got := (picture{info.Format, info.Mode, info.Width, info.Height, want.RGB}); got != want {
		t.Errorf("probed as %+v, want %+v", got, want)
	}
	rgb := make([]byte, 3*info.Width*info.Height)
	if err := DecodeRGB(rgb, data, ImageLimits{}); err != nil {
		t.Fatal(err)
	}
	if sum := sha256.Sum256(rgb); hex.EncodeToString(sum[:]) != want.RGB {
		t.Errorf("the pixels differ from Pillow's")
	}
}

func refused(t *testing.T, data []byte) {
	t.Helper()
	info, err := ProbeImage(data, ImageLimits{})
	if err == nil {
		err = DecodeRGB(make([]byte, 3*info.Width*info.Height), data, ImageLimits{})
	}
	if !errors.Is(err, ErrImage) {
		t.Fatalf("got %v, want ErrImage", err)
	}
	if strings.Contains(err.Error(), "\n") || len(err.Error()) < len("decode picture: x") {
		t.Errorf("the message %q does not say why in one line", err)
	}
}

func TestDecodePictures(t *testing.T) {
	dir := filepath.Join("testdata", "pictures")
	var expect struct {
		Files   map[string]picture
		Refused []string
	}
	readJSON(t, filepath.Join(dir, "expect.json"), &expect)
	testPictures(t, dir, dir, expect.Files, expect.Refused)
}

func TestDecodeGolden(t *testing.T) {
	dir := sharedtest.Path(t, "golden", "pixels")
	var index struct {
		Files map[string]struct {
			PIL picture
			RGB string `json:"rgb_sha256"`
		}
		Broken map[string]any
	}
	readJSON(t, filepath.Join(dir, "index.json"), &index)
	files := map[string]picture{}
	for name, f := range index.Files {
		f.PIL.RGB = f.RGB
		files[name] = f.PIL
	}
	var broken []string
	for name := range index.Broken {
		broken = append(broken, name)
	}
	testPictures(t, filepath.Join(dir, "files"), filepath.Join(dir, "broken"), files, broken)
}

func testPictures(t *testing.T, goodDir, badDir string, good map[string]picture, bad []string) {
	if len(good) == 0 || len(bad) == 0 {
		t.Fatal("no pictures")
	}
	for name, want := range good {
		t.Run(name, func(t *testing.T) {
			data, err := os.ReadFile(filepath.Join(goodDir, name))
			if err != nil {
				t.Fatal(err)
			}
			decodeSHA(t, data, want)
		})
	}
	for _, name := range bad {
		t.Run(name, func(t *testing.T) {
			data, err := os.ReadFile(filepath.Join(badDir, name))
			if err != nil {
				t.Fatal(err)
			}
			refused(t, data)
		})
	}
}

func TestImageLimits(t *testing.T) {
	data, err := os.ReadFile(filepath.Join("testdata", "pictures", "png_rgb.png")) // 31 x 22
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		limits ImageLimits
		want   error
	}{
		{"at both limits", ImageLimits{PixelsMax: 31 * 22, BytesMax: uint64(len(data))}, nil},
		{"a pixel too many", ImageLimits{PixelsMax: 31*22 - 1}, ErrImage},
		{"a byte too many", ImageLimits{BytesMax: uint64(len(data)) - 1}, ErrImage},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := ProbeImage(data, c.limits); !errors.Is(err, c.want) {
				t.Errorf("ProbeImage: got %v, want %v", err, c.want)
			}
			if err := DecodeRGB(make([]byte, 3*31*22), data, c.limits); !errors.Is(err, c.want) {
				t.Errorf("DecodeRGB: got %v, want %v", err, c.want)
			}
		})
	}
	if err := DecodeRGB(make([]byte, 3*31*22-1), data, ImageLimits{}); !errors.Is(err, ErrInvalid) {
		t.Errorf("short buffer: got %v, want ErrInvalid", err)
	}
	if _, err := ProbeImage(nil, ImageLimits{}); !errors.Is(err, ErrImage) {
		t.Errorf("no bytes: got %v, want ErrImage", err)
	}
}

// One crossing per picture must not cost Go memory.
func TestPreprocessAllocates(t *testing.T) {
	data, err := os.ReadFile(filepath.Join("testdata", "pictures", "jpeg_420.jpg"))
	if err != nil {
		t.Fatal(err)
	}
	dst := make([]byte, 3*8*8)
	spec := ImageSpec{Pipeline: PipelineOpenAI, Size: 8}
	if n := testing.AllocsPerRun(20, func() {
		if err := PreprocessU8(dst, data, spec); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%g allocations per picture, want 0", n)
	}
}
