// Package distinct keeps names apart.
package distinct

import "fmt"

// Name returns name, with a number behind it where it is taken ("clip", "clip_2", "clip_3"), and takes it.
func Name(name string, taken map[string]bool) string {
	unique := name
	for n := 2; taken[unique]; n++ {
		unique = fmt.Sprintf("%s_%d", name, n)
	}
	taken[unique] = true
	return unique
}
