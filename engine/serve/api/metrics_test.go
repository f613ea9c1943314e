package api

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tia2-engine/tia2-engine/engine"
	"github.com/tia2-engine/tia2-engine/engine/serve"
)

// scrape returns the samples of a metrics handler by name and labels, as they are written.
func scrape(t testing.TB, h http.Handler) map[string]float64 {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	body, err := io.ReadAll(w.Result().Body)
	if err != nil || w.Code != 200 {
		t.Fatalf("status %d: %s, %v", w.Code, body, err)
	}
	out := map[string]float64{}
	for line := range strings.Lines(string(body)) {
		if at := strings.LastIndexByte(line, ' '); at > 0 && line[0] != '#' {
			v, err := strconv.ParseFloat(strings.TrimSpace(line[at:]), 64)
			if err != nil {
				t.Fatalf("%q: %v", line, err)
			}
			out[line[:at]] = v
		}
	}
	return out
}

func TestMetrics(t *testing.T) {
	m := NewMetrics()
	core := newCore(t, &fake{}, Observers(m, (*Tracing)(nil), (*Metrics)(nil)))
	m.Watch(core)
	m.WatchCache(func() map[string]engine.EmbeddingCacheStats {
		return map[string]engine.EmbeddingCacheStats{
			"vit-tiny": {Dir: "/c", Bytes: 10, Images: engine.EmbeddingCacheCounts{Asked: 5, Found: 3}, Texts: engine.EmbeddingCacheCounts{Asked: 2}},
			"hps":      {},
		}
	})
	url := serveOn(t, Handler(core, Config{Metrics: m}))
	call(t, "POST", url+"/v1/score", `{"images":["YQ==","YmM="],"texts":["x","y"],"pairs":"all"}`)
	call(t, "POST", url+"/v1/score", `{"images":["YQ=="],"texts":["x"],"rewards":["nope"]}`)
	call(t, "GET", url+"/nothing", "")
	call(t, "POST", url+"/v1/textnorm", `{"images":["YQ=="],"prompt":"a","contrastive":["b","c"]}`)
	var got map[string]float64
	eventually(t, "all are counted", func() bool {
		got = scrape(t, m.Handler())
		return got[`tia2_http_requests_total{error="",route="POST /v1/textnorm",status="200"}`] == 1
	})
	for name, want := range map[string]float64{
		`tia2_http_requests_total{error="",route="POST /v1/score",status="200"}`:               1,
		`tia2_http_requests_total{error="unknown_reward",route="POST /v1/score",status="404"}`: 1,
		`tia2_http_requests_total{error="not_found",route="none",status="404"}`:                1,
		`tia2_http_requests_in_flight`:                                     0,
		`tia2_http_request_bytes_total{route="POST /v1/textnorm"}`:         56,
		`tia2_http_request_seconds_count{route="POST /v1/score"}`:          2,
		`tia2_requests_total{error="",kind="score"}`:                       1,
		`tia2_requests_total{error="unknown_reward",kind="score"}`:         1,
		`tia2_requests_total{error="",kind="textnorm"}`:                    1,
		`tia2_request_items_total{kind="textnorm"}`:                        3,
		`tia2_stage_seconds_count{kind="textnorm",stage="compute"}`:        1,
		`tia2_batches_total{error="",kind="pairs"}`:                        2,
		`tia2_units_total{kind="pairs"}`:                                   7,
		`tia2_items_total{kind="pairs"}`:                                   7,
		`tia2_images_total{kind="pairs"}`:                                  3,
		`tia2_batch_units_sum{kind="pairs"}`:                               7,
		`tia2_queue_items`:                                                 0,
		`tia2_draining`:                                                    0,
		`tia2_embedding_cache_found_total{model="vit-tiny",tower="image"}`: 3,
		`tia2_embedding_cache_asked_total{model="vit-tiny",tower="text"}`:  2,
		`tia2_embedding_cache_bytes{dir="/c"}`:                             10,
		`tia2_model_info{checkpoint_sha256="ab12",device="CPU",dtype="f32",family="clip",model="vit-tiny",rewards="clip"}`: 1,
	} {
		if v, ok := got[name]; !ok || v != want {
			t.Errorf("%s: %g (there: %v), want %g", name, v, ok, want)
		}
	}
	for _, prefix := range []string{"tia2_build_info{", "go_goroutines", "process_resident_memory_bytes", "tia2_tokens_total{", "tia2_last_answer_timestamp_seconds"} {
		found := false
		for name := range got {
			found = found || strings.HasPrefix(name, prefix)
		}
		if !found {
			t.Errorf("no %s", prefix)
		}
	}
	for name := range got {
		if strings.HasPrefix(name, "tia2_embedding_cache_") && strings.Contains(name, `"hps"`) {
			t.Errorf("%s of a model without a cache", name)
		}
	}
}

// TestQueueMost: the most since the last scrape is told once.
func TestQueueMost(t *testing.T) {
	m := NewMetrics()
	m.Watch(newCore(t, &fake{}, nil))
	for _, n := range []int{3, 9, 4} {
		m.Queued(n)
	}
	for _, want := range []float64{9, 0} {
		if got := scrape(t, m.Handler())["tia2_queue_items_max"]; got != want {
			t.Errorf("%g, want %g", got, want)
		}
	}
}

func TestFailedBatch(t *testing.T) {
	m := NewMetrics()
	m.BatchDone(serve.BatchStats{Kind: "texts", Halved: true, Err: errors.Join(serve.ErrBackend, errors.New("x"))})
	m.RequestDone("embed", serve.ErrOverloaded, 7, time.Second, 0)
	got := scrape(t, m.Handler())
	for _, name := range []string{`tia2_batches_total{error="backend",kind="texts"}`, `tia2_batches_halved_total`, `tia2_requests_total{error="overloaded",kind="embed"}`,
		`tia2_stage_seconds_count{kind="embed",stage="queue"}`} {
		if got[name] != 1 {
			t.Errorf("%s: %g, want 1", name, got[name])
		}
	}
	if _, ok := got[`tia2_stage_seconds_count{kind="embed",stage="compute"}`]; ok {
		t.Error("a request that was never computed has a time of computation")
	}
}

// TestNoMetrics: a server without any works.
func TestNoMetrics(t *testing.T) {
	if r := call(t, "GET", serveHTTP(t, &fake{}, Config{})+"/healthz", ""); r.StatusCode != 200 {
		t.Errorf("status %d", r.StatusCode)
	}
}
