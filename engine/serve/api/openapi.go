package api

import (
	"bytes"
	_ "embed"
	"net/http"

	"github.com/tia2-engine/tia2-engine/engine"
)

// openAPIDocument describes all that this server answers over HTTP, in OpenAPI 3.1.
//
//go:embed openapi.json
var openAPIDocument []byte

// openAPI answers with the document, in the version of this program.
func (h *handler) openAPI(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	w.Write(bytes.Replace(openAPIDocument, []byte(`"$VERSION"`), []byte(`"`+engine.Version+`"`), 1))
}
