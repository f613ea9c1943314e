package ftfy

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"
)

// TestVectors compares with ftfy 6.3.1 itself; ../tokenizer/testdata/make_vectors.py wrote the file.
func TestVectors(t *testing.T) {
	path := filepath.Join("testdata", "vectors.jsonl")
	if folder := os.Getenv("TIA2_VECTORS"); folder != "" {
		path = filepath.Join(folder, "ftfy", path)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines, changed := 0, 0
	for scan := bufio.NewScanner(bytes.NewReader(data)); scan.Scan(); lines++ {
		var v struct{ Text, Fixed string }
		if err := json.Unmarshal(scan.Bytes(), &v); err != nil {
			t.Fatalf("%s: line %d: %v", path, lines+1, err)
		}
		if v.Text != v.Fixed {
			changed++
		}
		if got := FixText(v.Text); got != v.Fixed {
			t.Errorf("FixText(%+q) = %+q, expected %+q", v.Text, got, v.Fixed)
		}
	}
	if lines < 400 || changed < 200 {
		t.Errorf("%d vectors, %d with a repair; expected 400 and 200 or more", lines, changed)
	}
}

func TestFixText(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"empty", "", ""},
		{"plain", "a photo of a cat\n", "a photo of a cat\n"},
		{"mojibake", "âœ” No problems", "✔ No problems"},
		{"twice", "ÃƒÂ©tÃƒÂ©", "été"},
		{"lost byte", "â€œ like this â€�", "\" like this �"},
		{"space for A0", "voilÃ le travail", "voilà le travail"},
		{"inside good text", "日本 â€œx", "日本 \"x"},
		{"cesu-8", "í\u00a0½í¸\u0080", "😀"},
		{"c1", "\x93smart\x94", "\ufffdsmart\ufffd"}, // bytes that are not UTF-8
		{"c1 characters", "\u0093smart\u0094", "\"smart\""},
		{"entities", "Broken text&hellip; P&EACUTE;REZ &bogus;", "Broken text… PÉREZ &bogus;"},
		{"html", "<b>&amp;</b>", "<b>&amp;</b>"},
		{"html from the second line on", "&amp;\n<\n&amp;", "&\n<\n&amp;"},
		{"ligatures", "ﬂuﬃeﬆ", "fluffiest"},
		{"width", "ＬＯＵＤ　ﾀ", "LOUD タ"},
		{"quotes", "“it’s”", "\"it's\""},
		{"line breaks", "a\r\nb\rc\u2028d\u2029", "a\nb\nc\nd\n"},
		{"terminal", "\x1b[36;44mblue\x1b[0m \x1b[", "blue ["},
		{"controls", "a\x00b\ufeffc\ufff9\t\f", "abc\t\f"},
		{"form C", "e\u0301", "é"},
		{"fine as it is", "Привет, мир; Ångström — 日本", "Привет, мир; Ångström — 日本"},
	} {
		if got := FixText(c.text); got != c.want {
			t.Errorf("%s: FixText(%+q) = %+q, expected %+q", c.name, c.text, got, c.want)
		}
	}
}

func TestSegmentEnd(t *testing.T) {
	long := strings.Repeat("é", segmentRunesMax)
	for _, c := range []struct {
		name, text string
		want       int
	}{
		{"line", "ab\ncd\n", 3},
		{"no line end", "abcd", 4},
		{"as long as can be", long, len(long)},
		{"too long", long + "é\n", len(long)},
	} {
		if got := segmentEnd(c.text); got != c.want {
			t.Errorf("%s: %d bytes, expected %d", c.name, got, c.want)
		}
	}
}

func FuzzFixText(f *testing.F) {
	for _, seed := range []string{"âœ”", "Ã ", "&amp;", "\x1b[1m", "\xff", "í\u00a0½í¸\u0080\n", "À\n", "ﬃ“’"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got := FixText(text)
		if !utf8.ValidString(got) {
			t.Errorf("FixText(%q) = %q: expected UTF-8", text, got)
		}
		if again := FixText(text); again != got {
			t.Errorf("FixText(%q) = %q, then %q", text, got, again)
		}
	})
}

func BenchmarkFixText(b *testing.B) {
	for name, text := range map[string]string{
		"ascii":    "a realistic photo of three cups and a blender",
		"cyrillic": "реалистичная фотография трёх чашек и блендера",
		"mojibake": "voilÃ  le travail, dâ€™accord",
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				FixText(text)
			}
		})
	}
}
