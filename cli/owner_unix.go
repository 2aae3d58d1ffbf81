//go:build unix

package cli

import (
	"io/fs"
	"syscall"
)

// ownerOf is known where files have owners.
func ownerOf(info fs.FileInfo) (uid, gid int, known bool) {
	stat, known := info.Sys().(*syscall.Stat_t)
	if !known {
		return 0, 0, false
	}
	return int(stat.Uid), int(stat.Gid), true
}
