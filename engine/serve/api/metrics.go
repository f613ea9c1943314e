package api

import (
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/tia2-engine/tia2-engine/engine"
	"github.com/tia2-engine/tia2-engine/engine/serve"
)

// Metrics count what the server does, for Prometheus. It is a serve.Observer; the zero pointer counts nothing. Methods
// may be called from any goroutine.
type Metrics struct {
	registry *prometheus.Registry

	inFlight                              prometheus.Gauge
	requests, requestBytes, responseBytes *prometheus.CounterVec
	seconds                               *prometheus.HistogramVec
	panics                                prometheus.Counter

	calls       *prometheus.CounterVec
	callSeconds *prometheus.HistogramVec

	works, items                             *prometheus.CounterVec
	stages                                   *prometheus.HistogramVec
	batches, units, images, tokens, answered *prometheus.CounterVec
	halved                                   prometheus.Counter
	batchUnits, batchImages, batchSeconds    *prometheus.HistogramVec

	queueMost atomic.Int64 // since the last scrape
}

// Buckets of histograms: from the time of one text to that of a request that waited long; sizes of batches.
var (
	secondsBuckets = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120}
	sizeBuckets    = []float64{1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024}
)

// NewMetrics returns metrics with a registry of their own, which also has those of the Go runtime and the process.
func NewMetrics() *Metrics {
	m := &Metrics{registry: prometheus.NewRegistry()}
	m.inFlight = m.gauge("tia2_http_requests_in_flight", "Requests that are being answered.")
	m.requests = m.counter("tia2_http_requests_total", "Requests by route, status and kind of error.", "route", "status", "error")
	m.requestBytes = m.counter("tia2_http_request_bytes_total", "Bytes of bodies read.", "route")
	m.responseBytes = m.counter("tia2_http_response_bytes_total", "Bytes of answers written.", "route")
	m.seconds = m.histogram("tia2_http_request_seconds", "Time from a request's headers to the end of its answer.", secondsBuckets, "route")
	m.panics = m.counter("tia2_http_panics_total", "Handlers that panicked.").WithLabelValues()

	m.calls = m.counter("tia2_grpc_calls_total", "gRPC calls by method, code and kind of error.", "method", "code", "error")
	m.callSeconds = m.histogram("tia2_grpc_call_seconds", "Time from a call's message to its answer.", secondsBuckets, "method")

	m.works = m.counter("tia2_requests_total", "Requests to the models, by kind (score, textnorm, embed) and kind of error.", "kind", "error")
	m.items = m.counter("tia2_request_items_total", "Pairs, pictures and texts that were asked for.", "kind")
	m.stages = m.histogram("tia2_stage_seconds", "Time of a request's stages: queue, compute.", secondsBuckets, "kind", "stage")

	m.batches = m.counter("tia2_batches_total", "Batches by kind (pairs, images, texts) and kind of error.", "kind", "error")
	m.units = m.counter("tia2_units_total", "Pairs, pictures and texts that were computed.", "kind")
	m.answered = m.counter("tia2_items_total", "Pairs, pictures and texts that were answered; those beyond tia2_units_total shared another's computation.", "kind")
	m.images = m.counter("tia2_images_total", "Pictures in batches.", "kind")
	m.tokens = m.counter("tia2_tokens_total", "Tokens of texts in batches, estimated.", "kind")
	m.halved = m.counter("tia2_batches_halved_total", "Batches that were computed in parts, since memory did not suffice.").WithLabelValues()
	m.batchUnits = m.histogram("tia2_batch_units", "Pairs, pictures or texts of a batch.", sizeBuckets, "kind")
	m.batchImages = m.histogram("tia2_batch_images", "Pictures of a batch.", sizeBuckets, "kind")
	m.batchSeconds = m.histogram("tia2_batch_seconds", "Time in which a batch was computed: decoding, encoding, pairs.", secondsBuckets, "kind")

	m.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), buildInfo())
	return m
}

func (m *Metrics) gauge(name, help string) prometheus.Gauge {
	g := prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
	m.registry.MustRegister(g)
	return g
}

func (m *Metrics) counter(name, help string, labels ...string) *prometheus.CounterVec {
	c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	m.registry.MustRegister(c)
	return c
}

func (m *Metrics) histogram(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
	h := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, labels)
	m.registry.MustRegister(h)
	return h
}

