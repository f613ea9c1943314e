package protocol

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"math"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"

	"github.com/tia2-engine/tia2-engine/engine/serve"
	pb "github.com/tia2-engine/tia2-engine/engine/serve/protocol/kservepb"
)

// rawBytes is the binary form of BYTES.
func rawBytes(elements ...string) []byte {
	var b []byte
	for _, e := range elements {
		b = append(binary.LittleEndian.AppendUint32(b, uint32(len(e))), e...)
	}
	return b
}

// restInfer posts JSON and binary data and decodes the answer.
func restInfer(t *testing.T, url, head string, blob []byte) (int, restAnswer, []byte) {
	t.Helper()
	headers := []string{}
	if blob != nil {
		headers = []string{lengthHeader, strconv.Itoa(len(head))}
	}
	resp, b := post(t, url, append([]byte(head), blob...), headers...)
	var rest []byte
	if n, err := strconv.Atoi(resp.Header.Get(lengthHeader)); err == nil {
		b, rest = b[:n], b[n:]
	}
	var a restAnswer
	if err := json.Unmarshal(b, &a); err != nil {
		t.Fatalf("%v: %.300s", err, b)
	}
	return resp.StatusCode, a, rest
}

type restAnswer struct {
	ModelName string `json:"model_name"`
	ID        string `json:"id"`
	Error     string `json:"error"`
	Outputs   []struct {
		Name, Datatype string
		Shape          []int
		Parameters     map[string]any
		Data           []*float32
	}
	Parameters map[string]any
}

func TestKServeREST(t *testing.T) {
	server, _ := newServer(t, newFake(), Options{})
	one, two := "\xff\xd8\xff one", "GIF89a two"
	s := func(reward, file, text string) float32 { return fakeScore(reward, []byte(file), text) }
	head := `{"id":"42","inputs":[{"name":"images","datatype":"BYTES","shape":[2],"data":["` + b64(one) + `","data:image/gif;base64,` + b64(two) + `"]},` +
		`{"name":"texts","datatype":"BYTES","shape":[2,1],"data":[["a"],["bc"]]}]`
	code, a, _ := restInfer(t, server.URL+"/v2/models/pickscore/infer", head+"}", nil)
	if code != 200 || a.ID != "42" || a.ModelName != "pickscore" || len(a.Outputs) != 1 || a.Outputs[0].Name != "scores" || a.Outputs[0].Datatype != "FP32" {
		t.Fatalf("status %d: %+v", code, a)
	}
	if diff := cmp.Diff([]float32{s("pickscore", one, "a"), s("pickscore", two, "bc")}, []float32{*a.Outputs[0].Data[0], *a.Outputs[0].Data[1]}); diff != "" {
		t.Error(diff)
	}

	code, a, _ = restInfer(t, server.URL+"/v2/models/rewards/versions/1/infer", head+`,"parameters":{"pairs":"all","scale":"/26"},"outputs":[{"name":"hpsv2"},{"name":"clip"}]}`, nil)
	if code != 200 || len(a.Outputs) != 2 || a.Outputs[0].Name != "hpsv2" || !cmp.Equal(a.Outputs[1].Shape, []int{2, 2}) || *a.Outputs[1].Data[1] != float32(float64(s("clip", one, "bc"))/26) {
		t.Errorf("all pairs: status %d: %+v", code, a)
	}

	images, texts := rawBytes(one, "bad\xff"), rawBytes("a")
	binaryHead := `{"inputs":[{"name":"texts","datatype":"BYTES","shape":[1],"parameters":{"binary_data_size":` + strconv.Itoa(len(texts)) + `}},` +
		`{"name":"images","datatype":"BYTES","shape":[2],"parameters":{"binary_data_size":` + strconv.Itoa(len(images)) + `}}],"parameters":{"binary_data_output":true}}`
	code, a, rest := restInfer(t, server.URL+"/v2/models/clip/infer", binaryHead, append(texts, images...))
	if code != 200 || len(rest) != 8 || a.Outputs[0].Parameters["binary_data_size"] != 8.0 || !strings.Contains(a.Parameters["errors"].(string), "image 1: not a picture") {
		t.Fatalf("binary: status %d: %+v, %d bytes", code, a, len(rest))
	}
	le := binary.LittleEndian
	if got := math.Float32frombits(le.Uint32(rest)); got != s("clip", one, "a") || !math.IsNaN(float64(math.Float32frombits(le.Uint32(rest[4:])))) {
		t.Errorf("binary: %v, %x", got, rest)
	}

	// A failed picture is null in JSON; a reward without texts; pixels.
	code, a, _ = restInfer(t, server.URL+"/v2/models/clip/infer", `{"inputs":[{"name":"images","datatype":"BYTES","shape":[2],"data":["`+b64(one)+`","`+b64("bad")+`"]},{"name":"texts","datatype":"BYTES","shape":[1],"data":["a"]}]}`, nil)
	if code != 200 || a.Outputs[0].Data[0] == nil || a.Outputs[0].Data[1] != nil {
		t.Errorf("null: status %d: %+v", code, a)
	}
	code, a, _ = restInfer(t, server.URL+"/v2/models/aesthetic/infer", `{"inputs":[{"name":"images","datatype":"UINT8","shape":[2,1,1,3],"parameters":{"binary_data_size":6}}]}`, []byte("RGBrgb"))
	file, _ := bitmap([]byte("rgb"), 1, 1, 3)
	if code != 200 || len(a.Outputs[0].Data) != 2 || *a.Outputs[0].Data[1] != s("aesthetic", string(file), "") {
		t.Errorf("pixels: status %d: %+v", code, a)
	}
}

