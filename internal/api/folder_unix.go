//go:build unix

package api

import (
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// temporaryName is the name of this user's folder among the temporary files of all users.
func temporaryName() string { return fmt.Sprintf("usher-%d", os.Geteuid()) }

// isOurs reports whether a file belongs to the user of this process.
func isOurs(info fs.FileInfo) bool {
	s, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(s.Uid) == os.Geteuid()
}

// isWritableByOthers reports whether other users may add files to a folder.
func isWritableByOthers(info fs.FileInfo) bool { return info.Mode().Perm()&0o022 != 0 }
