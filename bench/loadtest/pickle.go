package loadtest

import (
	"fmt"
	"net/url"

	"github.com/tia2-engine/tia2-engine/internal/pickle"
)

// pickleProtocol is that of pickled dicts over HTTP. A request has one reward, "" for the server's first; its answer does
// not name it.
type pickleProtocol struct{ reward string }

// unnamed is what the reward of an answer is called where the request did not name one.
const unnamed = "scores"

func (p pickleProtocol) request(images [][]byte, texts []string) request {
	return request{"/" + url.PathEscape(p.reward), "application/octet-stream", pickleRequest(images, texts)}
}

func (p pickleProtocol) answer(body []byte, n int) (answer, error) {
	v, err := pickle.Decode(body)
	if err != nil {
		return nil, err
	}
	dict, ok := v.(*pickle.Dict)
	if !ok {
		return nil, fmt.Errorf("the answer is a %T: expected a dict", v)
	}
	value, _ := dict.Get("scores")
	found, ok := value.(*pickle.List)
	if !ok {
		return nil, fmt.Errorf(`the answer has no list "scores"`)
	}
	scores := make([]float64, len(found.Items))
	for i, item := range found.Items {
		if scores[i], ok = item.(float64); !ok {
			return nil, fmt.Errorf("scores[%d] is a %T: expected a float", i, item)
		}
	}
	name := p.reward
	if name == "" {
		name = unnamed
	}
	a := answer{name: scores}
	return a, a.check(nil, n)
}

// pickleRequest writes {"images": [bytes, ...], "prompts": [str, ...], "metadata": {}}.
func pickleRequest(images [][]byte, texts []string) []byte {
	files := make([]any, len(images))
	for i, image := range images {
		files[i] = pickle.Bytes(image)
	}
	var dict pickle.Dict
	dict.Set("images", files)
	dict.Set("prompts", texts)
	dict.Set("metadata", &pickle.Dict{})
	b, err := pickle.Append(nil, &dict)
	if err != nil {
		panic(err) // a picture or text of 4 GB: more than memory was given for
	}
	return b
}
