// Package profile turns the op samples of a model into what people read: a pprof profile, whose frames are the model,
// the tower, the block and the op, and a table of ops with the part of the machine's roof that each one reaches.
//
// An op's name is its path, "image/blk.3/attn/qkv". Ops of all blocks that do the same work have the same leaf frame,
// "image/attn/qkv", so that `go tool pprof -top` adds them up, while a flame graph still shows each block.
package profile
