package tia2

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"
)

// ErrFormat is wrapped by every error about a file whose content is not what the layout says.
var ErrFormat = errors.New("damaged or not in the expected format")

// placeError says where in a text file something is wrong. Line and column are 1-based, the column counts bytes.
func placeError(file string, data []byte, offset int64, format string, args ...any) error {
	at := data[:min(max(offset, 0), int64(len(data)))]
	line := 1 + bytes.Count(at, []byte{'\n'})
	column := len(at) - bytes.LastIndexByte(at, '\n')
	return fmt.Errorf("%s:%d:%d: %w: %s", file, line, column, ErrFormat, fmt.Sprintf(format, args...))
}

// eachMember calls each for the members of the JSON object in data, in their order, with the value and its offset.
// It is an error if the text is not UTF-8, not one JSON object, or has a key twice: a map would keep one of the two and
// lose labels silently.
func eachMember[T any](file string, data []byte, each func(key string, value T, offset int64) error) error {
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	if i := invalidUTF8(data); i >= 0 {
		return placeError(file, data, int64(i), "invalid UTF-8")
	}
	var syntax *json.SyntaxError
	if err := json.Unmarshal(data, new(json.RawMessage)); errors.As(err, &syntax) {
		return placeError(file, data, syntax.Offset, "%v", syntax)
	} else if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return placeError(file, data, 0, "want a JSON object")
	}
	seen := map[string]bool{}
	for dec.More() {
		token, err := dec.Token()
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		key := token.(string) // an object's member starts with its name
		if seen[key] {
			return placeError(file, data, dec.InputOffset(), "the key %q occurs twice", key)
		}
		seen[key] = true
		var raw json.RawMessage
		if err := dec.Decode(&raw); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		offset := dec.InputOffset() - int64(len(raw))
		var value T
		var wrong *json.UnmarshalTypeError
		if err := json.Unmarshal(raw, &value); errors.As(err, &wrong) {
			return placeError(file, data, offset+wrong.Offset, "%q: a %s where %s is wanted", key, wrong.Value, wrong.Type)
		} else if err != nil {
			return placeError(file, data, offset, "%q: %v", key, err)
		}
		if err := each(key, value, offset); err != nil {
			return err
		}
	}
	return nil
}

// invalidUTF8 returns the offset of the first byte that is not UTF-8, or -1.
func invalidUTF8(data []byte) int {
	if utf8.Valid(data) {
		return -1
	}
	for i := 0; i < len(data); {
		r, n := utf8.DecodeRune(data[i:])
		if r == utf8.RuneError && n == 1 {
			return i
		}
		i += n
	}
	return -1
}
