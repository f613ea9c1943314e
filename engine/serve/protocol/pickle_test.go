package protocol

import (
	"encoding/json"
	"errors"
	"hash/crc32"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tia2-engine/tia2-engine/engine"
	"github.com/tia2-engine/tia2-engine/engine/serve"
	"github.com/tia2-engine/tia2-engine/internal/pickle"
)

// clientRequest is a line of testdata/requests_numpyN.jsonl.
type clientRequest struct {
	Name    string   `json:"name"`
	Body    []byte   `json:"body"`
	Images  []uint32 `json:"images"`
	Texts   []string `json:"texts"`
	Tags    []string `json:"tags"`
	Answers []int    `json:"answers"`
	Keys    []string `json:"keys"`
}

func readClientRequests(t testing.TB) (out []clientRequest) {
	files, err := filepath.Glob("testdata/requests_numpy*.jsonl")
	if err != nil || len(files) != 2 {
		t.Fatalf("%d files of requests, %v: expected 2", len(files), err)
	}
	for _, file := range files {
		f, err := os.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		for lines := json.NewDecoder(f); lines.More(); {
			var c clientRequest
			if err := lines.Decode(&c); err != nil {
				t.Fatal(err)
			}
			c.Name += " of " + filepath.Base(file)
			out = append(out, c)
		}
	}
	return out
}

func TestPickleClientsAreRead(t *testing.T) {
	for _, c := range readClientRequests(t) {
		q, err := readPickleRequest(c.Body)
		if err != nil {
			t.Errorf("%s: %v", c.Name, err)
			continue
		}
		got := clientRequest{Name: c.Name, Body: c.Body, Texts: append([]string{}, q.texts...), Tags: q.tags, Answers: q.answers, Keys: c.Keys}
		for _, image := range q.images {
			got.Images = append(got.Images, crc32.ChecksumIEEE(image.Data))
		}
		if diff := cmp.Diff(c, got); diff != "" {
			t.Errorf("%s: %s", c.Name, diff)
		}
	}
}

// answerOf decodes a pickled answer.
func answerOf(t *testing.T, b []byte) *pickle.Dict {
	t.Helper()
	v, err := pickle.Decode(b)
	d, ok := v.(*pickle.Dict)
	if err != nil || !ok {
		t.Fatalf("an answer of type %s, %v: expected a dict: %.200q", pickle.TypeName(v), err, b)
	}
	return d
}

// numbers reads a key that is a list of floats.
func numbers(t *testing.T, d *pickle.Dict, key string) []float64 {
	t.Helper()
	v, _ := d.Get(key)
	list, ok := v.(*pickle.List)
	if !ok {
		t.Fatalf("%s is a %s: expected a list", key, pickle.TypeName(v))
	}
	out := make([]float64, len(list.Items))
	for i, item := range list.Items {
		if out[i], ok = item.(float64); !ok {
			t.Fatalf("%s[%d] is a %s: expected a float", key, i, pickle.TypeName(item))
		}
	}
	return out
}

// Every client finds the keys that it reads, with the scores of its pictures in order.
func TestPickleClientsAreAnswered(t *testing.T) {
	server, _ := newServer(t, newFake(), Options{DefaultReward: "pickscore"})
	for _, c := range readClientRequests(t) {
		resp, body := post(t, server.URL, c.Body)
		if resp.StatusCode != http.StatusOK {
			t.Errorf("%s: status %d, %q", c.Name, resp.StatusCode, body)
			continue
		}
		answer := answerOf(t, body)
		for _, key := range c.Keys {
			if _, ok := answer.Get(key); !ok {
				t.Errorf("%s: the answer has no %s", c.Name, key)
			}
		}
		if strings.Contains(c.Name, "bertscore") {
			continue // nested: see below
		}
		q, err := readPickleRequest(c.Body)
		if err != nil {
			t.Fatal(err)
		}
		for i, got := range numbers(t, answer, "scores") {
			want := fakeScore("aesthetic", q.images[i].Data, "")
			if len(c.Texts) > 0 {
				want = fakeScore("pickscore", q.images[i].Data, c.Texts[min(i, len(c.Texts)-1)])
			}
			if got != float64(want) {
				t.Errorf("%s: score %d is %v, expected %v", c.Name, i, got, want)
			}
		}
	}
}

