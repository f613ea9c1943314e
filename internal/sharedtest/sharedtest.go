// Package sharedtest finds the reference data that tests compare against.
//
// The data (golden tensors, pictures, token ids, the public TIA2 release) is not part of the repository. It is looked
// for in a folder named shared beside the repository, or where TIA2_SHARED points.
package sharedtest

import (
	"os"
	"path/filepath"
	"testing"
)

// Path returns the path of the given file or folder of the reference data. Where the data is not on this machine it
// skips the test and says so.
func Path(t testing.TB, elem ...string) string {
	t.Helper()
	root := os.Getenv("TIA2_SHARED")
	if root == "" {
		root = beside()
	}
	path := filepath.Join(append([]string{root}, elem...)...)
	if _, err := os.Stat(path); root == "" || err != nil {
		t.Skipf("no reference data %s beside the repository (set TIA2_SHARED)", filepath.Join(elem...))
	}
	return path
}

// beside walks up from the test's package folder to the module's root and returns its sibling shared.
func beside() string {
	dir, err := os.Getwd()
	if err != nil {
		return ""
	}
	for ; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return filepath.Join(filepath.Dir(dir), "shared")
		}
	}
	return ""
}
