package demo

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"

	"github.com/tia2-engine/tia2-engine/internal/atomicfile"
)

// File returns the path of the model as a file in dir, so that it can be mapped; it is written there once. Its name
// holds its checksum: another version of the program has a file of its own.
func File(dir string) (string, error) {
	sum := sha256.Sum256(model)
	path := filepath.Join(dir, "demo-"+hex.EncodeToString(sum[:8])+".gguf")
	if st, err := os.Stat(path); err == nil && st.Size() == int64(len(model)) {
		return path, nil
	}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return "", err
	}
	f, err := atomicfile.Create(path)
	if err != nil {
		return "", err
	}
	defer f.Abort()
	if _, err := f.Write(model); err != nil {
		return "", err
	}
	return path, f.Commit()
}
