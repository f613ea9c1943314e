package main

import (
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/tia2-engine/tia2-engine/bench/report"
	"github.com/tia2-engine/tia2-engine/engine"
)

// processFlags are those that every command has.
func processFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "cpuprofile", Usage: "write a CPU profile of the Go code to `FILE` (go tool pprof)"},
		&cli.BoolFlag{Name: "verbose", Aliases: []string{"v"}, Usage: "say on stderr what is being done"},
	}
}

func formatFlag() cli.Flag {
	return &cli.StringFlag{Name: "format", Value: "table", Usage: "`FORMAT` of the result: " + strings.Join(report.Formats, ", ")}
}

func outFlag(usage string) cli.Flag {
	return &cli.StringFlag{Name: "out", Aliases: []string{"o"}, Usage: usage}
}

// modelFlags say which models run, where and how.
func modelFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringSliceFlag{Name: "model", Usage: "`SPEC` of a model, repeatable: demo, a .gguf, a Hugging Face folder, a checkpoint file, random:NAME, hf:OWNER/REPO (default: demo)"},
		&cli.StringFlag{Name: "backend", Value: "auto", Usage: "auto, cpu, vulkan, cuda, metal or the name of a device"},
		&cli.StringFlag{Name: "dtype", Usage: "type of the weights in memory: f32, bf16, f16, int8 (default: as the model's file has them)"},
		&cli.IntFlag{Name: "threads", Usage: "CPU threads", DefaultText: "one for each CPU that this process may use"},
		&cli.IntFlag{Name: "batch", Usage: "images or texts a call", DefaultText: "32"},
		&cli.StringFlag{Name: "cache", Usage: "`DIR` for downloads and converted checkpoints, or off (default: the user's cache folder)"},
		&cli.StringFlag{Name: "arch", Usage: "architecture of a checkpoint that does not tell it itself, such as ViT-B-32"},
	}
}

// limitFlags bound what a picture may cost.
func limitFlags() []cli.Flag {
	return []cli.Flag{
		&cli.Uint64Flag{Name: "image-pixels-max", Usage: "most `PIXELS` of a picture", DefaultText: "178956970"},
		&cli.Uint64Flag{Name: "image-bytes-max", Usage: "most `BYTES` of a picture's file", DefaultText: "268435456"},
	}
}

func imageLimits(c *cli.Context) engine.ImageLimits {
	return engine.ImageLimits{PixelsMax: c.Uint64("image-pixels-max"), BytesMax: c.Uint64("image-bytes-max")}
}

// modelOptions reads what modelFlags and limitFlags declare.
func modelOptions(c *cli.Context) (engine.Options, error) {
	opt := engine.Options{
		Backend:  c.String("backend"),
		DType:    c.String("dtype"),
		Threads:  c.Int("threads"),
		Batch:    c.Int("batch"),
		CacheDir: c.String("cache"),
		Arch:     c.String("arch"),
		Limits:   imageLimits(c),
	}
	if opt.Threads < 0 || opt.Batch < 0 {
		return opt, usagef("--threads and --batch: expected numbers >= 1")
	}
	switch opt.DType {
	case "", "f32", "bf16", "f16", "int8":
		return opt, nil
	}
	return opt, usagef("--dtype %s: expected f32, bf16, f16 or int8", opt.DType)
}

// modelSpecs returns the values of --model, or the embedded model.
func modelSpecs(c *cli.Context) []string {
	if specs := c.StringSlice("model"); len(specs) > 0 {
		return specs
	}
	return []string{"demo"}
}

// requireArgs checks the number of arguments that are no flags; most < 0 is any number.
func requireArgs(c *cli.Context, least, most int, names string) error {
	if n := c.NArg(); n < least || most >= 0 && n > most {
		return usagef("%s: %d arguments: expected %s", c.Command.Name, n, names)
	}
	return nil
}
