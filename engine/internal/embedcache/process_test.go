package embedcache

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestMain lets the test binary be another process that uses a cache.
func TestMain(m *testing.M) {
	if dir := os.Getenv("TIA2_TEST_CACHE"); dir != "" {
		if err := child(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(3)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

const childDim = 96

// child stores rows and checks what it finds, for ever or TIA2_TEST_ROUNDS times.
func child(dir string) error {
	number := func(name string) int {
		n, _ := strconv.Atoi(os.Getenv(name))
		return n
	}
	if limit := number("TIA2_TEST_FILE_LIMIT"); limit > 0 {
		rlimit := syscall.Rlimit{Cur: uint64(limit), Max: uint64(limit)}
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &rlimit); err != nil {
			return err
		}
	}
	var reported []string
	c, err := open(dir, Options{
		MaxBytes:   int64(number("TIA2_TEST_MAX_BYTES")),
		FlushBytes: 16 << 10,
		Report:     func(err error) { reported = append(reported, err.Error()) },
	}, eager)
	if err != nil {
		return err
	}
	table, err := c.Table(childDim, "model")
	if err != nil {
		return err
	}
	seed, rounds := number("TIA2_TEST_SEED"), number("TIA2_TEST_ROUNDS")
	r := rand.New(rand.NewPCG(uint64(seed), 1))
	dst, hit := make([]float32, 32*childDim), make([]bool, 32)
	for round := 0; rounds == 0 || round < rounds; round++ {
		keys := keysFor(r.IntN(3000), 32)
		want := rowsFor(keys, childDim)
		if _, err := table.Get(keys, dst, hit); err != nil {
			return err
		}
		for i, h := range hit {
			if h && !sameBits(dst[i*childDim:(i+1)*childDim], want[i*childDim:(i+1)*childDim]) {
				return errors.New("a wrong row")
			}
		}
		if err := table.Put(keys, want); err != nil {
			return err
		}
		if round%4 == 3 {
			_ = c.Flush() // its error is reported as well
		}
		if round == 0 {
			fmt.Println("begun")
		}
	}
	_ = c.Close()
	s := c.Stats()
	fmt.Printf("hits %d damaged %d dropped %d evicted %d reports %q\n", s.Hits, s.Damaged, s.Dropped, s.EvictedBytes, reported)
	return nil
}

// startChild starts a process that works on the cache of dir, with settings for child.
func startChild(t testing.TB, dir string, settings ...string) (*exec.Cmd, *strings.Builder) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(append(os.Environ(), "TIA2_TEST_CACHE="+dir), settings...)
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd, &out
}

// checkChild waits for a process that must have seen no damage.
func checkChild(t testing.TB, cmd *exec.Cmd, out *strings.Builder) (hits, dropped, evicted int, reports string) {
	t.Helper()
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var damaged int
	line := out.String()
	const format = "begun\nhits %d damaged %d dropped %d evicted %d reports "
	if _, err := fmt.Sscanf(line, format, &hits, &damaged, &dropped, &evicted); err != nil || damaged != 0 {
		t.Fatalf("%q: %v", line, err)
	}
	return hits, dropped, evicted, line[strings.Index(line, "reports ")+len("reports "):]
}

// Several processes store and read the same rows at once, with and without eviction.
func TestProcesses(t *testing.T) {
	for _, bound := range []int{0, 400_000} {
		t.Run(fmt.Sprint(bound), func(t *testing.T) {
			dir := t.TempDir()
			const processes = 3
			var cmds [processes]*exec.Cmd
			var outs [processes]*strings.Builder
			for i := range cmds {
				cmds[i], outs[i] = startChild(t, dir, "TIA2_TEST_ROUNDS=120",
					fmt.Sprintf("TIA2_TEST_SEED=%d", i), fmt.Sprintf("TIA2_TEST_MAX_BYTES=%d", bound))
			}
			evictions := 0
			for i := range cmds {
				hits, _, evicted, reports := checkChild(t, cmds[i], outs[i])
				if hits == 0 || reports != "[]\n" {
					t.Errorf("process %d: %d hits, reports %s", i, hits, reports)
				}
				evictions += evicted
			}
			c := mustOpen(t, dir, Options{MaxBytes: int64(bound)})
			mustFlush(t, c)
			n := found(t, mustTable(t, c, childDim, "model"), keysFor(0, 3032))
			s := c.Stats()
			if s.Damaged != 0 || n == 0 || (evictions > 0) != (bound > 0) {
				t.Errorf("%d rows, %d bytes evicted, %+v", n, evictions, s)
			}
			if total := folderBytes(t, dir); bound > 0 && total > int64(bound) {
				t.Errorf("%d bytes, the bound is %d", total, bound)
			}
			if files, _ := filepath.Glob(filepath.Join(dir, "*.part")); len(files) > 0 {
				t.Errorf("left behind: %q", files)
			}
		})
	}
}

// kill -9 at any time leaves only whole rows.
func TestKilled(t *testing.T) {
	dir := t.TempDir()
	rounds := 12
	if testing.Short() {
		rounds = 4
	}
	seen := map[string]bool{}
	for i := range rounds {
		cmd, _ := startChild(t, dir, fmt.Sprintf("TIA2_TEST_SEED=%d", i), "TIA2_TEST_MAX_BYTES=1000000")
		// Kill when a file is being written, later each time.
		for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
			files, err := filepath.Glob(filepath.Join(dir, "*.part"))
			if err != nil || time.Now().After(deadline) {
				t.Fatal("nothing is being written", err)
			}
			if len(segmentFiles(t, dir)) > len(files) && slices.ContainsFunc(files, func(f string) bool { return !seen[f] }) {
				break
			}
		}
		time.Sleep(time.Duration(i) * 3 * time.Millisecond)
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		files, _ := filepath.Glob(filepath.Join(dir, "*.part"))
		for _, f := range files {
			seen[f] = true
		}
	}
	if len(seen) == 0 {
		t.Error("no process was killed while it wrote")
	}
	c := mustOpen(t, dir, Options{})
	table := mustTable(t, c, childDim, "model")
	mustFlush(t, c)
	n := found(t, table, keysFor(0, 3032))
	if s := c.Stats(); s.Damaged != 0 || n == 0 {
		t.Errorf("%d rows, %+v", n, s)
	}
	if files, _ := filepath.Glob(filepath.Join(dir, "*.part")); len(files) > 0 {
		t.Errorf("left behind: %q", files)
	}
}

