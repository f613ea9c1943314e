package pytext

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

// TestVectors compares with Python's own functions; ../tokenizer/testdata/make_vectors.py wrote the file.
func TestVectors(t *testing.T) {
	path := filepath.Join("testdata", "vectors.jsonl")
	if folder := os.Getenv("TIA2_VECTORS"); folder != "" {
		path = filepath.Join(folder, "pytext", path)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := 0
	for scan := bufio.NewScanner(bytes.NewReader(data)); scan.Scan(); lines++ {
		var v struct{ Text, Unescaped, Clean, NFC string }
		if err := json.Unmarshal(scan.Bytes(), &v); err != nil {
			t.Fatalf("%s: line %d: %v", path, lines+1, err)
		}
		for _, c := range []struct{ name, got, want string }{
			{"Unescape", Unescape(v.Text), v.Unescaped},
			{"AppendClean", string(AppendClean(nil, v.Text)), v.Clean},
			{"NFC", NFC(v.Text), v.NFC},
		} {
			if c.got != c.want {
				t.Errorf("%s(%+q) = %+q, expected %+q", c.name, v.Text, c.got, c.want)
			}
		}
	}
	if lines < 400 {
		t.Errorf("%d vectors, expected 400 or more", lines)
	}
}

func TestUnescape(t *testing.T) {
	for text, want := range map[string]string{
		"":                             "",
		"no entity":                    "no entity",
		"&amp;amp;":                    "&amp;",
		"&ampersand":                   "&ersand",
		"&notit; &not &notin;":         "¬it; ¬ ∉",
		"&bogus; &; & &&amp;":          "&bogus; &; & &&",
		"&#0;&#x80;&#129;":             "\ufffd€\u0081",
		"&#xD800;&#x110000;":           "\ufffd\ufffd",
		"&#99999999999999999999;":      "\ufffd",
		"&#7;&#xfdd0;&#x1FFFE;.":       ".",
		"&#233&#xe9g&#;&#x;":           "éég&#;&#x;",
		"&NotEqualTilde;&fjlig;":       "≂̸fj",
		"&" + strings.Repeat("é", 40):  "&" + strings.Repeat("é", 40),
		"&gt" + strings.Repeat("x", 9): ">" + strings.Repeat("x", 9),
	} {
		if got := Unescape(text); got != want {
			t.Errorf("Unescape(%q) = %q, expected %q", text, got, want)
		}
	}
}

func TestLower(t *testing.T) {
	for text, want := range map[string]string{
		"ABC":                  "abc",
		"ΟΔΥΣΣΕΥΣ":             "οδυσσευς",
		"Σ ΑΣ. ΑΣΑ":            "σ ας. ασα",
		"Α\u0301Σ\u0301":       "α\u0301ς\u0301",
		"Α\u0301Σ\u0301Α":      "α\u0301σ\u0301α",
		"İI":                   "i\u0307i",
		"GROẞ":                 "groß",
		"\u1c89\U00010d50":     "\u1c89\U00010d50", // newer than Unicode 14
		"\U00010400\U0001e900": "\U00010428\U0001e922",
	} {
		if got := Lower(text); got != want {
			t.Errorf("Lower(%q) = %q, expected %q", text, got, want)
		}
	}
}

func TestAppendClean(t *testing.T) {
	for text, want := range map[string]string{
		"":                        "",
		" \t\n":                   "",
		"  A  B\u3000\u2028C\x1c": "a b c",
		"\x1cÀ":                   "à",
		"x\x1fY\u200b":            "x y\u200b",
	} {
		if got := string(AppendClean([]byte("^"), text)); got != "^"+want {
			t.Errorf("AppendClean(^, %q) = %q, expected %q", text, got, "^"+want)
		}
	}
}

func FuzzUnescape(f *testing.F) {
	for _, seed := range []string{"&amp;", "&#x1F600;", "&not", "&#", "&\xff;"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got := Unescape(text)
		if utf8.ValidString(text) && !utf8.ValidString(got) {
			t.Errorf("Unescape(%q) = %q: expected UTF-8", text, got)
		}
		if !strings.Contains(text, "&") && got != text {
			t.Errorf("Unescape(%q) = %q: expected no change", text, got)
		}
	})
}
