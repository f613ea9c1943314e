package throughput

import (
	"bufio"
	"fmt"
	"io"
	"runtime"
	"strings"
)

// hostMachine describes this machine, without the measured peaks.
func hostMachine() Machine {
	cpu, cores := hostCPU()
	if cpu == "" {
		cpu = "unknown " + runtime.GOARCH
	}
	if cores < 1 || cores > runtime.NumCPU() { // NumCPU follows the affinity mask, the system's list does not
		cores = runtime.NumCPU()
	}
	return Machine{CPU: cpu, Cores: cores, LogicalCPUs: runtime.NumCPU(), OS: runtime.GOOS, Arch: runtime.GOARCH}
}

// parseCPUInfo reads the CPU's name and the number of physical cores from the text of Linux's /proc/cpuinfo. Cores are
// counted by their (socket, core) ids, which ARM does not give: then every processor is one. No name: "".
func parseCPUInfo(r io.Reader) (name string, cores int) {
	type id struct{ socket, core string }
	ids := map[id]bool{}
	var cur id
	var processors int
	var implementer, part string
	scan := bufio.NewScanner(r)
	scan.Buffer(nil, 1<<20) // the flags line of a large CPU is long
	for scan.Scan() {
		key, value, ok := strings.Cut(scan.Text(), ":")
		if !ok {
			continue
		}
		value = strings.TrimSpace(value)
		switch strings.TrimSpace(key) {
		case "processor":
			processors++
			cur = id{}
		case "model name":
			name = strings.Join(strings.Fields(value), " ")
		case "physical id":
			cur.socket = value
		case "core id": // follows "physical id"
			cur.core = value
			ids[cur] = true
		case "CPU implementer":
			implementer = value
		case "CPU part":
			part = value
		}
	}
	if name == "" && implementer != "" {
		name = fmt.Sprintf("ARM (implementer %s, part %s)", implementer, part)
	}
	if len(ids) > 0 {
		return name, len(ids)
	}
	return name, processors
}
