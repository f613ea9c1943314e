//go:build !linux && !darwin

package throughput

// hostCPU knows nothing of this system.
func hostCPU() (name string, cores int) { return "", 0 }

func resetRSSPeak() {}

// rssPeakBytes returns 0, unknown.
func rssPeakBytes() uint64 { return 0 }
