package main

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/tia2-engine/tia2-engine/engine"
)

// pictureExtensions are what is taken from a folder. A file named by itself is taken whatever it is called.
var pictureExtensions = []string{".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp"}

// findImages returns the pictures that the values of --images mean: files, folders (with all below them) and patterns.
// Those of a folder or a pattern are in ascending order of their paths.
func findImages(values []string) ([]engine.Image, error) {
	var images []engine.Image
	for _, value := range values {
		info, err := os.Stat(value)
		var paths []string
		switch {
		case err == nil && info.IsDir():
			paths, err = picturesBelow(value)
		case err == nil:
			paths = []string{value}
		default:
			if paths, err = filepath.Glob(value); err != nil {
				return nil, usagef("--images %s: %v", value, err)
			}
			if len(paths) == 0 {
				return nil, fmt.Errorf("--images %s: no such file or folder, and no file matches it as a pattern", value)
			}
		}
		if err != nil {
			return nil, fmt.Errorf("--images %s: %w", value, err)
		}
		if len(paths) == 0 {
			return nil, fmt.Errorf("--images %s: the folder holds no pictures (%s)", value, strings.Join(pictureExtensions, ", "))
		}
		for _, path := range paths {
			images = append(images, engine.File(path))
		}
	}
	return images, nil
}

func picturesBelow(dir string) ([]string, error) {
	var paths []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && slices.Contains(pictureExtensions, strings.ToLower(filepath.Ext(path))) {
			paths = append(paths, path)
		}
		return err
	})
	slices.Sort(paths)
	return paths, err
}

// readTexts returns the lines of a file, or of stdin for "-". A line is a text, an empty one too.
func (con *console) readTexts(path string) ([]string, error) {
	var data []byte
	var err error
	if path == "-" {
		data, err = io.ReadAll(con.in)
	} else {
		data, err = os.ReadFile(path)
	}
	if err != nil {
		return nil, fmt.Errorf("--texts: %w", err)
	}
	text := strings.TrimSuffix(string(data), "\n")
	if text == "" {
		return nil, fmt.Errorf("--texts %s: no lines", path)
	}
	lines := strings.Split(text, "\n")
	for i := range lines {
		lines[i] = strings.TrimSuffix(lines[i], "\r")
	}
	return lines, nil
}

func imageNames(images []engine.Image) []string {
	names := make([]string, len(images))
	for i, img := range images {
		names[i] = img.Name
	}
	return names
}
