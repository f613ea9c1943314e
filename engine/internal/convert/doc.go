// Package convert turns checkpoints of the CLIP family into the GGUF files that the engine runs.
//
// It finds the weights and the configuration files of a folder or file (source.go), tells the family from the tensors'
// names (family.go), takes the hyper-parameters from config.json (hf.go), from open_clip_config.json or from the shapes
// (openclip.go), the merges from the checkpoint's tokenizer or the embedded ones (merges.go), and writes the tensors
// one at a time in the type asked for (weights.go, convert.go). What cannot be computed exactly as the reference does
// is an error that names the field or tensor, never a guess; what had to be assumed is told as a note.
//
// File contents (metadata keys and tensor names) are described in ARCHITECTURE.md under "GGUF".
package convert
