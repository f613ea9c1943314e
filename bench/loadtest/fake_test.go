package loadtest

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/tia2-engine/tia2-engine/engine"
	"github.com/tia2-engine/tia2-engine/internal/pickle"
)

// score is the fake server's reward: it depends on every byte.
func score(image []byte, text string) float64 {
	return float64(crc32.ChecksumIEEE(append([]byte(text), image...))%1000) / 10
}

// fake is a reward server that answers what it must, unless a test changes a part.
type fake struct {
	delay   time.Duration
	each    func(n int64, w http.ResponseWriter) (done bool) // may answer request n itself
	wrong   func(pairs int) float64                          // added to scores
	count   atomic.Int64
	running atomic.Int64
	most    atomic.Int64 // that ran at a time
}

func (f *fake) start(t *testing.T) string {
	t.Helper()
	return startHandler(t, f)
}

func startHandler(t *testing.T, h http.Handler) string {
	t.Helper()
	server := httptest.NewUnstartedServer(h)
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.Start()
	t.Cleanup(server.Close)
	return server.URL
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if now := f.running.Add(1); now > f.most.Load() {
		f.most.Store(now)
	}
	defer f.running.Add(-1)
	if r.ContentLength > 1<<24 {
		w.Header().Set("Connection", "close")
		http.Error(w, "too large", http.StatusRequestEntityTooLarge)
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if f.each != nil && f.each(f.count.Add(1), w) {
		return
	}
	time.Sleep(f.delay)
	switch {
	case r.URL.Path == "/v1/score":
		f.native(w, body)
	case strings.HasPrefix(r.URL.Path, "/v2/models/"):
		f.kserve(w, body)
	default:
		f.pickle(w, body)
	}
}

func (f *fake) native(w http.ResponseWriter, body []byte) {
	var q struct{ Images, Texts, Rewards []string }
	if !utf8.Valid(body) || json.Unmarshal(body, &q) != nil {
		http.Error(w, `{"error":{"message":"not the JSON that was expected"}}`, http.StatusBadRequest)
		return
	}
	var files [][]byte
	for _, u := range q.Images {
		file, _ := base64.StdEncoding.DecodeString(u)
		files = append(files, file)
	}
	if len(q.Rewards) == 0 {
		q.Rewards = []string{"clip"}
	}
	out := map[string]any{}
	for _, name := range q.Rewards {
		out[name] = f.scores(files, q.Texts)
	}
	json.NewEncoder(w).Encode(map[string]any{"rewards": out})
}

// scores are null for pictures that do not begin as those of the tests.
func (f *fake) scores(files [][]byte, texts []string) []any {
	scores := make([]any, len(files))
	for i, file := range files {
		if !strings.HasPrefix(string(file), "picture") || len(file) < 12 {
			continue
		}
		s := score(file, texts[i])
		if f.wrong != nil {
			s += f.wrong(len(files))
		}
		scores[i] = s
	}
	return scores
}

func (f *fake) kserve(w http.ResponseWriter, body []byte) {
	var q struct {
		Inputs []struct {
			Name, Datatype string
			Shape          []int
			Data           []string
		}
	}
	if !utf8.Valid(body) || json.Unmarshal(body, &q) != nil || len(q.Inputs) != 2 {
		http.Error(w, "bad", http.StatusBadRequest)
		return
	}
	var files [][]byte
	for _, text := range q.Inputs[0].Data {
		file, _ := base64.StdEncoding.DecodeString(text)
		files = append(files, file)
	}
	json.NewEncoder(w).Encode(map[string]any{"outputs": []any{map[string]any{"name": "scores", "data": f.scores(files, q.Inputs[1].Data)}}})
}

func (f *fake) pickle(w http.ResponseWriter, body []byte) {
	v, err := pickle.Decode(body)
	dict, ok := v.(*pickle.Dict)
	if err != nil || !ok {
		http.Error(w, "bad", http.StatusBadRequest)
		return
	}
	value, _ := dict.Get("images")
	images, _ := value.(*pickle.List)
	value, _ = dict.Get("prompts")
	prompts, _ := value.(*pickle.List)
	if images == nil || prompts == nil {
		http.Error(w, "bad", http.StatusBadRequest)
		return
	}
	var files [][]byte
	var texts []string
	for i := range images.Items {
		files, texts = append(files, images.Items[i].(pickle.Bytes)), append(texts, prompts.Items[i].(string))
	}
	scores := f.scores(files, texts)
	for i, s := range scores {
		if _, ok := s.(float64); !ok || !utf8.ValidString(texts[i]) {
			http.Error(w, "no picture could be read", http.StatusBadRequest)
			return
		}
	}
	w.Write(pickled(scores))
}

// pickled is the answer of a server of pickled dicts.
func pickled(scores []any) []byte {
	var dict pickle.Dict
	dict.Set("scores", scores)
	b, err := pickle.Append(nil, &dict)
	if err != nil {
		panic(err)
	}
	return b
}

// work returns pictures with texts.
func work(t *testing.T, images, texts int) *Workload {
	t.Helper()
	var files []engine.Image
	var lines []string
	for i := range images {
		files = append(files, engine.Image{Name: fmt.Sprintf("%d.png", i), Data: []byte(fmt.Sprintf("picture number %d", i))})
	}
	for i := range texts {
		lines = append(lines, fmt.Sprintf("text <%d> é", i))
	}
	w, err := New(files, lines)
	if err != nil {
		t.Fatal(err)
	}
	return w
}
