package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/tia2-engine/tia2-engine/bench/export"
	"github.com/tia2-engine/tia2-engine/engine"
)

// chunkItems is how many items are handed to the engine at once: what an interrupted run may lose.
const chunkItems = 512

func embedCommand(con *console) *cli.Command {
	return &cli.Command{
		Name:      "embed",
		Usage:     "embed pictures and texts with one model",
		UsageText: "tia2-engine embed [--images FILE|DIR|PATTERN]... [--texts FILE] --out X.npz|X.npy|X.jsonl|X.parquet",
		Description: "npz: image_embeds f32 [N,D], text_embeds f32 [M,D], logit_scale, image_names, text_names. BLIP-2 has Q embeddings a\n" +
			"picture, one after another: image_embeds f32 [N,Q*D]. A picture that cannot be read is named on stderr and is a row\n" +
			"of NaN (left out of jsonl and parquet); the exit status is then 1. ImageReward and aesthetic heads embed nothing.",
		Flags: append(slices.Concat(modelFlags(), limitFlags(), embeddingFlags()),
			&cli.StringSliceFlag{Name: "images", Usage: "`FILE`, folder or pattern of pictures, repeatable"},
			&cli.StringFlag{Name: "texts", Usage: "`FILE` with one text a line; - is stdin"},
			&cli.BoolFlag{Name: "no-normalize", Usage: "leave the embeddings at their own length", DefaultText: "length 1"},
			outFlag("`FILE` to write: .npz, .npy, .jsonl or .parquet"),
		),
		Action: func(c *cli.Context) error { return embed(con, c) },
	}
}

func embed(con *console, c *cli.Context) (err error) {
	if err := requireArgs(c, 0, 0, "none (pictures are named with --images)"); err != nil {
		return err
	}
	out := c.String("out")
	switch {
	case out == "":
		return usagef("embed: --out FILE is missing")
	case !c.IsSet("images") && !c.IsSet("texts"):
		return usagef("embed: nothing to embed: expected --images, --texts or both")
	}
	if err := export.CheckExtension(out, export.EmbeddingExtensions); err != nil {
		return usageError{"--out " + err.Error()}
	}
	if strings.EqualFold(filepath.Ext(out), ".npy") && c.IsSet("images") && c.IsSet("texts") {
		return usagef("--out %s: an .npy file holds one array: expected --images or --texts, not both, or .npz", out)
	}
	specs := modelSpecs(c)
	if len(specs) != 1 {
		return usagef("embed: %d models: expected one", len(specs))
	}
	images, texts, err := con.inputs(c)
	if err != nil {
		return err
	}
	bar := con.progress()
	defer bar.done()
	models, err := con.openModels(c, specs, bar, func(opt *engine.Options) { opt.NoNormalize = c.Bool("no-normalize") })
	if err != nil {
		return err
	}
	defer con.closeModels(models, &err)
	m, info := models[0], models[0].Info()
	if !info.HasEmbeddings() {
		return usagef("embed: %s gives %s and has no embeddings: expected a CLIP, BLIP or BLIP-2", info.Spec, strings.Join(info.Rewards, ", "))
	}
	result := export.Embeddings{LogitScale: info.LogitScale}
	var failed error
	if len(images) > 0 {
		result.Images, failed = con.embedAll(c.Context, bar, "images", imageNames(images), info.ImageVectors*info.EmbedDim, func(ctx context.Context, from, to int) (engine.Embeddings, error) {
			return m.EncodeImages(ctx, images[from:to])
		})
	}
	if len(texts) > 0 && (failed == nil || errors.Is(failed, errReported)) {
		var err error
		result.Texts, err = con.embedAll(c.Context, bar, "texts", texts, info.EmbedDim, func(ctx context.Context, from, to int) (engine.Embeddings, error) {
			return m.EncodeTexts(ctx, texts[from:to])
		})
		failed = errors.Join(failed, err)
	}
	bar.done()
	return errors.Join(failed, con.save(out, result))
}

// save writes what was embedded, unless that is nothing.
func (con *console) save(out string, e export.Embeddings) error {
	if (e.Images == nil || len(e.Images.Names) == 0) && (e.Texts == nil || len(e.Texts.Names) == 0) {
		return nil
	}
	return export.WriteEmbeddings(out, e)
}

// embedAll embeds items in chunks, each as dim values. Items that fail are named and are rows of NaN. When a chunk fails as a whole, or the
// user interrupts, the rows of the chunks before it are returned with the error.
func (con *console) embedAll(ctx context.Context, bar *progress, what string, names []string, dim int,
	encode func(ctx context.Context, from, to int) (engine.Embeddings, error)) (*export.Rows, error) {
	rows := &export.Rows{Dim: dim}
	var failed error
	for from := 0; from < len(names); from += chunkItems {
		to := min(from+chunkItems, len(names))
		bar.set(what, int64(from), int64(len(names)))
		e, err := encode(ctx, from, to)
		if err := con.reportItems(err); errors.Is(err, errReported) {
			failed = err
		} else if err != nil {
			if from > 0 {
				con.warnf("%s: %d of %d are finished and are written", what, from, len(names))
			}
			return rows, errors.Join(failed, err)
		}
		if e.N != to-from || e.Dim != rows.Dim {
			return rows, fmt.Errorf("%s: the engine gave %d x %d values for %d items of width %d", what, e.N, e.Dim, to-from, rows.Dim)
		}
		rows.Names = append(rows.Names, names[from:to]...)
		rows.Data = append(rows.Data, e.Data...)
	}
	if failed != nil && allNaN(rows.Data) {
		return &export.Rows{Dim: rows.Dim}, failed // nothing worth a file
	}
	return rows, failed
}

func allNaN(data []float32) bool {
	for _, v := range data {
		if !math.IsNaN(float64(v)) {
			return false
		}
	}
	return true
}

// inputs reads what --images and --texts mean.
func (con *console) inputs(c *cli.Context) (images []engine.Image, texts []string, err error) {
	if images, err = findImages(c.StringSlice("images")); err != nil {
		return nil, nil, err
	}
	if path := c.String("texts"); path != "" {
		texts, err = con.readTexts(path)
	}
	return images, texts, err
}
