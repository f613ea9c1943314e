package api

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// writeFile writes a file of the test's and returns its path.
func writeFile(t testing.TB, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func sha256Hex(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

func TestParseKeys(t *testing.T) {
	for _, c := range []struct {
		name, text string
		keys       map[string]string // key to name
		err        string
	}{
		{"plain, hashed, comments", "# who may ask\n\na:one\n  b : two \r\nc:sha256=" + sha256Hex("three") + "\n", map[string]string{"one": "a", "two": "b", "three": "c"}, ""},
		{"two keys of a name", "a:old\na:new\n", map[string]string{"old": "a", "new": "a"}, ""},
		{"a colon in the key", "a:one:two", map[string]string{"one:two": "a"}, ""},
		{"nothing", "# only words\n", nil, "1: no key"},
		{"no name", "a:one\n:two", nil, "2: expected name:key"},
		{"no key", "a:", nil, "1: expected name:key"},
		{"no colon", "\n\nsecret", nil, "3: expected name:key"},
		{"short hash", "a:sha256=abcd", nil, `1: key of "a": expected 64 hexadecimal digits`},
		{"no hash", "a:sha256=" + strings.Repeat("x", 64), nil, `1: key of "a": expected 64 hexadecimal digits`},
		{"a space", "a:one two", nil, "a space"},
		{"not UTF-8", "a:\xff", nil, "UTF-8"},
	} {
		t.Run(c.name, func(t *testing.T) {
			list, err := parseKeys([]byte(c.text))
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Fatalf("error %v, want %q", err, c.err)
				}
				if strings.Contains(err.Error(), "secret") {
					t.Error("the error shows the key")
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			k := &Keys{}
			k.list.Store(&list)
			for key, name := range c.keys {
				if got, ok := k.name(key); !ok || got != name {
					t.Errorf("%q is of %q, want %q", key, got, name)
				}
			}
		})
	}
}

func TestKeysReload(t *testing.T) {
	path := writeFile(t, "keys", "a:one\n")
	k, err := OpenKeys(path)
	if err != nil {
		t.Fatal(err)
	}
	check := func(bearer string, ok bool) {
		t.Helper()
		if _, err := k.Authenticate(t.Context(), "Bearer "+bearer); ok != (err == nil) {
			t.Errorf("%s: %v", bearer, err)
		}
	}
	check("one", true)
	if err := os.WriteFile(path, []byte("b:two\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := k.Reload(); err != nil {
		t.Fatal(err)
	}
	check("one", false)
	check("two", true)
	if err := os.WriteFile(path, []byte("b\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := k.Reload(); err == nil || !strings.Contains(err.Error(), path+":1:") {
		t.Errorf("error %v: expected file and line", err)
	}
	check("two", true)
	if _, err := OpenKeys(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("a file that is not there has keys")
	}
}
