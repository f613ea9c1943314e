package protocol

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

// unirlBody writes a request with one turn.
func unirlBody(text, file string, rewards ...string) string {
	names, _ := json.Marshal(append([]string{}, rewards...))
	return fmt.Sprintf(`{"history":[{"text":%q,"image_b64":%q}],"required_rewards":%s,"metadata":null}`, text, b64(file), names)
}

func TestUniRLScores(t *testing.T) {
	server, _ := newServer(t, newFake(), Options{})
	twoTurns := fmt.Sprintf(`{"history":[{"text":"before","image_b64":"!!"},{"text":"abc","image_b64":%q,"video_b64":null}],"required_rewards":["imagereward"],"metadata":{"a":[1,{}]}}`, b64("three"))
	body := `{"requests":[` + strings.Join([]string{
		unirlBody("a", "one", "clip", "pickscore", "hpsv2"), unirlBody("ab", "two", "hpsv2", "clip", "pickscore", "clip"), twoTurns, unirlBody("a", "bad", "clip"), unirlBody("a", "four"),
	}, ",") + `]}`
	resp, b := post(t, server.URL+"/score", []byte(body))
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("status %d %s", resp.StatusCode, b)
	}
	var got unirlResponse
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	s := func(reward, file, text string, scale float64) map[string]float64 {
		return map[string]float64{reward: float64(float32(float64(fakeScore(reward, []byte(file), text)) / scale))}
	}
	want := unirlResponse{
		Results: []map[string]map[string]float64{
			{"clip": s("clip", "one", "a", 30), "pickscore": s("pickscore", "one", "a", 26), "hpsv2": s("hpsv2", "one", "a", 1)},
			{"clip": s("clip", "two", "ab", 30), "pickscore": s("pickscore", "two", "ab", 26), "hpsv2": s("hpsv2", "two", "ab", 1)},
			{"imagereward": s("imagereward", "three", "abc", 1)},
			{},
			{},
		},
		Errors: []map[string]string{{}, {}, {}, {"clip": "not a picture"}, {}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	_, b = post(t, server.URL+"/score?scale=raw", []byte(`{"requests":[`+unirlBody("a", "one", "clip")+`]}`))
	if err := json.Unmarshal(b, &got); err != nil || got.Results[0]["clip"]["clip"] != float64(fakeScore("clip", []byte("one"), "a")) {
		t.Errorf("raw: %s, %v", b, err)
	}
	if _, b = post(t, server.URL+"/score", []byte(`{"requests":[]}`)); string(b) != "{\"results\":[],\"errors\":[]}\n" {
		t.Errorf("no requests: %s", b)
	}
}

// What concerns one picture or one group of rewards stands in errors, beside the scores of the others.
func TestUniRLItemErrors(t *testing.T) {
	f := newFake()
	server, _ := newServer(t, f, Options{})
	body := `{"requests":[` + unirlBody("a", "one", "clip") + `,{"history":[{"text":"a","image_b64":"?"}],"required_rewards":["clip"]},` +
		`{"history":[{"text":"a","video_path":"/v.mp4"}],"required_rewards":["clip","hpsv2"]}]}`
	resp, b := post(t, server.URL+"/score", []byte(body))
	var got unirlResponse
	if err := json.Unmarshal(b, &got); err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("status %d, %v: %s", resp.StatusCode, err, b)
	}
	if len(got.Results[0]) != 1 || !strings.Contains(got.Errors[1]["clip"], "base64") || !strings.Contains(got.Errors[2]["hpsv2"], "video") {
		t.Errorf("%s", b)
	}
	fault := errors.New("the device is gone")
	f.fault.Store(&fault)
	resp, b = post(t, server.URL+"/score", []byte(`{"requests":[`+unirlBody("a", "one", "clip")+`]}`))
	got = unirlResponse{}
	if err := json.Unmarshal(b, &got); err != nil || resp.StatusCode != http.StatusOK || got.Errors[0]["clip"] == "" || len(got.Results[0]) != 0 {
		t.Errorf("a failed batch: status %d, %v: %s", resp.StatusCode, err, b)
	}
}

