package ftfy

import "testing"

// TestRestoreA0 has results of ftfy.fixes.restore_byte_a0.
func TestRestoreA0(t *testing.T) {
	for raw, want := range map[string]string{
		"\xc3 la":                      "\xc3\xa0 la",
		"\xc3 quele x":                 "\xc3\xa0quele x",
		"\xc3 quel":                    "\xc3\xa0 quel",
		"\xc3 s x":                     "\xc3\xa0s x",
		"\xc3 sx":                      "\xc3\xa0 sx",
		"\xc3  x":                      "\xc3\xa0 x",
		"\xc3 ":                        "\xc3\xa0 ",
		"\xe2 \x80 \xe2 \xa0":          "\xe2\xa0\x80 \xe2 \xa0",
		"\xe3\x81 \xe0\xa0 ":           "\xe3\x81\xa0\xe0\xa0 ",
		"\xf0 \x9f\x98\xf0\x9f\x98 ":   "\xf0\xa0\x9f\x98\xf0\x9f\x98\xa0",
		"\xd0 \xc4 ":                   "\xd0\xa0\xc4 ",
		"nothing to \xe9 restore \x80": "nothing to \xe9 restore \x80",
	} {
		if got := string(restoreA0([]byte(raw))); got != want {
			t.Errorf("restoreA0(%q) = %q, expected %q", raw, got, want)
		}
	}
}

// TestReplaceLossy has results of ftfy.fixes.replace_lossy_sequences.
func TestReplaceLossy(t *testing.T) {
	for raw, want := range map[string]string{
		"\xe2\x80\x1a":             "\ufffd",
		"\xc3?\xc4?":               "\ufffd\xc4?",
		"\x1a":                     "\ufffd",
		"\xe2?\x80\xe2??":          "\ufffd\xe2??",
		"\xf0\x9f?\x80":            "\ufffd",
		"\xed\xa0?\xed\xb0?":       "\ufffd",
		"\xed\xa0?\xed\xb0\x80":    "\ufffd",
		"\xe2\x80\x99 is whole":    "\xe2\x80\x99 is whole",
		"\xed\xa0\x80\xed\xb0\x80": "\xed\xa0\x80\xed\xb0\x80",
	} {
		if got := string(replaceLossy([]byte(raw))); got != want {
			t.Errorf("replaceLossy(%q) = %q, expected %q", raw, got, want)
		}
	}
}

func TestDecodeVariants(t *testing.T) {
	for _, c := range []struct {
		name, raw, want string
		ok              bool
	}{
		{"utf-8", "\xc3\xa9\xed\x95\x9c", "é한", true},
		{"pair", "a\xed\xa0\xbd\xed\xb8\x80b", "a😀b", true},
		{"java null", "a\xc0\x80b", "a\x00b", true},
		{"null and a line feed", "a\xc0\n", "a\x00", true}, // as the original has it
		{"cut null", "a\xc0", "", false},
		{"lone surrogate", "\xed\xa0\xbdabc", "", false},
		{"cut pair", "\xed\xa0\xbd\xed\xb8", "", false},
		{"null not of Java", "\xc0\x81x", "", false},
		{"bad before the pair", "\xff\xed\xa0\xbd\xed\xb8\x80", "", false},
	} {
		if got, ok := decodeVariants([]byte(c.raw)); got != c.want || ok != c.ok {
			t.Errorf("%s: decodeVariants(%q) = %q, %v; expected %q, %v", c.name, c.raw, got, ok, c.want, c.ok)
		}
	}
}
