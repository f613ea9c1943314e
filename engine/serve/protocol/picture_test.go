package protocol

import (
	"bytes"
	"encoding/base64"
	"image"
	"image/color"
	"strings"
	"testing"

	"golang.org/x/image/bmp"
)

func TestBitmap(t *testing.T) {
	for _, c := range []struct{ height, width, channels int }{{1, 1, 1}, {2, 3, 3}, {3, 2, 4}, {5, 4, 3}, {1, 7, 1}} {
		pixels := make([]byte, c.height*c.width*c.channels)
		for i := range pixels {
			pixels[i] = byte(37*i + 11)
		}
		file, err := bitmap(pixels, c.height, c.width, c.channels)
		if err != nil {
			t.Fatal(err)
		}
		img, err := bmp.Decode(bytes.NewReader(file))
		if err != nil {
			t.Fatalf("%+v: %v", c, err)
		}
		if img.Bounds() != image.Rect(0, 0, c.width, c.height) {
			t.Errorf("%+v: bounds %v", c, img.Bounds())
		}
		for y := range c.height {
			for x := range c.width {
				p := pixels[(y*c.width+x)*c.channels:]
				want := color.RGBA{p[0], p[0], p[0], 255}
				if c.channels > 1 {
					want = color.RGBA{p[0], p[1], p[2], 255}
				}
				if got := color.RGBAModel.Convert(img.At(x, y)); got != want {
					t.Errorf("%+v: pixel %d, %d is %v, expected %v", c, x, y, got, want)
				}
			}
		}
	}
}

func TestBitmapRefusals(t *testing.T) {
	for _, c := range []struct {
		bytes, height, width, channels int
		want                           string
	}{
		{2, 1, 1, 2, "2 channels"}, {0, 0, 1, 3, "sides"}, {0, 1, -1, 3, "sides"}, {3, 1, 1 << 16, 1, "sides"}, {5, 1, 2, 3, "5 bytes"},
		{0, 1 << 15, 1 << 15, 3, "0 bytes"},
	} {
		if _, err := bitmap(make([]byte, c.bytes), c.height, c.width, c.channels); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

func TestPictureText(t *testing.T) {
	file := "\xff\xd8\xff\xe0 a picture"
	b64 := base64.StdEncoding.EncodeToString([]byte(file))
	for name, c := range map[string]struct{ in, want string }{
		"data URL":         {"data:image/jpeg;base64," + b64, ""},
		"no type":          {"data:;base64," + b64, ""},
		"bare":             {b64, ""},
		"without padding":  {strings.TrimRight(b64, "="), ""},
		"lines":            {b64[:8] + "\r\n" + b64[8:] + "\n", ""},
		"http":             {"http://127.0.0.1/a.jpg", "not fetched"},
		"file":             {"file:///etc/passwd", "not fetched"},
		"not base64":       {"data:image/jpeg;base64,???", "not base64"},
		"a plain data URL": {"data:text/plain,hello", "data URL"},
		"no comma":         {"data:image/png;base64", "data URL"},
		"words":            {"a red cube", "not base64"},
	} {
		got, err := pictureText(c.in)
		if c.want == "" && (err != nil || string(got) != file) || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	for _, raw := range []string{file, "GIF89a and so on", "BM rest", "\x00\x01"} {
		if got, err := pictureFile([]byte(raw)); err != nil || string(got) != raw {
			t.Errorf("%q as it is: %q, %v", raw, got, err)
		}
	}
	if got, err := pictureFile([]byte(b64)); err != nil || string(got) != file {
		t.Errorf("base64 as bytes: %q, %v", got, err)
	}
}