// dict makes a dict of keys and values in turn.
func dict(items ...any) *pickle.Dict {
	d := &pickle.Dict{}
	for i := 0; i < len(items); i += 2 {
		d.Set(items[i], items[i+1])
	}
	return d
}

// pickled writes a request.
func pickled(t testing.TB, images []string, rest *pickle.Dict) []byte {
	t.Helper()
	files := make([]any, len(images))
	for i, image := range images {
		files[i] = pickle.Bytes(image)
	}
	var dict pickle.Dict
	dict.Set("images", files)
	for _, e := range rest.Entries {
		dict.Set(e.Key, e.Value)
	}
	b, err := pickle.Append(nil, &dict)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestPickleRoutesAndScales(t *testing.T) {
	scales, err := engine.ParseScales([]string{"pickscore=/100"})
	if err != nil {
		t.Fatal(err)
	}
	server, _ := newServer(t, newFake(), Options{Scales: scales})
	body := pickled(t, []string{"one"}, dict("prompts", []string{"abc"}))
	raw := func(reward string) float64 { return float64(fakeScore(reward, []byte("one"), "abc")) }
	for path, want := range map[string]float64{
		"/":                              raw("clip"),
		"/pickscore":                     raw("pickscore") / 100,
		"/imagereward/":                  raw("imagereward"),
		"/?reward=hpsv2":                 raw("hpsv2"),
		"/?reward=hpsv2/":                raw("hpsv2"),
		"/pickscore?scale=/26":           raw("pickscore") / 26,
		"/pickscore?scale=/26/":          raw("pickscore") / 26,
		"/pickscore?scale=raw":           raw("pickscore"),
		"/pickscore?scale=pickscore=/26": raw("pickscore") / 26,
		"/pickscore?scale=cosine":        raw("pickscore") / 100,
		"/clip?scale=%2F30":              raw("clip") / 30,
		"/aesthetic":                     raw("aesthetic"),
	} {
		resp, b := post(t, server.URL+path, body)
		if resp.StatusCode != http.StatusOK {
			t.Errorf("%s: status %d %q", path, resp.StatusCode, b)
			continue
		}
		if got := numbers(t, answerOf(t, b), "scores"); len(got) != 1 || got[0] != float64(float32(want)) {
			t.Errorf("%s: %v, expected %v", path, got, want)
		}
	}
}

func TestPickleAnswersOfDDPO(t *testing.T) {
	server, _ := newServer(t, newFake(), Options{})
	body := pickled(t, []string{"one", "two"}, dict("queries", []any{[]string{"q", "q"}, []string{"q"}}, "answers", []any{[]string{"a", "abc"}, []string{"ab"}}))
	resp, b := post(t, server.URL+"/imagereward", body)
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("status %d %q", resp.StatusCode, b)
	}
	answer := answerOf(t, b)
	s := func(file, text string) float64 { return float64(fakeScore("imagereward", []byte(file), text)) }
	for _, key := range []string{"recall", "precision", "f1", "outputs"} {
		v, _ := answer.Get(key)
		want := &pickle.List{Items: []any{&pickle.List{Items: []any{s("one", "a"), s("one", "abc")}}, &pickle.List{Items: []any{s("two", "ab")}}}}
		if diff := cmp.Diff(want, v); diff != "" {
			t.Errorf("%s: %s", key, diff)
		}
	}
	if diff := cmp.Diff([]float64{(s("one", "a") + s("one", "abc")) / 2, s("two", "ab")}, numbers(t, answer, "scores")); diff != "" {
		t.Error(diff)
	}
}

func TestPickleGroupsOfGenEval(t *testing.T) {
	server, _ := newServer(t, newFake(), Options{})
	metas := []any{dict("tag", "colors", "prompt", "a"), dict("tag", "mine", "prompt", "b")}
	_, b := post(t, server.URL+"/clip", pickled(t, []string{"one", "two"}, dict("meta_datas", metas, "only_strict", true)))
	answer := answerOf(t, b)
	one, two := float64(fakeScore("clip", []byte("one"), "a")), float64(fakeScore("clip", []byte("two"), "b"))
	for _, key := range []string{"group_rewards", "group_strict_rewards"} {
		v, _ := answer.Get(key)
		groups, ok := v.(*pickle.Dict)
		if !ok || len(groups.Entries) != 7 {
			t.Fatalf("%s: %v", key, v)
		}
		for tag, want := range map[string][]float64{"colors": {one, -10}, "mine": {-10, two}, "position": {-10, -10}} {
			if diff := cmp.Diff(want, numbers(t, groups, tag)); diff != "" {
				t.Errorf("%s of %s: %s", key, tag, diff)
			}
		}
	}
}

