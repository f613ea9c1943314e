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
			"model that cannot be run is described with the reason, and the exit status is 1. -v lists the tensors of a checkpoint\n" +
			"that are left out on purpose: momentum copies, queues, decoders.",
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
			if con.verbose && len(in.Ignored) > 0 {
				tables = append(tables, ignoredTable(in))
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
	tensors := strconv.Itoa(len(in.Tensors))
	if n := len(in.Ignored); n > 0 {
		tensors += fmt.Sprintf(", of which %d are left out (-v lists them)", n)
	}
	add("tensors", tensors)
	if in.Spec != nil {
		describeSpec(in, add)
	}
	if p := in.Preprocess; p != nil {
		add("preprocessing", fmt.Sprintf("%s, side %d, mean %v, std %v", p.Pipeline, p.Size, p.Mean, p.Std))
	}
	if k := in.Tokenizer; k != nil {
		add("tokenizer", fmt.Sprintf("%s, %d ids, vocabulary: %s", k.Kind, k.VocabSize, k.Source))
		if k.MaxLength > 0 {
			add("texts", fmt.Sprintf("cut to %d tokens (--max-length)", k.MaxLength))
		}
		add("text cleaning", k.Cleaning)
	}
	for _, note := range in.Notes {
		add("note", note)
	}
	add("cannot be run", in.Problem)
	return t
}

// describeSpec adds the hyper-parameters that the model has: an aesthetic head has no towers, ImageReward no embeddings.
func describeSpec(in *engine.Inspection, add func(what, value string)) {
	s := in.Spec
	if s.EmbedDim > 0 {
		add("embedding", fmt.Sprintf("%d values", s.EmbedDim))
	}
	if s.Vision.Layers > 0 {
		add("image", fmt.Sprintf("%d x %d pixels in patches of %d", s.ImageSize, s.ImageSize, s.PatchSize))
		add("image tower", fmt.Sprintf("width %d, %d layers, %d heads, MLP %d, %s", s.Vision.Width, s.Vision.Layers, s.Vision.Heads, s.Vision.MLPWidth, s.Vision.Activation))
	}
	if s.Text.Layers > 0 {
		add("text", fmt.Sprintf("%d tokens of %d", s.Context, s.VocabSize))
		add("text tower", fmt.Sprintf("width %d, %d layers, %d heads, MLP %d, %s", s.Text.Width, s.Text.Layers, s.Text.Heads, s.Text.MLPWidth, s.Text.Activation))
	}
	if p := s.Pair; p.Outputs > 0 {
		output, queries := "a reward", ""
		if p.Outputs == 2 {
			output = "two logits: no match, match"
		}
		if p.Queries > 0 {
			queries = fmt.Sprintf(", %d queries", p.Queries)
		}
		layers := "every layer"
		if p.CrossEvery > 1 {
			layers = fmt.Sprintf("layers 0, %d, %d, ...", p.CrossEvery, 2*p.CrossEvery)
		}
		add("pair", fmt.Sprintf("%s; cross-attention in %s of the text tower%s", output, layers, queries))
	}
}

// ignoredTable lists the tensors that are left out on purpose.
func ignoredTable(in *engine.Inspection) report.Table {
	t := report.Table{Title: "left out", Header: []string{"name"}}
	for _, name := range in.Ignored {
		t.Rows = append(t.Rows, []string{name})
	}
	return t
}

func tensorsTable(in *engine.Inspection) report.Table {
	t := report.Table{Title: "tensors", Header: []string{"name", "dtype", "shape"}}
	for _, x := range in.Tensors {
		t.Rows = append(t.Rows, []string{x.Name, x.DType, strings.Join(strings.Fields(fmt.Sprint(x.Shape)), ", ")})
	}
	return t
}
