package main

import (
	"runtime"

	"github.com/urfave/cli/v2"

	"github.com/tia2-engine/tia2-engine/bench/report"
	"github.com/tia2-engine/tia2-engine/engine"
)

func versionCommand(con *console) *cli.Command {
	return &cli.Command{
		Name:  "version",
		Usage: "print the versions of the engine and of the native libraries found, and the CPU kernels in use",
		Flags: []cli.Flag{formatFlag(), outFlag("`FILE` for the result (default: stdout)")},
		Action: func(c *cli.Context) error {
			if err := requireArgs(c, 0, 0, "none"); err != nil {
				return err
			}
			v := engine.NativeVersions()
			t := report.Table{Header: []string{"what", "version"}, Rows: [][]string{
				{"tia2-engine", v.Engine}, {"CPU kernels", v.ISA}, {"ggml", v.GGML}, {"oneDNN", v.OneDNN}, {"libjpeg-turbo", v.JPEG},
				{"libpng", v.PNG}, {"libwebp", v.WebP}, {"Go", runtime.Version()},
			}}
			return con.show(c, struct {
				engine.Versions
				Go string `json:"go"`
			}{v, runtime.Version()}, t)
		},
	}
}
