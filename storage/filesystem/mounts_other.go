//go:build unix && !linux

package filesystem

// checkMounts checks only on Linux.
func (t *tree) checkMounts() error { return nil }
