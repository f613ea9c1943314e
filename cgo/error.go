package cgo

// #include "tia2.h"
import "C"

import "errors"

// Kinds of errors, for errors.Is. They mirror tia2_status.
var (
	ErrInvalid  = errors.New("invalid argument")              // an argument is out of its documented range
	ErrModel    = errors.New("unusable model")                // the model file is damaged, incomplete or of an unknown kind
	ErrMemory   = errors.New("out of memory")                 // host or device memory ran out, or a limit was passed
	ErrIO       = errors.New("unreadable file")               // a file cannot be read
	ErrBackend  = errors.New("backend failed")                // no such backend or device, or it failed while computing
	ErrImage    = errors.New("unusable picture")              // the picture is damaged, of an unknown format or over a limit
	ErrInternal = errors.New("internal error")                // a bug of ours
	ErrClosed   = errors.New("use of a model that is closed") // a method was called after Close
)

// Error is a failure reported by the native library.
type Error struct {
	Op   string // what was being done: "encode images"
	Msg  string // what went wrong and what was expected
	kind error  // one of the sentinels above
}

func (e *Error) Error() string { return e.Op + ": " + e.Msg }

// Unwrap returns the sentinel that errors.Is compares with.
func (e *Error) Unwrap() error { return e.kind }

// newError copies a status and its message out of C. ce is passed by value: no pointer into C is kept.
func newError(op string, rc C.tia2_status, ce C.tia2_error) error {
	kinds := map[C.tia2_status]error{
		C.TIA2_EINVAL: ErrInvalid, C.TIA2_EMODEL: ErrModel, C.TIA2_ENOMEM: ErrMemory, C.TIA2_EIO: ErrIO,
		C.TIA2_EBACKEND: ErrBackend, C.TIA2_EIMAGE: ErrImage,
	}
	kind, ok := kinds[rc]
	if !ok {
		kind = ErrInternal
	}
	return &Error{Op: op, Msg: C.GoString(&ce.msg[0]), kind: kind}
}
