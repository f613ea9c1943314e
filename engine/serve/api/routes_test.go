package api_test

import (
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/tia2-engine/tia2-engine/engine/serve/api"
	"github.com/tia2-engine/tia2-engine/engine/serve/protocol"
	"github.com/tia2-engine/tia2-engine/engine/serve/web"
)

// TestAllRoutes: the routes of all packages fit into one mux, and those that are no files of the page are in the document,
// and the reverse.
func TestAllRoutes(t *testing.T) {
	core := api.NewFakeCore(t)
	protocols := protocol.Routes(core, protocol.Options{})
	api.Handler(core, api.Config{}, slices.Concat(protocols, web.Routes())...)
	documented := api.DocumentedRoutes()
	for _, route := range slices.Concat(api.NativeRoutes(), protocols) {
		name := strings.TrimSuffix(route.Pattern, "{$}")
		if !documented[name] {
			t.Errorf("%s is not in the document", route.Pattern)
		}
		delete(documented, name)
	}
	for name := range documented {
		t.Errorf("%s is in the document and not served", name)
	}
}

// TestProtocolAnswers holds the JSON of protocols to the document.
func TestProtocolAnswers(t *testing.T) {
	core := api.NewFakeCore(t)
	server := httptest.NewServer(api.Handler(core, api.Config{}, protocol.Routes(core, protocol.Options{})...))
	defer server.Close()
	for _, c := range []struct {
		method, path, body string
		status             int
	}{
		{"POST", "/score", `{"requests":[{"history":[{"text":"x","image_b64":"YQ=="}],"required_rewards":["clip"],"metadata":null}]}`, 200},
		{"POST", "/score", `{"requests":[{"history":[],"required_rewards":["clip"]}]}`, 422},
		{"POST", "/score", `{"requests":[{"history":[{"text":"x","image_b64":"YQ=="}],"required_rewards":["nope"]}]}`, 400},
		{"GET", "/rewards", "", 200},
		{"GET", "/health", "", 200},
		{"GET", "/v2", "", 200},
		{"GET", "/v2/health/live", "", 200},
		{"GET", "/v2/health/ready", "", 200},
		{"GET", "/v2/models/clip", "", 200},
		{"GET", "/v2/models/clip/versions/1", "", 200},
		{"GET", "/v2/models/clip/ready", "", 200},
		{"GET", "/v2/models/clip/config", "", 200},
		{"GET", "/v2/models/clip/stats", "", 200},
		{"GET", "/v2/models/stats", "", 200},
		{"GET", "/v2/models/nope", "", 400},
		{"POST", "/v2/models/clip/infer", `{"id":"7","inputs":[{"name":"images","datatype":"BYTES","shape":[1],"data":["YQ=="]},{"name":"texts","datatype":"BYTES","shape":[1],"data":["x"]}]}`, 200},
		{"POST", "/v2/models/clip/infer", `{"inputs":[]}`, 400},
		{"POST", "/v1/embeddings", `{"model":"vit-tiny","input":["x",{"text":"y"},{"image":"YQ=="}]}`, 200},
		{"POST", "/v1/embeddings", `{"model":"vit-tiny","input":"x","encoding_format":"base64"}`, 200},
	} {
		t.Run(c.method+" "+c.path, func(t *testing.T) { api.CheckCall(t, c.method, server.URL, c.path, c.body, c.status) })
	}
}
