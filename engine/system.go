package engine

import "github.com/tia2-engine/tia2-engine/cgo"

// Version is that of this package and of the program.
const Version = "0.1.0"

// Devices lists the devices that a model can be opened on, the best first: GPUs that ggml's installed plug-ins offer, the
// CPU, then GPUs that are simulated in software.
func Devices() []Device {
	var devices []Device
	for _, d := range cgo.Devices() {
		devices = append(devices, Device(d))
	}
	return devices
}

// NativeVersions asks the loaded native libraries for their versions.
func NativeVersions() Versions {
	v := cgo.NativeVersions()
	return Versions{Engine: Version, GGML: v.GGML, OneDNN: v.OneDNN, JPEG: v.JPEG, PNG: v.PNG, WebP: v.WebP, ISA: v.ISA}
}

// PeakMeasure measures what this machine can do at most on the given number of threads, in about a second. What else
// runs on the machine lowers it.
func PeakMeasure(threads int) (Peak, error) {
	p, err := cgo.PeakMeasure(threads)
	return Peak(p), err
}

// SetISA chooses the level of the CPU kernels: "auto", "scalar", "avx2", "avx512", "avx512vnni", "avx512bf16", "neon".
// ErrInvalid where this machine lacks it. The environment variable TIA2_CPU does the same at start-up. Call
// it before Open: the embedding cache of an open model holds the rows of the level that it was opened with.
func SetISA(level string) error { return cgo.SetISA(level) }

// DrainLog returns the log lines that the native libraries wrote since the last call.
func DrainLog() []string { return cgo.DrainLog() }
