package main

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/tia2-engine/tia2-engine/bench/align"
	"github.com/tia2-engine/tia2-engine/bench/profile"
	"github.com/tia2-engine/tia2-engine/bench/report"
	"github.com/tia2-engine/tia2-engine/bench/throughput"
	"github.com/tia2-engine/tia2-engine/engine"
)

// batchDefault is the batch of the timings where no flag names one.
const batchDefault = 32

// textTowers are those whose work includes texts.
var textTowers = []string{throughput.TowerText, throughput.TowerPair, throughput.TowerE2E}

// randomNames are the models of random:NAME, small ones first.
var randomNames = []string{"vit-b-32", "vit-b-16", "vit-l-14", "vit-l-14-336", "vit-h-14", "vit-g-14", "pickscore", "hpsv2",
	"blip-itm-base", "blip-itm-large", "imagereward", "blip2-itm", "aesthetic"}

func benchCommand(con *console) *cli.Command {
	return &cli.Command{
		Name:  "bench",
		Usage: "measure throughput on this machine, and agreement with people on a data set",
		Description: "Without flags: the embedded model on the embedded set. random:NAME is a full-size architecture with random weights:\n" +
			"for throughput only, so it gets no alignment. NAME:\n" +
			strings.Join(randomNames[:8], ", ") + ",\n" + strings.Join(randomNames[8:], ", ") + ".\n" +
			"A cross encoder (BLIP, BLIP-2, ImageReward) is timed with 1, 8 and 33 texts an image in the tower pair, which encodes\n" +
			"the images, too. ImageReward has no tower text, an aesthetic head none at all.",
		Flags: append(append(append(append(modelFlags(), limitFlags()...), setFlags("images")...), alignFlags()...),
			&cli.StringFlag{Name: "tower", Usage: "what to time, separated by commas: " + strings.Join(throughput.Towers(), ", ") + " (default: " + strings.Join(throughput.DefaultTowers(), ",") + ")"},
			&cli.IntSliceFlag{Name: "batches", Usage: "time these batch sizes, repeatable (default: --batch, else 32)"},
			&cli.StringFlag{Name: "texts", Usage: "`FILE` with one text a line, - is stdin: the tower text takes the first of a batch's number, pair and e2e the first " +
				strconv.Itoa(throughput.TextSetSize), DefaultText: "made-up prompts"},
			&cli.BoolFlag{Name: "no-alignment", Usage: "leave out the agreement with people"},
			&cli.BoolFlag{Name: "no-throughput", Usage: "leave out the timings"},
			&cli.StringFlag{Name: "compare", Usage: "compare with the JSON report `OLD`"},
			&cli.BoolFlag{Name: "ops", Usage: "print shape, time and fraction of the roof of each op, the slowest first, like layers together"},
			&cli.BoolFlag{Name: "ops-layers", Usage: "as --ops, with each layer by itself, in the order in which they run"},
			&cli.StringFlag{Name: "opprofile", Usage: "as --ops, and write time, FLOPs and bytes of each op to `FILE` (go tool pprof)"},
			&cli.DurationFlag{Name: "min-time", Usage: "time each run for at least this long", DefaultText: "500ms"},
			&cli.DurationFlag{Name: "max-time", Usage: "and for at most this long", DefaultText: "10s"},
			&cli.IntFlag{Name: "max-calls", Usage: "and for at most this many calls", DefaultText: "1000"},
			formatFlag(), outFlag("`FILE` for the result (default: stdout)"),
		),
		Action: func(c *cli.Context) error { return bench(con, c) },
	}
}

func bench(con *console, c *cli.Context) (err error) {
	if err := requireArgs(c, 0, 0, "none"); err != nil {
		return err
	}
	opt, err := con.throughputOptions(c)
	if err != nil {
		return err
	}
	alignOpt, err := alignOptions(c)
	if err != nil {
		return err
	}
	var old *throughput.Report
	if path := c.String("compare"); path != "" {
		if old, err = throughput.ReadReport(path); err != nil {
			return fmt.Errorf("--compare: %w", err)
		}
	}
	result, aligned, failed := con.measure(c, opt, alignOpt)
	if result == nil {
		return failed
	}
	if path := c.String("opprofile"); path != "" {
		err := con.writeFile(path, func(w io.Writer) error { return profile.Write(w, result.Recordings(), result.Started) })
		failed = errors.Join(failed, err)
	}
	return errors.Join(failed, con.output(c, func(w io.Writer) error { return writeBench(w, c.String("format"), result, aligned, old) }))
}

