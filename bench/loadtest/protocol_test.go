package loadtest

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"image/png"
	"math"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func appendFloat(b []byte, x float64) []byte {
	return binary.BigEndian.AppendUint64(append(b, 'G'), math.Float64bits(x))
}

// Python 3.11, pickle.dumps of {"scores": [1.5, -2.25, nan], "outputs": (1.5,), "errors": [{"image": 2, "message": "bé"}], "n": None,
// "t": True, "big": -70000, "l": 2**40, "i": 255, "h": 40000, "b": b"x", "e": {}} in protocols 3 to 5.
var pythonPickles = []string{
	"80037d710028580600000073636f72657371015d710228473ff800000000000047c002000000000000477ff80000000000006558070000006f7574707574737103473ff800000000000085710458060000006572726f727371055d71067d7107285805000000696d61676571084b0258070000006d6573736167657109580300000062c3a9710a756158010000006e710b4e580100000074710c885803000000626967710d4a90eefeff58010000006c710e8a06000000000001580100000069710f4bff58010000006871104d409c5801000000627111430178711258010000006571137d7114752e",
	"800495a8000000000000007d94288c0673636f726573945d9428473ff800000000000047c002000000000000477ff8000000000000658c076f75747075747394473ff800000000000085948c066572726f7273945d947d94288c05696d616765944b028c076d657373616765948c0362c3a99475618c016e944e8c017494888c03626967944a90eefeff8c016c948a060000000000018c0169944bff8c0168944d409c8c016294430178948c0165947d94752e",
	"800595a8000000000000007d94288c0673636f726573945d9428473ff800000000000047c002000000000000477ff8000000000000658c076f75747075747394473ff800000000000085948c066572726f7273945d947d94288c05696d616765944b028c076d657373616765948c0362c3a99475618c016e944e8c017494888c03626967944a90eefeff8c016c948a060000000000018c0169944bff8c0168944d409c8c016294430178948c0165947d94752e",
}

func TestReadPickleOfPython(t *testing.T) {
	nan := math.NaN()
	want := map[string]any{
		"scores": &list{[]any{1.5, -2.25, nan}}, "outputs": &list{[]any{1.5}}, "errors": &list{[]any{map[string]any{"image": 2.0, "message": "bé"}}},
		"n": nil, "t": true, "big": -70000.0, "l": float64(1 << 40), "i": 255.0, "h": 40000.0, "b": "x", "e": map[string]any{},
	}
	for i, text := range pythonPickles {
		data, err := hex.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		got, err := readPickle(data)
		if err != nil {
			t.Errorf("protocol %d: %v", i+3, err)
			continue
		}
		if diff := cmp.Diff(want, got, cmpopts.EquateNaNs(), cmp.AllowUnexported(list{})); diff != "" {
			t.Errorf("protocol %d: %s", i+3, diff)
		}
	}
}

func TestReadPickleRefuses(t *testing.T) {
	for name, data := range map[string]string{
		"nothing": "", "torn": "\x80\x02]", "a global": "\x80\x02cos\nsystem\n.", "reduce": "\x80\x02NNR.", "stack": "\x80\x02.",
		"append to a number": "\x80\x02K\x01K\x02a.", "mark": "\x80\x02e.", "memo": "\x80\x02h\x05.", "key": "\x80\x02}(K\x01K\x02u.",
		"odd": "\x80\x02}(X\x01\x00\x00\x00au.", "long text": "\x80\x02X\xff\xff\xff\x7fa.", "long": "\x80\x02\x8a\x09123456789.",
	} {
		if v, err := readPickle([]byte(data)); err == nil {
			t.Errorf("%s: %v without an error", name, v)
		}
	}
}

func FuzzReadPickle(f *testing.F) {
	for _, text := range pythonPickles {
		data, _ := hex.DecodeString(text)
		f.Add(data)
	}
	for _, data := range hostilePickles {
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		pickleProtocol{}.answer(data, 1) // ends, without a panic
	})
}

// pickled is what Python's pickle.loads reads as {'images': [b'\x00\xff', b'b'], 'prompts': ['é', ”], 'metadata': {}}.
const pickled = "\x80\x04}(X\x06\x00\x00\x00images](B\x02\x00\x00\x00\x00\xffB\x01\x00\x00\x00be" +
	"X\x07\x00\x00\x00prompts](X\x02\x00\x00\x00éX\x00\x00\x00\x00eX\x08\x00\x00\x00metadata}u."

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
		{"pickle", nil, request{"/", "application/octet-stream", []byte(pickled)}},
		{"pickle", []string{"clip"}, request{"/clip", "application/octet-stream", []byte(pickled)}},
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
		{"pickle", nil, string(append(appendFloat(appendFloat([]byte("\x80\x02}X\x06\x00\x00\x00scores]("), 1), nan), "es."...)), answer{"scores": {1, nan}}, ""},
		{"pickle", []string{"a"}, string(append(appendFloat(appendFloat([]byte("\x80\x02}X\x06\x00\x00\x00scores]("), 1), 2), "es."...)), answer{"a": {1, 2}}, ""},
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
	if _, err := readPickle(laughs()); err != nil {
		t.Errorf("the pickle of 2^64 values is to be whole: %v", err)
	}
}
