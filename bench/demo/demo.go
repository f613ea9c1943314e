// Package demo holds the embedded default set: rendered scenes in the layout of the TIA2 release.
//
// Each prompt has thirty pictures, of which some show it and the others a near miss (another count, colour or shape,
// attributes or places exchanged), three labels a picture by rule, and contrastive prompts. README.md says how the set
// and the model of engine/internal/demo were made.
package demo

import (
	"embed"
	"io/fs"
)

//go:embed set
var files embed.FS

// Set returns the folder of the set: prompts/prompt_set_demo.json, human_annotations/human_labels_demo.json and the
// pictures in images/demo.
func Set() fs.FS {
	sub, err := fs.Sub(files, "set")
	if err != nil {
		panic("demo: " + err.Error()) // the name is a constant that go:embed has checked
	}
	return sub
}
