package api

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/stats"

	"github.com/tia2-engine/tia2-engine/engine"
	"github.com/tia2-engine/tia2-engine/engine/serve"
)

// Tracing sends spans to an OpenTelemetry collector: one a request or gRPC call, which belongs to the client's trace where
// it sends a traceparent, with one below it for each stage (queue, compute, softmax); and one a batch, which is a trace of its
// own, since requests share it. It is a serve.Observer and a serve.StageObserver; the zero pointer traces nothing. Methods may
// be called from any goroutine.
type Tracing struct {
	provider *sdktrace.TracerProvider
	tracer   trace.Tracer
}

// OpenTracing sends spans to the OTLP endpoint over HTTP, such as http://localhost:4318; for "" the variables
// OTEL_EXPORTER_OTLP_ENDPOINT and its relatives say where. OTEL_TRACES_SAMPLER says which. Nothing is sent before the
// first span; a collector that is not there costs no request anything.
func OpenTracing(ctx context.Context, endpoint string) (*Tracing, error) {
	var options []otlptracehttp.Option
	if endpoint != "" {
		options = append(options, otlptracehttp.WithEndpointURL(endpoint))
	}
	exporter, err := otlptracehttp.New(ctx, options...)
	if err != nil {
		return nil, fmt.Errorf("tracing to %s: %w", endpoint, err)
	}
	return newTracing(sdktrace.WithBatcher(exporter)), nil
}

func newTracing(processor sdktrace.TracerProviderOption) *Tracing {
	service := resource.NewSchemaless(attribute.String("service.name", "tia2-engine"), attribute.String("service.version", engine.Version))
	if merged, err := resource.Merge(service, resource.Environment()); err == nil { // OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES
		service = merged
	}
	provider := sdktrace.NewTracerProvider(processor, sdktrace.WithResource(service))
	return &Tracing{provider, provider.Tracer("github.com/tia2-engine/tia2-engine/engine/serve/api")}
}

// Shutdown sends what is left.
func (t *Tracing) Shutdown(ctx context.Context) error {
	if t == nil {
		return nil
	}
	return t.provider.Shutdown(ctx)
}

// handler gives each request of a route a span.
func (t *Tracing) handler(pattern string, next http.Handler) http.Handler {
	if t == nil {
		return next
	}
	return otelhttp.NewHandler(next, pattern, otelhttp.WithTracerProvider(t.provider), otelhttp.WithPropagators(propagation.TraceContext{}),
		otelhttp.WithMeterProvider(metricnoop.NewMeterProvider()), otelhttp.WithSpanNameFormatter(func(pattern string, _ *http.Request) string { return pattern }))
}

// calls gives each gRPC call a span, but probes.
func (t *Tracing) calls(probe func(method string) bool) stats.Handler {
	return otelgrpc.NewServerHandler(otelgrpc.WithTracerProvider(t.provider), otelgrpc.WithPropagators(propagation.TraceContext{}),
		otelgrpc.WithMeterProvider(metricnoop.NewMeterProvider()), otelgrpc.WithFilter(func(tag *stats.RPCTagInfo) bool { return !probe(tag.FullMethodName) }))
}

// Stage implements serve.StageObserver: a span below that of the request.
func (t *Tracing) Stage(ctx context.Context, name string, began time.Time, took time.Duration) {
	if t == nil || !trace.SpanContextFromContext(ctx).IsValid() {
		return // nothing above it: a health check's probe, say
	}
	_, span := t.tracer.Start(ctx, name, trace.WithTimestamp(began))
	span.End(trace.WithTimestamp(began.Add(took)))
}

// BatchDone implements serve.Observer.
func (t *Tracing) BatchDone(b serve.BatchStats) {
	if t == nil {
		return
	}
	now := time.Now()
	_, span := t.tracer.Start(context.Background(), "batch "+b.Kind, trace.WithNewRoot(), trace.WithTimestamp(now.Add(-b.Computed)), trace.WithAttributes(
		attribute.String("tia2.target", b.Target), attribute.Int("tia2.images", b.Images), attribute.Int("tia2.texts", b.Texts),
		attribute.Int("tia2.tokens", b.Tokens), attribute.Int("tia2.units", b.Units), attribute.Int("tia2.items", b.Items),
		attribute.Int("tia2.requests", b.Requests), attribute.Float64("tia2.waited_seconds", b.Waited.Seconds()), attribute.Bool("tia2.halved", b.Halved)))
	if b.Err != nil {
		span.SetStatus(codes.Error, Code(b.Err))
	}
	span.End(trace.WithTimestamp(now))
}

// Queued implements serve.Observer: a number that changes is no span.
func (t *Tracing) Queued(int) {}

// RequestDone implements serve.Observer: Stage has been told all of it.
func (t *Tracing) RequestDone(string, error, int, time.Duration, time.Duration) {}
