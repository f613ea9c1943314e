package main

import (
	"errors"
	"io"
	"slices"

	"github.com/urfave/cli/v2"

	"github.com/tia2-engine/tia2-engine/bench/align"
	"github.com/tia2-engine/tia2-engine/bench/export"
	"github.com/tia2-engine/tia2-engine/engine"
)

func scoreCommand(con *console) *cli.Command {
	return &cli.Command{
		Name:  "score",
		Usage: "score pictures against texts: all pairs, or every picture of a data set against its prompts",
		UsageText: "tia2-engine score --images FILE|DIR|PATTERN... --texts FILE [--out X.npz|X.json]\n" +
			"tia2-engine score --set demo|DIR [--images DIR] --out scores.jsonl",
		Description: "Pairs: one array f32 [N,M] per reward in the .npz; JSON on stdout without --out.\n" +
			"Set: one line for each picture; a run that ended early goes on where it stopped.\n" +
			"Rewards: clip, pickscore, hpsv2, blip_itc, blip_itm, blip2_itc, blip2_itm, imagereward, and aesthetic, which takes the\n" +
			"embeddings of its CLIP: name that with another --model. All models share a picture: it is decoded once.",
		Flags: append(slices.Concat(modelFlags(), limitFlags(), embeddingFlags(), setFlags("set-images")),
			scaleFlag("write rewards"),
			&cli.StringSliceFlag{Name: "images", Usage: "`FILE`, folder or pattern of pictures, repeatable; with --set, the folder of its pictures"},
			&cli.StringFlag{Name: "texts", Usage: "`FILE` with one text a line; - is stdin"},
			outFlag("`FILE` to write: .npz or .json of pairs, .jsonl of a set"),
		),
		Action: func(c *cli.Context) error {
			if err := requireArgs(c, 0, 0, "none (pictures are named with --images)"); err != nil {
				return err
			}
			if _, err := scales(c); err != nil { // before anything is opened
				return err
			}
			if c.IsSet("set") {
				return scoreSet(con, c)
			}
			return scorePairs(con, c)
		},
	}
}

func scorePairs(con *console, c *cli.Context) (err error) {
	out := c.String("out")
	if !c.IsSet("images") || !c.IsSet("texts") {
		return usagef("score: expected --images and --texts, or --set")
	}
	if out != "" {
		if err := export.CheckExtension(out, export.ScoreExtensions); err != nil {
			return usageError{"--out " + err.Error()}
		}
	}
	images, texts, err := con.inputs(c)
	if err != nil {
		return err
	}
	bar := con.progress()
	defer bar.done()
	models, err := con.openModels(c, modelSpecs(c), bar, func(opt *engine.Options) { opt.Progress = bar.items })
	if err != nil {
		return err
	}
	defer con.closeModels(models, &err)
	rewards, err := models.rewards(c)
	if err != nil {
		return err
	}
	scores, err := rewards.Score(c.Context, rewards.All(), images, texts)
	failed := con.reportItems(err)
	if failed != nil && !errors.Is(failed, errReported) {
		return failed
	}
	result := export.Scores{Images: imageNames(images), Texts: texts}
	for _, r := range scores {
		result.Names = append(result.Names, r.Name)
		result.Rewards = append(result.Rewards, r.Scores)
	}
	bar.done()
	if out == "" {
		return errors.Join(failed, con.output(c, func(w io.Writer) error { return export.WriteScoresJSON(w, result) }))
	}
	return errors.Join(failed, export.WriteScores(out, result))
}

func scoreSet(con *console, c *cli.Context) (err error) {
	out := c.String("out")
	if out == "" {
		return usagef("score --set: --out FILE.jsonl is missing")
	}
	if err := export.CheckExtension(out, []string{".jsonl"}); err != nil {
		return usageError{"--out " + err.Error()}
	}
	folder, needs := c.String("set-images"), "--images"
	if folder != "" {
		needs = "--set-images"
	}
	if values := c.StringSlice("images"); len(values) > 1 || len(values) == 1 && folder != "" {
		return usagef("score --set: expected one folder of pictures")
	} else if len(values) == 1 {
		folder = values[0]
	}
	sets, err := con.openSets(c.String("set"), folder, c.StringSlice("set-name"), needs)
	if err != nil {
		return err
	}
	bar := con.progress()
	defer bar.done()
	models, err := con.openModels(c, modelSpecs(c), bar, nil)
	if err != nil {
		return err
	}
	defer con.closeModels(models, &err)
	rewards, err := models.rewards(c)
	if err != nil {
		return err
	}
	_, err = con.scoreSets(c, sets, rewards, out, bar, align.Options{})
	return err
}
