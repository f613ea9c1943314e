package api

import (
	"context"
	"log/slog"
	"path"
	"time"

	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// Calls returns the options with which a gRPC server's calls are watched as Handler watches HTTP requests: each has an
// identifier, which it answers as x-request-id, a line of the log, metrics, and a span. Interceptors before it say who asks
// (WithClient); handlers tell it why they failed (NoteError). probe tells of a full method name whether it is a health check:
// those have no span, and a line with level debug only.
func Calls(cfg Config, probe func(method string) bool) []grpc.ServerOption {
	c := &calls{cfg.withDefaults(), probe}
	options := []grpc.ServerOption{grpc.ChainUnaryInterceptor(c.watch)}
	if cfg.Tracing != nil {
		options = append(options, grpc.StatsHandler(cfg.Tracing.calls(probe)))
	}
	return options
}

type calls struct {
	cfg   Config
	probe func(method string) bool
}

func (c *calls) watch(ctx context.Context, in any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	x := &exchange{began: time.Now(), id: requestID(header(ctx, "x-request-id")), client: Client(ctx), route: path.Base(info.FullMethod),
		public: c.probe(info.FullMethod), trace: trace.SpanContextFromContext(ctx).TraceID()}
	// Fails only for a context that is not a call's.
	_ = grpc.SetHeader(ctx, metadata.Pairs("x-request-id", x.id))
	out, err := next(context.WithValue(ctx, exchangeKey{}, x), in)
	if x.err == nil {
		x.err = err
	}
	c.end(ctx, x, in, out, status.Code(err))
	return out, err
}

// end counts a call and writes its line.
func (c *calls) end(ctx context.Context, x *exchange, in, out any, code codes.Code) {
	took := time.Since(x.began)
	c.cfg.Metrics.called(x.route, code.String(), x.err, took)
	level := slog.LevelInfo
	switch {
	case code == codes.Internal, code == codes.Unknown:
		level = slog.LevelError
	case x.public && code == codes.OK:
		level = slog.LevelDebug
	}
	if !c.cfg.Logger.Enabled(ctx, level) {
		return
	}
	attrs := []slog.Attr{
		slog.String("request_id", x.id), slog.String("client", x.client), slog.String("remote", remote(ctx)), slog.String("method", x.route),
		slog.String("code", code.String()), slog.Int("bytes_in", size(in)), slog.Int("bytes_out", size(out)), slog.Duration("took", took),
		slog.String("user_agent", header(ctx, "user-agent")),
	}
	c.cfg.Logger.LogAttrs(ctx, level, "call", append(attrs, x.outcome()...)...)
}

// header returns the first value of a key of a call's metadata, "" where there is none.
func header(ctx context.Context, key string) string {
	if values := metadata.ValueFromIncomingContext(ctx, key); len(values) > 0 {
		return values[0]
	}
	return ""
}

func remote(ctx context.Context) string {
	if p, ok := peer.FromContext(ctx); ok {
		return p.Addr.String()
	}
	return ""
}

// size returns the bytes of a message.
func size(message any) int {
	if m, ok := message.(proto.Message); ok {
		return proto.Size(m)
	}
	return 0
}
