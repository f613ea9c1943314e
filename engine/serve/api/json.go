package api

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"reflect"
	"strconv"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/tia2-engine/tia2-engine/engine/serve"
)

const (
	maxJSONDepth  = 32      // of arrays and objects within each other
	maxJSONValues = 1 << 20 // of a body, counted by commas and brackets: bounds the memory of lists of small things
)

// DecodeJSON decodes a body to v, a pointer. With strict, a field that v does not have is an error. Always errors:
// invalid UTF-8, a name twice in an object, null for a string, more than the limits of depth and values. Errors are of
// the kinds serve.ErrBadRequest, with the place in the body, and serve.ErrTooLarge.
func DecodeJSON(body []byte, v any, strict bool) error {
	if err := checkJSON(body); err != nil {
		return err
	}
	err := json.Unmarshal(body, v, json.RejectUnknownMembers(strict), json.WithUnmarshalers(noNullStrings))
	if err != nil {
		return badRequest("%s", explainJSON(err))
	}
	return nil
}

// noNullStrings refuses null where a string is expected; the decoder would make it "".
var noNullStrings = json.UnmarshalFromFunc(func(d *jsontext.Decoder, _ *string) error {
	if d.PeekKind() == 'n' {
		return errors.New("expected a string, got null")
	}
	return json.SkipFunc
})

// checkJSON bounds the depth and the number of values of what may be JSON. It does not tell whether it is.
func checkJSON(body []byte) error {
	depth, values := 0, 1
	for i := 0; i < len(body); i++ {
		switch body[i] {
		case '"':
			i += stringEnd(body[i+1:])
		case '[', '{':
			depth++
			values++
		case ']', '}':
			depth--
		case ',':
			values++
		}
		if depth > maxJSONDepth {
			return badRequest("JSON at byte %d: more than %d arrays and objects within each other", i, maxJSONDepth)
		}
		if values > maxJSONValues {
			return ofKind(serve.ErrTooLarge, "JSON of more than %d values", maxJSONValues)
		}
	}
	return nil
}

// stringEnd returns how many bytes the rest of a string has, its closing quote included; all of b where there is none.
func stringEnd(b []byte) int {
	for at := 0; ; {
		quote := bytes.IndexByte(b[at:], '"')
		if quote < 0 {
			return len(b)
		}
		end := at + quote
		slashes := 0
		for end-slashes > at && b[end-slashes-1] == '\\' {
			slashes++
		}
		if at = end + 1; slashes%2 == 0 {
			return at
		}
	}
}

// explainJSON says where in a body what is wrong, for people who do not know Go.
func explainJSON(err error) string {
	var syntax *jsontext.SyntacticError
	var semantic *json.SemanticError
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "JSON ends too early"
	case errors.As(err, &syntax):
		return fmt.Sprintf("JSON at byte %d%s: %v", syntax.ByteOffset, within(syntax.JSONPointer), syntax.Err)
	case !errors.As(err, &semantic):
		return "JSON: " + err.Error()
	}
	if errors.Is(semantic.Err, json.ErrUnknownName) {
		return fmt.Sprintf("unknown field %q%s", semantic.JSONPointer.LastToken(), within(semantic.JSONPointer.Parent()))
	}
	field := within(semantic.JSONPointer)
	switch {
	case errors.Is(semantic.Err, strconv.ErrSyntax), errors.Is(semantic.Err, strconv.ErrRange):
		return fmt.Sprintf("JSON%s: expected %s, got %.40s", field, kindOfType(semantic.GoType), semantic.JSONValue)
	case semantic.Err != nil:
		return fmt.Sprintf("JSON%s: %v", field, semantic.Err)
	case semantic.GoType != nil:
		return fmt.Sprintf("JSON%s: expected %s, got %s", field, kindOfType(semantic.GoType), kindName(semantic.JSONKind))
	}
	return fmt.Sprintf("JSON%s: %s is not expected there", field, kindName(semantic.JSONKind))
}

// kindOfType says in JSON's words what a Go type is decoded from.
func kindOfType(t reflect.Type) string {
	switch t.Kind() {
	case reflect.String:
		return "a string"
	case reflect.Bool:
		return "true or false"
	case reflect.Slice:
		return "a list"
	case reflect.Array:
		return fmt.Sprintf("a list of %d", t.Len())
	case reflect.Struct, reflect.Map:
		return "an object"
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return "a whole number"
	}
	return "a number"
}

// kindName says what a value is.
func kindName(k jsontext.Kind) string {
	switch k {
	case 'n':
		return "null"
	case 't', 'f':
		return "true or false"
	case '"':
		return "a string"
	case '0':
		return "a number"
	case '[':
		return "a list"
	case '{':
		return "an object"
	}
	return "nothing"
}

// within names a place of a body, shortened where a name is very long.
func within(p jsontext.Pointer) string {
	if p == "" {
		return ""
	}
	return fmt.Sprintf(" in %.100s", p)
}

// WriteJSON answers a request with v under status 200.
func WriteJSON(w http.ResponseWriter, r *http.Request, v any) {
	if err := writeJSON(w, http.StatusOK, v); err != nil {
		WriteError(w, r, err)
	}
}

// writeJSON writes v as a body. Its error says that v cannot be written as JSON; nothing is written then.
func writeJSON(w http.ResponseWriter, status int, v any) error {
	body, err := json.Marshal(v, jsontext.AllowInvalidUTF8(true), json.Deterministic(true))
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)+1))
	w.WriteHeader(status)
	w.Write(append(body, '\n')) // an error here is the client's going away, which the log says
	return nil
}

// number is a float32 that is written with the digits that give it back, and as null where it is not finite.
type number float32

// MarshalJSONTo writes n.
func (n number) MarshalJSONTo(e *jsontext.Encoder) error {
	if f := float64(n); math.IsNaN(f) || math.IsInf(f, 0) {
		return e.WriteToken(jsontext.Null)
	}
	return e.WriteValue(strconv.AppendFloat(e.AvailableBuffer(), float64(n), 'g', -1, 32))
}

// numbers returns a slice of numbers that shares memory with none, never nil.
func numbers(values []float32) []number {
	out := make([]number, len(values))
	for i, v := range values {
		out[i] = number(v)
	}
	return out
}

// named is an object whose fields are in the order of their names here.
type named[T any] struct {
	names  []string
	values []T
}

// MarshalJSONTo writes the object.
func (o named[T]) MarshalJSONTo(e *jsontext.Encoder) error {
	if err := e.WriteToken(jsontext.BeginObject); err != nil {
		return err
	}
	for i, name := range o.names {
		if err := e.WriteToken(jsontext.String(name)); err != nil {
			return err
		}
		if err := json.MarshalEncode(e, o.values[i]); err != nil {
			return err
		}
	}
	return e.WriteToken(jsontext.EndObject)
}
