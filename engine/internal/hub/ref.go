package hub

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
)

// Ref names a repository, a revision of it and, optionally, one file.
type Ref struct {
	Repo     string // OWNER/NAME
	Revision string // branch, tag, refs/pr/N or commit; "" is main
	File     string // a path in the repository; "" lets the listing decide
}

var (
	repoPattern     = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9_][A-Za-z0-9._-]{0,95}$`)
	revisionPattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._/-]{0,199}$`)
	commitPattern   = regexp.MustCompile(`^[0-9a-f]{40}([0-9a-f]{24})?$`)
)

// ParseRef reads [hf:]OWNER/REPO[/FILE][@REVISION].
func ParseRef(s string) (Ref, error) {
	rest, revision, hasRevision := strings.Cut(strings.TrimPrefix(s, "hf:"), "@")
	if hasRevision && revision == "" {
		return Ref{}, fmt.Errorf("%q: nothing after @: expected a branch, a tag or a commit", s)
	}
	parts := strings.SplitN(rest, "/", 3)
	if len(parts) < 2 {
		return Ref{}, fmt.Errorf("%q: expected hf:OWNER/REPO[/FILE][@REVISION]", s)
	}
	ref := Ref{Repo: parts[0] + "/" + parts[1], Revision: revision}
	if len(parts) == 3 {
		ref.File = parts[2]
	}
	return ref, ref.check()
}

// String writes r as ParseRef reads it.
func (r Ref) String() string {
	s := "hf:" + r.Repo
	if r.File != "" {
		s += "/" + r.File
	}
	if r.Revision != "" {
		s += "@" + r.Revision
	}
	return s
}

func (r Ref) revision() string {
	if r.Revision == "" {
		return "main"
	}
	return r.Revision
}

func (r Ref) check() error {
	if !repoPattern.MatchString(r.Repo) || strings.Contains(r.Repo, "..") {
		return fmt.Errorf("%q is no repository name: expected OWNER/REPO of letters, digits, '-', '_' and '.'", r.Repo)
	}
	if !revisionPattern.MatchString(r.revision()) || strings.Contains(r.Revision, "..") {
		return fmt.Errorf("%q is no revision: expected a branch, a tag or a commit", r.Revision)
	}
	if r.File != "" {
		return checkName(r.File)
	}
	return nil
}

// checkName refuses a file name from a listing that could lead out of the folder it is written to, or into the folder
// of the package's own files.
func checkName(name string) error {
	switch {
	case name == "" || len(name) > 512:
		return fmt.Errorf("file name %.40q: expected 1 to 512 bytes", name)
	case strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f || strings.ContainsRune(`\:*?"<>|`, r) }):
		return fmt.Errorf("file name %q holds a character that is not safe in a path", name)
	case !filepath.IsLocal(filepath.FromSlash(name)):
		return fmt.Errorf("file name %q leads out of the repository", name)
	}
	for _, part := range strings.Split(name, "/") {
		if part == "" || part == "." || part == ".." || part == stateDir {
			return fmt.Errorf("file name %q is not a plain path", name)
		}
	}
	return nil
}
