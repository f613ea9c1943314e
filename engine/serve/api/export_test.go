package api

import (
	"testing"

	"github.com/tia2-engine/tia2-engine/engine/serve"
)

// What tests of package api_test, which may import packages that import this one, need of the tests here.

// NewFakeCore returns a server over the fake backend, whose rewards are clip and hpsv2.
func NewFakeCore(t testing.TB) *serve.Server { return newCore(t, &fake{}, nil) }

// CheckCall sends a JSON body and fails the test unless it and the answer are what the OpenAPI document says.
func CheckCall(t testing.TB, method, url, path, body string, status int) {
	t.Helper()
	r := call(t, method, url+path, body)
	if r.StatusCode != status {
		t.Errorf("%s %s: status %d, want %d: %s", method, path, r.StatusCode, status, r.body)
	}
	if status >= 400 {
		body = "" // it is wrong
	}
	checkAnswer(t, method, path, body, r)
}

// DocumentedRoutes returns the document's methods and paths.
func DocumentedRoutes() map[string]bool {
	doc, _ := document()
	routes := map[string]bool{}
	for path, item := range doc.Paths.Map() {
		for method := range item.Operations() {
			routes[method+" "+path] = true
		}
	}
	return routes
}

// NativeRoutes returns the routes of this package.
func NativeRoutes() []Route { return new(handler).native() }
