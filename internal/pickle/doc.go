// Package pickle reads Python pickles as data, and writes plain ones. It never imports, calls or builds anything: a global
// (module.name) and a call of one are handed to the caller, who answers with a value or refuses, and everything not asked
// for is refused.
//
// The machine knows the opcodes that protocols 2 to 5 write, and is flat: deeply nested input costs stack entries, not
// recursion. Bytes and opcodes are limited, and no length in the input makes it allocate more than the input really holds.
//
//   - Machine is for checkpoints: a stream, whose hooks the caller gives.
//   - Decode is for requests: plain values and NumPy's arrays of texts and numbers, as a tree that can be walked, with its
//     own allow-list (dataCalls) and limits.
//   - Append writes answers.
//
// Why not a library: github.com/nlpodyssey/gopickle v0.3.0, the one kept for Go, allocates what a length field says
// (the eleven bytes of a BINUNICODE8 of 2^44 end the process with an out-of-memory error, which cannot be recovered
// from), and resolves five globals before it asks its FindClass hook, so that an allow-list does not see them.
//
// Source: CPython's Lib/pickle.py and Lib/pickletools.py.
package pickle
