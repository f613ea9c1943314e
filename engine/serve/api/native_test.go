package api

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"image/color"
	"image/png"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/tia2-engine/tia2-engine/engine"
)

func TestScore(t *testing.T) {
	url := serveHTTP(t, &fake{}, Config{})
	for _, c := range []struct{ name, body, want string }{
		{"one pair, all rewards", `{"images":["YQ=="],"texts":["xy"]}`, `{"rewards":{"clip":[102],"hpsv2":[103]},"pairs":[[0,0]],"errors":[]}`},
		{"rewards in the order asked for", `{"images":["YQ=="],"texts":["xy"],"rewards":["hpsv2","clip"]}`, `{"rewards":{"hpsv2":[103],"clip":[102]},"pairs":[[0,0]],"errors":[]}`},
		{"zip", `{"images":["YQ==","YmM="],"texts":["x","yz"],"rewards":["clip"],"pairs":"zip"}`, `{"rewards":{"clip":[101,202]},"pairs":[[0,0],[1,1]],"errors":[]}`},
		{"one image for all texts", `{"images":["YQ"],"texts":["x","yz"],"rewards":["clip"]}`, `{"rewards":{"clip":[101,102]},"pairs":[[0,0],[0,1]],"errors":[]}`},
		{"all", `{"images":["YQ==","YmM="],"texts":["x","yz"],"rewards":["clip"],"pairs":"all"}`, `{"rewards":{"clip":[101,102,201,202]},"pairs":[[0,0],[0,1],[1,0],[1,1]],"errors":[]}`},
		{"a list", `{"images":["YQ==","YmM="],"texts":["x","yz"],"rewards":["clip"],"pairs":[[1,0],[0,1],[1,0]]}`, `{"rewards":{"clip":[201,102,201]},"pairs":[[1,0],[0,1],[1,0]],"errors":[]}`},
		{"null stands for absent", `{"images":["YQ=="],"texts":["x"],"rewards":null,"pairs":null}`, `{"rewards":{"clip":[101],"hpsv2":[102]},"pairs":[[0,0]],"errors":[]}`},
		{"a picture that cannot be read", `{"images":["YQ==",` + base64Of("bad") + `],"texts":["x"],"rewards":["clip"]}`,
			`{"rewards":{"clip":[101,null]},"pairs":[[0,0],[1,0]],"errors":[{"image":1,"message":"not a picture"}]}`},
		{"a picture that is no base64", `{"images":["!","YQ=="],"texts":["x"],"rewards":["clip"]}`,
			`{"rewards":{"clip":[null,101]},"pairs":[[0,0],[1,0]],"errors":[{"image":0,"message":"expected base64, a data URL or an http(s) URL: illegal base64 data at input byte 0"}]}`},
		{"data URL, escaped", `{"images":["data:image\/png;base64,Y\u0051=="],"texts":["x"],"rewards":["clip"]}`, `{"rewards":{"clip":[101]},"pairs":[[0,0]],"errors":[]}`},
		{"unicode", `{"images":["YQ=="],"texts":["\u00e9"],"rewards":["clip"]}`, `{"rewards":{"clip":[102]},"pairs":[[0,0]],"errors":[]}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := call(t, "POST", url+"/v1/score", c.body)
			if got := strings.TrimSpace(r.body); r.StatusCode != 200 || got != c.want {
				t.Errorf("status %d\n%s\nwant\n%s", r.StatusCode, got, c.want)
			}
			if strings.Contains(c.body, "null") {
				c.body = "" // taken, but the document does not invite it
			}
			checkAnswer(t, "POST", "/v1/score", c.body, r)
		})
	}
}

func TestNativeRefuses(t *testing.T) {
	url := serveHTTP(t, &fake{}, Config{})
	many := `{"images":["` + strings.Repeat(`YQ==","`, 16) + `YQ=="],"texts":["x"]}`
	for _, c := range []struct {
		path, body string
		status     int
		code       string
		words      []string
	}{
		{"score", ``, 400, "bad_request", []string{"ends too early"}},
		{"score", `{`, 400, "bad_request", []string{"JSON"}},
		{"score", `[]`, 400, "bad_request", []string{"expected an object, got a list"}},
		{"score", `{"images":["YQ=="],"texts":["x"]} {}`, 400, "bad_request", []string{"byte 34"}},
		{"score", `{"imags":["YQ=="],"texts":["x"]}`, 400, "bad_request", []string{`unknown field "imags"`}},
		{"score", `{"Images":["YQ=="],"texts":["x"]}`, 400, "bad_request", []string{`unknown field "Images"`}},
		{"score", `{"images":["YQ=="],"images":["YQ=="]}`, 400, "bad_request", []string{"duplicate", "images"}},
		{"score", `{"images":["YQ=="],"texts":["x",7]}`, 400, "bad_request", []string{"/texts/1", "expected a string, got a number"}},
		{"score", `{"images":["YQ=="],"texts":[null]}`, 400, "bad_request", []string{"/texts/0", "got null"}},
		{"score", "{\"images\":[\"YQ==\"],\"texts\":[\"\xff\"]}", 400, "bad_request", []string{"UTF-8", "/texts/0"}},
		{"score", `{"images":["YQ=="],"texts":["\ud800"]}`, 400, "bad_request", []string{"/texts/0"}},
		{"score", `{"images":[7],"texts":["x"]}`, 400, "bad_request", []string{"/images/0", "data URL"}},
		{"score", `{"images":[null],"texts":["x"]}`, 400, "bad_request", []string{"/images/0", "data URL"}},
		{"score", `{"images":"YQ==","texts":["x"]}`, 400, "bad_request", []string{"/images", "expected a list, got a string"}},
		{"score", `{"texts":["x"]}`, 400, "bad_request", []string{"images", "at least one"}},
		{"score", `{"images":["YQ==","YQ=="],"texts":["x","y","z"]}`, 400, "bad_request", []string{"2 images and 3 texts"}},
		{"score", `{"images":["YQ=="],"texts":["x"],"pairs":"cross"}`, 400, "bad_request", []string{"/pairs", "zip"}},
		{"score", `{"images":["YQ=="],"texts":["x"],"pairs":[[0,1]]}`, 400, "bad_request", []string{"pair 0"}},
		{"score", `{"images":["YQ=="],"texts":["x"],"pairs":[[0]]}`, 400, "bad_request", []string{"/pairs/0"}},
		{"score", `{"images":["YQ=="],"texts":["x"],"pairs":[[0,0.5]]}`, 400, "bad_request", []string{"/pairs/0/1", "whole number"}},
		{"score", `{"images":["YQ=="],"texts":["x"],"pairs":[]}`, 400, "bad_request", []string{"/pairs", "at least one"}},
		{"score", `{"images":["YQ=="],"texts":["x"],"pairs":7}`, 400, "bad_request", []string{"/pairs"}},
		{"score", `{"images":["YQ=="],"texts":["x"],"rewards":["nope"]}`, 404, "unknown_reward", []string{"nope", "clip"}},
		{"score", `{"images":["http://127.0.0.1/x.png"],"texts":["x"]}`, 400, "bad_request", []string{"images[0]", "--allow-fetch"}},
		{"score", many, 413, "too_large", []string{"17 images"}},
		{"score", strings.Repeat("[", 40), 400, "bad_request", []string{"32"}},
		{"textnorm", `{"images":["YQ=="],"prompt":"a","contrastive":["a"]}`, 400, "bad_request", []string{"contrastive"}},
		{"textnorm", `{"images":["YQ=="],"prompt":"a","contrastive":["b"],"scale":-1}`, 400, "bad_request", []string{"scale"}},
		{"textnorm", `{"images":["YQ=="],"prompt":"a","contrastive":["b"],"minmax":"row"}`, 400, "bad_request", []string{"row"}},
		{"textnorm", `{"images":["YQ=="],"prompt":"a","contrastive":["b"],"scale":"ten"}`, 400, "bad_request", []string{"/scale", "expected a number"}},
		{"preprocess", `{"image":"!"}`, 400, "bad_request", []string{"image: expected base64"}},
		{"preprocess", `{}`, 400, "bad_request", []string{"image"}},
		{"preprocess", `{"image":"YQ=="}`, 400, "bad_request", []string{"image:"}},
		{"preprocess", `{"image":"YQ==","model":"head"}`, 404, "unknown_model", []string{"head", "/v1/models"}},
	} {
		t.Run(fmt.Sprintf("%s %.60s", c.path, c.body), func(t *testing.T) {
			r := call(t, "POST", url+"/v1/"+c.path, c.body)
			r.wantError(t, c.status, c.code, c.words...)
			checkAnswer(t, "POST", "/v1/"+c.path, "", r)
		})
	}
}

func TestTextNorm(t *testing.T) {
	url := serveHTTP(t, &fake{}, Config{})
	body := `{"images":["YQ==",` + base64Of("bad") + `],"prompt":"abc","contrastive":["x","yz"],"rewards":["clip"]}`
	r := call(t, "POST", url+"/v1/textnorm", body)
	checkAnswer(t, "POST", "/v1/textnorm", body, r)
	var got struct {
		Rewards map[string]struct {
			Scores     [][]*float64 `json:"scores"`
			Confidence []*float64   `json:"confidence"`
		} `json:"rewards"`
		Errors []itemError `json:"errors"`
	}
	if err := json.Unmarshal([]byte(r.body), &got); err != nil {
		t.Fatalf("%s: %v", r.body, err)
	}
	clip := got.Rewards["clip"]
	if want := `[[103,101,102],[null,null,null]]`; jsonOf(t, clip.Scores) != want {
		t.Errorf("scores %s, want %s", jsonOf(t, clip.Scores), want)
	}
	// softmax of 10 * (1, 0, 1/2)
	if len(clip.Confidence) != 2 || clip.Confidence[1] != nil || *clip.Confidence[0] < .99325 || *clip.Confidence[0] > .99327 {
		t.Errorf("confidence %s, want [0.99326, null]", jsonOf(t, clip.Confidence))
	}
	if want := []itemError{{1, "not a picture"}}; !reflect.DeepEqual(got.Errors, want) {
		t.Errorf("errors %v, want %v", got.Errors, want)
	}
}

func jsonOf(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestModels(t *testing.T) {
	url := serveHTTP(t, &fake{}, Config{})
	r := call(t, "GET", url+"/v1/models", "")
	checkAnswer(t, "GET", "/v1/models", "", r)
	var got modelList
	if err := json.Unmarshal([]byte(r.body), &got); err != nil {
		t.Fatal(err)
	}
	first := got.Data[0]
	want := modelEntry{ID: "vit-tiny", Object: "model", OwnedBy: "tia2-engine", Family: "clip", Rewards: []string{"clip"}, CheckpointSHA256: "ab12", Device: "CPU",
		DType: "f32", Preprocessing: &preprocessing{"openai", 8, [3]number{.5, .5, .5}, [3]number{.25, .25, .25}}, Scale: 100, EmbeddingDim: 8, ContextTokens: 77}
	if !reflect.DeepEqual(first, want) {
		t.Errorf("%+v\nwant\n%+v", first, want)
	}
	if !strings.Contains(r.body, `"scale":null`) {
		t.Error("an infinite scale is not written as null")
	}
	if head := got.Data[2]; head.Preprocessing != nil || head.EmbeddingDim != 0 {
		t.Errorf("%+v: an aesthetic head sees no pictures and gives no embeddings", head)
	}
}

func TestContentEncoding(t *testing.T) {
	url := serveHTTP(t, &fake{}, Config{})
	body := `{"images":["YQ=="],"texts":["x"]}`
	call(t, "POST", url+"/v1/score", body, "Content-Encoding", "gzip").wantError(t, 400, "bad_request", "gzip")
	if r := call(t, "POST", url+"/v1/score", body, "Content-Encoding", "identity"); r.StatusCode != 200 {
		t.Errorf("status %d: %s", r.StatusCode, r.body)
	}
}

// TestPreprocess compares the PNG with the pixels of the engine, of a picture that is not square.
func TestPreprocess(t *testing.T) {
	url := serveHTTP(t, &fake{}, Config{})
	file := pngFile(t, 12, 9, color.NRGBA{200, 100, 50, 255})
	for _, model := range []string{"", "vit-tiny", "hps", "hpsv2"} {
		body := fmt.Sprintf(`{"image":"data:image/png;base64,%s","model":%q}`, base64.StdEncoding.EncodeToString([]byte(file)), model)
		r := call(t, "POST", url+"/v1/preprocess", body)
		if r.StatusCode != 200 || r.Header.Get("Content-Type") != "image/png" {
			t.Fatalf("model %q: status %d: %s", model, r.StatusCode, r.body)
		}
		img, err := png.Decode(strings.NewReader(r.body))
		if err != nil {
			t.Fatal(err)
		}
		want := color.NRGBA{200, 100, 50, 255}
		if got := color.NRGBAModel.Convert(img.At(4, 4)); img.Bounds().Dx() != 8 || got != want {
			t.Errorf("model %q: %v with %v in the middle, want 8 x 8 with %v", model, img.Bounds(), got, want)
		}
		corner := color.NRGBAModel.Convert(img.At(0, 0))
		if padded := strings.HasPrefix(model, "hps"); padded != (corner == color.NRGBA{0, 0, 0, 255}) {
			t.Errorf("model %q: the corner is %v; hpsv2 alone pads with black", model, corner)
		}
	}
}

func TestHealth(t *testing.T) {
	f := &fake{}
	core := newCore(t, f, nil)
	h := Handler(core, Config{})
	url := serveOn(t, h)
	for _, path := range []string{"/healthz", "/readyz"} {
		r := call(t, "GET", url+path, "")
		checkAnswer(t, "GET", path, "", r)
		if r.StatusCode != 200 || strings.TrimSpace(r.body) != `{"status":"ok"}` {
			t.Errorf("%s: status %d: %s", path, r.StatusCode, r.body)
		}
	}
	if err := core.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	r := call(t, "GET", url+"/readyz", "")
	r.wantError(t, 503, "draining")
	checkAnswer(t, "GET", "/readyz", "", r)
	if r.Header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	r = call(t, "POST", url+"/v1/score", `{"images":["YQ=="],"texts":["x"]}`)
	r.wantError(t, 503, "draining")
	if r := call(t, "GET", url+"/healthz", ""); r.StatusCode != 200 {
		t.Errorf("/healthz while draining: status %d", r.StatusCode)
	}
}

// TestBackendFault: the client learns that the batch failed; a fault of this program is not shown.
func TestBackendFault(t *testing.T) {
	f := &fake{fault: errors.New("the device is on fire")}
	url := serveHTTP(t, f, Config{})
	r := call(t, "POST", url+"/v1/score", `{"images":["YQ=="],"texts":["x"]}`)
	r.wantError(t, 500, "backend")
	f.hold.Lock()
	f.fault = fmt.Errorf("text 0: %w", engine.ErrInvalid)
	f.hold.Unlock()
	r = call(t, "POST", url+"/v1/score", `{"images":["YQ=="],"texts":["x"]}`)
	r.wantError(t, 400, "bad_request", "text 0")
}

func TestDeadline(t *testing.T) {
	f := &fake{}
	url := serveHTTP(t, f, Config{MaxTimeout: 200 * time.Millisecond})
	f.hold.Lock()
	defer f.hold.Unlock()
	for header, longest := range map[string]time.Duration{"20": 150 * time.Millisecond, "99999999": 5 * time.Second} {
		began := time.Now()
		r := call(t, "POST", url+"/v1/score", `{"images":["YQ=="],"texts":["x"]}`, "X-Timeout-Ms", header)
		r.wantError(t, http.StatusGatewayTimeout, "deadline")
		if took := time.Since(began); took > longest {
			t.Errorf("X-Timeout-Ms: %s took %v", header, took)
		}
	}
	for _, header := range []string{"0", "-1", "soon", "1.5", "99999999999999999999"} {
		r := call(t, "POST", url+"/v1/score", `{"images":["YQ=="],"texts":["x"]}`, "X-Timeout-Ms", header)
		r.wantError(t, 400, "bad_request", "X-Timeout-Ms")
	}
}
