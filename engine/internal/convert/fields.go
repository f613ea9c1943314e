package convert

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"sort"
	"strings"

	"github.com/tia2-engine/tia2-engine/engine/internal/tensorfile"
)

// fields reads one object of a configuration file. A field that is absent or null takes its default, as in Python.
// The first error sticks; it names the file and the field.
type fields struct {
	where string // "FILE: OBJECT." before a field's name
	raw   map[string]json.RawMessage
	used  map[string]bool
	err   *error // shared with the objects inside
}

// readFields reads a configuration file.
func readFields(path string) (*fields, error) {
	b, err := tensorfile.ReadSmall(path)
	if err != nil {
		return nil, err
	}
	return parseFields(b, path)
}

func parseFields(b []byte, path string) (*fields, error) {
	f := &fields{where: path + ": ", used: map[string]bool{}, err: new(error)}
	if err := json.Unmarshal(b, &f.raw); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return f, nil
}

// has tells whether a field is there and not null.
func (f *fields) has(name string) bool {
	raw, ok := f.raw[name]
	return ok && string(raw) != "null"
}

func (f *fields) fail(name, format string, args ...any) {
	if *f.err == nil {
		*f.err = fmt.Errorf("%s%s: %s", f.where, name, fmt.Sprintf(format, args...))
	}
}

// get decodes a field into v, which keeps its value when the field is absent.
func (f *fields) get(name string, v any, want string) {
	f.used[name] = true
	if !f.has(name) {
		return
	}
	if err := json.Unmarshal(f.raw[name], v); err != nil {
		f.fail(name, "%s is not %s", short(f.raw[name]), want)
	}
}

func (f *fields) integer(name string, def int) int {
	f.get(name, &def, "an integer")
	return def
}

func (f *fields) float(name string, def float64) float64 {
	f.get(name, &def, "a number")
	return def
}

func (f *fields) text(name, def string) string {
	f.get(name, &def, "a text")
	return def
}

func (f *fields) boolean(name string, def bool) bool {
	f.get(name, &def, "true or false")
	return def
}

// three reads three numbers.
func (f *fields) three(name string, def [3]float32) [3]float32 {
	var list []float32
	f.get(name, &list, "a list of numbers")
	if list == nil {
		return def
	}
	if len(list) != 3 {
		f.fail(name, "%d numbers: expected 3", len(list))
		return def
	}
	return [3]float32(list)
}

// object returns the object in a field, empty when the field is absent.
func (f *fields) object(name string) *fields {
	inner := &fields{where: f.where + name + ".", raw: map[string]json.RawMessage{}, used: map[string]bool{}, err: f.err}
	f.get(name, &inner.raw, "an object")
	return inner
}

// onlyDefault refuses fields that change what the model computes in a way the engine does not have: each must be
// absent, null or hold its default, given as JSON.
func (f *fields) onlyDefault(defaults map[string]string) {
	for _, name := range sortedKeys(defaults) {
		f.used[name] = true
		if f.has(name) && strings.TrimSpace(string(f.raw[name])) != defaults[name] {
			f.fail(name, "%s is not supported: expected %s", short(f.raw[name]), defaults[name])
		}
	}
}

// unknown returns the fields that nobody asked for, less those that change nothing.
func (f *fields) unknown(harmless ...string) (names []string) {
	for _, name := range sortedKeys(f.raw) {
		if !f.used[name] && !slices.Contains(harmless, name) {
			names = append(names, name)
		}
	}
	return names
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}

// short shortens a JSON value for a message.
func short(raw json.RawMessage) string {
	if len(raw) > 60 {
		return string(raw[:60]) + "..."
	}
	return string(raw)
}

// notesOfUnknown tells of fields that the engine does not know.
func notesOfUnknown(file, object string, names []string) []string {
	if len(names) == 0 {
		return nil
	}
	return []string{fmt.Sprintf("%s: fields of %s that are not known and were ignored: %s", filepath.Base(file), object, strings.Join(names, ", "))}
}
