//go:build !linux

package window

import "syscall"

// dieWithParent works only on Linux.
func dieWithParent(*syscall.SysProcAttr) {}
