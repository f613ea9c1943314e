package main

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/tia2-engine/tia2-engine/bench/report"
	"github.com/tia2-engine/tia2-engine/engine"
)

func devicesCommand(con *console) *cli.Command {
	return &cli.Command{
		Name:  "devices",
		Usage: "list the devices that a model can run on, for --backend",
		Flags: []cli.Flag{formatFlag(), outFlag("`FILE` for the result (default: stdout)")},
		Action: func(c *cli.Context) error {
			if err := requireArgs(c, 0, 0, "none"); err != nil {
				return err
			}
			devices := engine.Devices()
			t := report.Table{Header: []string{"name", "backend", "memory GB", "free GB", "description"}, Numeric: []bool{false, false, true, true, false}}
			for _, d := range devices {
				t.Rows = append(t.Rows, []string{d.Name, d.Backend, gigabytes(d.MemoryTotal), gigabytes(d.MemoryFree), d.Description})
			}
			return con.show(c, struct {
				ISA     string          `json:"isa"`
				Devices []engine.Device `json:"devices"`
			}{engine.NativeVersions().ISA, devices}, t)
		},
	}
}

func gigabytes(n uint64) string { return fmt.Sprintf("%.1f", float64(n)/1e9) }
