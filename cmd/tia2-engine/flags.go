package main

import (
	"errors"
	"math"
	"slices"
	"strings"

	"github.com/dustin/go-humanize"
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
		&cli.StringSliceFlag{Name: "model", Usage: "`SPEC` of a model, repeatable: demo, a .gguf, a Hugging Face folder, a checkpoint file, random:NAME (full size, random weights), hf:OWNER/REPO (default: demo)"},
		&cli.StringFlag{Name: "backend", Value: "auto", Usage: "auto, cpu, vulkan, cuda, metal or the name of a device"},
		&cli.StringFlag{Name: "dtype", Usage: "type of the weights in memory: f32, bf16, f16, int8 (default: as the model's file has them)"},
		&cli.IntFlag{Name: "threads", Usage: "CPU threads", DefaultText: "one for each CPU that this process may use"},
		&cli.IntFlag{Name: "batch", Usage: "images or texts a call", DefaultText: "32"},
		&cli.StringFlag{Name: "cache", Usage: "`DIR` for downloads and converted checkpoints, or off (default: the user's cache folder)"},
		&cli.StringFlag{Name: "arch", Usage: "architecture of a checkpoint that does not tell it itself, such as ViT-B-32"},
		&cli.StringFlag{Name: "itm-token", Usage: "first `TOKEN` of a pair for blip_itm: cls (BLIP's demo, Hugging Face), enc (LAVIS, BLIP's retrieval)", DefaultText: "cls"},
		&cli.StringFlag{Name: "itm-output", Usage: "`VALUE` of blip_itm and blip2_itm: probability, or logit (that of a match)", DefaultText: "probability"},
		&cli.IntFlag{Name: "max-length", Usage: "most `TOKENS` of a text of BLIP, BLIP-2 and ImageReward, special ones included; -1: all that fit into the model", DefaultText: "where the checkpoint's reference cuts"},
		&cli.StringFlag{Name: "text-cleaning", Usage: "what is done to texts of BLIP, BLIP-2 and ImageReward first: none, blip_caption (LAVIS)", DefaultText: "as the checkpoint's reference does"},
		imageSizeFlag(),
	}
}

func imageSizeFlag() cli.Flag {
	return &cli.IntFlag{Name: "image-size", Usage: "side `S` in pixels of the pictures of a BLIP; its position embedding is interpolated", DefaultText: "the checkpoint's own"}
}

// imageSize reads imageSizeFlag.
func imageSize(c *cli.Context) (int, error) {
	side := c.Int("image-size")
	if c.IsSet("image-size") && (side < 1 || side > 4096) {
		return 0, usagef("--image-size %d: expected 1 to 4096, a multiple of the model's patches", side)
	}
	return side, nil
}

// scaleFlag says in which scales rewards are given; what is done so stands in the usage.
func scaleFlag(what string) cli.Flag {
	return &cli.StringSliceFlag{Name: "scale-convention", Usage: what + " as another program does, repeatable: `NAME` for all that know it, or REWARD=NAME; one of " +
		strings.Join(engine.Conventions(""), ", "), DefaultText: "raw"}
}

// scales reads scaleFlag.
func scales(c *cli.Context) (engine.Scales, error) {
	s, err := engine.ParseScales(c.StringSlice("scale-convention"))
	if err != nil {
		return s, usageError{"--" + err.Error()}
	}
	return s, nil
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

// embeddingFlags say where embeddings are kept. A command without them keeps none.
func embeddingFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "embeddings-cache", Value: engine.EmbeddingCacheAuto, Usage: "`DIR` where embeddings are kept, so that a picture or text is encoded once, or off; auto is embeddings in --cache"},
		&cli.StringFlag{Name: "embeddings-cache-size", Usage: "most `BYTES` of it, as 500MB or 4GiB", DefaultText: "4GiB"},
	}
}

// modelOptions reads what modelFlags, limitFlags and embeddingFlags declare.
func modelOptions(c *cli.Context) (engine.Options, error) {
	opt := engine.Options{
		Backend:  c.String("backend"),
		DType:    c.String("dtype"),
		Threads:  c.Int("threads"),
		Batch:    c.Int("batch"),
		CacheDir: c.String("cache"),
		Arch:     c.String("arch"),
		Limits:   imageLimits(c),

		EmbeddingCache: c.String("embeddings-cache"),

		ITMToken:     c.String("itm-token"),
		ITMOutput:    c.String("itm-output"),
		MaxLength:    c.Int("max-length"),
		TextCleaning: c.String("text-cleaning"),
		Shared:       len(modelSpecs(c)) > 1,
	}
	if size := c.String("embeddings-cache-size"); size != "" {
		var err error
		if opt.EmbeddingCacheBytes, err = parseBytes(size); err != nil {
			return opt, usagef("--embeddings-cache-size %s: %v", size, err)
		}
	}
	if opt.Threads < 0 || opt.Batch < 0 {
		return opt, usagef("--threads and --batch: expected numbers >= 1")
	}
	if n := opt.MaxLength; c.IsSet("max-length") && n < 2 && n != -1 {
		return opt, usagef("--max-length %d: expected 2 or more, for the special tokens, or -1", n)
	}
	for _, f := range []struct {
		name, value string
		allowed     []string
	}{
		{"dtype", opt.DType, []string{"f32", "bf16", "f16", "int8"}},
		{"itm-token", opt.ITMToken, []string{"cls", "enc"}},
		{"itm-output", opt.ITMOutput, []string{"probability", "logit"}},
		{"text-cleaning", opt.TextCleaning, []string{"none", "blip_caption"}},
	} {
		if f.value != "" && !slices.Contains(f.allowed, f.value) {
			return opt, usagef("--%s %s: expected %s", f.name, f.value, orList(f.allowed))
		}
	}
	var err error
	opt.ImageSize, err = imageSize(c)
	return opt, err
}

// orList is "a, b or c".
func orList(names []string) string {
	last := len(names) - 1
	return strings.Join(names[:last], ", ") + " or " + names[last]
}

// parseBytes reads a size such as 4GiB, 1.5 GB or 1000000. Upper and lower case are the same.
func parseBytes(s string) (int64, error) {
	n, err := humanize.ParseBytes(s)
	if err != nil || n == 0 || n > math.MaxInt64 {
		return 0, errors.New("expected a size above 0 such as 500MB or 4GiB")
	}
	return int64(n), nil
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
