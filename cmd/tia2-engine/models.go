package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/dustin/go-humanize"
	"github.com/urfave/cli/v2"

	"github.com/tia2-engine/tia2-engine/bench/align"
	"github.com/tia2-engine/tia2-engine/engine"
)

// openModels opens the models that specs name, with the options of the flags. change, if not nil, has the last word on
// those. The bar shows downloads and conversions.
func (con *console) openModels(c *cli.Context, specs []string, bar *progress, change func(*engine.Options)) (models, error) {
	opt, err := modelOptions(c)
	if err != nil {
		return nil, err
	}
	opt.Progress = bar.loading
	opt.Note = func(text string) { con.warnf("note: %s", text) }
	if change != nil {
		change(&opt)
	}
	var all models
	for _, spec := range specs {
		con.logf("opening %s", spec)
		m, err := engine.Open(c.Context, spec, opt)
		if err != nil {
			con.closeModels(all, &err)
			return nil, err
		}
		all = append(all, m)
		info := m.Info()
		con.logf("%s: %s of %s, %s on %s, gives %s; source sha256 %.16s", spec, info.Family, info.Name, info.DType, info.Device, strings.Join(info.Rewards, ", "), info.SourceSHA256)
	}
	return all, nil
}

// models are the open models of a command.
type models []*engine.Model

// closeModels closes all models, adds their errors to *err, and says what the embedding cache did.
func (con *console) closeModels(ms models, err *error) {
	for _, m := range ms {
		*err = errors.Join(*err, m.Close())
	}
	con.logEmbeddingCache(ms)
}

// logEmbeddingCache says what the embedding cache, which the models share, did for all of them together.
func (con *console) logEmbeddingCache(ms models) {
	var all engine.EmbeddingCacheStats
	for _, m := range ms {
		s := m.EmbeddingCacheStats()
		if s.Dir == "" {
			continue // a model without embeddings
		}
		s.Images.Asked += all.Images.Asked
		s.Images.Found += all.Images.Found
		s.Texts.Asked += all.Texts.Asked
		s.Texts.Found += all.Texts.Found
		all = s
	}
	if all.Dir == "" {
		return
	}
	found := func(n engine.EmbeddingCacheCounts) string {
		return fmt.Sprintf("%d of %d found (%.1f %%)", n.Found, n.Asked, 100*n.HitRate())
	}
	con.logf("embedding cache: images %s, texts %s; %s in %s, bound %s", found(all.Images), found(all.Texts),
		humanize.Bytes(uint64(all.Bytes)), all.Dir, humanize.Bytes(uint64(all.MaxBytes)))
	if all.EvictedBytes > 0 {
		con.logf("embedding cache: %s were evicted to keep the bound (--embeddings-cache-size)", humanize.Bytes(uint64(all.EvictedBytes)))
	}
	if all.DroppedRows > 0 {
		con.logf("embedding cache: %d embeddings were not kept", all.DroppedRows)
	}
	if all.DamagedFiles > 0 {
		con.logf("embedding cache: %d damaged files were removed", all.DamagedFiles)
	}
}

// rewards gives the rewards of the models their names, and the scales of the flags.
func (ms models) rewards(c *cli.Context) (*align.Models, error) {
	opt, err := modelOptions(c)
	if err != nil {
		return nil, err
	}
	scales, err := scales(c)
	if err != nil {
		return nil, err
	}
	all, err := align.NewModels(ms, opt, scales)
	if errors.Is(err, engine.ErrInvalid) {
		err = usageError{"--" + err.Error()}
	}
	return all, err
}