// throughputOptions reads the flags of the timings, and the file of --texts.
func (con *console) throughputOptions(c *cli.Context) (throughput.Options, error) {
	opt := throughput.Options{
		Batches:   c.IntSlice("batches"),
		MinTime:   c.Duration("min-time"),
		MaxTime:   c.Duration("max-time"),
		MaxRuns:   c.Int("max-calls"),
		Ops:       c.Bool("ops") || c.Bool("ops-layers") || c.IsSet("opprofile"),
		OpsLayers: c.Bool("ops-layers"),
	}
	if len(opt.Batches) == 0 {
		opt.Batches = []int{cmp.Or(max(c.Int("batch"), 0), batchDefault)} // a negative --batch is refused with the model's flags
	}
	for _, b := range opt.Batches {
		if b < 1 {
			return opt, usagef("--batches %d: expected a number >= 1", b)
		}
	}
	if n := opt.MaxRuns; c.IsSet("max-calls") && n < 1 {
		return opt, usagef("--max-calls %d: expected a number >= 1", n)
	}
	if list := c.String("tower"); list != "" {
		opt.Towers = strings.Split(list, ",")
	}
	for _, tower := range opt.Towers {
		if !slices.Contains(throughput.Towers(), tower) {
			return opt, usagef("--tower %s: expected some of %s", tower, strings.Join(throughput.Towers(), ", "))
		}
	}
	if c.Bool("no-throughput") {
		for _, flag := range []string{"ops", "ops-layers", "opprofile", "texts"} {
			if c.IsSet(flag) {
				return opt, usagef("--%s is about the timings: expected no --no-throughput", flag)
			}
		}
	}
	if c.IsSet("texts") {
		if err := con.benchTexts(c, &opt); err != nil {
			return opt, err
		}
	}
	return opt, nil
}

// benchTexts reads the file of --texts. A batch must not have more texts than the file: with some of them repeated, less
// than a batch of work would be timed.
func (con *console) benchTexts(c *cli.Context, opt *throughput.Options) (err error) {
	towers := opt.Towers
	if len(towers) == 0 {
		towers = throughput.DefaultTowers()
	}
	withTexts := func(tower string) bool { return slices.Contains(textTowers, tower) }
	if !slices.ContainsFunc(towers, withTexts) {
		return usagef("--texts: the tower %s takes none: expected one of %s in --tower", strings.Join(towers, ","), strings.Join(textTowers, ", "))
	}
	if opt.Texts, err = con.readTexts(c.String("texts")); err != nil {
		return err
	}
	if most := slices.Max(opt.Batches); slices.Contains(towers, throughput.TowerText) && most > len(opt.Texts) {
		return usagef("--texts %s: %d lines: expected at least %d, the texts of a batch (--batches)", c.String("texts"), len(opt.Texts), most)
	}
	opt.PerPair = min(len(opt.Texts), throughput.TextSetSize)
	return nil
}

