package cgo

// #cgo CFLAGS: -I${SRCDIR}/../kernels/include
// #cgo LDFLAGS: -L${SRCDIR}/../build/lib -ltia2 -lggml -lggml-base -ldnnl -lwebpdemux -lwebp -lpng -ljpeg -lz -lm
// #cgo linux LDFLAGS: -lstdc++ -lpthread
// #cgo darwin LDFLAGS: -L/opt/homebrew/lib -L/usr/local/lib -lc++
// #include "tia2.h"
import "C"