func TestUniRLRefusals(t *testing.T) {
	server, core := newServer(t, newFake(), Options{})
	for name, c := range map[string]struct {
		body, want string
		status     int
	}{
		"no JSON":          {"", "JSON", 422},
		"a list":           {"[]", "expected", 422},
		"no requests":      {"{}", "field required", 422},
		"no history":       {`{"requests":[{"required_rewards":["clip"]}]}`, "history", 422},
		"no rewards":       {`{"requests":[{"history":[{"text":"a","image_b64":"aaaa"}]}]}`, "required_rewards", 422},
		"no text":          {`{"requests":[{"history":[{"image_b64":"aaaa"}],"required_rewards":[]}]}`, "text", 422},
		"no media":         {`{"requests":[{"history":[{"text":"a"}],"required_rewards":[]}]}`, "at least one", 422},
		"two videos":       {`{"requests":[{"history":[{"text":"a","video_b64":"","video_path":""}],"required_rewards":[]}]}`, "exclusive", 422},
		"text of a number": {`{"requests":[{"history":[{"text":1,"image_b64":"aaaa"}],"required_rewards":[]}]}`, "text", 422},
		"unknown reward":   {`{"requests":[` + unirlBody("a", "one", "hpsv3") + `]}`, "unknown reward: hpsv3", 400},
		"deep":             {strings.Repeat("[", 100), "within each other", 422},
		"many":             {`{"requests":[` + strings.Repeat("[],", 1<<20) + `[]]}`, "more than", 413},
	} {
		resp, b := post(t, server.URL+"/score", []byte(c.body))
		var got struct{ Detail any }
		if err := json.Unmarshal(b, &got); err != nil || got.Detail == nil || resp.StatusCode != c.status || !strings.Contains(string(b), c.want) {
			t.Errorf("%s: status %d, %.300s: expected %d with %q", name, resp.StatusCode, b, c.status, c.want)
		}
	}
	if err := core.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if resp, b := post(t, server.URL+"/score", []byte(`{"requests":[`+unirlBody("a", "one", "clip")+`]}`)); resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
		t.Errorf("draining: status %d, %s", resp.StatusCode, b)
	}
	if resp, b := get(t, server.URL+"/health"); resp.StatusCode != http.StatusServiceUnavailable || !strings.Contains(string(b), `"clip":["not ready"]`) {
		t.Errorf("health while draining: status %d, %s", resp.StatusCode, b)
	}
}

func TestUniRLRosters(t *testing.T) {
	server, _ := newServer(t, newFake(), Options{})
	if _, b := get(t, server.URL+"/rewards"); string(b) != `{"rewards":["aesthetic","clip","hpsv2","imagereward","pickscore"]}`+"\n" {
		t.Errorf("rewards: %s", b)
	}
	resp, b := get(t, server.URL+"/health")
	if resp.StatusCode != http.StatusOK || !strings.HasPrefix(string(b), `{"rewards":{"aesthetic":["ready"],"clip":["ready"]`) || !strings.Contains(string(b), `"status":"ok"`) {
		t.Errorf("health: status %d, %s", resp.StatusCode, b)
	}
}

func FuzzUniRL(f *testing.F) {
	f.Add([]byte(`{"requests":[` + unirlBody("a", "one", "clip") + `]}`))
	f.Add([]byte(`{"requests":[{"history":[{"text":"a","video_path":"/v.mp4"}],"required_rewards":["clip","hpsv2"],"metadata":{"a":{}}}]}`))
	f.Add([]byte(`{"requests":[{"history":[{"text":null,"image_b64":null}],"required_rewards":null}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		requests, err := readUniRL(body)
		if err != nil {
			return
		}
		for i := range requests {
			if data, err := requests[i].picture(); (data == nil) != (err != nil) && len(data) > 0 {
				t.Fatal("a picture with an error")
			}
		}
	})
}
