package loadtest

import (
	"bytes"
	"image/png"
	"math"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/tia2-engine/tia2-engine/internal/pickle"
)

// pickledRequest is what Python's pickle.loads reads as {'images': [b'\x00\xff', b'b'], 'prompts': ['é', ”], 'metadata': {}}.
const pickledRequest = "\x80\x03}(X\x06\x00\x00\x00images](B\x02\x00\x00\x00\x00\xffB\x01\x00\x00\x00be" +
	"X\x07\x00\x00\x00prompts](X\x02\x00\x00\x00éX\x00\x00\x00\x00eX\x08\x00\x00\x00metadata}(uu."

func TestRequests(t *testing.T) {
	images, texts := [][]byte{{0, 255}, []byte("b")}, []string{"é", ""}
	tests := []struct {
		protocol string
		rewards  []string
		want     request
	}{
		{"json", nil, request{"/v1/score", "application/json", []byte(`{"images":["AP8=","Yg=="],"pairs":"zip","texts":["é",""]}` + "\n")}},
		{"json", []string{"a", "b"}, request{"/v1/score", "application/json", []byte(`{"images":["AP8=","Yg=="],"pairs":"zip","rewards":["a","b"],"texts":["é",""]}` + "\n")}},
		{"kserve", nil, request{"/v2/models/rewards/infer", "application/json", []byte(`{"inputs":[{"data":["AP8=","Yg=="],"datatype":"BYTES","name":"images","shape":[2]},{"data":["é",""],"datatype":"BYTES","name":"texts","shape":[2]}]}` + "\n")}},
		{"kserve", []string{"clip"}, request{"/v2/models/clip/infer", "application/json", []byte(`{"inputs":[{"data":["AP8=","Yg=="],"datatype":"BYTES","name":"images","shape":[2]},{"data":["é",""],"datatype":"BYTES","name":"texts","shape":[2]}]}` + "\n")}},
		{"kserve", []string{"a", "b"}, request{"/v2/models/rewards/infer", "application/json", []byte(`{"inputs":[{"data":["AP8=","Yg=="],"datatype":"BYTES","name":"images","shape":[2]},{"data":["é",""],"datatype":"BYTES","name":"texts","shape":[2]}],"outputs":[{"name":"a"},{"name":"b"}]}` + "\n")}},
		{"pickle", nil, request{"/", "application/octet-stream", []byte(pickledRequest)}},
		{"pickle", []string{"clip"}, request{"/clip", "application/octet-stream", []byte(pickledRequest)}},
	}
	for _, tt := range tests {
		p, err := newProtocol(tt.protocol, tt.rewards)
		if err != nil {
			t.Fatal(err)
		}
		got := p.request(images, texts)
		if got.path != tt.want.path || got.contentType != tt.want.contentType || string(got.body) != string(tt.want.body) {
			t.Errorf("%s %v: %s %s %q", tt.protocol, tt.rewards, got.path, got.contentType, got.body)
		}
	}
	for _, name := range []string{"", "grpc"} {
		if _, err := newProtocol(name, nil); err == nil {
			t.Errorf("protocol %q is no error", name)
		}
	}
	if _, err := newProtocol("pickle", []string{"a", "b"}); err == nil {
		t.Error("two rewards in pickle are no error")
	}
}

func TestAnswers(t *testing.T) {
	nan := math.NaN()
	tests := []struct {
		protocol string
		rewards  []string
		body     string
		want     answer
		err      string
	}{
		{"json", nil, `{"rewards":{"a":[1,null]}}`, answer{"a": {1, nan}}, ""},
		{"json", nil, `{"rewards":{}}`, nil, "no rewards"},
		{"json", []string{"a", "b"}, `{"rewards":{"a":[1,2]}}`, nil, "no reward b"},
		{"json", nil, `{"rewards":{"a":[1]}}`, nil, "1 scores of a for 2 pairs"},
		{"json", nil, `nonsense`, nil, "invalid"},
		{"kserve", []string{"a"}, `{"outputs":[{"name":"scores","data":[1,null]}]}`, answer{"a": {1, nan}}, ""},
		{"kserve", nil, `{"outputs":[{"name":"a","data":[1,2]},{"name":"b","data":[3,4]}]}`, answer{"a": {1, 2}, "b": {3, 4}}, ""},
		{"kserve", []string{"a", "b"}, `{"outputs":[{"name":"a","data":[1,2]}]}`, nil, "no reward b"},
		{"kserve", nil, `[]`, nil, "cannot unmarshal"},
		{"pickle", nil, string(pickled([]any{1.0, nan})), answer{"scores": {1, nan}}, ""},
		{"pickle", []string{"a"}, string(pickled([]any{1.0, 2.0})), answer{"a": {1, 2}}, ""},
		{"pickle", nil, "\x80\x02}X\x06\x00\x00\x00scores](NNes.", nil, "expected a float"},
		{"pickle", nil, "\x80\x02}.", nil, "no list"},
		{"pickle", nil, "\x80\x02].", nil, "expected a dict"},
	}
	for _, tt := range tests {
		p, err := newProtocol(tt.protocol, tt.rewards)
		if err != nil {
			t.Fatal(err)
		}
		got, err := p.answer([]byte(tt.body), 2)
		if tt.err != "" {
			if err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("%s %q: error %v, want %q", tt.protocol, tt.body, err, tt.err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s %q: %v", tt.protocol, tt.body, err)
		}
		if diff := cmp.Diff(tt.want, got, cmpopts.EquateNaNs()); diff != "" {
			t.Errorf("%s %q: %s", tt.protocol, tt.body, diff)
		}
	}
}

func TestBadRequests(t *testing.T) {
	if c, err := png.DecodeConfig(bytes.NewReader(pngClaiming(100_000, 100_000))); err != nil || c.Width != 100_000 || c.Height != 100_000 {
		t.Errorf("the bomb is %d x %d, error %v: checksums are to be right", c.Width, c.Height, err)
	}
	for _, name := range Protocols {
		p, err := newProtocol(name, nil)
		if err != nil {
			t.Fatal(err)
		}
		maker := &badMaker{p, []byte("picture of some length, of which a half is sent"), "a text"}
		if q := maker.invalidUTF8(0); utf8.Valid(q.body) && name != "pickle" || !strings.Contains(string(q.body), "\xff\xfe\xc3(") {
			t.Errorf("%s: the text is valid in %q", name, q.body)
		}
		first, second := maker.brokenPicture(0), maker.brokenPicture(1)
		if bytes.Equal(first.body, second.body) || len(first.body) >= len(maker.good(0).body) {
			t.Errorf("%s: broken pictures %q and %q", name, first.body, second.body)
		}
		for _, kind := range badKinds {
			if kind.must() == "" || kind.make(maker, 3).path == "" {
				t.Errorf("%s: %s is nothing", name, kind.name)
			}
		}
	}
	if _, err := pickle.Decode(laughs()); err == nil || !strings.Contains(err.Error(), "shared parts counted each time") {
		t.Errorf("the pickle of 2^64 values is to be whole but for their number: %v", err)
	}
}