func TestKServeRESTRefusals(t *testing.T) {
	server, core := newServer(t, newFake(), Options{})
	in := func(inputs string) string { return `{"inputs":[` + inputs + `]}` }
	image := `{"name":"images","datatype":"BYTES","shape":[1],"data":["aaaa"]}`
	text := `{"name":"texts","datatype":"BYTES","shape":[1],"data":["a"]}`
	for name, c := range map[string]struct {
		path, head, blob, length string
		want                     string
	}{
		"unknown model":       {"ocr", in(image + "," + text), "", "", "unknown model"},
		"unknown version":     {"clip/versions/2", in(image + "," + text), "", "", "unknown version"},
		"no JSON":             {"clip", "x", "", "", "JSON"},
		"no inputs":           {"clip", "{}", "", "", "expected images and texts"},
		"no texts":            {"clip", in(image), "", "", "expected images and texts"},
		"input twice":         {"clip", in(image + "," + image), "", "", "twice"},
		"other input":         {"clip", in(`{"name":"x","datatype":"BYTES","shape":[1],"data":["a"]}`), "", "", "expected inputs"},
		"other type":          {"clip", in(`{"name":"images","datatype":"FP32","shape":[1],"data":[1]}`), "", "", "strings"},
		"no data":             {"clip", in(`{"name":"images","datatype":"BYTES","shape":[0]}`), "", "", "no data"},
		"other shape":         {"clip", in(`{"name":"images","datatype":"BYTES","shape":[2],"data":["a"]}`), "", "", "1 elements"},
		"no shape":            {"clip", in(`{"name":"images","datatype":"BYTES","data":["a"]}`), "", "", "shape"},
		"negative shape":      {"clip", in(`{"name":"images","datatype":"BYTES","shape":[-1],"data":["a"]}`), "", "", "negative"},
		"huge shape":          {"clip", in(`{"name":"images","datatype":"BYTES","shape":[4294967296,4294967296],"data":["a"]}`), "", "", "too large"},
		"a URL":               {"clip", in(`{"name":"images","datatype":"BYTES","shape":[1],"data":["http://a.b/c.jpg"]},` + text), "", "", "not fetched"},
		"unknown output":      {"clip", `{"inputs":[` + image + "," + text + `],"outputs":[{"name":"hpsv2"}]}`, "", "", "output"},
		"output twice":        {"rewards", `{"inputs":[` + image + "," + text + `],"outputs":[{"name":"clip"},{"name":"clip"}]}`, "", "", "twice"},
		"pairs":               {"clip", `{"inputs":[` + image + "," + text + `],"parameters":{"pairs":"some"}}`, "", "", "pairs"},
		"scale":               {"clip", `{"inputs":[` + image + "," + text + `],"parameters":{"scale":"half"}}`, "", "", "scale"},
		"scale of a number":   {"clip", `{"inputs":[` + image + "," + text + `],"parameters":{"scale":26}}`, "", "", "scale"},
		"timeout of a text":   {"clip", `{"inputs":[` + image + "," + text + `],"parameters":{"timeout":"1"}}`, "", "", "timeout"},
		"long header":         {"clip", "{}", "x", "99", "within"},
		"negative header":     {"clip", "{}", "x", "-1", "within"},
		"left over":           {"clip", in(image), "x", "", "belong to no input"},
		"binary_data_size":    {"clip", in(`{"name":"images","datatype":"BYTES","shape":[1],"parameters":{"binary_data_size":9}}`), "x", "", "binary_data_size"},
		"half a byte":         {"clip", in(`{"name":"images","datatype":"BYTES","shape":[1],"parameters":{"binary_data_size":0.5}}`), "x", "", "binary_data_size"},
		"data twice":          {"clip", in(`{"name":"images","datatype":"BYTES","shape":[1],"data":["a"],"parameters":{"binary_data_size":1}}`), "x", "", "data and"},
		"lying length":        {"clip", in(`{"name":"images","datatype":"BYTES","shape":[1],"parameters":{"binary_data_size":5}}`), "\xff\xff\xff\xffx", "", "does not fit"},
		"more elements":       {"clip", in(`{"name":"images","datatype":"BYTES","shape":[2],"parameters":{"binary_data_size":5}}`), "\x01\x00\x00\x00x", "", "do not hold"},
		"fewer elements":      {"clip", in(`{"name":"images","datatype":"BYTES","shape":[1],"parameters":{"binary_data_size":9}}`), "\x01\x00\x00\x00x\x00\x00\x00\x00", "", "follow"},
		"pixels of a size":    {"clip", in(`{"name":"images","datatype":"UINT8","shape":[1,1,1,3],"parameters":{"binary_data_size":2}}`), "xx", "", "2 bytes"},
		"pixels of 3 lengths": {"clip", in(`{"name":"images","datatype":"UINT8","shape":[1,1,3],"parameters":{"binary_data_size":3}},` + text), "xxx", "", "dimensions"},
		"texts not UTF-8":     {"clip", in(image + `,{"name":"texts","datatype":"BYTES","shape":[1],"parameters":{"binary_data_size":5}}`), "\x01\x00\x00\x00\xff", "", "UTF-8"},
		"shared memory":       {"clip", in(`{"name":"images","datatype":"BYTES","shape":[1],"parameters":{"shared_memory_region":"r"}}`), "", "", "shared memory"},
	} {
		headers := []string{}
		if c.blob != "" {
			headers = []string{lengthHeader, strconv.Itoa(len(c.head))}
			if c.length != "" {
				headers[1] = c.length
			}
		}
		resp, b := post(t, server.URL+"/v2/models/"+c.path+"/infer", []byte(c.head+c.blob), headers...)
		var a restAnswer
		if err := json.Unmarshal(b, &a); err != nil || resp.StatusCode != 400 || !strings.Contains(a.Error, c.want) {
			t.Errorf("%s: status %d, %.300s: expected 400 with %q", name, resp.StatusCode, b, c.want)
		}
	}
	if resp, b := post(t, server.URL+"/v2/models/clip/infer", []byte("{}"), "Content-Encoding", "gzip"); resp.StatusCode != 400 {
		t.Errorf("gzip: status %d, %s", resp.StatusCode, b)
	}
	if err := core.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	resp, _ := post(t, server.URL+"/v2/models/clip/infer", []byte(in(image+","+text)))
	if resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" {
		t.Errorf("draining: status %d", resp.StatusCode)
	}
	for _, path := range []string{"/v2/health/ready", "/v2/models/clip/ready"} {
		if resp, b := get(t, server.URL+path); resp.StatusCode != 503 || !strings.Contains(string(b), `"ready":false`) {
			t.Errorf("%s while draining: status %d, %s", path, resp.StatusCode, b)
		}
	}
}

