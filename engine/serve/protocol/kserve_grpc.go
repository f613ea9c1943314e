package protocol

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime/debug"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/tia2-engine/tia2-engine/engine/serve"
	"github.com/tia2-engine/tia2-engine/engine/serve/api"
	pb "github.com/tia2-engine/tia2-engine/engine/serve/protocol/kservepb"
)

// GRPCOptions are those of the gRPC server. The zero value works.
type GRPCOptions struct {
	Options
	MaxMessageBytes int // of a request; 0: 64 MiB
	MaxStreams      int // requests at once on a connection; 0: 256
	MaxCalls        int // requests at once on all connections; 0: 1024

	Credentials credentials.TransportCredentials // nil: no TLS

	// Authenticate is asked for every call but ServerLive, ServerReady and the health check, before its message is read:
	// authorization is the value of that metadata key ("Bearer KEY"; x-api-key counts as well), "" where it is missing. It
	// returns at once who the client is, "" for its address, or an error, which ends the call as Unauthenticated. api.Keys
	// has it; nil lets everybody in.
	Authenticate func(ctx context.Context, authorization string) (client string, err error)

	Watch []grpc.ServerOption // of calls that were let in: api.Calls
}

// Limits of connections. A client that pings more often than every minPing is cut off; a connection without calls is
// closed after idle; a peer that is gone is noticed after ping and pong.
const (
	defaultMessageBytes = 64 << 20
	defaultStreams      = 256
	defaultCalls        = 1024
	handshake           = 20 * time.Second
	minPing             = 10 * time.Second
	ping, pong          = 2 * time.Minute, 20 * time.Second
	idle                = 30 * time.Minute
)

// GRPC returns a server of the Open Inference Protocol's GRPCInferenceService, with Triton's ModelConfig and
// ModelStatistics, and of grpc.health.v1. The caller listens, calls Serve, and ends it with GracefulStop. See kserve.go for models and tensors.
// A call's deadline is the request's; its error has the code that errorCode says, and RetryInfo where another try makes
// sense.
func GRPC(s *serve.Server, opt GRPCOptions) *grpc.Server {
	if opt.MaxMessageBytes == 0 {
		opt.MaxMessageBytes = defaultMessageBytes
	}
	if opt.MaxStreams == 0 {
		opt.MaxStreams = defaultStreams
	}
	if opt.MaxCalls == 0 {
		opt.MaxCalls = defaultCalls
	}
	options := []grpc.ServerOption{
		grpc.MaxRecvMsgSize(opt.MaxMessageBytes),
		grpc.MaxConcurrentStreams(uint32(min(opt.MaxStreams, math.MaxInt32))),
		grpc.ConnectionTimeout(handshake),
		grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionIdle: idle, Time: ping, Timeout: pong}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: minPing, PermitWithoutStream: true}),
		grpc.ForceServerCodecV2(newBoundedCodec()),
		grpc.InTapHandle((&gate{opt: opt}).enter),
		grpc.ChainUnaryInterceptor(named),
	}
	options = append(options, opt.Watch...)
	options = append(options, grpc.ChainUnaryInterceptor(recovered))
	if opt.Credentials != nil {
		options = append(options, grpc.Creds(opt.Credentials))
	}
	server := grpc.NewServer(options...)
	pb.RegisterGRPCInferenceServiceServer(server, &kserveGRPC{k: newKServe(s, opt.Options)})
	healthpb.RegisterHealthServer(server, &grpcHealth{s: s})
	return server
}

