//go:build unix

package proxy

import (
	"io/fs"
	"syscall"
)

// fileOwner returns who has a file.
func fileOwner(file fs.FileInfo) owner {
	if s, ok := file.Sys().(*syscall.Stat_t); ok {
		return owner{int(s.Uid), int(s.Gid)}
	}
	return owner{-1, -1}
}
