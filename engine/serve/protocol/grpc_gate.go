package protocol

import (
	"context"
	"net"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/tap"

	"github.com/tia2-engine/tia2-engine/engine/serve/api"
	pb "github.com/tia2-engine/tia2-engine/engine/serve/protocol/kservepb"
)

// gate stands before every call, before any of its message is read: it bounds their number and asks for keys.
type gate struct {
	opt   GRPCOptions
	calls atomic.Int64
}

// retryBusy is when a call that found too many others may be tried again.
const retryBusy = time.Second

// needsNoKey tells whether a method says no more than how the server is.
func needsNoKey(method string) bool {
	switch method {
	case pb.GRPCInferenceService_ServerLive_FullMethodName, pb.GRPCInferenceService_ServerReady_FullMethodName,
		healthpb.Health_Check_FullMethodName:
		return true
	}
	return false
}

// IsProbe tells whether a method, by its full name, is a health check, as api.Calls asks.
func IsProbe(method string) bool {
	return needsNoKey(method) || method == pb.GRPCInferenceService_ModelReady_FullMethodName
}

// enter lets a call in, until its context ends. Calls that need no key are not counted.
func (g *gate) enter(ctx context.Context, info *tap.Info) (context.Context, error) {
	if needsNoKey(info.FullMethodName) {
		return ctx, nil
	}
	if g.opt.Authenticate != nil {
		client, err := g.opt.Authenticate(ctx, authorization(info.Header))
		if err != nil {
			return nil, status.Error(codes.Unauthenticated, err.Error())
		}
		ctx = api.WithClient(ctx, client)
	}
	if g.calls.Add(1) > int64(g.opt.MaxCalls) {
		g.calls.Add(-1)
		return nil, withRetry(status.Newf(codes.ResourceExhausted, "%d calls are being answered, and no more may be", g.opt.MaxCalls), retryBusy).Err()
	}
	context.AfterFunc(ctx, func() { g.calls.Add(-1) })
	return ctx, nil
}

// authorization returns what a call says of who it comes from.
func authorization(header metadata.MD) string {
	if values := header.Get("x-api-key"); len(values) > 0 {
		return "Bearer " + values[0]
	}
	if values := header.Get("authorization"); len(values) > 0 {
		return values[0]
	}
	return ""
}

// named is the interceptor that names a client which no key has named by its address.
func named(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	if p, ok := peer.FromContext(ctx); ok && api.Client(ctx) == "" {
		name := p.Addr.String()
		if host, _, err := net.SplitHostPort(name); err == nil {
			name = host
		}
		ctx = api.WithClient(ctx, name)
	}
	return next(ctx, req)
}