// recovered makes a panic an error of its call.
func recovered(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (answer any, err error) {
	defer func() {
		if p := recover(); p != nil {
			answer, err = nil, grpcError(ctx, fmt.Errorf("panic: %v\n%s", p, debug.Stack()))
		}
	}()
	return next(ctx, req)
}

// errorCode maps kinds of errors. Too many requests and a busy queue are ResourceExhausted, as HTTP's 429; a server that
// ends or is not ready Unavailable, as 503.
func errorCode(err error) codes.Code {
	for _, kind := range []struct {
		is   error
		code codes.Code
	}{
		{serve.ErrUnknownReward, codes.NotFound}, {serve.ErrBadRequest, codes.InvalidArgument}, {serve.ErrTooLarge, codes.InvalidArgument},
		{serve.ErrOverloaded, codes.ResourceExhausted}, {serve.ErrDraining, codes.Unavailable}, {serve.ErrNotReady, codes.Unavailable},
		{context.DeadlineExceeded, codes.DeadlineExceeded}, {context.Canceled, codes.Canceled},
	} {
		if errors.Is(err, kind.is) {
			return kind.code
		}
	}
	return codes.Internal
}

// grpcError makes err a status, and notes it for the log. The text of an error of no known kind stays there.
func grpcError(ctx context.Context, err error) error {
	api.NoteError(ctx, err)
	code, text := errorCode(err), err.Error()
	if code == codes.Internal && !errors.Is(err, serve.ErrBackend) {
		text = "a fault of the server; its log has the reason under this call's x-request-id"
	}
	s := status.New(code, text)
	if after, ok := serve.RetryAfter(err); ok {
		s = withRetry(s, after)
	}
	return s.Err()
}

// withRetry says when the call may be tried again.
func withRetry(s *status.Status, after time.Duration) *status.Status {
	if detailed, err := s.WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(after)}); err == nil {
		return detailed
	}
	return s
}

// kserveGRPC implements the service.
type kserveGRPC struct {
	pb.UnimplementedGRPCInferenceServiceServer
	k *kserve
}

func (g *kserveGRPC) ServerLive(context.Context, *pb.ServerLiveRequest) (*pb.ServerLiveResponse, error) {
	return &pb.ServerLiveResponse{Live: true}, nil
}

func (g *kserveGRPC) ServerReady(ctx context.Context, _ *pb.ServerReadyRequest) (*pb.ServerReadyResponse, error) {
	return &pb.ServerReadyResponse{Ready: g.k.s.Ready(ctx) == nil}, nil
}

func (g *kserveGRPC) ModelReady(ctx context.Context, q *pb.ModelReadyRequest) (*pb.ModelReadyResponse, error) {
	if _, err := g.k.rewards(q.Name, q.Version); err != nil {
		return nil, grpcError(ctx, err)
	}
	return &pb.ModelReadyResponse{Ready: g.k.s.Ready(ctx) == nil}, nil
}

func (g *kserveGRPC) ServerMetadata(context.Context, *pb.ServerMetadataRequest) (*pb.ServerMetadataResponse, error) {
	return &pb.ServerMetadataResponse{Name: platform, Version: g.k.opt.Version, Extensions: extensions}, nil
}

func (g *kserveGRPC) ModelMetadata(ctx context.Context, q *pb.ModelMetadataRequest) (*pb.ModelMetadataResponse, error) {
	inputs, outputs, err := g.k.describe(q.Name, q.Version)
	if err != nil {
		return nil, grpcError(ctx, err)
	}
	list := func(infos []tensorInfo) (out []*pb.ModelMetadataResponse_TensorMetadata) {
		for _, i := range infos {
			out = append(out, &pb.ModelMetadataResponse_TensorMetadata{Name: i.name, Datatype: i.datatype, Shape: i.shape})
		}
		return out
	}
	return &pb.ModelMetadataResponse{
		Name: q.Name, Versions: []string{modelVersion}, Platform: platform, Inputs: list(inputs), Outputs: list(outputs),
	}, nil
}

func (g *kserveGRPC) ModelConfig(ctx context.Context, q *pb.ModelConfigRequest) (*pb.ModelConfigResponse, error) {
	inputs, outputs, err := g.k.describe(q.Name, q.Version)
	if err != nil {
		return nil, grpcError(ctx, err)
	}
	config := &pb.ModelConfig{Name: q.Name, Platform: platform, Backend: platform}
	for _, i := range inputs {
		typ := pb.DataType(pb.DataType_value[tritonType[i.datatype]])
		config.Input = append(config.Input, &pb.ModelInput{Name: i.name, DataType: typ, Dims: i.shape, Optional: i.optional})
	}
	for _, o := range outputs {
		typ := pb.DataType(pb.DataType_value[tritonType[o.datatype]])
		config.Output = append(config.Output, &pb.ModelOutput{Name: o.name, DataType: typ, Dims: o.shape})
	}
	return &pb.ModelConfigResponse{Config: config}, nil
}

