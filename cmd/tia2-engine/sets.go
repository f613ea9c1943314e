package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/tia2-engine/tia2-engine/bench/align"
	"github.com/tia2-engine/tia2-engine/bench/demo"
	"github.com/tia2-engine/tia2-engine/bench/tia2"
)

// setFlags name the data set with people's labels. The pictures' folder has a flag of its own where --images means
// something else.
func setFlags(imagesFlag string) []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "set", Usage: "`SPEC` of a data set: demo, or a folder laid out as the TIA2 release"},
		&cli.StringFlag{Name: imagesFlag, Usage: "`DIR` with the pictures of the set (default: images in its folder)"},
		&cli.StringSliceFlag{Name: "set-name", Usage: "take this set of the folder only, repeatable (default: all of them)"},
	}
}

// openSets reads the sets of a SPEC, and names on stderr what does not fit together in them. needs is the flag that names
// the folder of their pictures: a set without any is an error then. "": no pictures are needed.
func (con *console) openSets(spec, images string, names []string, needs string) ([]*tia2.Set, error) {
	var sets []*tia2.Set
	var err error
	if spec == "demo" {
		if images != "" || len(names) > 0 {
			return nil, usagef("the set demo holds its pictures: expected no folder of pictures and no --set-name")
		}
		var set *tia2.Set
		set, err = tia2.Load(demo.Set(), "demo")
		sets = []*tia2.Set{set}
	} else {
		sets, err = tia2.Open(spec, tia2.Options{Images: images, Names: names})
	}
	if err != nil {
		return nil, err
	}
	if err := requirePictures(sets, needs); err != nil {
		return nil, err
	}
	for _, set := range sets {
		most := 10
		if con.verbose {
			most = 0
		}
		for _, line := range set.Problems.Lines(most) {
			con.warnf("set %s: %s", set.Name, line)
		}
	}
	return sets, nil
}

// requirePictures refuses sets of which not one picture is there, in one error for all of them.
func requirePictures(sets []*tia2.Set, flag string) error {
	var folders []string
	for _, set := range sets {
		if flag != "" && set.ImagesFound() == 0 {
			folders = append(folders, set.ImagesDir())
		}
	}
	if len(folders) == 0 {
		return nil
	}
	hint := ""
	if len(folders) < len(sets) {
		hint = ", or the sets that have pictures with --set-name"
	}
	return fmt.Errorf("no pictures of the set in %s: name their folder with %s%s", strings.Join(folders, ", "), flag, hint)
}

// scoreSets writes the rewards of all models for all sets to the file path, going on where an earlier run stopped. It
// returns the scores, and errReported if some pictures failed; those that openSets named as missing are not named again.
// What opt says of the evaluation to come is checked before.
func (con *console) scoreSets(c *cli.Context, sets []*tia2.Set, models *align.Models, path string, bar *progress, opt align.Options) (*tia2.Scores, error) {
	w, err := tia2.CreateScores(path)
	if err != nil {
		return nil, err
	}
	defer w.Close()
	if err := checkRewards(opt, append(w.Scores().Rewards(), models.Names()...)); err != nil {
		return nil, err
	}
	var failed error
	for _, set := range sets {
		summary, err := align.ScoreSet(c.Context, set, models, w, align.ScoreOptions{
			Progress: func(done, total int) { bar.items("scoring "+set.Name, done, total) },
		})
		bar.done()
		for _, item := range summary.Failed {
			if !slices.Contains(set.Problems.MissingImages, item.Name) {
				con.warnf("set %s: %v", set.Name, item)
			}
			failed = errReported
		}
		con.logf("set %s: %d images scored, %d were there already, %d failed", set.Name, summary.Scored, summary.Resumed, len(summary.Failed))
		if err != nil {
			con.warnf("what is finished is in %s.part: the same command goes on there", path)
			return nil, err
		}
	}
	return w.Scores(), errors.Join(failed, w.Commit())
}