func TestKServeRESTMetadata(t *testing.T) {
	server, _ := newServer(t, newFake(), Options{Version: "1.2.3"})
	for path, want := range map[string]string{
		"/v2":                              `{"extensions":["binary_tensor_data","model_configuration","statistics"],"name":"tia2-engine","version":"1.2.3"}`,
		"/v2/health/live":                  `{"live":true}`,
		"/v2/health/ready":                 `{"ready":true}`,
		"/v2/models/clip/ready":            `{"name":"clip","ready":true}`,
		"/v2/models/clip/versions/1/ready": `{"name":"clip","ready":true}`,
		"/v2/models/clip":                  `{"inputs":[{"name":"images","datatype":"BYTES","shape":[-1]},{"name":"texts","datatype":"BYTES","shape":[-1]}],"name":"clip","outputs":[{"name":"scores","datatype":"FP32","shape":[-1]}],"platform":"tia2-engine","versions":["1"]}`,
		"/v2/models/aesthetic/config":      `{"backend":"tia2-engine","input":[{"data_type":"TYPE_STRING","dims":[-1],"name":"images"},{"data_type":"TYPE_STRING","dims":[-1],"name":"texts","optional":true}],"max_batch_size":0,"name":"aesthetic","output":[{"data_type":"TYPE_FP32","dims":[-1],"name":"scores"}],"platform":"tia2-engine"}`,
	} {
		if resp, b := get(t, server.URL+path); resp.StatusCode != 200 || string(b) != want+"\n" {
			t.Errorf("%s: status %d, %s expected %s", path, resp.StatusCode, b, want)
		}
	}
	for _, path := range []string{"/v2/models/ocr", "/v2/models/ocr/ready", "/v2/models/ocr/config", "/v2/models/ocr/stats", "/v2/models/clip/versions/3/ready"} {
		if resp, b := get(t, server.URL+path); resp.StatusCode != 400 || !strings.Contains(string(b), "unknown") {
			t.Errorf("%s: status %d, %s", path, resp.StatusCode, b)
		}
	}
	restInfer(t, server.URL+"/v2/models/clip/infer", "{}", nil)
	var stats struct {
		ModelStats []struct {
			Name           string
			InferenceStats struct{ Fail struct{ Count int } } `json:"inference_stats"`
		} `json:"model_stats"`
	}
	_, b := get(t, server.URL+"/v2/models/stats")
	if err := json.Unmarshal(b, &stats); err != nil || len(stats.ModelStats) != 6 || stats.ModelStats[0].Name != "clip" || stats.ModelStats[0].InferenceStats.Fail.Count != 1 {
		t.Errorf("stats: %v, %s", err, b)
	}
}

