package hub

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"regexp"
)

// File is one file of a commit as the hub lists it.
type File struct {
	Name   string
	Size   int64  // bytes; -1 where the hub did not say
	SHA256 string // lower-case hex, of files in large file storage
	Blob   string // lower-case hex git blob id (sha1), of the others
}

// Listing is what a commit holds.
type Listing struct {
	Commit string
	Gated  bool // its licence must be accepted before files can be had
	Files  []File
}

const (
	listingBytesMax = 32 << 20
	filesMax        = 100_000
)

var (
	sha1Pattern   = regexp.MustCompile(`^[0-9a-f]{40}$`)
	sha256Pattern = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

// apiModel is the part of GET /api/models/REPO/revision/REV?blobs=true that is used here.
type apiModel struct {
	SHA      string          `json:"sha"`
	Gated    json.RawMessage `json:"gated"` // false, "auto" or "manual"
	Siblings []struct {
		Name string `json:"rfilename"`
		Size *int64 `json:"size"`
		Blob string `json:"blobId"`
		LFS  *struct {
			SHA256 string `json:"sha256"`
			Size   *int64 `json:"size"`
		} `json:"lfs"`
	} `json:"siblings"`
}

// apiEntry is one entry of GET /api/models/REPO/tree/COMMIT?recursive=true.
type apiEntry struct {
	Type string `json:"type"`
	Path string `json:"path"`
	OID  string `json:"oid"`
	Size *int64 `json:"size"`
	LFS  *struct {
		OID  string `json:"oid"`
		Size *int64 `json:"size"`
	} `json:"lfs"`
}

// parseListing reads the answer of the revision call.
func parseListing(body []byte) (Listing, error) {
	var m apiModel
	if err := json.Unmarshal(body, &m); err != nil {
		return Listing{}, fmt.Errorf("listing is not the JSON expected: %w", err)
	}
	if !commitPattern.MatchString(m.SHA) {
		return Listing{}, fmt.Errorf("listing names commit %.80q: expected 40 hex digits", m.SHA)
	}
	if len(m.Siblings) > filesMax {
		return Listing{}, fmt.Errorf("listing holds %d files: expected at most %d", len(m.Siblings), filesMax)
	}
	gated := string(m.Gated)
	l := Listing{Commit: m.SHA, Gated: gated != "" && gated != "false" && gated != "null"}
	for _, s := range m.Siblings {
		f := File{Name: s.Name, Size: sizeOf(s.Size)}
		if s.LFS != nil {
			f.SHA256 = s.LFS.SHA256
			if s.LFS.Size != nil {
				f.Size = sizeOf(s.LFS.Size)
			}
		} else {
			f.Blob = s.Blob
		}
		if err := f.check(); err != nil {
			return Listing{}, err
		}
		l.Files = append(l.Files, f)
	}
	return l, nil
}

// parseTree reads one page of the answer of the tree call.
func parseTree(body []byte) ([]File, error) {
	var entries []apiEntry
	if err := json.Unmarshal(body, &entries); err != nil {
		return nil, fmt.Errorf("tree listing is not the JSON expected: %w", err)
	}
	var files []File
	for _, e := range entries {
		if e.Type != "file" {
			continue
		}
		f := File{Name: e.Path, Size: sizeOf(e.Size), Blob: e.OID}
		if e.LFS != nil {
			f.SHA256, f.Blob = e.LFS.OID, ""
			if e.LFS.Size != nil {
				f.Size = sizeOf(e.LFS.Size)
			}
		}
		if err := f.check(); err != nil {
			return nil, err
		}
		files = append(files, f)
	}
	return files, nil
}

func sizeOf(n *int64) int64 {
	if n == nil {
		return -1
	}
	return *n
}

func (f File) check() error {
	if f.Size < -1 {
		return fmt.Errorf("listing says that %.80q has %d bytes", f.Name, f.Size)
	}
	if f.SHA256 != "" && !sha256Pattern.MatchString(f.SHA256) {
		return fmt.Errorf("listing gives %.80q the sha256 %.80q: expected 64 hex digits", f.Name, f.SHA256)
	}
	if f.Blob != "" && !sha1Pattern.MatchString(f.Blob) {
		return fmt.Errorf("listing gives %.80q the blob id %.80q: expected 40 hex digits", f.Name, f.Blob)
	}
	return nil
}

// list resolves the revision and reads the listing of its commit. Mirrors that leave sizes or checksums out of the
// first answer are asked for the tree as well.
func (c *client) list(ctx context.Context, ref Ref) (Listing, error) {
	body, _, err := c.getJSON(ctx, ref, "/api/models/"+ref.Repo+"/revision/"+url.PathEscape(ref.revision())+"?blobs=true")
	if err != nil {
		return Listing{}, err
	}
	l, err := parseListing(body)
	if err != nil {
		return Listing{}, fmt.Errorf("%s: %w", ref, err)
	}
	if complete(l.Files) {
		return l, nil
	}
	next := "/api/models/" + ref.Repo + "/tree/" + l.Commit + "?recursive=true"
	var files []File
	for pages := 0; next != "" && pages < 1000 && len(files) < filesMax; pages++ {
		if body, next, err = c.getJSON(ctx, ref, next); err != nil {
			return Listing{}, err
		}
		page, err := parseTree(body)
		if err != nil {
			return Listing{}, fmt.Errorf("%s: %w", ref, err)
		}
		files = append(files, page...)
	}
	l.Files = files
	return l, nil
}

func complete(files []File) bool {
	for _, f := range files {
		if f.Size < 0 || f.SHA256 == "" && f.Blob == "" {
			return false
		}
	}
	return true
}
