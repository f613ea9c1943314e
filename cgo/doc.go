// Package cgo is the only Go package that calls the native library: one file per C handle or group of free functions,
// each method a check, one call and a conversion. It holds no policy and logs nothing.
//
// # Ownership
//
//	tia2_model        made by OpenModel, freed by Model.Close or, if that was forgotten, by a cleanup of the GC
//	buffers           Go's; C borrows them for the call and keeps no pointer
//	errors, strings   copied out of a struct that lives on the caller's stack
//
// # Threads
//
// Free functions may be called from any goroutine at once. A Model serialises its own calls with one mutex, Model.mu;
// no other lock is taken while it is held. OpenMP keeps a pool of threads for each thread that calls into it, so a
// caller who computes often should do so from one locked OS thread (package engine does).
//
// # Linking
//
// The static library comes from `make build` (CMake); go build does not run it. Go's cache does not hash a library, so
// the Makefile puts its checksum into CGO_LDFLAGS, which makes a rebuilt library count as a change.
package cgo
