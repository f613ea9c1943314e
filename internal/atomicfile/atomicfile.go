// Package atomicfile writes files that exist whole or not at all.
//
// A file is written under a temporary name in the folder of its final name (NAME.RANDOM.part) and renamed when it is
// complete and on the disk, so that neither an error nor kill -9 leaves a half file under the final name. The writer
// holds a lock on its temporary file for as long as it lives: a temporary file without a lock is a dead writer's, and
// the next Create for the same name removes it.
package atomicfile

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// File is a file being written. It is not safe for use from several goroutines.
type File struct {
	*os.File
	path string // the final name
	done bool
}

// Create starts writing the file that will be path. It first removes what dead writers of the same path left behind.
// The caller ends with Commit or Abort; Abort after Commit does nothing, so it can be deferred.
func Create(path string) (*File, error) {
	clean(path)
	for range 8 {
		temp := fmt.Sprintf("%s.%s.part", path, token())
		f, err := os.OpenFile(temp, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		// Between the two calls another Create may have taken the file for a dead writer's; then start again.
		if tryLock(f) && samePath(f, temp) {
			return &File{File: f, path: path}, nil
		}
		f.Close()
	}
	return nil, fmt.Errorf("create %s: no temporary file could be locked", path)
}

// Commit puts the content on the disk and renames the file to its final name, replacing what was there.
func (f *File) Commit() error {
	if f.done {
		return os.ErrClosed
	}
	if err := f.Sync(); err != nil {
		f.Abort()
		return err
	}
	// Renamed while still open: the lock must cover the rename.
	if err := os.Rename(f.Name(), f.path); err != nil {
		f.Abort()
		return err
	}
	f.done = true
	if err := f.Close(); err != nil {
		return err
	}
	return syncDir(filepath.Dir(f.path))
}

// Abort removes the temporary file. After Commit it does nothing.
func (f *File) Abort() {
	if f.done {
		return
	}
	f.done = true
	os.Remove(f.Name())
	f.Close()
}

// clean removes the temporary files of path that no living writer has locked.
func clean(path string) {
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		return // Create will say what is wrong with the folder
	}
	base := filepath.Base(path)
	for _, e := range entries {
		name := e.Name()
		if len(name) != len(base)+1+2*tokenBytes+len(".part") || name[:len(base)] != base || filepath.Ext(name) != ".part" {
			continue
		}
		temp := filepath.Join(filepath.Dir(path), name)
		f, err := os.OpenFile(temp, os.O_RDWR, 0)
		if err != nil {
			continue
		}
		if tryLock(f) && samePath(f, temp) {
			os.Remove(temp)
		}
		f.Close()
	}
}

// tokenBytes is the length of the random part of a temporary name, before its hex form.
const tokenBytes = 6

func token() string {
	var b [tokenBytes]byte
	rand.Read(b[:]) // never fails: it ends the program instead
	return hex.EncodeToString(b[:])
}

// samePath tells whether path still names the open file.
func samePath(f *os.File, path string) bool {
	a, errA := f.Stat()
	b, errB := os.Stat(path)
	return errA == nil && errB == nil && os.SameFile(a, b)
}

// syncDir makes a rename in dir durable. Some file systems cannot sync a folder; the rename stands there all the same.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	_ = d.Sync()
	return nil
}

// Lock waits for the exclusive lock on the file path, which it makes if need be, and returns the function that
// releases it. The lock is the process's: the system releases it when the process dies. Two goroutines that lock the
// same path exclude each other too. The lock file stays: removing it would let two holders in.
func Lock(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o666)
	if err != nil {
		return nil, err
	}
	if err := lock(f); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return func() { f.Close() }, nil
}
