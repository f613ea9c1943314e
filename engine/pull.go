package engine

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/tia2-engine/tia2-engine/engine/internal/hub"
)

// PullOptions say what Pull downloads, from where and to where. The zero value is the usual case.
type PullOptions struct {
	Revision string   // branch, tag or commit; "" is the one in repo, else main
	Dir      string   // where the files go; "" is a folder per commit under CacheDir
	CacheDir string   // "" is tia2-engine in the user's cache folder
	Endpoint string   // URL of the hub; "" is HF_ENDPOINT, else https://huggingface.co
	Token    string   // access token; "" is HF_TOKEN, else HUGGING_FACE_HUB_TOKEN
	Include  []string // path.Match patterns of the files to take; nil: the files of one checkpoint

	// Progress is called often, from the calling goroutine, with the bytes of a file that are there and its size.
	Progress func(file string, done, total int64)
	Log      func(format string, args ...any) // what went wrong and is tried again; nil is silent
}

// Pull downloads a checkpoint from the Hugging Face hub and returns the path to give to Open: the folder of its files,
// or the file where repo names one.
//
// repo is [hf:]OWNER/REPO[/FILE][@REVISION]. Files that are there already are not downloaded again, what a broken pull
// left is continued, every file is compared with the hub's checksum before it gets its name, and several processes may
// pull the same repository at once. With HF_HUB_OFFLINE set no server is asked. The error of a refusal says what to do
// about it: which variable to set, which licence to accept. A cancelled ctx leaves what the next call continues.
func Pull(ctx context.Context, repo string, opt PullOptions) (path string, err error) {
	ref, err := hub.ParseRef(repo)
	if err != nil {
		return "", fmt.Errorf("tia2: %w", err)
	}
	if opt.Revision != "" {
		ref.Revision = opt.Revision
	}
	if opt.Dir == "" && opt.CacheDir == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			return "", fmt.Errorf("tia2: no folder for downloads: %w", err)
		}
		opt.CacheDir = filepath.Join(user, "tia2-engine")
	}
	dir, err := hub.Pull(ctx, ref, hub.Options{
		Dir:      opt.Dir,
		CacheDir: filepath.Join(opt.CacheDir, "hub"),
		Endpoint: opt.Endpoint,
		Token:    opt.Token,
		Include:  opt.Include,
		Progress: opt.Progress,
		Log:      opt.Log,
	}.FromEnv(os.Getenv))
	if err != nil {
		return "", fmt.Errorf("tia2: %w", err)
	}
	return filepath.Join(dir, filepath.FromSlash(ref.File)), nil
}
