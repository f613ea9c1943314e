package unitext

import (
	"slices"
	"strings"
	"testing"

	"golang.org/x/text/unicode/norm"
)

func TestSet(t *testing.T) {
	s := ParseSet("41-5a 61", "10ffff 3a3")
	for _, r := range "AMZa\U0010ffffΣ" {
		if !s.Contains(r) {
			t.Errorf("%U: expected in the set", r)
		}
	}
	for _, r := range "@[`b\U0010fffeΤ\x00" {
		if s.Contains(r) {
			t.Errorf("%U: expected not in the set", r)
		}
	}
	if got := slices.Collect(s.All()); len(got) != 29 || !slices.IsSorted(got) {
		t.Errorf("All: %d code points, sorted %v; expected 29, sorted", len(got), slices.IsSorted(got))
	}
}

func TestMapping(t *testing.T) {
	m := ParseMapping("41-5a/1+20 100-104/2+1", "178-178/1-79")
	for from, to := range map[rune]rune{'A': 'a', 'Z': 'z', 'a': 'a', 0x100: 0x101, 0x101: 0x101, 0x104: 0x105, 0x106: 0x106, 0x178: 0xff} {
		if got := m.Map(from); got != to {
			t.Errorf("Map(%U) = %U, expected %U", from, got, to)
		}
	}
}

func TestDamagedTables(t *testing.T) {
	for name, parse := range map[string]func(){
		"descending": func() { ParseSet("5a-41") },
		"no number":  func() { ParseSet("xyz") },
		"too large":  func() { ParseSet("110000") },
		"no delta":   func() { ParseMapping("41-5a/1") },
		"no step":    func() { ParseMapping("41-5a+20") },
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("no panic, expected one")
				}
			}()
			parse()
		})
	}
}

func TestNormalizer(t *testing.T) {
	n := NewNormalizer(ParseSet("301 11930 11935"))
	marks := strings.Repeat("\u0323\u0300", 20) // more than the 30 of the stream-safe format
	below, grave := strings.Repeat("\u0323", 19), strings.Repeat("\u0300", 20)
	for _, c := range []struct{ name, text, nfc, nfd string }{
		{"ascii", "abc", "abc", "abc"},
		{"composes", "e\u0300", "è", "e\u0300"},
		{"order", "q\u0307\u0323", "q\u0323\u0307", "q\u0323\u0307"},
		{"singleton", "\u212b", "Å", "A\u030a"},
		{"exclusion", "\u0958", "\u0915\u093c", "\u0915\u093c"},
		{"hangul", "\u1112\u1161\u11ab", "한", "\u1112\u1161\u11ab"},
		{"hangul in two", "하\u11ab", "한", "\u1112\u1161\u11ab"},
		{"inert mark", "e\u0301", "e\u0301", "e\u0301"},
		{"inert mark in the way", "e\u0301\u0300", "e\u0301\u0300", "e\u0301\u0300"},
		{"parts of an inert pair", "\U00011935\U00011930", "\U00011935\U00011930", "\U00011935\U00011930"},
		{"many marks", "o" + marks, "ọ" + below + grave, "o\u0323" + below + grave},
	} {
		if got := n.NFC(c.text); got != c.nfc {
			t.Errorf("%s: NFC %+q, expected %+q", c.name, got, c.nfc)
		}
		if got := string(n.NFD(c.text)); got != c.nfd {
			t.Errorf("%s: NFD %+q, expected %+q", c.name, got, c.nfd)
		}
	}
}

// FuzzNormalizer compares with x/text on texts where the two must agree: short runs of marks, no inert characters.
func FuzzNormalizer(f *testing.F) {
	n := NewNormalizer(ParseSet())
	seeds := []string{"e\u0301", "\u1e9b\u0323", "\u0f71\u0f72\u0f74", "\uac01\u11a8", "a\u0315\u0300\u05aeb", "か\u3099", "\u09c7\u09be"}
	for _, seed := range seeds {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		text = strings.ToValidUTF8(text, "")
		if len(text) > 60 {
			return
		}
		if got, want := n.NFC(text), norm.NFC.String(text); got != want {
			t.Errorf("NFC(%+q) = %+q, expected %+q", text, got, want)
		}
		if got, want := string(n.NFD(text)), norm.NFD.String(text); got != want {
			t.Errorf("NFD(%+q) = %+q, expected %+q", text, got, want)
		}
	})
}
