package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/tia2-engine/tia2-engine/bench/align"
	"github.com/tia2-engine/tia2-engine/bench/metrics"
	"github.com/tia2-engine/tia2-engine/bench/tia2"
	"github.com/tia2-engine/tia2-engine/textnorm"
)

func evalCommand(con *console) *cli.Command {
	return &cli.Command{
		Name:  "eval",
		Usage: "measure how well rewards, raw and with TextNorm, agree with people on a data set",
		UsageText: "tia2-engine eval [--set demo|DIR] --model SPEC... [--save-scores scores.jsonl]\n" +
			"tia2-engine eval [--set demo|DIR] --scores scores.jsonl...",
		Description: "Every reward raw and as NAME_textnorm, and with two or more textnorm_mean and textnorm_ur. --rewards takes some of\n" +
			"them only, --ensemble puts some of those into the two ensembles.",
		Flags: append(slices.Concat(modelFlags(), limitFlags(), embeddingFlags(), setFlags("images"), alignFlags()),
			scaleFlag("write rewards"),
			&cli.StringSliceFlag{Name: "scores", Usage: "`FILE` of rewards that exist, repeatable; no model is run"},
			&cli.StringFlag{Name: "save-scores", Usage: "keep the rewards in `FILE`: a run that ended early goes on there"},
			&cli.StringFlag{Name: "plot", Usage: "draw the best-of-n curves to `FILE` (.svg or .png)"},
			formatFlag(), outFlag("`FILE` for the result (default: stdout)"),
		),
		Action: func(c *cli.Context) error { return eval(con, c) },
	}
}

// alignFlags are the options of the calibration and the evaluation.
func alignFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "protocol", Value: "fixed", Usage: "how scale and penalty are chosen: fixed, cv (on the other prompts), oracle (on the prompt's own labels, as published)"},
		&cli.Float64Flag{Name: "softmax-scale", Value: textnorm.DefaultScale, Usage: "softmax scale of the protocol fixed"},
		&cli.Float64Flag{Name: "penalty", Value: textnorm.DefaultPenalty, Usage: "weight of the members' variance in textnorm_ur, protocol fixed"},
		&cli.StringFlag{Name: "minmax", Value: "image", Usage: "rescale rewards over the prompts of an image, or over all images of a prompt set: image, set"},
		&cli.StringFlag{Name: "rewards", Usage: "evaluate these `NAMES` only, separated by commas", DefaultText: "all"},
		&cli.StringFlag{Name: "ensemble", Usage: "make textnorm_mean and textnorm_ur of these `NAMES`, separated by commas", DefaultText: "all that depend on the text"},
		&cli.IntFlag{Name: "resamples", Usage: "bootstrap samples of the intervals", DefaultText: "10000"},
		&cli.Uint64Flag{Name: "seed", Usage: "of the bootstrap"},
	}
}

func alignOptions(c *cli.Context) (align.Options, error) {
	protocol, err := textnorm.ParseProtocol(c.String("protocol"))
	if err != nil {
		return align.Options{}, usagef("--protocol: %v", err)
	}
	minmax := textnorm.MinMax(c.String("minmax"))
	if minmax != textnorm.PerImage && minmax != textnorm.PerSet {
		return align.Options{}, usagef("--minmax %s: expected image or set", minmax)
	}
	scale, penalty := c.Float64("softmax-scale"), c.Float64("penalty")
	if !(scale > 0) || !(penalty >= 0) {
		return align.Options{}, usagef("--softmax-scale %g, --penalty %g: expected a scale above 0 and a penalty of 0 or more", scale, penalty)
	}
	if c.Int("resamples") < 0 {
		return align.Options{}, usagef("--resamples %d: expected a number >= 1", c.Int("resamples"))
	}
	return align.Options{
		Protocol: protocol, Scale: scale, Penalty: &penalty, MinMax: minmax,
		Rewards: names(c.String("rewards")), Members: names(c.String("ensemble")),
		Resampling: metrics.Resampling{Resamples: c.Int("resamples"), Seed: c.Uint64("seed")},
	}, nil
}