func (g *kserveGRPC) ModelStatistics(ctx context.Context, q *pb.ModelStatisticsRequest) (*pb.ModelStatisticsResponse, error) {
	names, stats, err := g.k.statistics(q.Name, q.Version)
	if err != nil {
		return nil, grpcError(ctx, err)
	}
	answer := &pb.ModelStatisticsResponse{}
	for i, s := range stats {
		none := &pb.StatisticDuration{Count: s.succeeded}
		answer.ModelStats = append(answer.ModelStats, &pb.ModelStatistics{
			Name: names[i], Version: modelVersion, LastInference: s.lastMillis(), InferenceCount: s.pairs, ExecutionCount: s.succeeded,
			InferenceStats: &pb.InferStatistics{
				Success: &pb.StatisticDuration{Count: s.succeeded, Ns: uint64(s.succeededFor)},
				Fail:    &pb.StatisticDuration{Count: s.failed, Ns: uint64(s.failedFor)},
				Queue:   none, ComputeInput: none, ComputeOutput: none,
				ComputeInfer: &pb.StatisticDuration{Count: s.succeeded, Ns: uint64(s.succeededFor)},
			},
		})
	}
	return answer, nil
}

// ModelInfer scores. Outputs are raw where the request's inputs are.
func (g *kserveGRPC) ModelInfer(ctx context.Context, in *pb.ModelInferRequest) (*pb.ModelInferResponse, error) {
	q, err := readGRPCInfer(in)
	if err != nil {
		return nil, grpcError(ctx, err)
	}
	result, err := g.k.infer(ctx, q)
	if err != nil {
		return nil, grpcError(ctx, err)
	}
	answer := &pb.ModelInferResponse{ModelName: in.ModelName, ModelVersion: modelVersion, Id: in.Id}
	if result.errors != "" {
		answer.Parameters = map[string]*pb.InferParameter{"errors": {ParameterChoice: &pb.InferParameter_StringParam{StringParam: result.errors}}}
	}
	for _, out := range result.outputs {
		t := &pb.ModelInferResponse_InferOutputTensor{Name: out.name, Datatype: "FP32", Shape: result.shape}
		if len(in.RawInputContents) > 0 {
			answer.RawOutputContents = append(answer.RawOutputContents, littleEndian(out.scores))
		} else {
			t.Contents = &pb.InferTensorContents{Fp32Contents: out.scores}
		}
		answer.Outputs = append(answer.Outputs, t)
	}
	return answer, nil
}

// readGRPCInfer reads the inputs from their raw or typed contents.
func readGRPCInfer(in *pb.ModelInferRequest) (*inferRequest, error) {
	if len(in.Inputs) > maxTensors || len(in.Outputs) > maxTensors {
		return nil, badRequest("%d inputs and %d outputs: expected at most %d", len(in.Inputs), len(in.Outputs), maxTensors)
	}
	raw := in.RawInputContents
	if len(raw) > 0 && len(raw) != len(in.Inputs) {
		return nil, badRequest("%d raw_input_contents for %d inputs", len(raw), len(in.Inputs))
	}
	q := &inferRequest{model: in.ModelName, version: in.ModelVersion, parameters: grpcParameters(in.Parameters)}
	for i, input := range in.Inputs {
		t := tensor{name: input.GetName(), datatype: input.GetDatatype(), shape: input.GetShape()}
		var err error
		switch {
		case len(raw) > 0 && input.GetContents() != nil:
			err = badRequest("input %.64q has contents beside raw_input_contents", t.name)
		case len(raw) > 0:
			err = t.setRaw(raw[i])
		case t.datatype == "UINT8":
			err = badRequest("input %.64q: send UINT8 as raw_input_contents", t.name)
		default:
			err = t.setElements(input.GetContents().GetBytesContents())
		}
		if err != nil {
			return nil, err
		}
		q.inputs = append(q.inputs, t)
	}
	for _, out := range in.Outputs {
		q.outputs = append(q.outputs, out.GetName())
	}
	return q, nil
}

// grpcParameters returns the parameters as JSON would have them.
func grpcParameters(in map[string]*pb.InferParameter) map[string]any {
	out := map[string]any{}
	for name, p := range in {
		switch v := p.GetParameterChoice().(type) {
		case *pb.InferParameter_BoolParam:
			out[name] = v.BoolParam
		case *pb.InferParameter_Int64Param:
			out[name] = v.Int64Param
		case *pb.InferParameter_StringParam:
			out[name] = v.StringParam
		case *pb.InferParameter_DoubleParam:
			out[name] = v.DoubleParam
		case *pb.InferParameter_Uint64Param:
			out[name] = v.Uint64Param
		}
	}
	return out
}
