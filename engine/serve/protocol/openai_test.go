package protocol

import (
	"encoding/base64"
	"encoding/json"
	"hash/crc32"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestOpenAIEmbeddings(t *testing.T) {
	server, _ := newServer(t, newFake(), Options{})
	file := "\xff\xd8\xff one"
	sum := float32(crc32.ChecksumIEEE([]byte(file)) % 1000)
	text := []float32{5, 0.25, -1}
	picture := []float32{sum, 0.5, 1}
	for name, c := range map[string]struct {
		input string
		want  [][]float32
	}{
		"a text":          {`"a cat"`, [][]float32{text}},
		"texts":           {`["a cat",{"text":"a cat"}]`, [][]float32{text, text}},
		"a picture":       {`"data:image/jpeg;base64,` + b64(file) + `"`, [][]float32{picture}},
		"mixed":           {`["a cat",{"image":"` + b64(file) + `"},"a cat",{"image":"data:image/png;base64,` + b64(file) + `"}]`, [][]float32{text, picture, text, picture}},
		"an object alone": {`{"text":"a cat"}`, [][]float32{text}},
	} {
		for _, format := range []string{"", "float", "base64"} {
			body := `{"model":"clip-vit-l-14","input":` + c.input + `,"encoding_format":"` + format + `","user":"me","dimensions":3}`
			resp, b := post(t, server.URL+"/v1/embeddings", []byte(body))
			var got struct {
				Object, Model string
				Data          []struct {
					Object    string
					Index     int
					Embedding json.RawMessage
				}
				Usage embeddingsUsage
			}
			if err := json.Unmarshal(b, &got); err != nil || resp.StatusCode != 200 || got.Object != "list" || got.Model != "clip-vit-l-14" || len(got.Data) != len(c.want) {
				t.Errorf("%s, %q: status %d, %s", name, format, resp.StatusCode, b)
				continue
			}
			tokens := 0
			for i, want := range c.want {
				if want[2] < 0 {
					tokens += 4 // start, "a", "cat", end
				} else {
					tokens += 257
				}
				row := got.Data[i]
				wantJSON, _ := json.Marshal(want)
				if format == "base64" {
					wantJSON, _ = json.Marshal(base64.StdEncoding.EncodeToString(littleEndian(want)))
				}
				if row.Index != i || row.Object != "embedding" || string(row.Embedding) != string(wantJSON) {
					t.Errorf("%s, %q: row %d is %s, expected %s", name, format, i, row.Embedding, wantJSON)
				}
			}
			if diff := cmp.Diff(embeddingsUsage{tokens, tokens}, got.Usage); diff != "" {
				t.Errorf("%s: usage: %s", name, diff)
			}
		}
	}
}

func TestOpenAIErrors(t *testing.T) {
	f := newFake()
	server, core := newServer(t, f, Options{})
	type errorBody struct {
		Error *struct {
			Message, Type string
			Param, Code   *string
		}
	}
	ask := func(body string) (int, errorBody) {
		resp, b := post(t, server.URL+"/v1/embeddings", []byte(body))
		var e errorBody
		if err := json.Unmarshal(b, &e); err != nil || e.Error == nil {
			t.Errorf("%s: %s", body, b)
			return resp.StatusCode, errorBody{Error: &struct {
				Message, Type string
				Param, Code   *string
			}{}}
		}
		return resp.StatusCode, e
	}
	for name, c := range map[string]struct {
		body, want, param string
		status            int
	}{
		"no JSON":        {`{`, "JSON", "", 400},
		"no input":       {`{"model":"clip-vit-l-14"}`, "input is missing", "input", 400},
		"null":           {`{"model":"clip-vit-l-14","input":null}`, "input is missing", "input", 400},
		"empty":          {`{"model":"clip-vit-l-14","input":[]}`, "0 elements", "input", 400},
		"tokens":         {`{"model":"clip-vit-l-14","input":[1,2]}`, "token ids", "input", 400},
		"both":           {`{"model":"clip-vit-l-14","input":{"text":"a","image":"b"}}`, "one of", "input", 400},
		"neither":        {`{"model":"clip-vit-l-14","input":[{}]}`, "one of", "input", 400},
		"a URL":          {`{"model":"clip-vit-l-14","input":{"image":"https://a.b/c.png"}}`, "not fetched", "input", 400},
		"bad picture":    {`{"model":"clip-vit-l-14","input":["a",{"image":"` + b64("bad") + `"}]}`, "input[1]: not a picture", "input", 400},
		"format":         {`{"model":"clip-vit-l-14","input":"a","encoding_format":"int8"}`, "encoding_format", "encoding_format", 400},
		"dimensions":     {`{"model":"clip-vit-l-14","input":"a","dimensions":512}`, "has 3", "dimensions", 400},
		"unknown model":  {`{"model":"text-embedding-3-small","input":"a"}`, "text-embedding-3-small", "", 404},
		"many of a text": {`{"model":"clip-vit-l-14","input":["` + strings.Repeat(`a","`, 200) + `a"]}`, "at most 128", "", 413},
	} {
		code, e := ask(c.body)
		param := ""
		if e.Error.Param != nil && code != 404 {
			param = *e.Error.Param
		}
		if code != c.status || !strings.Contains(e.Error.Message, c.want) || e.Error.Type != "invalid_request_error" || param != c.param {
			t.Errorf("%s: status %d, %+v: expected %d with %q of %q", name, code, *e.Error, c.status, c.want, c.param)
		}
	}
	if err := core.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if code, e := ask(`{"model":"clip-vit-l-14","input":"a"}`); code != 503 || e.Error.Type != "server_error" {
		t.Errorf("draining: status %d, %+v", code, *e.Error)
	}
}
