package api

import (
	"encoding/base64"
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/tia2-engine/tia2-engine/engine/serve"
)

func TestParsePicture(t *testing.T) {
	const file = "\xfb\xef\xff\x00picture" // has both + and / in the standard alphabet
	std, url := base64.StdEncoding.EncodeToString([]byte(file)), base64.RawURLEncoding.EncodeToString([]byte(file))
	for _, c := range []struct{ name, text, data, url, err string }{
		{"base64", std, file, "", ""},
		{"without padding", strings.TrimRight(std, "="), file, "", ""},
		{"URL alphabet", url, file, "", ""},
		{"in lines", std[:8] + "\r\n" + std[8:] + "\n", file, "", ""},
		{"data URL", "data:image/png;base64," + std, file, "", ""},
		{"data URL with parameters", "DATA:Image/WebP;charset=x;BASE64," + std, file, "", ""},
		{"data URL without a type", "data:;base64," + std, file, "", ""},
		{"data URL of bytes", "data:application/octet-stream;base64," + std, file, "", ""},
		{"data URL of text", "data:text/html;base64," + std, "", "", `type "text/html": expected image/TYPE`},
		{"data URL with percents", "data:image/png,%89PNG", "", "", "data:image/TYPE;base64,DATA"},
		{"data URL without data", "data:image/png;base64", "", "", "data:image/TYPE;base64,DATA"},
		{"empty data URL", "data:image/png;base64,", "", "", "empty"},
		{"empty", "", "", "", "empty"},
		{"only padding", "====", "", "", "empty"},
		{"no base64", "a cat", "", "", "expected base64"},
		{"one character", "A", "", "", "expected base64"},
		{"both alphabets", "ab+-", "", "", "expected base64"},
		{"web", "https://example.org/a.png", "", "https://example.org/a.png", ""},
		{"web in capitals", "HTTP://example.org/a.png", "", "HTTP://example.org/a.png", ""},
		{"base64 that spells data", "data", "\x75\xab\x5a", "", ""},
		{"base64 that spells http", "http", "\x86\xdb\x69", "", ""},
		{"another scheme", "file:///etc/passwd", "", "", "expected base64, a data URL or an http(s) URL"},
	} {
		t.Run(c.name, func(t *testing.T) {
			text := []byte(c.text)
			p := parsePicture(text)
			clear(text) // a picture must not keep its text
			if c.err != "" {
				if p.err == nil || !strings.Contains(p.err.Error(), c.err) {
					t.Errorf("error %v, want %q", p.err, c.err)
				}
				return
			}
			if p.err != nil || string(p.data) != c.data || p.url != c.url {
				t.Errorf("data %q, url %q, error %v; want %q, %q", p.data, p.url, p.err, c.data, c.url)
			}
		})
	}
}

// TestPictureJSON: both of the JSON packages read a picture, escaped or not.
func TestPictureJSON(t *testing.T) {
	for _, body := range []string{`["YWI="]`, `[ "\u0059WI=" ]`, `["data:image\/png;base64,YWI="]`} {
		var standard, own []Picture
		if err := json.Unmarshal([]byte(body), &standard); err != nil {
			t.Fatal(err)
		}
		if err := DecodeJSON([]byte(body), &own, true); err != nil {
			t.Fatal(err)
		}
		if want := []Picture{{data: []byte("ab")}}; !reflect.DeepEqual(standard, want) || !reflect.DeepEqual(own, want) {
			t.Errorf("%s: %v and %v, want %v", body, standard, own, want)
		}
	}
}

func TestMergeErrors(t *testing.T) {
	got := MergeErrors([]serve.ItemError{{Index: 3, Message: "no base64"}, {Index: 5, Message: "not found"}}, []serve.ItemError{{Index: 1, Message: "broken"}, {Index: 3, Message: "empty"}})
	want := []serve.ItemError{{Index: 1, Message: "broken"}, {Index: 3, Message: "no base64"}, {Index: 5, Message: "not found"}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// FuzzPicture: nothing panics, and a picture is one of three things.
func FuzzPicture(f *testing.F) {
	for _, seed := range []string{"YWI=", "data:image/png;base64,YWI=", "data:,", "http://x", "", "data:;base64,-_", "=", "\xff", "dAtA", "http"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p := ParsePicture(text)
		kinds := 0
		for _, is := range []bool{len(p.data) > 0 && p.err == nil, p.url != "", p.err != nil} {
			if is {
				kinds++
			}
		}
		if kinds != 1 {
			t.Errorf("%q is %d things: %+v", text, kinds, p)
		}
		if len(p.data) > len(text) {
			t.Errorf("%d bytes of %d characters", len(p.data), len(text))
		}
	})
}