// A disk that takes no more turns writing off, once and in words, and stops nothing else.
func TestDiskFull(t *testing.T) {
	dir := t.TempDir()
	cmd, out := startChild(t, dir, "TIA2_TEST_ROUNDS=40", "TIA2_TEST_FILE_LIMIT=5000")
	_, dropped, _, reports := checkChild(t, cmd, out)
	if dropped == 0 || strings.Count(reports, "nothing more is stored") != 1 || !strings.Contains(reports, "file too large") {
		t.Errorf("%d dropped, reports %s", dropped, reports)
	}
	if files := segmentFiles(t, dir); len(files) > 0 {
		t.Errorf("left behind: %q", files)
	}
}

// A folder that cannot be written to is read.
func TestReadOnlyFolder(t *testing.T) {
	if os.Getuid() == 0 {
		t.Skip("root may write everywhere")
	}
	dir := t.TempDir()
	c := mustOpen(t, dir, Options{})
	fill(t, c, mustTable(t, c, 8), 0, 10)
	c.Close()
	if err := os.Chmod(dir, 0o555); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Chmod(dir, 0o777) })
	checkReadOnly(t, dir)
}

// checkReadOnly uses a folder with keys 0 to 9 that takes no new file.
func checkReadOnly(t *testing.T, dir string) {
	t.Helper()
	var reported []error
	c := mustOpen(t, dir, Options{Report: func(err error) { reported = append(reported, err) }})
	table := mustTable(t, c, 8)
	mustFind(t, table, keysFor(0, 20), 10)
	keys := keysFor(10, 10)
	mustPut(t, table, keys, rowsFor(keys, 8))
	mustFind(t, table, keysFor(0, 20), 20) // in memory
	if err := c.Flush(); err == nil {
		t.Error("Flush: no error")
	}
	mustPut(t, table, keys, rowsFor(keys, 8))
	mustFind(t, table, keysFor(0, 20), 10)
	if err := c.Close(); err == nil || len(reported) != 1 {
		t.Errorf("Close: %v, reports %q", err, reported)
	}
	if n := table.Counts(); n.Dropped != 10 {
		t.Errorf("%+v", n)
	}
}

// A folder that is removed while the cache is open ends writing, not reading.
func TestFolderVanishes(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "cache")
	var reported []error
	c := mustOpen(t, dir, Options{Report: func(err error) { reported = append(reported, err) }})
	table := mustTable(t, c, 8)
	fill(t, c, table, 0, 10)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	mustFind(t, table, keysFor(0, 20), 10)
	keys := keysFor(10, 10)
	mustPut(t, table, keys, rowsFor(keys, 8))
	if err := c.Flush(); err == nil {
		t.Error("Flush: no error")
	}
	mustFind(t, table, keysFor(0, 20), 10)
	if err := c.Close(); err == nil || len(reported) != 2 {
		t.Errorf("Close: %v, reports %q: want one of reading, one of writing", err, reported)
	}
}
