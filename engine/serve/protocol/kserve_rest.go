package protocol

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math"
	"net/http"
	"strconv"

	"github.com/tia2-engine/tia2-engine/engine/serve"
	"github.com/tia2-engine/tia2-engine/engine/serve/api"
)

// KServe returns the routes of the Open Inference Protocol, with Triton's extensions for binary tensors, model
// configuration and statistics. See kserve.go for models and tensors. Errors are {"error": text}.
func KServe(s *serve.Server, opt Options) []api.Route {
	k := newKServe(s, opt)
	routes := []api.Route{
		{Pattern: "GET /v2", Handler: http.HandlerFunc(k.serverMetadata)},
		{Pattern: "GET /v2/{$}", Handler: http.HandlerFunc(k.serverMetadata)},
		{Pattern: "GET /v2/health/live", Handler: http.HandlerFunc(k.live), Public: true},
		{Pattern: "GET /v2/health/ready", Handler: http.HandlerFunc(k.ready), Public: true},
		{Pattern: "GET /v2/models/stats", Handler: http.HandlerFunc(k.modelStats)},
	}
	for _, path := range []string{"/v2/models/{model}", "/v2/models/{model}/versions/{version}"} {
		routes = append(routes,
			api.Route{Pattern: "GET " + path, Handler: http.HandlerFunc(k.modelMetadata)},
			api.Route{Pattern: "GET " + path + "/ready", Handler: http.HandlerFunc(k.modelReady)},
			api.Route{Pattern: "GET " + path + "/config", Handler: http.HandlerFunc(k.modelConfig)},
			api.Route{Pattern: "GET " + path + "/stats", Handler: http.HandlerFunc(k.modelStats)},
			api.Route{Pattern: "POST " + path + "/infer", Handler: http.HandlerFunc(k.modelInfer)},
		)
	}
	return routes
}

func writeKServeError(w http.ResponseWriter, r *http.Request, err error) {
	status, text := fail(w, r, err)
	writeJSON(w, status, map[string]string{"error": text})
}

func (k *kserve) serverMetadata(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, map[string]any{"name": platform, "version": k.opt.Version, "extensions": extensions})
}

func (k *kserve) live(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, map[string]bool{"live": true})
}

func (k *kserve) ready(w http.ResponseWriter, r *http.Request) {
	if err := k.s.Ready(r.Context()); err != nil {
		status, text := fail(w, r, err)
		writeJSON(w, status, map[string]any{"ready": false, "error": text})
		return
	}
	writeJSON(w, http.StatusOK, map[string]bool{"ready": true})
}

func (k *kserve) modelReady(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("model")
	if _, err := k.rewards(name, r.PathValue("version")); err != nil {
		writeKServeError(w, r, err)
		return
	}
	if err := k.s.Ready(r.Context()); err != nil {
		status, text := fail(w, r, err)
		writeJSON(w, status, map[string]any{"name": name, "ready": false, "error": text})
		return
	}
	writeJSON(w, http.StatusOK, map[string]any{"name": name, "ready": true})
}

// restTensorInfo is a tensor of the metadata.
type restTensorInfo struct {
	Name     string  `json:"name"`
	Datatype string  `json:"datatype"`
	Shape    []int64 `json:"shape"`
}

func (k *kserve) modelMetadata(w http.ResponseWriter, r *http.Request) {
	inputs, outputs, err := k.describe(r.PathValue("model"), r.PathValue("version"))
	if err != nil {
		writeKServeError(w, r, err)
		return
	}
	list := func(infos []tensorInfo) (out []restTensorInfo) {
		for _, i := range infos {
			out = append(out, restTensorInfo{i.name, i.datatype, i.shape})
		}
		return out
	}
	writeJSON(w, http.StatusOK, map[string]any{
		"name": r.PathValue("model"), "versions": []string{modelVersion}, "platform": platform, "inputs": list(inputs), "outputs": list(outputs),
	})
}

// tritonType maps datatypes to the names of Triton's model configuration.
var tritonType = map[string]string{"BYTES": "TYPE_STRING", "FP32": "TYPE_FP32"}