// dialGRPC starts a gRPC server in memory and returns a client of it.
func dialGRPC(t *testing.T, s *serve.Server, opt GRPCOptions) pb.GRPCInferenceServiceClient {
	t.Helper()
	return pb.NewGRPCInferenceServiceClient(connectGRPC(t, s, opt))
}

func connectGRPC(t *testing.T, s *serve.Server, opt GRPCOptions) *grpc.ClientConn {
	t.Helper()
	l := bufconn.Listen(1 << 20)
	server := GRPC(s, opt)
	go server.Serve(l)
	t.Cleanup(server.Stop)
	conn, err := grpc.NewClient("passthrough:///memory", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) { return l.Dial() }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// TestGRPCHealth: grpc.health.v1 says what Ready says, without a key.
func TestGRPCHealth(t *testing.T) {
	core := newCore(t, newFake(), serve.Options{})
	c := healthpb.NewHealthClient(connectGRPC(t, core, GRPCOptions{Authenticate: func(context.Context, string) (string, error) {
		return "", errors.New("a key is needed")
	}}))
	check := func(service string) (healthpb.HealthCheckResponse_ServingStatus, error) {
		answer, err := c.Check(t.Context(), &healthpb.HealthCheckRequest{Service: service})
		return answer.GetStatus(), err
	}
	for _, service := range []string{"", "inference.GRPCInferenceService"} {
		if got, err := check(service); err != nil || got != healthpb.HealthCheckResponse_SERVING {
			t.Errorf("%q: %v, %v", service, got, err)
		}
	}
	if _, err := check("other"); status.Code(err) != codes.NotFound {
		t.Errorf("another service: %v", err)
	}
	if err := core.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, err := check(""); err != nil || got != healthpb.HealthCheckResponse_NOT_SERVING {
		t.Errorf("while it ends: %v, %v", got, err)
	}
}

// grpcInfer makes a request with raw inputs.
func grpcInfer(model string, images, texts []string) *pb.ModelInferRequest {
	in := func(name string, n int) *pb.ModelInferRequest_InferInputTensor {
		return &pb.ModelInferRequest_InferInputTensor{Name: name, Datatype: "BYTES", Shape: []int64{int64(n)}}
	}
	return &pb.ModelInferRequest{
		ModelName: model, Id: "7", Inputs: []*pb.ModelInferRequest_InferInputTensor{in("images", len(images)), in("texts", len(texts))},
		RawInputContents: [][]byte{rawBytes(images...), rawBytes(texts...)},
	}
}

func TestKServeGRPC(t *testing.T) {
	core := newCore(t, newFake(), serve.Options{})
	c := dialGRPC(t, core, GRPCOptions{Options: Options{Version: "1.2.3"}})
	ctx := t.Context()
	q := grpcInfer("pickscore", []string{"one\x00", "bad\xff"}, []string{"a", "bc"})
	a, err := c.ModelInfer(ctx, q)
	if err != nil {
		t.Fatal(err)
	}
	want := fakeScore("pickscore", []byte("one\x00"), "a")
	if a.Id != "7" || len(a.RawOutputContents) != 1 || len(a.Outputs) != 1 || !cmp.Equal(a.Outputs[0].Shape, []int64{2}) ||
		binary.LittleEndian.Uint32(a.RawOutputContents[0]) != math.Float32bits(want) || a.Parameters["errors"].GetStringParam() == "" {
		t.Errorf("raw: %v", a)
	}

	// Typed contents, all rewards, all pairs.
	q.ModelName, q.RawInputContents = "rewards", nil
	q.Inputs[0].Contents = &pb.InferTensorContents{BytesContents: [][]byte{[]byte("one\x00"), []byte("two\x00")}}
	q.Inputs[1].Contents = &pb.InferTensorContents{BytesContents: [][]byte{[]byte("a"), []byte("bc")}}
	text := func(s string) *pb.InferParameter {
		return &pb.InferParameter{ParameterChoice: &pb.InferParameter_StringParam{StringParam: s}}
	}
	q.Parameters = map[string]*pb.InferParameter{"pairs": text("all"), "scale": text("hpsv2=/2,clip=/4")}
	if a, err = c.ModelInfer(ctx, q); err != nil {
		t.Fatal(err)
	}
	if len(a.Outputs) != len(fakeRewards) || a.Outputs[2].Name != "hpsv2" || !cmp.Equal(a.Outputs[2].Shape, []int64{2, 2}) ||
		a.Outputs[2].Contents.Fp32Contents[1] != fakeScore("hpsv2", []byte("one\x00"), "bc")/2 {
		t.Errorf("all: %v", a)
	}

	meta, err := c.ModelMetadata(ctx, &pb.ModelMetadataRequest{Name: "rewards"})
	if err != nil || len(meta.Outputs) != len(fakeRewards) || len(meta.Inputs) != 2 || meta.Outputs[1].Name != "pickscore" {
		t.Errorf("metadata: %v, %v", meta, err)
	}
	config, err := c.ModelConfig(ctx, &pb.ModelConfigRequest{Name: "aesthetic"})
	if err != nil || !config.Config.Input[1].Optional || config.Config.Output[0].DataType != pb.DataType_TYPE_FP32 {
		t.Errorf("config: %v, %v", config, err)
	}
	stats, err := c.ModelStatistics(ctx, &pb.ModelStatisticsRequest{Name: "pickscore"})
	if err != nil || len(stats.ModelStats) != 1 || stats.ModelStats[0].InferenceCount != 2 || stats.ModelStats[0].InferenceStats.Success.Count != 1 {
		t.Errorf("statistics: %v, %v", stats, err)
	}
	server, err := c.ServerMetadata(ctx, &pb.ServerMetadataRequest{})
	if err != nil || server.Name != "tia2-engine" || server.Version != "1.2.3" {
		t.Errorf("server: %v, %v", server, err)
	}
	live, err := c.ServerLive(ctx, &pb.ServerLiveRequest{})
	ready, err2 := c.ServerReady(ctx, &pb.ServerReadyRequest{})
	model, err3 := c.ModelReady(ctx, &pb.ModelReadyRequest{Name: "clip"})
	if err := errors.Join(err, err2, err3); err != nil || !live.Live || !ready.Ready || !model.Ready {
		t.Errorf("live %v, ready %v, model ready %v: %v", live, ready, model, err)
	}
}

func TestKServeGRPCErrors(t *testing.T) {
	f := newFake()
	core := newCore(t, f, serve.Options{MaxImages: 2})
	c := dialGRPC(t, core, GRPCOptions{MaxMessageBytes: 1 << 20})
	good := func() *pb.ModelInferRequest { return grpcInfer("clip", []string{"one\x00"}, []string{"a"}) }
	for name, tt := range map[string]struct {
		change func(*pb.ModelInferRequest)
		want   codes.Code
		text   string
	}{
		"unknown model":   {func(q *pb.ModelInferRequest) { q.ModelName = "ocr" }, codes.NotFound, "unknown model"},
		"unknown version": {func(q *pb.ModelInferRequest) { q.ModelVersion = "9" }, codes.NotFound, "unknown version"},
		"raw of one":      {func(q *pb.ModelInferRequest) { q.RawInputContents = q.RawInputContents[:1] }, codes.InvalidArgument, "1 raw_input_contents for 2"},
		"both contents":   {func(q *pb.ModelInferRequest) { q.Inputs[0].Contents = &pb.InferTensorContents{} }, codes.InvalidArgument, "beside"},
		"no contents":     {func(q *pb.ModelInferRequest) { q.RawInputContents = nil }, codes.InvalidArgument, "0 elements"},
		"a lying length":  {func(q *pb.ModelInferRequest) { q.RawInputContents[0][3] = 0x7f }, codes.InvalidArgument, "does not fit"},
		"an empty input":  {func(q *pb.ModelInferRequest) { q.Inputs[0] = &pb.ModelInferRequest_InferInputTensor{} }, codes.InvalidArgument, "type"},
		"unreadable":      {func(q *pb.ModelInferRequest) { q.RawInputContents[0] = rawBytes("bad\xff") }, codes.InvalidArgument, "no picture"},
		"too many pictures": {func(q *pb.ModelInferRequest) {
			*q = *grpcInfer("clip", []string{"a\x00", "b\x00", "c\x00"}, []string{"a"})
		}, codes.InvalidArgument, "at most 2"},
		"a large message": {func(q *pb.ModelInferRequest) { q.RawInputContents[0] = make([]byte, 1<<20) }, codes.ResourceExhausted, "larger"},
		"many fields": {func(q *pb.ModelInferRequest) {
			q.Inputs = make([]*pb.ModelInferRequest_InferInputTensor, maxFields+1)
			fillInputs(q)
		}, codes.Internal, "fields"},
		"many inputs": {func(q *pb.ModelInferRequest) {
			q.Inputs = make([]*pb.ModelInferRequest_InferInputTensor, 65)
			fillInputs(q)
		}, codes.InvalidArgument, "65 inputs"},
		"timeout of a text": {func(q *pb.ModelInferRequest) { q.Parameters = map[string]*pb.InferParameter{"timeout": {}} }, codes.OK, ""},
		"an unknown keyword": {func(q *pb.ModelInferRequest) {
			q.Parameters = map[string]*pb.InferParameter{"priority": {ParameterChoice: &pb.InferParameter_Uint64Param{Uint64Param: 1}}}
		}, codes.OK, ""},
	} {
		q := good()
		tt.change(q)
		_, err := c.ModelInfer(t.Context(), q)
		if status.Code(err) != tt.want || tt.text != "" && !strings.Contains(err.Error(), tt.text) {
			t.Errorf("%s: %v, expected %v with %q", name, err, tt.want, tt.text)
		}
	}
	for _, call := range []func() error{
		func() error { _, err := c.ModelReady(t.Context(), &pb.ModelReadyRequest{Name: "x"}); return err },
		func() error { _, err := c.ModelMetadata(t.Context(), &pb.ModelMetadataRequest{Name: "x"}); return err },
		func() error { _, err := c.ModelConfig(t.Context(), &pb.ModelConfigRequest{Name: "x"}); return err },
		func() error {
			_, err := c.ModelStatistics(t.Context(), &pb.ModelStatisticsRequest{Name: "x"})
			return err
		},
	} {
		if err := call(); status.Code(err) != codes.NotFound {
			t.Errorf("an unknown model: %v", err)
		}
	}
	fault := errors.New("the device is gone")
	f.fault.Store(&fault)
	if _, err := c.ModelInfer(t.Context(), good()); status.Code(err) != codes.Internal {
		t.Errorf("a failed batch: %v", err)
	}
	f.fault.Store(nil)
	if err := core.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, err := c.ModelInfer(t.Context(), good())
	if status.Code(err) != codes.Unavailable || len(status.Convert(err).Details()) != 1 {
		t.Errorf("draining: %v with details %v", err, status.Convert(err).Details())
	}
	if ready, err := c.ServerReady(t.Context(), &pb.ServerReadyRequest{}); err != nil || ready.Ready {
		t.Errorf("ready while draining: %v, %v", ready, err)
	}
}

func TestKServeGRPCCalls(t *testing.T) {
	core := newCore(t, newFake(), serve.Options{})
	c := dialGRPC(t, core, GRPCOptions{MaxCalls: 1})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error)
	go func() {
		err := status.Error(codes.ResourceExhausted, "")
		for status.Code(err) == codes.ResourceExhausted { // the other call may be first
			_, err = c.ModelInfer(ctx, grpcInfer("clip", []string{"one\x00"}, []string{"slow"}))
		}
		ended <- err
	}()
	q := grpcInfer("clip", []string{"two\x00"}, []string{"a"})
	refused := func() error { // until the slow call is there
		for {
			if _, err := c.ModelInfer(t.Context(), q); err != nil {
				return err
			}
		}
	}()
	if status.Code(refused) != codes.ResourceExhausted || len(status.Convert(refused).Details()) != 1 {
		t.Errorf("a second call: %v", refused)
	}
	if _, err := c.ServerLive(t.Context(), &pb.ServerLiveRequest{}); err != nil {
		t.Errorf("live beside it: %v", err)
	}
	cancel()
	if err := <-ended; status.Code(err) != codes.Canceled {
		t.Errorf("the slow call: %v", err)
	}
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if _, err := c.ModelInfer(t.Context(), q); err == nil {
			return
		} else if time.Now().After(deadline) {
			t.Fatalf("after it has ended: %v", err)
		}
	}
}

