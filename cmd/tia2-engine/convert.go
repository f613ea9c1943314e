package main

import (
	"github.com/urfave/cli/v2"

	"github.com/tia2-engine/tia2-engine/engine"
)

func convertCommand(con *console) *cli.Command {
	return &cli.Command{
		Name:      "convert",
		Usage:     "convert a checkpoint to GGUF",
		ArgsUsage: "SRC DST.gguf",
		Description: "SRC: a Hugging Face or open_clip folder, or a .safetensors, .pt, .pth or .bin file (TorchScript, zip or legacy\n" +
			"pickle; nothing in it is executed), of a CLIP, BLIP, BLIP-2 (LAVIS's two files: name either, or their folder),\n" +
			"ImageReward or LAION's aesthetic head.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "dtype", Value: "f32", Usage: "type of the matrices: f32, f16, bf16, q8_0"},
			&cli.StringFlag{Name: "arch", Usage: "architecture of a checkpoint that does not tell it itself, such as ViT-B-32"},
			&cli.StringFlag{Name: "reward", Usage: "what the scores of a CLIP are: clip, pickscore, hpsv2 (default: told by the checkpoint)"},
			&cli.StringFlag{Name: "pipeline", Usage: "preprocessing of pictures: openai, open_clip, hf_clip, open_clip_squash, blip_squash, hpsv2 (default: told by the checkpoint)"},
			&cli.StringFlag{Name: "name", Usage: "the model's name in the file"},
			imageSizeFlag(),
		},
		Action: func(c *cli.Context) error {
			if err := requireArgs(c, 2, 2, "a checkpoint and the file to write"); err != nil {
				return err
			}
			side, err := imageSize(c)
			if err != nil {
				return err
			}
			bar := con.progress()
			bar.bytes = true
			defer bar.done()
			return engine.Convert(c.Context, c.Args().Get(0), c.Args().Get(1), engine.ConvertOptions{
				DType:    c.String("dtype"),
				Arch:     c.String("arch"),
				Reward:   c.String("reward"),
				Pipeline: c.String("pipeline"),
				Name:     c.String("name"),

				ImageSize: side,

				Progress: func(done, total int64) { bar.set("converting", done, total) },
				Note:     func(text string) { con.warnf("note: %s", text) },
			})
		},
	}
}