func TestPickleFailedPictures(t *testing.T) {
	server, _ := newServer(t, newFake(), Options{})
	body := pickled(t, []string{"one", "bad", ""}, dict("prompts", []string{"a"}))
	resp, b := post(t, server.URL, body)
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("status %d %q", resp.StatusCode, b)
	}
	answer := answerOf(t, b)
	scores := numbers(t, answer, "scores")
	if len(scores) != 3 || math.IsNaN(scores[0]) || !math.IsNaN(scores[1]) || !math.IsNaN(scores[2]) {
		t.Errorf("scores %v: expected the second and third to be NaN", scores)
	}
	errs, _ := answer.Get("errors")
	list, ok := errs.(*pickle.List)
	if !ok || len(list.Items) != 2 {
		t.Fatalf("errors: %v", errs)
	}
	first := list.Items[0].(*pickle.Dict)
	if i, _ := first.Get("image"); i != int64(1) {
		t.Errorf("the first error is of image %v: expected 1", i)
	}
	for name, c := range map[string]struct {
		images []string
		path   string
		want   string
	}{
		"all":      {[]string{"bad 1", "bad 2"}, "/", "no picture could be read"},
		"the one":  {[]string{"bad"}, "/", "not a picture"},
		"on_error": {[]string{"one", "bad"}, "/?on_error=fail", "image 1"},
	} {
		resp, b := post(t, server.URL+c.path, pickled(t, c.images, dict("prompts", []string{"a"})))
		text, _ := answerOf(t, b).Get("error")
		if s, _ := text.(string); resp.StatusCode != http.StatusBadRequest || !strings.Contains(s, c.want) || resp.Header.Get("X-Error") == "" {
			t.Errorf("%s: status %d, %v: expected 400 with %q", name, resp.StatusCode, text, c.want)
		}
	}
}

func TestPicklePixels(t *testing.T) {
	// One picture of 2 x 1 pixels in an array of pictures, as protocol 5 writes it.
	array := "cnumpy.core.numeric\n_frombuffer\n(C\x06" + "RGBrgb" + "cnumpy\ndtype\nX\x02\x00\x00\x00u1\x85R(K\x01K\x02K\x01K\x03tX\x01\x00\x00\x00CtR"
	q, err := readPickleRequest([]byte("\x80\x04}X\x06\x00\x00\x00images" + array + "s."))
	if err != nil {
		t.Fatal(err)
	}
	if len(q.images) != 1 {
		t.Fatalf("%d pictures: expected 1", len(q.images))
	}
	want, err := bitmap([]byte("RGBrgb"), 2, 1, 3)
	if err != nil || string(q.images[0].Data) != string(want) {
		t.Errorf("got %q, expected %q, %v", q.images[0].Data, want, err)
	}
}

