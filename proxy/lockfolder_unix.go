//go:build unix && !solaris && !aix

package proxy

import (
	"os"
	"syscall"
	"time"
)

// lockFolder keeps other processes that ask for the same from the folder until
// unlock is called. It leaves no file behind. Where the folder cannot be locked,
// or not soon, it does nothing.
func lockFolder(path string) (unlock func()) {
	f, err := os.Open(path)
	if err != nil {
		return func() {}
	}
	const step, patience = 5 * time.Millisecond, time.Second
	for range patience / step {
		if syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) != syscall.EWOULDBLOCK {
			break
		}
		time.Sleep(step)
	}
	return func() { f.Close() }
}