func (k *kserve) modelConfig(w http.ResponseWriter, r *http.Request) {
	inputs, outputs, err := k.describe(r.PathValue("model"), r.PathValue("version"))
	if err != nil {
		writeKServeError(w, r, err)
		return
	}
	list := func(infos []tensorInfo) (out []map[string]any) {
		for _, i := range infos {
			m := map[string]any{"name": i.name, "data_type": tritonType[i.datatype], "dims": i.shape}
			if i.optional {
				m["optional"] = true
			}
			out = append(out, m)
		}
		return out
	}
	writeJSON(w, http.StatusOK, map[string]any{
		"name": r.PathValue("model"), "platform": platform, "backend": platform, "max_batch_size": 0, "input": list(inputs), "output": list(outputs),
	})
}

// restDuration is a count of requests and the time that they took together.
type restDuration struct {
	Count uint64 `json:"count"`
	Ns    uint64 `json:"ns"`
}

func (k *kserve) modelStats(w http.ResponseWriter, r *http.Request) {
	names, stats, err := k.statistics(r.PathValue("model"), r.PathValue("version"))
	if err != nil {
		writeKServeError(w, r, err)
		return
	}
	list := []any{}
	for i, s := range stats {
		all, none := restDuration{s.succeeded, uint64(s.succeededFor)}, restDuration{s.succeeded, 0}
		list = append(list, map[string]any{
			"name": names[i], "version": modelVersion, "last_inference": s.lastMillis(), "inference_count": s.pairs, "execution_count": s.succeeded,
			"inference_stats": map[string]restDuration{
				"success": all, "fail": {s.failed, uint64(s.failedFor)},
				"queue": none, "compute_input": none, "compute_infer": all, "compute_output": none,
			},
		})
	}
	writeJSON(w, http.StatusOK, map[string]any{"model_stats": list})
}

// restRequest is the JSON of an inference request.
type restRequest struct {
	ID         string         `json:"id"`
	Parameters map[string]any `json:"parameters"`
	Inputs     []restInput    `json:"inputs"`
	Outputs    []struct {
		Name       string         `json:"name"`
		Parameters map[string]any `json:"parameters"`
	} `json:"outputs"`
}

type restInput struct {
	Name       string         `json:"name"`
	Datatype   string         `json:"datatype"`
	Shape      []int64        `json:"shape"`
	Parameters map[string]any `json:"parameters"`
	Data       jsonStrings    `json:"data"`
}

// jsonStrings reads strings in nested lists one after another.
type jsonStrings struct {
	list    []string
	present bool
}

func (s *jsonStrings) UnmarshalJSON(b []byte) error {
	s.present = true
	for tokens := json.NewDecoder(bytes.NewReader(b)); ; {
		token, err := tokens.Token()
		switch v := token.(type) {
		case json.Delim:
			if v == '[' || v == ']' {
				continue
			}
		case string:
			s.list = append(s.list, v)
			continue
		}
		if err == io.EOF {
			return nil
		}
		return errors.New("data: expected strings, in lists of the input's shape; send numbers as binary data")
	}
}

// lengthHeader says how many bytes of a body are JSON; the rest is binary data.
const lengthHeader = "Inference-Header-Content-Length"

func (k *kserve) modelInfer(w http.ResponseWriter, r *http.Request) {
	body, err := api.ReadBody(w, r)
	if err != nil {
		writeKServeError(w, r, err)
		return
	}
	if enc := r.Header.Get("Content-Encoding"); enc != "" && enc != "identity" {
		writeKServeError(w, r, badRequest("a body in Content-Encoding %.32q: expected it as it is", enc))
		return
	}
	in, q, err := readInfer(body, r.Header.Get(lengthHeader))
	if err != nil {
		writeKServeError(w, r, err)
		return
	}
	q.model, q.version = r.PathValue("model"), r.PathValue("version")
	result, err := k.infer(r.Context(), q)
	if err != nil {
		writeKServeError(w, r, err)
		return
	}
	in.write(w, r, q, result)
}

// readInfer reads an inference request; header is the value of lengthHeader, "" for JSON alone.
func readInfer(body []byte, header string) (*restRequest, *inferRequest, error) {
	var blob []byte
	if header != "" {
		n, err := strconv.ParseUint(header, 10, 63)
		if err != nil || n > uint64(len(body)) {
			return nil, nil, badRequest("%s is %.32q: expected a length within the %d bytes of the body", lengthHeader, header, len(body))
		}
		body, blob = body[:n], body[n:]
	}
	var in restRequest
	if err := api.DecodeJSON(body, &in, false); err != nil {
		return nil, nil, err
	}
	if len(in.Inputs) > maxTensors || len(in.Outputs) > maxTensors {
		return nil, nil, badRequest("%d inputs and %d outputs: expected at most %d", len(in.Inputs), len(in.Outputs), maxTensors)
	}
	q := &inferRequest{parameters: in.Parameters}
	for i := range in.Inputs {
		t, rest, err := in.Inputs[i].tensor(blob)
		if err != nil {
			return nil, nil, err
		}
		q.inputs, blob = append(q.inputs, t), rest
	}
	if len(blob) > 0 {
		return nil, nil, badRequest("%d bytes of binary data belong to no input", len(blob))
	}
	for _, out := range in.Outputs {
		q.outputs = append(q.outputs, out.Name)
	}
	return &in, q, nil
}

