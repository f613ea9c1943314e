package throughput

import "golang.org/x/sys/unix"

// hostCPU returns the CPU's name and its physical cores.
func hostCPU() (name string, cores int) {
	name, _ = unix.Sysctl("machdep.cpu.brand_string")
	n, _ := unix.SysctlUint32("hw.physicalcpu")
	return name, int(n)
}

// resetRSSPeak does nothing: the system keeps the highest size for the life of the process.
func resetRSSPeak() {}

// rssPeakBytes returns the highest resident size of the process so far, 0 when unknown.
func rssPeakBytes() uint64 {
	var use unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &use) != nil {
		return 0
	}
	return uint64(use.Maxrss) // bytes here, unlike elsewhere
}
