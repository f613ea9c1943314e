package api

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"unicode/utf8"
)

// Keys are the API keys of a file, one "name:key" or "name:sha256=HEX" a line; empty lines and lines that begin with #
// are left out. A name may have several keys, so that one can be replaced. Names are what logs, metrics of fairness and
// people see; of keys only hashes are kept. Methods may be called from any goroutine.
type Keys struct {
	path string
	list atomic.Pointer[[]apiKey]
}

type apiKey struct {
	name string
	hash [sha256.Size]byte
}

// OpenKeys reads the keys of a file. Errors name the file and the line.
func OpenKeys(path string) (*Keys, error) {
	k := &Keys{path: path}
	if err := k.Reload(); err != nil {
		return nil, err
	}
	return k, nil
}

// Reload reads the file again. Where it has an error, the keys remain as they were.
func (k *Keys) Reload() error {
	data, err := os.ReadFile(k.path)
	if err != nil {
		return fmt.Errorf("keys: %w", err)
	}
	list, err := parseKeys(data)
	if err != nil {
		return fmt.Errorf("keys: %s:%w", k.path, err)
	}
	k.list.Store(&list)
	return nil
}

// parseKeys reads the text of a file of keys. Errors begin with the line's number and do not show the key.
func parseKeys(data []byte) ([]apiKey, error) {
	if !utf8.Valid(data) {
		return nil, fmt.Errorf("1: the file is not UTF-8")
	}
	var keys []apiKey
	lines := bufio.NewScanner(bytes.NewReader(data))
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		key, err := parseKey(line)
		if err != nil {
			return nil, fmt.Errorf("%d: %w", n, err)
		}
		keys = append(keys, key)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("1: %w", err)
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("1: no key: expected lines of the form name:key or name:sha256=HEX")
	}
	return keys, nil
}

func parseKey(line string) (apiKey, error) {
	name, secret, ok := strings.Cut(line, ":")
	name, secret = strings.TrimSpace(name), strings.TrimSpace(secret)
	if !ok || name == "" || secret == "" {
		return apiKey{}, fmt.Errorf("expected name:key or name:sha256=HEX")
	}
	if strings.ContainsAny(secret, " \t") {
		return apiKey{}, fmt.Errorf("key of %q: a space in a key cannot be sent", name)
	}
	digits, hashed := strings.CutPrefix(secret, "sha256=")
	if !hashed {
		return apiKey{name, sha256.Sum256([]byte(secret))}, nil
	}
	hash, err := hex.DecodeString(digits)
	if err != nil || len(hash) != sha256.Size {
		return apiKey{}, fmt.Errorf("key of %q: expected %d hexadecimal digits after sha256=", name, 2*sha256.Size)
	}
	return apiKey{name, [sha256.Size]byte(hash)}, nil
}

// name returns whose key it is. It takes the same time whatever the key has in common with those of the file.
func (k *Keys) name(secret string) (name string, ok bool) {
	hash := sha256.Sum256([]byte(secret))
	for _, key := range *k.list.Load() {
		if subtle.ConstantTimeCompare(hash[:], key.hash[:]) == 1 {
			name, ok = key.name, true
		}
	}
	return name, ok
}

// Authenticate returns the name of the key in an Authorization header, "Bearer KEY". Without keys (k is nil) everybody
// is let in, under no name.
func (k *Keys) Authenticate(_ context.Context, authorization string) (client string, err error) {
	if k == nil {
		return "", nil
	}
	scheme, secret, _ := strings.Cut(strings.TrimSpace(authorization), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return "", ofKind(errUnauthorized, "a key is needed: Authorization: Bearer KEY, or X-Api-Key: KEY")
	}
	client, ok := k.name(strings.TrimSpace(secret))
	if !ok {
		return "", ofKind(errUnauthorized, "the key is not known here")
	}
	return client, nil
}