func TestPickleRefusals(t *testing.T) {
	server, _ := newServer(t, newFake(), Options{})
	for name, c := range map[string]struct {
		path, body, want string
		status           int
	}{
		"empty":            {"/", "", "no pickle", 400},
		"json":             {"/", `{"images":[]}`, "no pickle", 400},
		"os.system":        {"/", "\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x02id\x85R.", "posix.system", 400},
		"a list":           {"/", "\x80\x02].", "expected a dict", 400},
		"no images":        {"/", "\x80\x02}.", "images", 400},
		"images of texts":  {"/", "\x80\x02}X\x06\x00\x00\x00images]X\x01\x00\x00\x00aas.", "expected the bytes", 400},
		"images of a dict": {"/", "\x80\x02}X\x06\x00\x00\x00images}s.", "expected a list", 400},
		"unknown reward":   {"/ocr", string(pickled(t, []string{"a"}, dict("prompts", []string{"a"}))), "unknown reward", 400},
		"unknown query":    {"/?reward=ocr", string(pickled(t, []string{"a"}, dict("prompts", []string{"a"}))), "unknown reward", 400},
		"no prompts":       {"/clip", string(pickled(t, []string{"a"}, dict())), "needs texts", 400},
		"prompts of ints":  {"/", string(pickled(t, []string{"a"}, dict("prompts", []any{1}))), "expected a str", 400},
		"other number":     {"/", string(pickled(t, []string{"a", "b"}, dict("prompts", []string{"a", "b", "c"}))), "2 images and 3 texts", 400},
		"no pictures":      {"/", string(pickled(t, nil, dict("prompts", []string{"a", "b"}))), "", 400},
		"queries":          {"/", string(pickled(t, []string{"a"}, dict("queries", []any{[]string{"what?"}}))), "language model", 400},
		"answers":          {"/", string(pickled(t, []string{"a"}, dict("answers", []any{}))), "0 \"answers\" for 1", 400},
		"meta_datas":       {"/", string(pickled(t, []string{"a"}, dict("meta_datas", []any{dict()}))), "no text \"prompt\"", 400},
		"unknown scale":    {"/?scale=half", string(pickled(t, []string{"a"}, dict("prompts", []string{"a"}))), "scale-convention", 400},
		"scale of others":  {"/?scale=clip=mixgrpo", string(pickled(t, []string{"a"}, dict("prompts", []string{"a"}))), "scale-convention", 400},
		"many pictures":    {"/", string(pickled(t, make([]string, 65), dict("prompts", []string{"a"}))), "at most 64", 413},
	} {
		resp, b := post(t, server.URL+c.path, []byte(c.body))
		text, _ := answerOf(t, b).Get("error")
		if s, _ := text.(string); resp.StatusCode != c.status || !strings.Contains(s, c.want) || s == "" {
			t.Errorf("%s: status %d, %v: expected %d with %q", name, resp.StatusCode, text, c.status, c.want)
		}
		if resp.Header.Get("Retry-After") != "" {
			t.Errorf("%s: a bad request has Retry-After", name)
		}
	}
}

// Clients wait and try again on 429 and 503, by Retry-After; a fault of the backend is 500.
func TestPickleServerErrors(t *testing.T) {
	f := newFake()
	server, core := newServer(t, f, Options{})
	body := pickled(t, []string{"a"}, dict("prompts", []string{"a"}))
	fault := errors.New("the device is gone")
	f.fault.Store(&fault)
	resp, b := post(t, server.URL, body)
	if text, _ := answerOf(t, b).Get("error"); resp.StatusCode != http.StatusInternalServerError || text == nil {
		t.Errorf("a failed batch: status %d, %v", resp.StatusCode, text)
	}
	f.fault.Store(nil)
	if err := core.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	resp, b = post(t, server.URL, body)
	if text, _ := answerOf(t, b).Get("error"); resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" || text == nil {
		t.Errorf("draining: status %d, Retry-After %q, %v", resp.StatusCode, resp.Header.Get("Retry-After"), text)
	}
	full := httptest.NewServer(overloaded(core))
	defer full.Close()
	resp, b = post(t, full.URL, body)
	if text, _ := answerOf(t, b).Get("error"); resp.StatusCode != http.StatusTooManyRequests || resp.Header.Get("Retry-After") == "" || text == nil {
		t.Errorf("overloaded: status %d, Retry-After %q, %v", resp.StatusCode, resp.Header.Get("Retry-After"), text)
	}
}

func FuzzPickleRequest(f *testing.F) {
	for _, c := range readClientRequests(f) {
		f.Add(c.Body)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		q, err := readPickleRequest(body)
		if err != nil {
			if !errors.Is(err, serve.ErrBadRequest) {
				t.Fatalf("an error of another kind: %v", err)
			}
			return
		}
		scores := make([]float32, len(q.images))
		if q.answers != nil {
			scores = make([]float32, len(q.pairs))
		}
		if _, err := pickle.Append(nil, q.response(&serve.ScoreResult{Scores: [][]float32{scores}})); err != nil {
			t.Fatal(err)
		}
	})
}
