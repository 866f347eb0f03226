//go:build unix && !solaris && !aix

package socketfile

import (
	"os"
	"syscall"
	"time"
)

// lockFolder keeps other processes that ask for the same from the folder until
// unlock is called. It leaves no file behind. Where the folder cannot be locked,
// or not soon, it does nothing. Without O_DIRECTORY the open of a fifo waits for a
// writer, which may never come.
func lockFolder(path string) (unlock func()) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_DIRECTORY|syscall.O_NONBLOCK, 0)
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
