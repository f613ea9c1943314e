package hub

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/gofrs/flock"

	"github.com/tia2-engine/tia2-engine/internal/atomicfile"
)

// DefaultEndpoint is the hub that is asked unless HF_ENDPOINT names another.
const DefaultEndpoint = "https://huggingface.co"

// stateDir is the folder, in each folder that is pulled into, for parts, the lock and the record of what is complete.
const stateDir = ".pull"

// Options of a pull. FromEnv fills what the environment says.
type Options struct {
	Dir      string   // where the files go; "" is a folder per commit under CacheDir
	CacheDir string   // used where Dir is ""
	Endpoint string   // URL of the hub
	Token    string   // access token; sent to the endpoint's host only
	Offline  bool     // ask no server: what is complete in the folder, or an error
	Include  []string // path.Match patterns; nil: what a checkpoint needs

	// Progress is called often, from the pulling goroutine, with the bytes of a file that are there and its size (-1:
	// not known).
	Progress func(file string, done, total int64)
	Log      func(format string, args ...any) // what goes wrong and is tried again; nil is silent

	backoff, stall time.Duration // for tests; 0 is the default
}

// FromEnv fills the fields that are still empty from HF_ENDPOINT, HF_TOKEN (else HUGGING_FACE_HUB_TOKEN) and
// HF_HUB_OFFLINE.
func (o Options) FromEnv(getenv func(string) string) Options {
	if o.Endpoint == "" {
		o.Endpoint = getenv("HF_ENDPOINT")
	}
	if o.Endpoint == "" {
		o.Endpoint = DefaultEndpoint
	}
	for _, name := range []string{"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"} {
		if o.Token == "" {
			o.Token = strings.TrimSpace(getenv(name))
		}
	}
	switch strings.ToUpper(getenv("HF_HUB_OFFLINE")) {
	case "1", "ON", "YES", "TRUE":
		o.Offline = true
	}
	return o
}

// record is a .pull/done*.json: the files of a commit that are complete in the folder.
type record struct {
	Repo   string `json:"repo"`
	Commit string `json:"commit"`
	Asked  string `json:"asked"` // file and patterns asked for; another question needs another listing
	Files  []File `json:"files"`
}

// Pull makes the files of ref complete in a folder and returns that folder. What is there already is not downloaded
// again; what a broken pull left is continued. With a folder of its own per commit under CacheDir, a commit that is
// complete is used without asking the hub, and one that the hub cannot be asked about (no network, Offline) is used as
// the branch was last seen.
//
// The error names the repository or the file, and for a refusal what to do about it. A cancelled ctx leaves parts that
// the next pull continues.
func Pull(ctx context.Context, ref Ref, opt Options) (string, error) {
	if err := ref.check(); err != nil {
		return "", err
	}
	c, err := newClient(opt)
	if err != nil {
		return "", err
	}
	if commitPattern.MatchString(ref.Revision) || opt.Offline {
		if dir, ok := opt.lookup(ref); ok {
			return dir, nil
		}
		if opt.Offline {
			return "", fmt.Errorf("%s: not complete in %s, and HF_HUB_OFFLINE forbids to download it", ref, opt.place(ref))
		}
	}
	listing, err := c.list(ctx, ref)
	if err != nil {
		var retry *errRetry // the hub was not reached, or was in no state to answer
		if dir, ok := opt.lookup(ref); ok && ctx.Err() == nil && errors.As(err, &retry) {
			c.log("%v: using %s as it was last seen", err, dir)
			return dir, nil
		}
		return "", err
	}
	files, err := choose(listing, ref, opt.Include)
	if err != nil {
		return "", err
	}
	dir := opt.Dir
	if dir == "" {
		dir = filepath.Join(opt.repoDir(ref), listing.Commit)
	}
	if err := opt.fill(ctx, c, ref, dir, listing.Commit, files); err != nil {
		return "", err
	}
	return dir, opt.remember(ref, listing.Commit)
}

// fill downloads files into dir, alone.
func (o Options) fill(ctx context.Context, c *client, ref Ref, dir, commit string, files []File) (err error) {
	if err := os.MkdirAll(filepath.Join(dir, stateDir), 0o755); err != nil {
		return fmt.Errorf("%s: %w", ref, err)
	}
	lock := flock.New(filepath.Join(dir, stateDir, "lock"))
	if ok, err := lock.TryLockContext(ctx, 100*time.Millisecond); err != nil || !ok {
		return fmt.Errorf("%s: waiting for another process that pulls into %s: %w", ref, dir, err)
	}
	defer func() { err = errors.Join(err, lock.Unlock()) }()
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("%s: %w", ref, err)
	}
	defer root.Close()

	done := record{Repo: ref.Repo, Commit: commit, Asked: o.asked(ref), Files: files}
	if old, err := readRecord(dir, done.Asked); err == nil && old.answers(done) && old.intact(dir) {
		return nil
	}
	if err := dropRecords(root, done); err != nil {
		return fmt.Errorf("%s: %w", ref, err)
	}
	if err := checkSpace(dir, missingBytes(root, files)); err != nil {
		return fmt.Errorf("%s: %w", ref, err)
	}
	for i, f := range files {
		d := &download{c: c, ref: ref, commit: commit, file: f, root: root, progress: func(n int64) {}}
		if o.Progress != nil {
			d.progress = func(n int64) { o.Progress(f.Name, n, f.Size) }
		}
		if err := d.run(ctx); err != nil {
			return err
		}
		done.Files[i].Size = d.file.Size // learned where the listing did not say
	}
	if o.Dir != "" {
		dropParts(root)
	}
	return done.write(root)
}