// measure runs the alignment and the timings that are asked for. What is finished comes with the error that ended it.
func (con *console) measure(c *cli.Context, opt throughput.Options, alignOpt align.Options) (result *throughput.Report, aligned *align.Report, err error) {
	if opt.Threads = c.Int("threads"); opt.Threads == 0 {
		opt.Threads = runtime.NumCPU() // as engine.Open does
	}
	con.logf("measuring the machine with %d threads", opt.Threads)
	peak, err := engine.PeakMeasure(opt.Threads)
	if err != nil {
		return nil, nil, err
	}
	result = throughput.NewReport(peak, opt.Threads, engine.NativeVersions())
	opt.Peak = result.Machine.PeakGFLOPS
	opt.Bandwidth = peak.BandwidthGBs

	var failed error
	if specs := trained(modelSpecs(c)); len(specs) > 0 && !c.Bool("no-alignment") {
		aligned, failed = con.alignment(c, specs, alignOpt)
		if aligned != nil {
			result.Alignment = aligned.Sets
		} else if failed != nil {
			return nil, nil, failed
		}
	}
	if c.Bool("no-throughput") {
		return result, aligned, failed
	}
	bar := con.progress()
	defer bar.done()
	opt.Progress = bar.items
	opt.Note = func(text string) { con.warnf("note: %s", text) }
	for _, spec := range modelSpecs(c) {
		if err := con.timeModel(c, spec, bar, opt, result); err != nil {
			return result, aligned, errors.Join(failed, err)
		}
	}
	if len(result.Runs) == 0 {
		failed = errors.Join(failed, errors.New("bench: the models have none of the towers: nothing was timed"))
	}
	return result, aligned, failed
}

// timeModel adds the runs of one model. Models are opened one at a time, so that the memory reported is the model's.
func (con *console) timeModel(c *cli.Context, spec string, bar *progress, opt throughput.Options, result *throughput.Report) (err error) {
	models, err := con.openModels(c, []string{spec}, bar, func(o *engine.Options) { o.Threads = opt.Threads })
	if err != nil {
		return err
	}
	defer con.closeModels(models, &err)
	bar.eager = true
	defer func() { bar.eager = false }()
	runs, err := throughput.Measure(c.Context, models[0], opt)
	result.Runs = append(result.Runs, runs...)
	return err
}

// alignment scores the set with the given models and evaluates the scores.
func (con *console) alignment(c *cli.Context, specs []string, opt align.Options) (*align.Report, error) {
	sets, err := con.openSets(setSpec(c), c.String("images"), c.StringSlice("set-name"), "--images")
	if err != nil {
		return nil, err
	}
	scores, failed := con.runModels(c, specs, sets, "", opt)
	if scores == nil {
		return nil, failed
	}
	result, err := align.Evaluate(sets, scores, opt)
	return result, errors.Join(failed, err)
}

// trained leaves out the models whose weights are random.
func trained(specs []string) []string {
	var rest []string
	for _, spec := range specs {
		if !strings.HasPrefix(spec, "random:") {
			rest = append(rest, spec)
		}
	}
	return rest
}

// writeBench writes the whole result: as one JSON document, or as tables under each other.
func writeBench(w io.Writer, format string, result *throughput.Report, aligned *align.Report, old *throughput.Report) error {
	var change *throughput.Comparison
	if old != nil {
		ch := throughput.Compare(old, result)
		change = &ch
	}
	if format == "json" {
		return report.Write(w, format, struct {
			*throughput.Report
			Comparison *throughput.Comparison `json:"comparison,omitempty"`
		}{result, change})
	}
	b := bufio.NewWriter(w)
	if format != "csv" {
		fmt.Fprintf(b, "%s\n\n", result.Heading())
	}
	if aligned != nil {
		if err := aligned.Write(b, format); err != nil {
			return err
		}
		fmt.Fprintln(b)
	}
	tables := []report.Table{result.RunsTable()}
	if format == "csv" {
		tables[0] = result.RunsCSV()
	}
	if len(result.Runs) == 0 {
		tables = nil
	}
	for i := range result.Runs {
		if t := result.Runs[i].OpsTable(); len(t.Rows) > 0 {
			tables = append(tables, t)
		}
	}
	switch {
	case change != nil && format == "csv":
		tables = append(tables, change.CSV())
	case change != nil:
		tables = append(tables, change.Table())
	}
	if err := report.Write(b, format, nil, tables...); err != nil {
		return err
	}
	if format == "csv" {
		return b.Flush()
	}
	remarks := result.Remarks()
	if change != nil {
		remarks = append(remarks, change.Remarks()...)
	}
	if len(remarks) > 0 {
		fmt.Fprintf(b, "\n%s\n", strings.Join(remarks, "\n"))
	}
	return b.Flush()
}
