package loadtest

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"net/url"

	"github.com/tia2-engine/tia2-engine/engine"
)

// Protocols are the values of Options.Protocol.
var Protocols = []string{"json", "pickle", "kserve"}

// request is what is sent: POST path.
type request struct {
	path        string
	contentType string
	body        []byte
}

// answer holds the scores of one request, by reward: a value for each pair, NaN where its picture failed.
type answer map[string][]float64

// protocol makes requests and reads answers. Its methods may be called from any goroutine.
type protocol interface {
	// request asks for the rewards of picture i with text i.
	request(images [][]byte, texts []string) request
	// answer reads the body of an answer 200 to a request for n pairs.
	answer(body []byte, n int) (answer, error)
}

// newProtocol returns the protocol of that name, for the rewards named; none are all of the server, or its first one
// where the protocol has one a request.
func newProtocol(name string, rewards []string) (protocol, error) {
	switch name {
	case "json":
		return jsonProtocol{rewards}, nil
	case "kserve":
		return kserveProtocol{rewards}, nil
	case "pickle":
		if len(rewards) > 1 {
			return nil, fmt.Errorf("protocol pickle: %d rewards: expected one, a request has no more", len(rewards))
		}
		p := pickleProtocol{}
		if len(rewards) == 1 {
			p.reward = rewards[0]
		}
		return p, nil
	}
	return nil, fmt.Errorf("protocol %q: expected one of %v", name, Protocols)
}

// pairsOf makes the request of pairs of a workload.
func pairsOf(p protocol, w *Workload, pairs []engine.Pair) request {
	images, texts := make([][]byte, len(pairs)), make([]string, len(pairs))
	for i, pair := range pairs {
		images[i], texts[i] = w.Images[pair.Image].Data, w.Texts[pair.Text]
	}
	return p.request(images, texts)
}

// mustJSON is json.Marshal of what can always be marshalled, with <, > and & as they are.
func mustJSON(v any) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		panic("loadtest: " + err.Error()) // maps, slices and strings alone come here
	}
	return b.Bytes()
}

// numbers are scores, null where one failed.
type numbers []*float64

func (v numbers) values() []float64 {
	out := make([]float64, len(v))
	for i, x := range v {
		out[i] = math.NaN()
		if x != nil {
			out[i] = *x
		}
	}
	return out
}

func base64s(files [][]byte) []string {
	texts := make([]string, len(files))
	for i, file := range files {
		texts[i] = base64.StdEncoding.EncodeToString(file)
	}
	return texts
}

// jsonProtocol is the native one.
type jsonProtocol struct{ rewards []string }

func (p jsonProtocol) request(images [][]byte, texts []string) request {
	v := map[string]any{"images": base64s(images), "texts": texts, "pairs": "zip"}
	if len(p.rewards) > 0 {
		v["rewards"] = p.rewards
	}
	return request{"/v1/score", "application/json", mustJSON(v)}
}

func (p jsonProtocol) answer(body []byte, n int) (answer, error) {
	var v struct{ Rewards map[string]numbers }
	if err := json.Unmarshal(body, &v); err != nil {
		return nil, err
	}
	a := answer{}
	for name, scores := range v.Rewards {
		a[name] = scores.values()
	}
	return a, a.check(p.rewards, n)
}

// check says what is missing in an answer for n pairs.
func (a answer) check(rewards []string, n int) error {
	if len(a) == 0 {
		return fmt.Errorf("no rewards in the answer")
	}
	for _, name := range rewards {
		if _, ok := a[name]; !ok {
			return fmt.Errorf("no reward %s in the answer", name)
		}
	}
	for name, scores := range a {
		if len(scores) != n {
			return fmt.Errorf("%d scores of %s for %d pairs", len(scores), name, n)
		}
	}
	return nil
}

// failed counts the scores that are missing.
func (a answer) failed() int {
	n := 0
	for _, scores := range a {
		for _, s := range scores {
			if math.IsNaN(s) {
				n++
			}
		}
	}
	return n
}

// kserveProtocol is KServe's over REST. One reward is a model; several, or all, are outputs of the model "rewards".
type kserveProtocol struct{ rewards []string }

func (p kserveProtocol) request(images [][]byte, texts []string) request {
	model := "rewards"
	if len(p.rewards) == 1 {
		model = p.rewards[0]
	}
	v := map[string]any{"inputs": []any{bytesTensor("images", base64s(images)), bytesTensor("texts", texts)}}
	if len(p.rewards) > 1 {
		outputs := make([]map[string]string, len(p.rewards))
		for i, name := range p.rewards {
			outputs[i] = map[string]string{"name": name}
		}
		v["outputs"] = outputs
	}
	return request{"/v2/models/" + url.PathEscape(model) + "/infer", "application/json", mustJSON(v)}
}

func bytesTensor(name string, data []string) map[string]any {
	return map[string]any{"name": name, "datatype": "BYTES", "shape": []int{len(data)}, "data": data}
}

func (p kserveProtocol) answer(body []byte, n int) (answer, error) {
	var v struct {
		Outputs []struct {
			Name string
			Data numbers
		}
	}
	if err := json.Unmarshal(body, &v); err != nil {
		return nil, err
	}
	a := answer{}
	for _, out := range v.Outputs {
		if len(p.rewards) == 1 && out.Name == "scores" {
			out.Name = p.rewards[0]
		}
		a[out.Name] = out.Data.values()
	}
	return a, a.check(p.rewards, n)
}
