package atomicfile

import (
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
)

func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

func TestCommitAndAbort(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "x.gguf")
	f, err := Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("whole"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err == nil {
		t.Fatal("the final name exists before Commit")
	}
	if err := f.Commit(); err != nil {
		t.Fatal(err)
	}
	f.Abort()
	if b, err := os.ReadFile(path); err != nil || string(b) != "whole" {
		t.Fatalf("got %q, %v", b, err)
	}
	if err := f.Commit(); err == nil {
		t.Error("the second Commit succeeded")
	}
	g, err := Create(path)
	if err != nil {
		t.Fatal(err)
	}
	g.Abort()
	if got := names(t, dir); len(got) != 1 {
		t.Errorf("left behind: %q", got)
	}
}

func TestDeadWritersAreCleaned(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "x.gguf")
	dead := path + ".0123456789ab.part"
	other := filepath.Join(dir, "y.gguf.0123456789ab.part")
	for _, p := range []string{dead, other} {
		if err := os.WriteFile(p, []byte("half"), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	alive, err := Create(path) // cleans `dead`
	if err != nil {
		t.Fatal(err)
	}
	defer alive.Abort()
	second, err := Create(path) // must leave `alive` alone
	if err != nil {
		t.Fatal(err)
	}
	defer second.Abort()
	if _, err := os.Stat(dead); err == nil {
		t.Error("a dead writer's file is still there")
	}
	if _, err := os.Stat(other); err != nil {
		t.Error("another name's file was removed")
	}
	if err := alive.Commit(); err != nil {
		t.Errorf("a living writer lost its file: %v", err)
	}
}

func TestLockExcludes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	unlock, err := Lock(path)
	if err != nil {
		t.Fatal(err)
	}
	var held atomic.Bool
	held.Store(true)
	done := make(chan struct{})
	go func() {
		defer close(done)
		again, err := Lock(path)
		if err != nil {
			t.Error(err)
			return
		}
		if held.Load() {
			t.Error("two holders at once")
		}
		again()
	}()
	held.Store(false)
	unlock()
	<-done
}
