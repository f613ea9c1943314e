package engine

// HoldStates changes how many bytes of states are held at once, and returns what changes it back.
func HoldStates(bytes int) (undo func()) {
	before := statesBytesMax
	statesBytesMax = bytes
	return func() { statesBytesMax = before }
}
