package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"
	"golang.org/x/sync/errgroup"

	"github.com/tia2-engine/tia2-engine/bench/export"
	"github.com/tia2-engine/tia2-engine/engine"
)

// OpenAI's mean and standard deviation of the channels, which most CLIP and BLIP models keep.
var (
	openAIMean = [3]float32{0.48145466, 0.4578275, 0.40821073}
	openAIStd  = [3]float32{0.26862954, 0.26130258, 0.27577711}
)

func preprocessCommand(con *console) *cli.Command {
	return &cli.Command{
		Name:      "preprocess",
		Usage:     "write exactly what a model sees of pictures",
		ArgsUsage: "FILE...",
		Description: "The .npz has one array a file, keyed by its base name: u8 [S,S,3], or f32 [3,S,S] normalised. A bad file is named\n" +
			"on stderr, the rest is written, and the exit status is 1.",
		Flags: append(limitFlags(),
			&cli.StringFlag{Name: "pipeline", Value: "openai", Usage: strings.Join(engine.Pipelines(), ", ")},
			&cli.IntFlag{Name: "size", Value: 224, Usage: "side `S` of the result in pixels"},
			&cli.StringFlag{Name: "type", Value: "u8", Usage: "u8 or f32 (hpsv2 has f32 only)"},
			&cli.StringFlag{Name: "mean", Usage: "`R,G,B` subtracted for f32 (default: OpenAI's)"},
			&cli.StringFlag{Name: "std", Usage: "`R,G,B` divided by for f32 (default: OpenAI's)"},
			outFlag("`FILE` to write: .npz"),
		),
		Action: func(c *cli.Context) error { return preprocess(con, c) },
	}
}

func preprocess(con *console, c *cli.Context) error {
	if err := requireArgs(c, 1, -1, "one file or more"); err != nil {
		return err
	}
	out := c.String("out")
	if out == "" {
		return usagef("preprocess: --out FILE.npz is missing")
	}
	if err := export.CheckExtension(out, []string{".npz"}); err != nil {
		return usageError{"--out " + err.Error()}
	}
	make1, err := pixelMaker(c)
	if err != nil {
		return err
	}
	z, err := export.CreateNPZ(out)
	if err != nil {
		return err
	}
	defer z.Abort()
	bar := con.progress()
	defer bar.done()
	paths := c.Args().Slice()
	var failed error
	written := 0
	for from := 0; from < len(paths); {
		if c.Context.Err() != nil {
			failed = errors.Join(failed, c.Context.Err())
			break // and keep what is finished
		}
		bar.set("pictures", int64(from), int64(len(paths)))
		group := paths[from:min(from+4*runtime.GOMAXPROCS(0), len(paths))]
		arrays, errs := preprocessGroup(c.Context, group, make1)
		for i, a := range arrays {
			err := errs[i]
			if err == nil {
				err = z.Add(a)
			}
			if err != nil {
				con.warnf("%s: %s", group[i], trimPrefix(err))
				failed = errReported
				continue
			}
			written++
		}
		from += len(group)
	}
	bar.done()
	if written == 0 {
		return errors.Join(failed, fmt.Errorf("%s: not written, as no picture could be read", out))
	}
	return errors.Join(failed, z.Commit())
}

// pixelMaker returns the function that turns a file's bytes into an array, as the flags say.
func pixelMaker(c *cli.Context) (func(data []byte) (export.Array, error), error) {
	p := engine.Preprocess{Pipeline: c.String("pipeline"), Size: c.Int("size"), Mean: openAIMean, Std: openAIStd, Limits: imageLimits(c)}
	if !slices.Contains(engine.Pipelines(), p.Pipeline) {
		return nil, usagef("--pipeline %s: expected one of %s", p.Pipeline, strings.Join(engine.Pipelines(), ", "))
	}
	if p.Size < 1 || p.Size > 4096 {
		return nil, usagef("--size %d: expected 1 to 4096", p.Size)
	}
	for name, dst := range map[string]*[3]float32{"mean": &p.Mean, "std": &p.Std} {
		if err := parseChannels(c, name, dst); err != nil {
			return nil, err
		}
	}
	switch kind := c.String("type"); {
	case kind == "u8" && p.Pipeline == "hpsv2":
		return nil, usagef("--type u8: the pipeline hpsv2 makes no bytes: expected f32")
	case kind == "u8":
		return func(data []byte) (export.Array, error) {
			px, err := p.U8(data)
			return export.Array{Shape: []int{p.Size, p.Size, 3}, U8: px}, err
		}, nil
	case kind == "f32":
		return func(data []byte) (export.Array, error) {
			px, err := p.F32(data)
			return export.Array{Shape: []int{3, p.Size, p.Size}, F32: px}, err
		}, nil
	default:
		return nil, usagef("--type %s: expected u8 or f32", kind)
	}
}

// parseChannels reads the flag's three numbers into dst, if it is given.
func parseChannels(c *cli.Context, name string, dst *[3]float32) error {
	if !c.IsSet(name) {
		return nil
	}
	parts := strings.Split(c.String(name), ",")
	if len(parts) != 3 {
		return usagef("--%s %s: expected three numbers, R,G,B", name, c.String(name))
	}
	for i, part := range parts {
		v, err := strconv.ParseFloat(strings.TrimSpace(part), 32)
		if err != nil || name == "std" && !(v > 0) {
			return usagef("--%s %s: expected three numbers, R,G,B", name, c.String(name))
		}
		dst[i] = float32(v)
	}
	return nil
}

// preprocessGroup makes the arrays of some files at once. errs[i] is set where file i failed.
func preprocessGroup(ctx context.Context, paths []string, make1 func([]byte) (export.Array, error)) (arrays []export.Array, errs []error) {
	arrays, errs = make([]export.Array, len(paths)), make([]error, len(paths))
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	for i, path := range paths {
		g.Go(func() error {
			data, err := os.ReadFile(path)
			if err == nil {
				arrays[i], err = make1(data)
			}
			arrays[i].Name, errs[i] = filepath.Base(path), err
			return nil
		})
	}
	_ = g.Wait() // the errors are those of the files
	return arrays, errs
}
