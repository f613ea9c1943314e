package tia2

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
)

// partSuffix is appended to the name of a file of scores while it is being written.
const partSuffix = ".part"

// ScoreWriter writes a file of scores that survives being killed: lines go to PATH.part, which gets its final name when
// all is done. A later writer for the same path goes on after the last whole line, or, if the file has its final name
// already, adds to a copy. Use it from one goroutine, by one process.
type ScoreWriter struct {
	path   string
	file   *os.File // nil once closed
	out    *bufio.Writer
	scores *Scores
}

// CreateScores opens the file of scores at path for writing and reads what an earlier run left there: Scores has it.
// A torn last line is cut off. Any other damage is an error with file and line, and the file is left as it is.
func CreateScores(path string) (*ScoreWriter, error) {
	part := path + partSuffix
	if _, err := os.Stat(part); errors.Is(err, fs.ErrNotExist) {
		if err := copyFile(path, part); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	f, err := os.OpenFile(part, os.O_RDWR|os.O_CREATE, 0o666)
	if err != nil {
		return nil, err
	}
	w := &ScoreWriter{path: path, file: f, scores: NewScores()}
	if err := w.resume(); err != nil {
		f.Close()
		return nil, err
	}
	return w, nil
}

func (w *ScoreWriter) resume() error {
	whole, err := w.scores.read(w.file, w.file.Name(), true)
	if err != nil {
		return err
	}
	if err := w.file.Truncate(whole); err != nil {
		return err
	}
	if _, err := w.file.Seek(whole, io.SeekStart); err != nil {
		return err
	}
	w.out = bufio.NewWriterSize(w.file, 1<<16)
	if whole == 0 {
		return nil
	}
	end := make([]byte, 1)
	if _, err := w.file.ReadAt(end, whole-1); err != nil {
		return err
	}
	if end[0] != '\n' { // a whole line that lost, or never had, its line feed
		return w.out.WriteByte('\n')
	}
	return nil
}

// copyFile leaves no half copy under the name to.
func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.CreateTemp(filepath.Dir(to), filepath.Base(to)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(out.Name()) // fails after the rename, as it should
	if _, err = io.Copy(out, in); err == nil {
		err = out.Chmod(0o644)
	}
	if err := errors.Join(err, out.Close()); err != nil {
		return err
	}
	return os.Rename(out.Name(), to)
}

// Scores returns all that the file holds, lines of this run included. It belongs to the writer.
func (w *ScoreWriter) Scores() *Scores { return w.scores }

// Write adds one line. Its errors name the image; a value that is not finite is one, since JSON has no such number.
func (w *ScoreWriter) Write(line Line) error {
	if w.file == nil {
		return fmt.Errorf("%s: %w", w.path, os.ErrClosed)
	}
	for name, values := range line.Rewards {
		for t, v := range values {
			if math.IsNaN(v) || math.IsInf(v, 0) {
				return fmt.Errorf("image %s: reward %s of text %d is %g", line.Image, name, t, v)
			}
		}
	}
	if err := w.scores.Add(line); err != nil {
		return fmt.Errorf("image %s: %w", line.Image, err)
	}
	enc := json.NewEncoder(w.out)
	enc.SetEscapeHTML(false)
	return enc.Encode(line)
}

// Flush hands all lines to the operating system: a process killed after it has lost none of them.
func (w *ScoreWriter) Flush() error {
	if w.file == nil {
		return fmt.Errorf("%s: %w", w.path, os.ErrClosed)
	}
	return w.out.Flush()
}

// Commit writes everything to disk, closes the file and gives it its final name. After an error the .part file holds
// what could be written.
func (w *ScoreWriter) Commit() error {
	if err := w.Flush(); err != nil {
		return errors.Join(err, w.Close())
	}
	if err := w.file.Sync(); err != nil {
		return errors.Join(err, w.Close())
	}
	part := w.file.Name()
	if err := w.Close(); err != nil {
		return err
	}
	return os.Rename(part, w.path)
}

// Close keeps what was written in the .part file, for a later run to go on with. After Commit or Close it does nothing.
func (w *ScoreWriter) Close() error {
	if w.file == nil {
		return nil
	}
	err := errors.Join(w.out.Flush(), w.file.Close())
	w.file = nil
	return err
}