// buildInfo says what runs.
func buildInfo() prometheus.Collector {
	native := engine.NativeVersions()
	labels := prometheus.Labels{"version": engine.Version, "ggml": native.GGML, "onednn": native.OneDNN, "isa": native.ISA, "go": "", "revision": ""}
	if info, ok := debug.ReadBuildInfo(); ok {
		labels["go"] = info.GoVersion
		for _, setting := range info.Settings {
			if setting.Key == "vcs.revision" {
				labels["revision"] = setting.Value
			}
		}
	}
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "tia2_build_info", Help: "What runs, in its labels; always 1.", ConstLabels: labels},
		func() float64 { return 1 })
}

// begin counts a request that begins, and end one that ends.
func (m *Metrics) begin() {
	if m != nil {
		m.inFlight.Inc()
	}
}

func (m *Metrics) end(x *exchange, status int, took time.Duration) {
	if m == nil {
		return
	}
	m.inFlight.Dec()
	route := x.route
	if route == "" {
		route = "none"
	}
	m.requests.WithLabelValues(route, strconv.Itoa(status), Code(x.err)).Inc()
	m.requestBytes.WithLabelValues(route).Add(float64(x.held.Load()))
	m.responseBytes.WithLabelValues(route).Add(float64(x.written.bytes))
	m.seconds.WithLabelValues(route).Observe(took.Seconds())
}

// called counts a gRPC call.
func (m *Metrics) called(method, code string, err error, took time.Duration) {
	if m == nil {
		return
	}
	m.calls.WithLabelValues(method, code, Code(err)).Inc()
	m.callSeconds.WithLabelValues(method).Observe(took.Seconds())
}

func (m *Metrics) panicked() {
	if m != nil {
		m.panics.Inc()
	}
}

// Queued implements serve.Observer.
func (m *Metrics) Queued(items int) {
	for m != nil {
		most := m.queueMost.Load()
		if int64(items) <= most || m.queueMost.CompareAndSwap(most, int64(items)) {
			return
		}
	}
}

// BatchDone implements serve.Observer.
func (m *Metrics) BatchDone(b serve.BatchStats) {
	if m == nil {
		return
	}
	m.batches.WithLabelValues(b.Kind, Code(b.Err)).Inc()
	m.units.WithLabelValues(b.Kind).Add(float64(b.Units))
	m.answered.WithLabelValues(b.Kind).Add(float64(b.Items))
	m.images.WithLabelValues(b.Kind).Add(float64(b.Images))
	m.tokens.WithLabelValues(b.Kind).Add(float64(b.Tokens))
	m.batchUnits.WithLabelValues(b.Kind).Observe(float64(b.Units))
	m.batchImages.WithLabelValues(b.Kind).Observe(float64(b.Images))
	m.batchSeconds.WithLabelValues(b.Kind).Observe(b.Computed.Seconds())
	if b.Halved {
		m.halved.Inc()
	}
}

// RequestDone implements serve.Observer.
func (m *Metrics) RequestDone(kind string, err error, items int, waited, computed time.Duration) {
	if m == nil {
		return
	}
	m.works.WithLabelValues(kind, Code(err)).Inc()
	m.items.WithLabelValues(kind).Add(float64(items))
	if waited > 0 {
		m.stages.WithLabelValues(kind, "queue").Observe(waited.Seconds())
	}
	if computed > 0 {
		m.stages.WithLabelValues(kind, "compute").Observe(computed.Seconds())
	}
}

// Watch adds what the server itself counts, and its models. Call it once.
func (m *Metrics) Watch(s *serve.Server) { m.registry.MustRegister(&watched{m, s}) }

// WatchCache adds what the embedding caches of models did, by model name. Call it once; stats is asked at each scrape.
func (m *Metrics) WatchCache(stats func() map[string]engine.EmbeddingCacheStats) {
	m.registry.MustRegister(&watchedCache{stats})
}

// Handler answers GET /metrics.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4, Timeout: 10 * time.Second})
}

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, labels, nil)
}