// fillInputs makes the inputs of a request empty messages, of two bytes each on the wire.
func fillInputs(q *pb.ModelInferRequest) {
	for i := range q.Inputs {
		q.Inputs[i] = &pb.ModelInferRequest_InferInputTensor{}
	}
	q.RawInputContents = nil
}

func TestKServeDeadlines(t *testing.T) {
	core := newCore(t, newFake(), serve.Options{})
	c := dialGRPC(t, core, GRPCOptions{})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := c.ModelInfer(ctx, grpcInfer("clip", []string{"one\x00"}, []string{"slow"})); status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("a deadline of gRPC: %v", err)
	}
	q := grpcInfer("clip", []string{"two\x00"}, []string{"slow"})
	q.Parameters = map[string]*pb.InferParameter{"timeout": {ParameterChoice: &pb.InferParameter_Int64Param{Int64Param: 50_000}}}
	begin := time.Now()
	if _, err := c.ModelInfer(t.Context(), q); status.Code(err) != codes.DeadlineExceeded && status.Code(err) != codes.ResourceExhausted || time.Since(begin) > time.Second {
		t.Errorf("Triton's timeout: %v after %v", err, time.Since(begin))
	}
}

func TestKServeGRPCKeys(t *testing.T) {
	core := newCore(t, newFake(), serve.Options{})
	c := dialGRPC(t, core, GRPCOptions{Authenticate: func(_ context.Context, authorization string) (string, error) {
		if authorization != "Bearer right" {
			return "", errors.New("a key is needed")
		}
		return "trainer", nil
	}})
	q := grpcInfer("clip", []string{"one\x00"}, []string{"a"})
	for want, pairs := range map[codes.Code][][]string{
		codes.OK:              {{"authorization", "Bearer right"}, {"x-api-key", "right"}},
		codes.Unauthenticated: {{}, {"authorization", "Bearer wrong"}, {"authorization", "right"}},
	} {
		for _, kv := range pairs {
			if _, err := c.ModelInfer(metadata.AppendToOutgoingContext(t.Context(), kv...), q); status.Code(err) != want {
				t.Errorf("%v: %v, expected %v", kv, err, want)
			}
		}
	}
	if _, err := c.ServerLive(t.Context(), &pb.ServerLiveRequest{}); err != nil {
		t.Errorf("live needs no key: %v", err)
	}
}

