package api

import (
	"encoding/json"
	"errors"
	"math"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	jsonv2 "github.com/go-json-experiment/json"

	"github.com/tia2-engine/tia2-engine/engine/serve"
)

func TestCheckJSON(t *testing.T) {
	for _, c := range []struct {
		name, body string
		kind       error
	}{
		{"as deep as may be", strings.Repeat("[", maxJSONDepth) + strings.Repeat("]", maxJSONDepth), nil},
		{"too deep", strings.Repeat("[", maxJSONDepth+1) + strings.Repeat("]", maxJSONDepth+1), serve.ErrBadRequest},
		{"too deep in objects", strings.Repeat(`{"a":`, maxJSONDepth+1), serve.ErrBadRequest},
		{"brackets in strings", `["` + strings.Repeat("[", 2*maxJSONDepth) + `"]`, nil},
		{"brackets behind an escaped quote", `["\"` + strings.Repeat("[", 2*maxJSONDepth) + `"]`, nil},
		{"brackets behind a string that ends in a backslash", `["\\",` + strings.Repeat("[", 2*maxJSONDepth), serve.ErrBadRequest},
		{"as many values as may be", "[" + strings.Repeat("0,", maxJSONValues-2) + "0]", nil},
		{"too many values", "[" + strings.Repeat("0,", maxJSONValues) + "0]", serve.ErrTooLarge},
		{"commas in a string", `"` + strings.Repeat(",", maxJSONValues) + `"`, nil},
		{"a string without an end", `"` + strings.Repeat("[", maxJSONDepth+1), nil},
	} {
		if err := checkJSON([]byte(c.body)); c.kind == nil && err != nil || c.kind != nil && !errors.Is(err, c.kind) {
			t.Errorf("%s: %v, want %v", c.name, err, c.kind)
		}
	}
}

// TestUnknownFields: strict names the field and its place; otherwise it is left aside.
func TestUnknownFields(t *testing.T) {
	body := []byte(`{"a":[{"b":1,"c":2}]}`)
	var v struct {
		A []struct {
			B int `json:"b"`
		} `json:"a"`
	}
	if err := DecodeJSON(body, &v, true); err == nil || err.Error() != `unknown field "c" in /a/0` || Status(err) != 400 {
		t.Errorf("error %v", err)
	}
	if err := DecodeJSON(body, &v, false); err != nil || v.A[0].B != 1 {
		t.Errorf("%v, error %v", v, err)
	}
}

func TestNumber(t *testing.T) {
	for _, v := range []float32{0, 1, -1.5, 0.1, 1e-20, 3.4e38, 16777216, float32(math.Copysign(0, -1)), 1.0 / 3} {
		b, err := jsonv2.Marshal(number(v))
		if err != nil {
			t.Fatal(err)
		}
		back, err := strconv.ParseFloat(string(b), 32)
		if err != nil || math.Float32bits(float32(back)) != math.Float32bits(v) || !json.Valid(b) {
			t.Errorf("%g is written as %s and read as %g, %v", v, b, back, err)
		}
	}
	for _, v := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
		if b, err := jsonv2.Marshal(number(v)); err != nil || string(b) != "null" {
			t.Errorf("%g is written as %s, %v", v, b, err)
		}
	}
}

func TestNamed(t *testing.T) {
	b, err := jsonv2.Marshal(named[int]{[]string{"z", `a"`, "m"}, []int{1, 2, 3}})
	if want := `{"z":1,"a\"":2,"m":3}`; err != nil || string(b) != want {
		t.Errorf("%s, %v, want %s", b, err, want)
	}
}

// fuzzRequest checks what holds of every body: an error has its kind and is no fault of the server; what is taken is JSON
// by the standard library too, and has no invalid UTF-8.
func fuzzRequest(t *testing.T, body []byte, v any) bool {
	err := DecodeJSON(body, v, true)
	if err != nil {
		if status := Status(err); status != 400 && status != 413 {
			t.Errorf("%q: status %d: %v", body, status, err)
		}
		if !utf8.ValidString(err.Error()) && utf8.Valid(body) {
			t.Errorf("%q: the error is not UTF-8: %q", body, err)
		}
		return false
	}
	if !json.Valid(body) || !utf8.Valid(body) {
		t.Errorf("%q was taken", body)
	}
	return true
}

func FuzzScoreRequest(f *testing.F) {
	for _, seed := range []string{`{"images":["YQ=="],"texts":["x"],"rewards":["clip"],"pairs":"all"}`, `{"pairs":[[0,1],[2,3]]}`, `{"pairs":null,"texts":["\ud83d\ude00"]}`,
		`{"images":["data:image\/png;base64,YQ=="]}`, `{"pairs":[[0,1e3]]}`, `[`, ``, "{\"texts\":[\"\xff\"]}"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var in scoreRequest
		if fuzzRequest(t, body, &in) && in.Pairs.all && len(in.Pairs.list) > 0 {
			t.Errorf("%q: all pairs and a list", body)
		}
	})
}

func FuzzTextNormRequest(f *testing.F) {
	for _, seed := range []string{`{"images":["YQ=="],"prompt":"a","contrastive":["b"],"scale":1e1,"minmax":"set"}`, `{"scale":1e999}`, `{"prompt":null}`, `{"contrastive":[[]]}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var in textNormRequest
		if fuzzRequest(t, body, &in) && (math.IsNaN(in.Scale) || math.IsInf(in.Scale, 0)) {
			t.Errorf("%q: scale %g", body, in.Scale)
		}
	})
}

func FuzzPreprocessRequest(f *testing.F) {
	f.Add([]byte(`{"image":"YQ==","model":"clip"}`))
	f.Add([]byte(`{"image":{"a":[]}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		var in preprocessRequest
		fuzzRequest(t, body, &in)
	})
}
