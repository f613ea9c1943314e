package main

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/tia2-engine/tia2-engine/bench/loadtest"
	"github.com/tia2-engine/tia2-engine/bench/report"
	"github.com/tia2-engine/tia2-engine/engine"
)

func loadtestCommand(con *console) *cli.Command {
	return &cli.Command{
		Name:  "loadtest",
		Usage: "put a reward server under load: latency, goodput, refusals, wrong answers, and the highest rate within a service level",
		UsageText: "tia2-engine loadtest --target URL [--rate LIST | --concurrency LIST | --find-rate] [--slo TIME] [--verify]\n" +
			"tia2-engine loadtest --target URL --bad-fraction 0.05 --verify",
		Description: "--rate sends at a rate whatever the server does, --concurrency keeps so many requests under way. Exit status 1 where a\n" +
			"score was wrong, a request got no answer, or a bad one was not answered as it must be; refusals (429, 503) are no failure.",
		Flags: append(loadFlags(),
			&cli.StringSliceFlag{Name: "images", Value: cli.NewStringSlice("demo"), Usage: "`FILE`, folder or pattern of pictures, repeatable, or demo: the embedded set"},
			&cli.StringFlag{Name: "prompts", Value: "demo", Usage: "`FILE` with one prompt a line, - is stdin, or demo"},
			&cli.StringFlag{Name: "expect", Usage: "`FILE` of scores that answers must have, as tia2-engine score writes it: .jsonl or .json"},
			&cli.BoolFlag{Name: "verify", Usage: "score each pair alone first, and expect the same scores under load"},
			&cli.Float64Flag{Name: "tolerance", Value: loadtest.ToleranceDefault, Usage: "relative difference to an expected score that is none"},
			&cli.Float64Flag{Name: "bad-fraction", Usage: "share of bad requests to mix in, 0..1: broken pictures, decode bombs, hostile pickles, half requests, ..."},
			&cli.StringFlag{Name: "html", Usage: "write the result with plots to `FILE`, too"},
			formatFlag(), outFlag("`FILE` for the result (default: stdout)"),
		),
		Action: func(c *cli.Context) error { return loadTest(con, c) },
	}
}

// loadFlags say what is sent where, and how fast.
func loadFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "target", Usage: "`URL` of the server: http://HOST:PORT"},
		&cli.StringFlag{Name: "protocol", Value: loadtest.Protocols[0], Usage: "`NAME`: " + strings.Join(loadtest.Protocols, ", ")},
		&cli.StringSliceFlag{Name: "reward", Usage: "`NAME` of a reward to ask for, repeatable (default: all; pickle: the server's first)"},
		&cli.IntFlag{Name: "items", Value: 1, Usage: "pictures a request"},
		&cli.StringFlag{Name: "rate", Usage: "requests a second: `LIST` separated by commas; with --find-rate, where the search begins"},
		&cli.StringFlag{Name: "arrivals", Value: string(loadtest.Poisson), Usage: "of --rate: poisson (many independent clients) or constant"},
		&cli.StringFlag{Name: "concurrency", Usage: "requests at a time: `LIST` separated by commas", DefaultText: "1,4,16 where no rate is asked for"},
		&cli.BoolFlag{Name: "find-rate", Usage: "search the highest rate at which 99 % of requests are answered within --slo"},
		&cli.DurationFlag{Name: "slo", Value: loadtest.SLODefault, Usage: "what an answer may take"},
		&cli.DurationFlag{Name: "duration", Value: loadtest.DurationDefault, Usage: "of each load"},
		&cli.DurationFlag{Name: "warmup", Value: loadtest.WarmupDefault, Usage: "before it, not counted"},
		&cli.DurationFlag{Name: "timeout", Value: loadtest.TimeoutDefault, Usage: "of a request"},
		&cli.Uint64Flag{Name: "seed", Usage: "of the arrivals and of the mixture"},
		&cli.StringFlag{Name: "api-key", EnvVars: []string{"TIA2_API_KEY"}, Usage: "`KEY` sent as a bearer token"},
		&cli.StringFlag{Name: "tls-ca", Usage: "PEM `FILE` of the authority that signed the server's certificate"},
		&cli.BoolFlag{Name: "tls-insecure", Usage: "take any certificate"},
	}
}