// What Watch adds: read in one piece at each scrape, so that the values fit each other.
var (
	descQueue     = describe("tia2_queue_items", "Pairs, pictures and texts that wait.")
	descQueueMost = describe("tia2_queue_items_max", "The most that waited since the last scrape.")
	descHeld      = describe("tia2_queue_bytes", "Bytes of pictures and texts that requests hold.")
	descRunning   = describe("tia2_batches_running", "Batches that are being computed.")
	descOpen      = describe("tia2_requests_open", "Requests that the models have not answered yet.")
	descBacklog   = describe("tia2_backlog_seconds", "Estimate of the time that what waits will take.")
	descPace      = describe("tia2_items_per_second", "Pairs, pictures and texts a second, of the last batches.")
	descAnswer    = describe("tia2_last_answer_timestamp_seconds", "When the models last answered; 0: never.")
	descDraining  = describe("tia2_draining", "1 while the server ends.")
	descDropped   = describe("tia2_dropped_items_total", "Pairs, pictures and texts that were not answered, by reason.", "reason")
	descFaults    = describe("tia2_backend_panics_total", "Panics while a batch was computed.")
	descReloads   = describe("tia2_reloads_total", "Times that the models were replaced.")
	descModel     = describe("tia2_model_info", "A model that is served, in its labels; always 1.", "model", "family", "rewards", "device", "dtype", "checkpoint_sha256")
)

type watched struct {
	m *Metrics
	s *serve.Server
}

// Describe implements prometheus.Collector.
func (c *watched) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descQueue, descQueueMost, descHeld, descRunning, descOpen, descBacklog, descPace, descAnswer, descDraining,
		descDropped, descFaults, descReloads, descModel} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *watched) Collect(ch chan<- prometheus.Metric) {
	stats := c.s.Stats()
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	counter := func(d *prometheus.Desc, v uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	most := max(c.m.queueMost.Swap(int64(stats.Waiting)), int64(stats.Waiting))
	gauge(descQueue, float64(stats.Waiting))
	gauge(descQueueMost, float64(most))
	gauge(descHeld, float64(stats.WaitingBytes))
	gauge(descRunning, float64(stats.Running))
	gauge(descOpen, float64(stats.Requests))
	gauge(descBacklog, stats.Backlog.Seconds())
	gauge(descPace, stats.ItemsPerSecond)
	gauge(descAnswer, unixSeconds(stats.LastAnswer))
	gauge(descDraining, float64(boolValue(stats.Draining)))
	counter(descFaults, stats.Panics)
	counter(descReloads, stats.Reloads)
	for reason, n := range stats.Dropped {
		counter(descDropped, n, reason)
	}
	for _, info := range c.s.Models() {
		gauge(descModel, 1, info.Name, info.Family, strings.Join(info.Rewards, ","), info.Device, info.DType, info.SourceSHA256)
	}
}

func unixSeconds(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMilli()) / 1000
}

func boolValue(b bool) int {
	if b {
		return 1
	}
	return 0
}

var (
	descAsked      = describe("tia2_embedding_cache_asked_total", "Pictures and texts that were looked up in the embedding cache.", "model", "tower")
	descFound      = describe("tia2_embedding_cache_found_total", "Pictures and texts that were found there.", "model", "tower")
	descCacheBytes = describe("tia2_embedding_cache_bytes", "Bytes of the embedding cache's files.", "dir")
)

type watchedCache struct {
	stats func() map[string]engine.EmbeddingCacheStats
}

// Describe implements prometheus.Collector.
func (c *watchedCache) Describe(ch chan<- *prometheus.Desc) {
	ch <- descAsked
	ch <- descFound
	ch <- descCacheBytes
}

// Collect implements prometheus.Collector.
func (c *watchedCache) Collect(ch chan<- prometheus.Metric) {
	sizes := map[string]int64{} // models share folders
	for model, s := range c.stats() {
		if s.Dir == "" {
			continue
		}
		sizes[s.Dir] = s.Bytes
		for tower, n := range map[string]engine.EmbeddingCacheCounts{"image": s.Images, "text": s.Texts} {
			ch <- prometheus.MustNewConstMetric(descAsked, prometheus.CounterValue, float64(n.Asked), model, tower)
			ch <- prometheus.MustNewConstMetric(descFound, prometheus.CounterValue, float64(n.Found), model, tower)
		}
	}
	for dir, bytes := range sizes {
		ch <- prometheus.MustNewConstMetric(descCacheBytes, prometheus.GaugeValue, float64(bytes), dir)
	}
}
