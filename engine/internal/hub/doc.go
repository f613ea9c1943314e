// Package hub downloads the files of a model repository from the Hugging Face hub, or from a mirror of it.
//
// A pull resolves the revision to a commit, reads the listing of that commit, chooses the files that a checkpoint
// needs and downloads each one. The rules that keep a folder sound whatever happens to the network or the process:
//
//   - a file gets its final name by rename, after its size and its checksum (LFS sha256, else git blob sha1) were
//     found to be those of the listing; until then its bytes are in .pull/ID.part;
//   - ID is made of the file's name, size and checksum, so a part of another version is never continued;
//   - a part is continued with Range and If-Range on the ETag it began with, and begun again where the server's answer
//     is not exactly the missing bytes of the same entity;
//   - one process at a time works in a folder: the others wait for its lock;
//   - .pull/done.json is written last and says which files of which commit are complete.
//
// Why not a library: the Go clients of the hub that are maintained (gomlx/go-huggingface 0.3 was read) begin a broken
// download again from zero, check no checksum and retry nothing, which is what this package is for. It is net/http, and
// gofrs/flock for the lock.
package hub