// names splits a list at its commas; "" is none.
func names(list string) []string {
	if list == "" {
		return nil
	}
	return strings.Split(list, ",")
}

// checkRewards refuses names of --rewards and --ensemble that are not among the rewards that there are.
func checkRewards(opt align.Options, have []string) error {
	slices.Sort(have)
	if err := opt.CheckRewards(slices.Compact(have)); err != nil {
		return usagef("--rewards, --ensemble: %v", err)
	}
	return nil
}

func eval(con *console, c *cli.Context) error {
	if err := requireArgs(c, 0, 0, "none"); err != nil {
		return err
	}
	if c.IsSet("scores") && (c.IsSet("model") || c.IsSet("save-scores")) {
		return usagef("eval: expected --scores, or models to run, not both")
	}
	if c.IsSet("scores") && c.IsSet("scale-convention") {
		return usagef("eval: --scale-convention is of the models that are run: expected no --scores, which are taken as they are")
	}
	if _, err := scales(c); err != nil {
		return err
	}
	plotFormat := strings.TrimPrefix(strings.ToLower(filepath.Ext(c.String("plot"))), ".")
	if c.IsSet("plot") && plotFormat != "svg" && plotFormat != "png" {
		return usagef("--plot %s: expected a file name that ends in .svg or .png", c.String("plot"))
	}
	opt, err := alignOptions(c)
	if err != nil {
		return err
	}
	needs := "--images"
	if c.IsSet("scores") {
		needs = ""
	}
	sets, err := con.openSets(setSpec(c), c.String("images"), c.StringSlice("set-name"), needs)
	if err != nil {
		return err
	}
	scores, failed := con.evalScores(c, sets, opt)
	if scores == nil {
		return failed
	}
	result, err := align.Evaluate(sets, scores, opt)
	if err != nil {
		return errors.Join(failed, err)
	}
	if c.IsSet("plot") {
		if err := con.writeFile(c.String("plot"), func(w io.Writer) error { return result.WritePlot(w, plotFormat) }); err != nil {
			return errors.Join(failed, err)
		}
	}
	return errors.Join(failed, con.output(c, func(w io.Writer) error { return result.Write(w, c.String("format")) }))
}

func setSpec(c *cli.Context) string {
	if c.IsSet("set") {
		return c.String("set")
	}
	return "demo"
}

// evalScores reads the scores of --scores, or computes them. Scores may come with errReported.
func (con *console) evalScores(c *cli.Context, sets []*tia2.Set, opt align.Options) (*tia2.Scores, error) {
	if files := c.StringSlice("scores"); len(files) > 0 {
		scores := tia2.NewScores()
		for _, path := range files {
			if err := readScores(scores, path); err != nil {
				return nil, err
			}
		}
		if err := checkRewards(opt, scores.Rewards()); err != nil {
			return nil, err
		}
		return scores, nil
	}
	return con.runModels(c, modelSpecs(c), sets, c.String("save-scores"), opt)
}

func readScores(scores *tia2.Scores, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("--scores: %w", err)
	}
	defer f.Close()
	return scores.ReadScores(f, path)
}

// runModels scores the sets with the models that specs name. Where save is empty the scores are kept in a temporary
// file, which an interrupted run loses.
func (con *console) runModels(c *cli.Context, specs []string, sets []*tia2.Set, save string, opt align.Options) (_ *tia2.Scores, err error) {
	if save == "" {
		dir, err := os.MkdirTemp("", "tia2-engine-scores-")
		if err != nil {
			return nil, err
		}
		defer os.RemoveAll(dir)
		save = filepath.Join(dir, "scores.jsonl")
	}
	bar := con.progress()
	defer bar.done()
	models, err := con.openModels(c, specs, bar, nil)
	if err != nil {
		return nil, err
	}
	defer con.closeModels(models, &err)
	rewards, err := models.rewards(c)
	if err != nil {
		return nil, err
	}
	return con.scoreSets(c, sets, rewards, save, bar, opt)
}
