package cgo

// #include "tia2.h"
import "C"

import "strings"

// Versions are those of the native libraries as loaded, and the level of CPU kernels in use.
type Versions struct{ GGML, OneDNN, JPEG, PNG, WebP, ISA string }

// NativeVersions asks the loaded libraries for their versions.
func NativeVersions() Versions {
	var v C.tia2_versions
	C.tia2_versions_get(&v)
	return Versions{
		GGML: C.GoString(&v.ggml[0]), OneDNN: C.GoString(&v.onednn[0]), JPEG: C.GoString(&v.jpeg[0]),
		PNG: C.GoString(&v.png[0]), WebP: C.GoString(&v.webp[0]), ISA: C.GoString(&v.isa[0]),
	}
}

// Device is one device of an installed ggml plug-in.
type Device struct {
	Name, Backend, Description string
	MemoryFree, MemoryTotal    uint64 // bytes
}

// Devices lists the devices that a model can be opened on. The first call loads the plug-ins.
func Devices() []Device {
	buf := make([]C.tia2_device, 16)
	n := int(C.tia2_devices_list(&buf[0], C.int32_t(len(buf))))
	devices := make([]Device, 0, n)
	for _, d := range buf[:min(n, len(buf))] {
		devices = append(devices, Device{
			Name: C.GoString(&d.name[0]), Backend: C.GoString(&d.backend[0]), Description: C.GoString(&d.description[0]),
			MemoryFree: uint64(d.memory_free_bytes), MemoryTotal: uint64(d.memory_total_bytes),
		})
	}
	return devices
}

// DrainLog returns the log lines that the native libraries wrote since the last call.
func DrainLog() []string {
	buf := make([]C.char, 64<<10+1)
	C.tia2_log_drain(&buf[0], C.size_t(len(buf)))
	text := strings.TrimRight(C.GoString(&buf[0]), "\n")
	if text == "" {
		return nil
	}
	return strings.Split(text, "\n")
}

// LiveHandles counts the C objects that are not freed yet. Zero once every Model is closed.
func LiveHandles() int { return int(C.tia2_live_handles()) }