// tensor reads an input from its JSON, or from the front of blob, whose rest it returns.
func (in *restInput) tensor(blob []byte) (tensor, []byte, error) {
	t := tensor{name: in.Name, datatype: in.Datatype, shape: in.Shape}
	size, binary := in.Parameters["binary_data_size"].(float64)
	if !binary {
		if _, shared := in.Parameters["shared_memory_region"]; shared {
			return t, nil, badRequest("input %.64q: shared memory is not read", in.Name)
		}
		elements := make([][]byte, len(in.Data.list))
		for i, s := range in.Data.list {
			elements[i] = []byte(s)
		}
		if !in.Data.present {
			return t, nil, badRequest("input %.64q has no data", in.Name)
		}
		return t, blob, t.setElements(elements)
	}
	if in.Data.present {
		return t, nil, badRequest("input %.64q has data and binary_data_size", in.Name)
	}
	if !(size >= 0) || size != math.Trunc(size) || size > float64(len(blob)) {
		return t, nil, badRequest("input %.64q: binary_data_size %v, with %d bytes of binary data left", in.Name, size, len(blob))
	}
	return t, blob[int(size):], t.setRaw(blob[:int(size):int(size)])
}

// restOutput is an output in the JSON of a response.
type restOutput struct {
	Name       string         `json:"name"`
	Datatype   string         `json:"datatype"`
	Shape      []int64        `json:"shape"`
	Parameters map[string]any `json:"parameters,omitempty"`
	Data       jsonFloats     `json:"data,omitempty"`
}

// jsonFloats are written as numbers, NaN as null.
type jsonFloats []float32

func (f jsonFloats) MarshalJSON() ([]byte, error) {
	b := []byte{'['}
	for i, v := range f {
		if i > 0 {
			b = append(b, ',')
		}
		if x := float64(v); math.IsNaN(x) || math.IsInf(x, 0) {
			b = append(b, "null"...)
		} else {
			b = strconv.AppendFloat(b, x, 'g', -1, 32)
		}
	}
	return append(b, ']'), nil
}

// binaryOutput is whether output i is wanted as binary data.
func (in *restRequest) binaryOutput(i int) bool {
	if i < len(in.Outputs) {
		if want, ok := in.Outputs[i].Parameters["binary_data"].(bool); ok {
			return want
		}
	}
	want, _ := in.Parameters["binary_data_output"].(bool)
	return want
}

// write writes the response, with binary data behind the JSON where it is wanted.
func (in *restRequest) write(w http.ResponseWriter, r *http.Request, q *inferRequest, result *inferResult) {
	var blob bytes.Buffer
	outputs := make([]restOutput, len(result.outputs))
	isBinary := false
	for i, out := range result.outputs {
		outputs[i] = restOutput{Name: out.name, Datatype: "FP32", Shape: result.shape}
		if !in.binaryOutput(i) {
			outputs[i].Data = out.scores
			continue
		}
		isBinary = true
		data := littleEndian(out.scores)
		outputs[i].Parameters = map[string]any{"binary_data_size": len(data)}
		blob.Write(data)
	}
	answer := map[string]any{"model_name": q.model, "model_version": modelVersion, "outputs": outputs}
	if in.ID != "" {
		answer["id"] = in.ID
	}
	if result.errors != "" {
		answer["parameters"] = map[string]any{"errors": result.errors}
	}
	if !isBinary {
		writeJSON(w, http.StatusOK, answer)
		return
	}
	head, err := json.Marshal(answer)
	if err != nil {
		writeKServeError(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set(lengthHeader, strconv.Itoa(len(head)))
	w.Header().Set("Content-Length", strconv.Itoa(len(head)+blob.Len()))
	w.WriteHeader(http.StatusOK)
	w.Write(head)
	w.Write(blob.Bytes())
}