func FuzzKServeREST(f *testing.F) {
	f.Add([]byte(`{"id":"1","inputs":[{"name":"images","datatype":"BYTES","shape":[1],"data":["aaaa"]},{"name":"texts","datatype":"BYTES","shape":[1,1],"data":[["a"]]}],"outputs":[{"name":"scores","parameters":{"binary_data":true}}]}`), "")
	f.Add(append([]byte(`{"inputs":[{"name":"images","datatype":"BYTES","shape":[1],"parameters":{"binary_data_size":8}}]}`), "\x04\x00\x00\x00abcd"...), "97")
	f.Add([]byte(`{"inputs":[{"name":"images","datatype":"UINT8","shape":[1,1,1,1],"parameters":{"binary_data_size":1}}],"parameters":{"timeout":1e300,"pairs":"all"}}x`), "140")
	f.Fuzz(func(t *testing.T, body []byte, header string) {
		_, q, err := readInfer(body, header)
		if err != nil {
			return
		}
		checkInfer(t, q)
	})
}

// checkInfer reads what an inference request holds, as the server would.
func checkInfer(t *testing.T, q *inferRequest) {
	q.model = "clip"
	q.options()
	q.wanted([]string{"clip"})
	var ask serve.ScoreRequest
	if err := q.readInputs(&ask); err != nil && !errors.Is(err, serve.ErrBadRequest) {
		t.Fatal(err)
	}
	if len(ask.Images) > maxItems || len(ask.Texts) > maxItems {
		t.Fatal("too many items")
	}
}

func FuzzKServeRaw(f *testing.F) {
	for _, q := range []*pb.ModelInferRequest{
		grpcInfer("clip", []string{"one", "two"}, []string{"a"}), grpcInfer("clip", nil, nil),
		{Inputs: []*pb.ModelInferRequest_InferInputTensor{{Name: "images", Datatype: "UINT8", Shape: []int64{1, 1, 1, 3}}}, RawInputContents: [][]byte{[]byte("abc")}},
		{Inputs: []*pb.ModelInferRequest_InferInputTensor{{Name: "texts", Datatype: "BYTES", Shape: []int64{2}, Contents: &pb.InferTensorContents{BytesContents: [][]byte{nil, []byte("x")}}}}},
	} {
		b, err := proto.Marshal(q)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		budget := maxFields
		if countFields(b, &budget, inferFields) != nil {
			return
		}
		var in pb.ModelInferRequest
		if proto.Unmarshal(b, &in) != nil {
			return
		}
		if q, err := readGRPCInfer(&in); err == nil {
			checkInfer(t, q)
		} else if !errors.Is(err, serve.ErrBadRequest) {
			t.Fatal(err)
		}
	})
}