// dropRecords forgets what this pull is about to change: its own record, and those of other commits.
func dropRecords(root *os.Root, next record) error {
	names, err := fs.Glob(root.FS(), stateDir+"/done*.json")
	if err != nil {
		return err
	}
	for _, name := range names {
		var r record
		b, err := root.ReadFile(name)
		if err == nil && json.Unmarshal(b, &r) == nil && r.Commit == next.Commit && r.Asked != next.Asked {
			continue
		}
		if err := root.Remove(name); err != nil {
			return err
		}
	}
	return nil
}

// dropParts removes what broken pulls of other commits left in a folder that all commits share. That some of it stays
// is no harm.
func dropParts(root *os.Root) {
	for _, pattern := range []string{"/*.part", "/*.etag"} {
		names, _ := fs.Glob(root.FS(), stateDir+pattern)
		for _, name := range names {
			_ = root.Remove(name)
		}
	}
}

// missingBytes is what is left to download, as far as the listing gives sizes.
func missingBytes(root *os.Root, files []File) int64 {
	var n int64
	for _, f := range files {
		have := int64(0)
		d := download{file: f}
		for _, name := range []string{f.Name, d.partName()} {
			if info, err := root.Stat(name); err == nil {
				have = max(have, min(info.Size(), f.Size))
			}
		}
		n += max(f.Size-have, 0)
	}
	return n
}

// asked is the question that a record answers. In a folder that all commits share the revision is part of it.
func (o Options) asked(ref Ref) string {
	question := append([]string{ref.File}, o.Include...)
	if o.Dir != "" {
		question = append(question, "@"+ref.revision())
	}
	return strings.Join(question, "\n")
}

func (o Options) repoDir(ref Ref) string {
	return filepath.Join(o.CacheDir, strings.ReplaceAll(ref.Repo, "/", "--"))
}

func (o Options) place(ref Ref) string {
	if o.Dir != "" {
		return o.Dir
	}
	return o.repoDir(ref)
}

func (o Options) refFile(ref Ref) string {
	return filepath.Join(o.repoDir(ref), "refs", url.PathEscape(ref.revision()))
}

// lookup returns the folder that already answers ref.
func (o Options) lookup(ref Ref) (string, bool) {
	dir, commit := o.Dir, ref.Revision
	if dir == "" {
		if !commitPattern.MatchString(commit) {
			b, err := os.ReadFile(o.refFile(ref))
			if err != nil || !commitPattern.Match(b) {
				return "", false
			}
			commit = string(b)
		}
		dir = filepath.Join(o.repoDir(ref), commit)
	}
	r, err := readRecord(dir, o.asked(ref))
	ok := err == nil && r.Repo == ref.Repo && r.Asked == o.asked(ref) && r.intact(dir)
	if commitPattern.MatchString(commit) {
		ok = ok && r.Commit == commit
	}
	return dir, ok
}

// remember notes which commit the revision was, for the time when the hub cannot be asked.
func (o Options) remember(ref Ref, commit string) error {
	if o.Dir != "" || commitPattern.MatchString(ref.Revision) {
		return nil
	}
	name := o.refFile(ref)
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return fmt.Errorf("%s: %w", ref, err)
	}
	f, err := atomicfile.Create(name)
	if err != nil {
		return fmt.Errorf("%s: %w", ref, err)
	}
	defer f.Abort()
	if _, err := f.WriteString(commit); err != nil {
		return fmt.Errorf("%s: %w", ref, err)
	}
	return f.Commit()
}

// recordName is the record's file under stateDir, one for each question.
func recordName(asked string) string {
	if asked == "" {
		return "done.json"
	}
	id := sha256.Sum256([]byte(asked))
	return "done-" + hex.EncodeToString(id[:6]) + ".json"
}

func readRecord(dir, asked string) (record, error) {
	var r record
	b, err := os.ReadFile(filepath.Join(dir, stateDir, recordName(asked)))
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(b, &r); err != nil {
		return r, err
	}
	for _, f := range r.Files {
		if err := checkName(f.Name); err != nil {
			return r, err
		}
	}
	return r, nil
}

func (r record) answers(want record) bool {
	return r.Repo == want.Repo && r.Commit == want.Commit && slices.EqualFunc(r.Files, want.Files, func(a, b File) bool {
		return a.Name == b.Name && a.SHA256 == b.SHA256 && a.Blob == b.Blob && (a.Size == b.Size || b.Size < 0)
	})
}

// intact tells whether every file is still there with its size. Contents were verified before the record was written.
func (r record) intact(dir string) bool {
	for _, f := range r.Files {
		info, err := os.Stat(filepath.Join(dir, filepath.FromSlash(f.Name)))
		if err != nil || f.Size >= 0 && info.Size() != f.Size {
			return false
		}
	}
	return len(r.Files) > 0
}

func (r record) write(root *os.Root) error {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := root.WriteFile(stateDir+"/done.tmp", b, 0o644); err != nil {
		return err
	}
	return root.Rename(stateDir+"/done.tmp", stateDir+"/"+recordName(r.Asked))
}
