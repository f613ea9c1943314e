// Package convert turns checkpoints of the CLIP and BLIP families into the GGUF files that the engine runs.
//
// It finds the weights and the configuration files of a folder or file (source.go) and tells the family from the tensors'
// names (family.go). A family is one description: how its hyper-parameters are found, which tensors it takes from where,
// how its texts become ids. clip.go has the layouts of CLIP, which read config.json (hf.go), open_clip_config.json or the
// shapes (openclip.go, arch.go); blip.go those of BLIP and ImageReward; blip2.go those of BLIP-2; aesthetic.go the heads
// over embeddings. Vocabularies are the checkpoint's own or the embedded ones (merges.go, words.go). What is taken over is
// planned first (plan.go), then compared with the checkpoint, then written one tensor at a time in the type asked for
// (weights.go, convert.go). random.go makes models without a checkpoint by the same plans.
//
// What cannot be computed exactly as the reference does is an error that names the field or tensor, never a guess; what
// had to be assumed is told as a note.
//
// File contents (metadata keys and tensor names) are described in ARCHITECTURE.md under "GGUF".
package convert
