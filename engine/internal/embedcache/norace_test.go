//go:build !race

package embedcache

const raceEnabled = false
