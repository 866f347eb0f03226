//go:build unix

package proxy

import (
	"io/fs"

	"golang.org/x/sys/unix"
)

// closeToOthers gives a socket that is not bound yet the mode that its file begins with: Linux takes it from there, less
// the umask. So nobody can connect before the file has its owners. Elsewhere the call fails, and the umask alone counts.
func closeToOthers(fd uintptr, mode fs.FileMode) {
	if mode != 0 {
		_ = unix.Fchmod(int(fd), uint32(mode)&0o700)
	}
}
