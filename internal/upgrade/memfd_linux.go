package upgrade

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// maxState bounds a state, in bytes.
const maxState = 4 << 30

const seals = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE

// Store returns a memfd with a state. Nobody can change it any more. The caller closes it.
func Store(state []byte) (*os.File, error) {
	fd, err := unix.MemfdCreate("usher-state", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, fmt.Errorf("memfd: %w", err)
	}
	f := os.NewFile(uintptr(fd), "state")
	if _, err = f.Write(state); err == nil {
		_, err = unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, seals)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("memfd of %d bytes: %w", len(state), err)
	}
	return f, nil
}

// load returns the state in a memfd. The error says that it is none.
func load(f *os.File) ([]byte, error) {
	if has, err := unix.FcntlInt(f.Fd(), unix.F_GET_SEALS, 0); err != nil || has&seals != seals {
		return nil, errors.New("the state is not in a sealed memfd")
	}
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.Size() > maxState {
		return nil, fmt.Errorf("the state has %d bytes", info.Size())
	}
	state := make([]byte, info.Size())
	_, err = f.ReadAt(state, 0)
	if err == io.EOF && len(state) == 0 {
		err = nil
	}
	return state, err
}

// Clock returns the time of a clock that goes on over exec.
func Clock() time.Duration {
	var now unix.Timespec
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, &now) != nil {
		return 0
	}
	return time.Duration(now.Nano())
}

func setCloseOnExec(fd int, on bool) error {
	flag := 0
	if on {
		flag = unix.FD_CLOEXEC
	}
	_, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, flag)
	return err
}
