// Package web is the page at the server's root: drop a picture, type a prompt and prompts that contradict it, and see the
// rewards, the TextNorm confidence, and what the models saw. It is three files without dependencies, embedded, that ask
// the native JSON of package api and nothing else; it works without a network.
//
// The page's Content-Security-Policy allows its own script and stylesheet alone, nothing inline, and talks to its own
// server alone. Whoever may load the page needs a key for what it asks, where the server has keys: the page has a field
// for one, and keeps it nowhere.
package web

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"net/http"
	"time"

	"github.com/tia2-engine/tia2-engine/engine/serve/api"
)

//go:embed index.html app.js style.css icon.svg
var files embed.FS

// policy is the page's Content-Security-Policy.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"

// Routes returns the routes of the page and its files.
func Routes() []api.Route {
	return []api.Route{
		{Pattern: "GET /{$}", Handler: file("index.html", "text/html; charset=utf-8"), Public: true},
		{Pattern: "GET /web/app.js", Handler: file("app.js", "text/javascript; charset=utf-8"), Public: true},
		{Pattern: "GET /web/style.css", Handler: file("style.css", "text/css; charset=utf-8"), Public: true},
		{Pattern: "GET /web/icon.svg", Handler: file("icon.svg", "image/svg+xml"), Public: true},
	}
}

// file answers with an embedded file, or with 304 where the browser has it already.
func file(name, contentType string) http.Handler {
	content, err := files.ReadFile(name)
	if err != nil {
		panic(err) // it is embedded
	}
	sum := sha256.Sum256(content)
	tag := `"` + hex.EncodeToString(sum[:8]) + `"`
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Type", contentType)
		h.Set("Content-Security-Policy", policy)
		h.Set("Cache-Control", "no-cache") // ask each time whether it is still this one
		h.Set("ETag", tag)
		http.ServeContent(w, r, name, time.Time{}, bytes.NewReader(content))
	})
}
