package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/tia2-engine/tia2-engine/bench/report"
	"github.com/tia2-engine/tia2-engine/engine"
)

func inspectCommand(con *console) *cli.Command {
	return &cli.Command{
		Name:      "inspect",
		Usage:     "say what a GGUF file or a checkpoint holds",
		ArgsUsage: "PATH",
		Description: "Container, family, hyper-parameters, preprocessing, tokenizer, checksum and tensors; the JSON has the metadata too. A\n" +
			"model that cannot be run is described with the reason, and the exit status is 1.",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "tensors", Usage: "list the tensors in a table too"},
			formatFlag(), outFlag("`FILE` for the result (default: stdout)"),
		},
		Action: func(c *cli.Context) error {
			if err := requireArgs(c, 1, 1, "one file or folder"); err != nil {
				return err
			}
			in, err := engine.Inspect(c.Args().First())
			if err != nil {
				return err
			}
			tables := []report.Table{inspectionTable(in)}
			if c.Bool("tensors") {
				tables = append(tables, tensorsTable(in))
			}
			err = con.show(c, in, tables...)
			if in.Problem != "" {
				err = errors.Join(err, fmt.Errorf("%s: %s", in.Path, in.Problem))
			}
			return err
		},
	}
}

func inspectionTable(in *engine.Inspection) report.Table {
	t := report.Table{Header: []string{"what", "value"}}
	add := func(what, value string) {
		if value != "" {
			t.Rows = append(t.Rows, []string{what, value})
		}
	}
	add("path", in.Path)
	add("container", in.Container)
	add("family", in.Family)
	add("name", in.Name)
	add("reward", in.Reward)
	add("sha256", in.SHA256)
	add("source sha256", in.SourceSum)
	add("weights", strings.Join(in.Parts, ", "))
	add("parameters", strconv.FormatUint(in.Parameters, 10))
	add("tensors", strconv.Itoa(len(in.Tensors)))
	if s := in.Spec; s != nil {
		add("embedding", fmt.Sprintf("%d values", s.EmbedDim))
		add("image", fmt.Sprintf("%d x %d pixels in patches of %d", s.ImageSize, s.ImageSize, s.PatchSize))
		add("image tower", fmt.Sprintf("width %d, %d layers, %d heads, MLP %d, %s", s.Vision.Width, s.Vision.Layers, s.Vision.Heads, s.Vision.MLPWidth, s.Vision.Activation))
		add("text", fmt.Sprintf("%d tokens of %d", s.Context, s.VocabSize))
		add("text tower", fmt.Sprintf("width %d, %d layers, %d heads, MLP %d, %s", s.Text.Width, s.Text.Layers, s.Text.Heads, s.Text.MLPWidth, s.Text.Activation))
	}
	if p := in.Preprocess; p != nil {
		add("preprocessing", fmt.Sprintf("%s, side %d, mean %v, std %v", p.Pipeline, p.Size, p.Mean, p.Std))
	}
	if k := in.Tokenizer; k != nil {
		add("tokenizer", fmt.Sprintf("%s, %d ids, merges: %s", k.Kind, k.VocabSize, k.Source))
	}
	for _, note := range in.Notes {
		add("note", note)
	}
	add("cannot be run", in.Problem)
	return t
}

func tensorsTable(in *engine.Inspection) report.Table {
	t := report.Table{Title: "tensors", Header: []string{"name", "dtype", "shape"}}
	for _, x := range in.Tensors {
		t.Rows = append(t.Rows, []string{x.Name, x.DType, strings.Join(strings.Fields(fmt.Sprint(x.Shape)), ", ")})
	}
	return t
}
