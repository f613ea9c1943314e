package protocol

import (
	"context"

	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/tia2-engine/tia2-engine/engine/serve"
	pb "github.com/tia2-engine/tia2-engine/engine/serve/protocol/kservepb"
)

// grpcHealth answers Check of grpc.health.v1, which Kubernetes' probes ask: SERVING while the server is ready. It knows
// the service "", which is all of it, and the inference service. There is no Watch.
type grpcHealth struct {
	healthpb.UnimplementedHealthServer
	s *serve.Server
}

func (h *grpcHealth) Check(ctx context.Context, q *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
	if name := pb.GRPCInferenceService_ServiceDesc.ServiceName; q.Service != "" && q.Service != name {
		return nil, status.Errorf(codes.NotFound, "no service %.64q: expected none, or %s", q.Service, name)
	}
	answer := &healthpb.HealthCheckResponse{Status: healthpb.HealthCheckResponse_SERVING}
	if h.s.Ready(ctx) != nil {
		answer.Status = healthpb.HealthCheckResponse_NOT_SERVING
	}
	return answer, nil
}
