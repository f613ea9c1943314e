// Package demo holds the embedded default model: a small CLIP trained on rendered scenes.
//
// bench/demo has the scripts that made it and the record of its training. It knows eight colours, seven shapes, counts
// to five and four relations, and nothing else: it is there so that a fresh clone computes real scores without a
// download, not to judge photographs.
package demo

import _ "embed"

//go:embed model.gguf
var model []byte

// Model returns the GGUF file of the model. The bytes are shared by all callers, who must not change them.
func Model() []byte { return model }
