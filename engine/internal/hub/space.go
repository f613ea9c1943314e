package hub

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// checkSpace fails where the file system of dir has not n bytes left, before they are downloaded for nothing.
func checkSpace(dir string, n int64) error {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil || n <= 0 {
		return nil // not knowing is no reason to refuse
	}
	free := uint64(st.Bavail) * uint64(st.Bsize)
	if uint64(n) > free {
		return fmt.Errorf("%.2f GB are to be downloaded, %s has %.2f GB free", float64(n)/1e9, dir, float64(free)/1e9)
	}
	return nil
}
