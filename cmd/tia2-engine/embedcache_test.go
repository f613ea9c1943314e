package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// cacheLine returns what -v says of the embedding cache, "" if it says nothing.
func cacheLine(stderr string) string {
	_, line, _ := strings.Cut(stderr, "tia2-engine: embedding cache: ")
	line, _, _ = strings.Cut(line, "\n")
	return line
}

// The second run finds everything and writes the same bytes; a run without the cache does so, too.
func TestEmbeddingsCache(t *testing.T) {
	images := filepath.Join(smallSet(t, 2, 3), "images", "demo")
	cache, dir := t.TempDir(), t.TempDir()
	texts := textsFile(t, "a red circle", "two blue squares", "a red circle")
	score := func(flags ...string) outcome {
		t.Helper()
		r := command(t, "", append([]string{"score", "--backend", "cpu", "--threads", "1", "--images", images, "--texts", texts, "-v", "--cache", cache}, flags...)...)
		if r.code != exitDone {
			t.Fatalf("%q: status %d, stderr %s", flags, r.code, r.err)
		}
		return r
	}
	off := score("--embeddings-cache", "off")
	if line := cacheLine(off.err); line != "" {
		t.Errorf("off: %s", line)
	}
	for _, where := range []struct {
		flags  []string
		folder string
	}{{nil, filepath.Join(cache, "embeddings")}, {[]string{"--embeddings-cache", dir, "--embeddings-cache-size", "1MiB"}, dir}} {
		for run, want := range []string{`images 0 of 6 found \(0\.0 %\), texts 0 of 2 found \(0\.0 %\)`, `images 6 of 6 found \(100\.0 %\), texts 2 of 2 found \(100\.0 %\)`} {
			bound := "4.3 GB"
			if where.flags != nil {
				bound = "1.0 MB"
			}
			r := score(where.flags...)
			pattern := "^" + want + `; \d+\.\d kB in ` + regexp.QuoteMeta(where.folder) + ", bound " + regexp.QuoteMeta(bound) + "$"
			if line := cacheLine(r.err); !regexp.MustCompile(pattern).MatchString(line) {
				t.Errorf("%q, run %d: %q, want %s", where.flags, run, line, pattern)
			}
			if r.out != off.out {
				t.Errorf("%q, run %d: other scores than without a cache", where.flags, run)
			}
		}
	}
	if r := score("--cache", "off"); cacheLine(r.err) != "" || r.out != off.out {
		t.Errorf("--cache off: other scores, or a cache: %s", r.err)
	}
}

// What measures computes: bench has no flag for the cache and keeps nothing.
func TestBenchKeepsNoEmbeddings(t *testing.T) {
	cache := t.TempDir()
	must(t, "", "bench", "--cache", cache, "--backend", "cpu", "--threads", "1", "--set", smallSet(t, 2, 2), "--resamples", "20",
		"--tower", "text", "--batches", "1", "--min-time", "1ms", "--max-calls", "1", "--format", "json")
	if _, err := os.Stat(filepath.Join(cache, "embeddings")); err == nil {
		t.Error("bench made a folder of embeddings")
	}
	if r := command(t, "", "bench", "--embeddings-cache", cache); r.code != exitUsage {
		t.Errorf("bench --embeddings-cache: status %d", r.code)
	}
}

func TestParseBytes(t *testing.T) {
	for s, want := range map[string]int64{
		"1": 1, "1000000": 1000000, "500MB": 500e6, "500 mb": 500e6, "4GiB": 4 << 30, "1.5kB": 1500, "0.5KiB": 512, "2tib": 2 << 40, "7B": 7, "3TB": 3e12,
	} {
		if got, err := parseBytes(s); err != nil || got != want {
			t.Errorf("%q: %d (%v), want %d", s, got, err, want)
		}
	}
	for _, s := range []string{"", "0", "-1GB", "GiB", "4 G i B", "4GBB", "nan", "inf", "1e30", "8388608TiB", "0.5"} {
		if got, err := parseBytes(s); err == nil {
			t.Errorf("%q: %d, want an error", s, got)
		}
	}
}
