package api

import (
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/legacy"

	"github.com/tia2-engine/tia2-engine/engine"
)

// document is the parsed OpenAPI document, with a router for its paths.
var document = sync.OnceValues(func() (*openapi3.T, routers.Router) {
	doc, err := openapi3.NewLoader().LoadFromData(openAPIDocument)
	if err != nil {
		panic(err)
	}
	router, err := legacy.NewRouter(doc, openapi3.IsOpenAPI31OrLater())
	if err != nil {
		panic(err)
	}
	return doc, router
})

// checkAnswer fails the test unless an answer is what the document says of that path, method and status; and, where a
// body is given, that too.
func checkAnswer(t testing.TB, method, path, body string, r reply) {
	t.Helper()
	_, router := document()
	req, err := http.NewRequest(method, path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	route, params, err := router.FindRoute(req)
	if err != nil {
		t.Fatalf("%s %s is not in the document: %v", method, path, err)
	}
	options := &openapi3filter.Options{AuthenticationFunc: openapi3filter.NoopAuthenticationFunc, IncludeResponseStatus: true}
	in := &openapi3filter.RequestValidationInput{Request: req, PathParams: params, Route: route, Options: options}
	if body != "" {
		if err := openapi3filter.ValidateRequest(t.Context(), in); err != nil {
			t.Errorf("%s %s: the body does not fit the document: %v", method, path, err)
		}
	}
	err = openapi3filter.ValidateResponse(t.Context(), &openapi3filter.ResponseValidationInput{RequestValidationInput: in, Status: r.StatusCode,
		Header: r.Header, Body: io.NopCloser(strings.NewReader(r.body)), Options: options})
	if err != nil {
		t.Errorf("%s %s: the answer does not fit the document: %v", method, path, err)
	}
}

func TestDocument(t *testing.T) {
	url := serveHTTP(t, &fake{}, Config{})
	r := call(t, "GET", url+"/openapi.json", "")
	doc, err := openapi3.NewLoader().LoadFromData([]byte(r.body))
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(t.Context(), openapi3.IsOpenAPI31OrLater()); err != nil {
		t.Fatal(err)
	}
	if doc.Info.Version != engine.Version {
		t.Errorf("version %q, want %q", doc.Info.Version, engine.Version)
	}
}

// TestDocumentFields compares the fields of the document's schemas with those of the types that are decoded and written.
func TestDocumentFields(t *testing.T) {
	doc, _ := document()
	for name, v := range map[string]any{
		"ScoreRequest": scoreRequest{}, "ScoreAnswer": scoreAnswer{}, "ImageError": itemError{}, "TextNormRequest": textNormRequest{},
		"TextNormAnswer": textNormAnswer{}, "TextNormReward": textNormReward{}, "PreprocessRequest": preprocessRequest{}, "ModelList": modelList{},
		"Model": modelEntry{}, "Preprocessing": preprocessing{}, "Health": health{}, "Error": errorBody{}, "ErrorText": errorText{},
	} {
		ref := doc.Components.Schemas[name]
		if ref == nil {
			t.Errorf("no schema %s", name)
			continue
		}
		var fields []string
		for i, typ := 0, reflect.TypeOf(v); i < typ.NumField(); i++ {
			tag, _, _ := strings.Cut(typ.Field(i).Tag.Get("json"), ",")
			fields = append(fields, tag)
		}
		slices.Sort(fields)
		if documented := slices.Sorted(maps.Keys(ref.Value.Properties)); !slices.Equal(fields, documented) {
			t.Errorf("%s: the handlers have %v, the document has %v", name, fields, documented)
		}
	}
	codes := []string{"internal"}
	for _, k := range kinds {
		codes = append(codes, k.code)
	}
	slices.Sort(codes)
	var documented []string
	for _, code := range doc.Components.Schemas["ErrorText"].Value.Properties["code"].Value.Enum {
		documented = append(documented, code.(string))
	}
	slices.Sort(documented)
	if !slices.Equal(codes, documented) {
		t.Errorf("codes %v, the document has %v", codes, documented)
	}
}

// TestDocumentPaths compares the document's paths that are tagged as this package's with its routes.
func TestDocumentPaths(t *testing.T) {
	doc, _ := document()
	public := map[string]bool{}
	for _, route := range new(handler).native() {
		public[route.Pattern] = route.Public
	}
	for path, item := range doc.Paths.Map() {
		for method, op := range item.Operations() {
			pattern := method + " " + path
			isPublic, served := public[pattern]
			delete(public, pattern)
			if own := slices.Contains(op.Tags, "native") || slices.Contains(op.Tags, "server"); own != served {
				t.Errorf("%s: in the document as this package's: %v; served: %v", pattern, own, served)
			}
			if served && isPublic != (op.Security != nil) {
				t.Errorf("%s: public: %v; in the document without a key: %v", pattern, isPublic, op.Security != nil)
			}
		}
	}
	for pattern := range public {
		t.Errorf("%s is not in the document", pattern)
	}
}

// TestDocumentIsJSON: no name twice, which the loader would not tell.
func TestDocumentIsJSON(t *testing.T) {
	var v map[string]any
	if err := DecodeJSON(openAPIDocument, &v, false); err != nil {
		t.Fatal(err)
	}
	if !json.Valid(openAPIDocument) {
		t.Fatal("not JSON")
	}
}
