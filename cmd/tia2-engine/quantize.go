package main

import (
	"github.com/urfave/cli/v2"

	"github.com/tia2-engine/tia2-engine/engine"
)

func quantizeCommand(*console) *cli.Command {
	return &cli.Command{
		Name:      "quantize",
		Usage:     "write a GGUF file with a smaller type of the matrices",
		ArgsUsage: "SRC.gguf DST.gguf",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "dtype", Value: "q8_0", Usage: "f32, f16, bf16, q8_0"},
		},
		Action: func(c *cli.Context) error {
			if err := requireArgs(c, 2, 2, "a GGUF file and the file to write"); err != nil {
				return err
			}
			return engine.Quantize(c.Context, c.Args().Get(0), c.Args().Get(1), c.String("dtype"))
		},
	}
}
