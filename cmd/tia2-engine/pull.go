package main

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/tia2-engine/tia2-engine/engine"
)

func pullCommand(con *console) *cli.Command {
	return &cli.Command{
		Name:      "pull",
		Usage:     "download a checkpoint from the Hugging Face hub, and print where it is",
		ArgsUsage: "OWNER/REPO[/FILE][@REVISION]",
		Description: "Continues a download that broke off and checks every file against the hub's checksum.\n" +
			"Environment: HF_TOKEN (private and gated repositories), HF_ENDPOINT (a mirror), HF_HUB_OFFLINE (ask no server).",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "revision", Usage: "branch, tag or commit (default: main)"},
			&cli.StringFlag{Name: "dir", Usage: "put the files into `DIR` (default: a folder per commit in the cache)"},
			&cli.StringSliceFlag{Name: "include", Usage: "take the files that match `PATTERN`, repeatable (default: those that a checkpoint needs)"},
			&cli.StringFlag{Name: "cache", Usage: "`DIR` for downloads (default: the user's cache folder)"},
		},
		Action: func(c *cli.Context) error {
			if err := requireArgs(c, 1, 1, "one repository, OWNER/REPO"); err != nil {
				return err
			}
			if c.String("cache") == "off" {
				return usagef("--cache off: expected a folder to download to")
			}
			bar := con.progress()
			bar.bytes = true
			defer bar.done()
			path, err := engine.Pull(c.Context, c.Args().First(), engine.PullOptions{
				Revision: c.String("revision"),
				Dir:      c.String("dir"),
				CacheDir: c.String("cache"),
				Include:  c.StringSlice("include"),
				Progress: bar.set,
				Log:      con.logf,
			})
			bar.done()
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(con.out, path)
			return err
		},
	}
}
