package hub

import (
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// download is the work on one file of one commit. Its part and its final file are reached through root, which keeps
// every path inside the folder even where links stand in the way.
type download struct {
	c        *client
	ref      Ref
	commit   string
	file     File
	root     *os.Root
	progress func(done int64)
	restarts int // how often the bytes turned out wrong and were thrown away
}

// restartsMax bounds how often a file is downloaded again because it was not what the listing promised.
const restartsMax = 2

func (d *download) partName() string {
	id := sha256.Sum256(fmt.Appendf(nil, "%s\n%d\n%s\n%s", d.file.Name, d.file.Size, d.file.SHA256, d.file.Blob))
	return stateDir + "/" + hex.EncodeToString(id[:8]) + ".part"
}

func (d *download) etagName() string { return strings.TrimSuffix(d.partName(), ".part") + ".etag" }

// run brings the file under its final name, or returns why it cannot.
func (d *download) run(ctx context.Context) error {
	if d.present() {
		d.progress(d.file.Size)
		return nil
	}
	if err := d.c.try(ctx, d.file.Name, func() (bool, error) { return d.fetch(ctx) }); err != nil {
		return err
	}
	return d.finish()
}

// present tells whether the file is already there, whole and unaltered.
func (d *download) present() bool {
	info, err := d.root.Stat(d.file.Name)
	if err != nil || !info.Mode().IsRegular() || d.file.Size >= 0 && info.Size() != d.file.Size {
		return false
	}
	return d.file.sum() != nil && d.verify(d.file.Name) == nil
}

// fetch continues the part until it is whole and verified. It returns an errRetry where another try may help, and
// whether this one gained any bytes.
func (d *download) fetch(ctx context.Context) (progress bool, err error) {
	part, err := d.root.OpenFile(d.partName(), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return false, fmt.Errorf("%s: %w", d.file.Name, err)
	}
	defer func() { err = errors.Join(err, part.Close()) }()
	offset, err := part.Seek(0, io.SeekEnd)
	if err != nil {
		return false, fmt.Errorf("%s: %w", d.file.Name, err)
	}
	if d.file.Size < 0 || offset != d.file.Size {
		gained, err := d.receive(ctx, part, offset)
		if err != nil {
			return gained > 0, err
		}
	}
	if err := part.Sync(); err != nil {
		return true, fmt.Errorf("%s: %w", d.file.Name, err)
	}
	if err := d.verify(d.partName()); err != nil {
		return false, d.restart(part, err)
	}
	return true, nil
}

// restart throws the part's bytes away because of cause, which the server may answer better the next time.
func (d *download) restart(part *os.File, cause error) error {
	if err := part.Truncate(0); err != nil {
		return fmt.Errorf("%s: %w", d.file.Name, err)
	}
	if d.restarts++; d.restarts > restartsMax {
		return fmt.Errorf("%w (downloaded %d times)", cause, d.restarts)
	}
	return &errRetry{err: cause}
}

// receive asks for the bytes of the file from offset on and appends them to part. It returns how many came.
func (d *download) receive(ctx context.Context, part *os.File, offset int64) (gained int64, err error) {
	header := http.Header{}
	etag := d.readETag()
	if offset > 0 && etag == "" {
		offset = 0 // what the part was begun from is not known
	}
	if offset > 0 {
		header.Set("Range", fmt.Sprintf("bytes=%d-", offset))
		header.Set("If-Range", etag)
	}
	ctx, stalled := d.c.watch(ctx)
	defer stalled.stop()
	res, err := d.c.get(ctx, d.ref, d.path(), header)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()

	switch {
	case res.StatusCode == http.StatusRequestedRangeNotSatisfiable:
		return 0, d.restart(part, fmt.Errorf("%s: the server has fewer than the %d bytes that were downloaded", d.file.Name, offset))
	case res.StatusCode == http.StatusPartialContent && !d.continues(res, offset, etag):
		return 0, d.restart(part, fmt.Errorf("%s: the file changed on the server during the download", d.file.Name))
	case res.StatusCode == http.StatusOK:
		offset = 0
	}
	if n := res.ContentLength; n >= 0 && d.file.Size >= 0 && offset+n != d.file.Size {
		return 0, d.restart(part, fmt.Errorf("%s: the server announces %d bytes, the listing says %d", d.file.Name, offset+n, d.file.Size))
	} else if n >= 0 && d.file.Size < 0 {
		d.file.Size = offset + n
	}
	if err := d.begin(part, offset, res.Header.Get("ETag")); err != nil {
		return 0, err
	}
	return d.copy(part, stalled.reader(res.Body), offset)
}

// continues tells whether a 206 answer is the rest of the entity that the part was begun from.
func (d *download) continues(res *http.Response, offset int64, etag string) bool {
	first, total, ok := parseContentRange(res.Header.Get("Content-Range"))
	if !ok || first != offset || d.file.Size >= 0 && total >= 0 && total != d.file.Size {
		return false
	}
	now := res.Header.Get("ETag")
	return now == "" || now == etag
}

// begin cuts part to offset and, for a new part, notes the ETag that it may be continued with. Only a strong one can
// be compared byte for byte.
func (d *download) begin(part *os.File, offset int64, etag string) error {
	if err := part.Truncate(offset); err != nil {
		return fmt.Errorf("%s: %w", d.file.Name, err)
	}
	if _, err := part.Seek(offset, io.SeekStart); err != nil {
		return fmt.Errorf("%s: %w", d.file.Name, err)
	}
	if offset > 0 {
		return nil
	}
	if strings.HasPrefix(etag, "W/") {
		etag = ""
	}
	if err := d.root.WriteFile(d.etagName(), []byte(etag), 0o644); err != nil {
		return fmt.Errorf("%s: %w", d.file.Name, err)
	}
	return nil
}

// copy appends body to part, and never more than the listing's size.
func (d *download) copy(part *os.File, body io.Reader, offset int64) (gained int64, err error) {
	buf := make([]byte, 256<<10)
	at := offset
	for {
		n, readErr := body.Read(buf)
		if d.file.Size >= 0 && at+int64(n) > d.file.Size {
			return 0, d.restart(part, fmt.Errorf("%s: the server sends more than the %d bytes of the listing", d.file.Name, d.file.Size))
		}
		if _, err := part.Write(buf[:n]); err != nil {
			return at - offset, fmt.Errorf("%s: %w", d.file.Name, err)
		}
		at += int64(n)
		d.progress(at)
		switch {
		case readErr == io.EOF && (d.file.Size < 0 || at == d.file.Size):
			return at - offset, nil
		case readErr == io.EOF:
			readErr = io.ErrUnexpectedEOF
			fallthrough
		case readErr != nil:
			return at - offset, &errRetry{err: fmt.Errorf("%s: the connection broke off at byte %d of %d: %w", d.file.Name, at, d.file.Size, readErr)}
		}
	}
}

// finish gives the verified part its final name.
func (d *download) finish() error {
	if dir := filepath.Dir(d.file.Name); dir != "." {
		if err := d.root.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("%s: %w", d.file.Name, err)
		}
	}
	if err := d.root.Rename(d.partName(), d.file.Name); err != nil {
		return fmt.Errorf("%s: %w", d.file.Name, err)
	}
	if err := d.root.Remove(d.etagName()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%s: %w", d.file.Name, err)
	}
	return nil
}

