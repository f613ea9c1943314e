package throughput

import (
	"bufio"
	"os"
	"strconv"
	"strings"
)

// hostCPU returns the CPU's name and its physical cores.
func hostCPU() (name string, cores int) {
	f, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return "", 0
	}
	defer f.Close()
	return parseCPUInfo(f)
}

// resetRSSPeak makes the kernel forget the process's highest resident size. Where it may not (an old kernel, a strict
// container), rssPeakBytes goes on to report the highest since the start, which is still an upper bound.
func resetRSSPeak() {
	if f, err := os.OpenFile("/proc/self/clear_refs", os.O_WRONLY, 0); err == nil {
		_, _ = f.WriteString("5")
		_ = f.Close()
	}
}

// rssPeakBytes returns the highest resident size since resetRSSPeak, 0 when unknown. It reads VmHWM and not getrusage,
// since the latter never goes down.
func rssPeakBytes() uint64 {
	f, err := os.Open("/proc/self/status")
	if err != nil {
		return 0
	}
	defer f.Close()
	for scan := bufio.NewScanner(f); scan.Scan(); {
		if value, ok := strings.CutPrefix(scan.Text(), "VmHWM:"); ok {
			kib, _ := strconv.ParseUint(strings.TrimSpace(strings.TrimSuffix(value, "kB")), 10, 64)
			return kib << 10
		}
	}
	return 0
}
