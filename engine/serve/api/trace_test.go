package api

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/tia2-engine/tia2-engine/engine/serve"
)

func TestTracing(t *testing.T) {
	spans := tracetest.NewInMemoryExporter()
	tracing := newTracing(sdktrace.WithSyncer(spans))
	core := newCore(t, &fake{}, Observers(NewMetrics(), tracing))
	var log lockedBuffer
	url := serveOn(t, Handler(core, Config{Tracing: tracing, Logger: logTo(&log)}))
	const parent = "4bf92f3577b34da6a3ce929d0e0e4736"
	call(t, "POST", url+"/v1/textnorm", `{"images":["YQ=="],"prompt":"a","contrastive":["b"]}`, "Traceparent", "00-"+parent+"-00f067aa0ba902b7-01")
	call(t, "GET", url+"/healthz", "")
	byName := map[string]tracetest.SpanStub{}
	eventually(t, "the spans are there", func() bool {
		for _, s := range spans.GetSpans() {
			byName[s.Name] = s
		}
		_, request := byName["POST /v1/textnorm"]
		_, batch := byName["batch pairs"]
		return request && batch
	})
	request := byName["POST /v1/textnorm"]
	if got := request.SpanContext.TraceID().String(); got != parent {
		t.Errorf("the request is in trace %s, want the client's %s", got, parent)
	}
	for _, name := range []string{"queue", "compute", "softmax"} {
		s, ok := byName[name]
		if !ok {
			t.Errorf("no span %q", name)
		} else if s.Parent.SpanID() != request.SpanContext.SpanID() || s.EndTime.Before(s.StartTime) || s.StartTime.Before(request.StartTime) {
			t.Errorf("span %q is not within the request's", name)
		}
	}
	if batch := byName["batch pairs"]; batch.Parent.IsValid() || batch.SpanContext.TraceID().String() == parent {
		t.Error("the batch, which requests share, is in the trace of one")
	}
	if _, ok := byName["GET /healthz"]; ok {
		t.Error("a health check has a span")
	}
	if !strings.Contains(log.String(), `"trace_id":"`+parent) {
		t.Errorf("no trace in the log: %s", log.String())
	}
}

func TestStage(t *testing.T) {
	spans := tracetest.NewInMemoryExporter()
	tracing := newTracing(sdktrace.WithSyncer(spans))
	began := time.Now().Add(-time.Second)
	tracing.Stage(context.Background(), "queue", began, time.Second)
	if n := len(spans.GetSpans()); n != 0 {
		t.Errorf("%d spans of a stage that belongs to no request", n)
	}
	ctx, parent := tracing.tracer.Start(context.Background(), "request")
	observers{tracing, NewMetrics()}.Stage(ctx, "queue", began, time.Second)
	got := spans.GetSpans()
	if len(got) != 1 || got[0].Name != "queue" || got[0].EndTime.Sub(got[0].StartTime) != time.Second || got[0].Parent.SpanID() != parent.SpanContext().SpanID() {
		t.Errorf("%+v", got)
	}
}

// TestFailedBatchSpan: what a batch failed of is in its span.
func TestFailedBatchSpan(t *testing.T) {
	spans := tracetest.NewInMemoryExporter()
	newTracing(sdktrace.WithSyncer(spans)).BatchDone(serve.BatchStats{Kind: "images", Err: serve.ErrBackend, Computed: time.Second})
	got := spans.GetSpans()
	if len(got) != 1 || got[0].Status.Description != "backend" || got[0].SpanKind != trace.SpanKindInternal {
		t.Errorf("%+v", got)
	}
}

// TestCollector sends spans to a collector over HTTP.
func TestCollector(t *testing.T) {
	var received atomic.Int64
	collector := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if body, err := io.ReadAll(r.Body); err == nil && r.URL.Path == "/v1/traces" && strings.Contains(string(body), "tia2-engine") {
			received.Add(1)
		}
	}))
	defer collector.Close()
	t.Setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "none")
	tracing, err := OpenTracing(t.Context(), collector.URL+"/v1/traces")
	if err != nil {
		t.Fatal(err)
	}
	tracing.BatchDone(serve.BatchStats{Kind: "pairs"})
	if err := tracing.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if received.Load() != 1 {
		t.Errorf("the collector received %d messages, want 1", received.Load())
	}
	if err := (*Tracing)(nil).Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}