// path is where the hub serves the file's bytes: at the commit, so that a moving branch does not mix two versions.
func (d *download) path() string {
	parts := strings.Split(d.file.Name, "/")
	for i := range parts {
		parts[i] = url.PathEscape(parts[i])
	}
	return "/" + d.ref.Repo + "/resolve/" + d.commit + "/" + strings.Join(parts, "/")
}

func (d *download) readETag() string {
	etag, err := d.root.ReadFile(d.etagName())
	if err != nil || len(etag) > 1024 {
		return ""
	}
	return string(etag)
}

// sum returns the hash that the listing gives, ready to be fed, or nil where it gives none.
func (f File) sum() hash.Hash {
	switch {
	case f.SHA256 != "":
		return sha256.New()
	case f.Blob != "" && f.Size >= 0:
		h := sha1.New()
		fmt.Fprintf(h, "blob %d\x00", f.Size) // as git names the content
		return h
	}
	return nil
}

// verify compares the named file with the listing's size and checksum.
func (d *download) verify(name string) error {
	f, err := d.root.Open(name)
	if err != nil {
		return fmt.Errorf("%s: %w", d.file.Name, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("%s: %w", d.file.Name, err)
	}
	if d.file.Size >= 0 && info.Size() != d.file.Size {
		return fmt.Errorf("%s: %d bytes came, the listing says %d", d.file.Name, info.Size(), d.file.Size)
	}
	h := d.file.sum()
	if h == nil {
		return nil
	}
	if _, err := io.Copy(h, f); err != nil {
		return fmt.Errorf("%s: %w", d.file.Name, err)
	}
	want := d.file.SHA256
	if want == "" {
		want = d.file.Blob
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != want {
		return fmt.Errorf("%s: the bytes that came have checksum %s, the listing says %s", d.file.Name, got, want)
	}
	return nil
}

// parseContentRange reads "bytes FIRST-LAST/TOTAL"; total is -1 for "*".
func parseContentRange(s string) (first, total int64, ok bool) {
	rest, found := strings.CutPrefix(s, "bytes ")
	span, size, cut := strings.Cut(rest, "/")
	from, _, dash := strings.Cut(span, "-")
	if !found || !cut || !dash {
		return 0, 0, false
	}
	first, err := strconv.ParseInt(from, 10, 64)
	if err != nil || first < 0 {
		return 0, 0, false
	}
	if size == "*" {
		return first, -1, true
	}
	total, err = strconv.ParseInt(size, 10, 64)
	return first, total, err == nil && total >= first
}
