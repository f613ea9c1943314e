// Package gguf reads and writes GGUF, the file format of ggml's weights.
//
// A file is a header (magic, version, counts), typed key-value metadata, one info per tensor (name, shape, type,
// offset) and, aligned, the tensors' bytes one after another. The reader takes the same files as ggml's own
// gguf_init_from_file and refuses the same damage, but it returns an error that names the file and the place, and a
// header that lies about its sizes makes it allocate nothing that the file itself could not fill.
//
// Shapes are in ggml's order: Dims[0] is the innermost, so a PyTorch matrix [out, in] has Dims {in, out}.
//
// Source: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md and ggml's src/gguf.cpp.
package gguf