func loadTest(con *console, c *cli.Context) error {
	if err := requireArgs(c, 0, 0, "none"); err != nil {
		return err
	}
	opt, err := loadOptions(c)
	if err != nil {
		return err
	}
	work, err := con.workload(c)
	if err != nil {
		return err
	}
	bar := con.progress()
	opt.Progress = bar.items
	result, err := loadtest.Run(c.Context, work, opt)
	bar.done()
	if result == nil || len(result.Steps) == 0 {
		return err
	}
	for _, line := range result.Failures() {
		con.warnf("%s", line)
		err = errors.Join(err, errReported)
	}
	if path := c.String("html"); path != "" {
		err = errors.Join(err, con.writeFile(path, result.WriteHTML))
	}
	return errors.Join(err, con.output(c, func(w io.Writer) error { return writeLoadTest(w, c.String("format"), result) }))
}

// loadOptions reads what loadFlags declare, and the flags of the checks.
func loadOptions(c *cli.Context) (loadtest.Options, error) {
	opt := loadtest.Options{
		Target: c.String("target"), Protocol: c.String("protocol"), Rewards: c.StringSlice("reward"), Key: c.String("api-key"), Items: c.Int("items"),
		Arrivals: loadtest.Arrivals(c.String("arrivals")), FindRate: c.Bool("find-rate"), Duration: c.Duration("duration"), Warmup: c.Duration("warmup"),
		Timeout: c.Duration("timeout"), SLO: c.Duration("slo"), Seed: c.Uint64("seed"), Verify: c.Bool("verify"), Tolerance: c.Float64("tolerance"),
		BadFraction: c.Float64("bad-fraction"),
	}
	if opt.Warmup == 0 {
		opt.Warmup = -1 // none, where 0 is the default
	}
	var err error
	if opt.Rates, err = numberList(c, "rate", func(s string) (float64, error) { return strconv.ParseFloat(s, 64) }); err != nil {
		return opt, err
	}
	if opt.Concurrency, err = numberList(c, "concurrency", strconv.Atoi); err != nil {
		return opt, err
	}
	if opt.Verify && c.IsSet("expect") {
		return opt, usagef("--verify and --expect: expected one of them")
	}
	if err := opt.Check(); err != nil {
		return opt, usageError{err.Error()}
	}
	if path := c.String("expect"); path != "" {
		if opt.Expected, err = loadtest.ReadExpected(path); err != nil {
			return opt, fmt.Errorf("--expect: %w", err)
		}
	}
	opt.TLS, err = clientTLS(c)
	return opt, err
}

// numberList reads numbers above 0 that are separated by commas.
func numberList[T int | float64](c *cli.Context, flag string, parse func(string) (T, error)) ([]T, error) {
	if !c.IsSet(flag) {
		return nil, nil
	}
	var list []T
	for _, text := range strings.Split(c.String(flag), ",") {
		v, err := parse(strings.TrimSpace(text))
		if err != nil || !(v > 0) {
			return nil, usagef("--%s %s: expected numbers above 0, separated by commas", flag, c.String(flag))
		}
		list = append(list, v)
	}
	return list, nil
}

func clientTLS(c *cli.Context) (*tls.Config, error) {
	config := &tls.Config{InsecureSkipVerify: c.Bool("tls-insecure")}
	path := c.String("tls-ca")
	if path == "" {
		return config, nil
	}
	pem, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("--tls-ca: %w", err)
	}
	if config.RootCAs = x509.NewCertPool(); !config.RootCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("--tls-ca %s: no certificate in PEM", path)
	}
	return config, nil
}

// workload reads the pictures and prompts.
func (con *console) workload(c *cli.Context) (*loadtest.Workload, error) {
	images, prompts := c.StringSlice("images"), c.String("prompts")
	demoImages := slices.Equal(images, []string{"demo"})
	if demoImages && prompts == "demo" {
		return loadtest.Demo()
	}
	var files []engine.Image
	var texts []string
	set, err := loadtest.Demo()
	if err != nil {
		return nil, err
	}
	if files, texts = set.Images, set.Texts; !demoImages {
		if files, err = findImages(images); err != nil {
			return nil, err
		}
	}
	if prompts != "demo" {
		if texts, err = con.readTexts(prompts); err != nil {
			return nil, errors.New("--prompts" + strings.TrimPrefix(err.Error(), "--texts"))
		}
	}
	return loadtest.New(files, texts)
}

// writeLoadTest writes the tables and remarks, or the JSON document.
func writeLoadTest(w io.Writer, format string, result *loadtest.Report) error {
	tables := result.Tables()
	switch format {
	case "json":
		return report.Write(w, format, result)
	case "csv":
		return report.Write(w, format, nil, tables...)
	}
	b := bufio.NewWriter(w)
	fmt.Fprintf(b, "%s\n\n", result.Heading())
	if err := report.Write(b, format, nil, tables...); err != nil {
		return err
	}
	for i, line := range result.Remarks() {
		if i == 0 {
			fmt.Fprintln(b)
		}
		fmt.Fprintln(b, line)
	}
	return b.Flush()
}
