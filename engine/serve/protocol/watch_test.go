package protocol

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	coltrace "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	otlptrace "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/tia2-engine/tia2-engine/engine/serve"
	"github.com/tia2-engine/tia2-engine/engine/serve/api"
	pb "github.com/tia2-engine/tia2-engine/engine/serve/protocol/kservepb"
)

// TestWatchedCalls: a call has an identifier, a line of the log with the reason of a fault, metrics, and a span in its
// client's trace with one below it for each stage; a health check has neither span nor line.
func TestWatchedCalls(t *testing.T) {
	collector := newCollector(t)
	tracing, err := api.OpenTracing(t.Context(), collector.url)
	if err != nil {
		t.Fatal(err)
	}
	metrics, backend := api.NewMetrics(), newFake()
	core := newCore(t, backend, serve.Options{Observer: api.Observers(metrics, tracing)})
	var log bytes.Buffer
	cfg := api.Config{Logger: slog.New(slog.NewJSONHandler(&log, nil)), Metrics: metrics, Tracing: tracing}
	c := dialGRPC(t, core, GRPCOptions{Watch: api.Calls(cfg, IsProbe)})

	const parent = "4bf92f3577b34da6a3ce929d0e0e4736"
	ctx := metadata.AppendToOutgoingContext(t.Context(), "traceparent", "00-"+parent+"-00f067aa0ba902b7-01", "x-request-id", "mine-1")
	var head metadata.MD
	q := grpcInfer("clip", []string{"one\x00"}, []string{"a"})
	if _, err := c.ModelInfer(ctx, q, grpc.Header(&head)); err != nil {
		t.Fatal(err)
	}
	if got := head.Get("x-request-id"); len(got) != 1 || got[0] != "mine-1" {
		t.Errorf("x-request-id: %q", got)
	}
	if _, err := c.ServerReady(t.Context(), &pb.ServerReadyRequest{}); err != nil {
		t.Fatal(err)
	}
	fault := errors.New("the device is gone")
	backend.fault.Store(&fault)
	q = grpcInfer("clip", []string{"two\x00"}, []string{"a"})
	if _, err := c.ModelInfer(t.Context(), q); status.Code(err) != codes.Internal {
		t.Errorf("a fault: %v", err)
	}
	if err := tracing.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}

	for _, want := range []string{`"request_id":"mine-1"`, `"method":"ModelInfer","code":"OK"`, `"trace_id":"` + parent, `"code":"Internal"`, "the device is gone"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log has no %s:\n%s", want, log.String())
		}
	}
	if strings.Contains(log.String(), "ServerReady") {
		t.Errorf("a health check is in the log:\n%s", log.String())
	}
	scraped := httptest.NewRecorder()
	metrics.Handler().ServeHTTP(scraped, httptest.NewRequest("GET", "/metrics", nil))
	for _, want := range []string{`tia2_grpc_calls_total{code="OK",error="",method="ModelInfer"} 1`, `tia2_grpc_call_seconds_count{method="ModelInfer"} 2`} {
		if !strings.Contains(scraped.Body.String(), want) {
			t.Errorf("no metric %s", want)
		}
	}
	collector.check(t, parent)
}

// otlpCollector keeps the spans that are sent to it.
type otlpCollector struct {
	url   string
	mu    sync.Mutex
	spans []*otlptrace.Span
}

func newCollector(t *testing.T) *otlpCollector {
	c := &otlpCollector{}
	t.Setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "none")
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var sent coltrace.ExportTraceServiceRequest
		body, err := io.ReadAll(r.Body)
		if err = errors.Join(err, proto.Unmarshal(body, &sent)); err != nil {
			t.Errorf("the collector was sent %d bytes: %v", len(body), err)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, resource := range sent.ResourceSpans {
			for _, scope := range resource.ScopeSpans {
				c.spans = append(c.spans, scope.Spans...)
			}
		}
	}))
	t.Cleanup(server.Close)
	c.url = server.URL + "/v1/traces"
	return c
}

// check compares the spans of a trace with those of one call.
func (c *otlpCollector) check(t *testing.T, trace string) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	byName := map[string]*otlptrace.Span{}
	for _, s := range c.spans {
		if strings.Contains(s.Name, "ServerReady") {
			t.Error("a health check has a span")
		}
		if hex.EncodeToString(s.TraceId) == trace {
			byName[s.Name] = s
		}
	}
	call := byName["inference.GRPCInferenceService/ModelInfer"]
	if call == nil {
		t.Fatalf("no span of the call: %v", byName)
	}
	for _, stage := range []string{"queue", "compute"} {
		if s := byName[stage]; s == nil || !bytes.Equal(s.ParentSpanId, call.SpanId) {
			t.Errorf("no span %q below the call's", stage)
		}
	}
}
