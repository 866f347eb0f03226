package proxy

import (
	"fmt"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// verifyListeners returns an error if a listening socket of streams is none.
func (st *State) verifyListeners() error {
	for i := range st.Bindings {
		for _, fd := range st.Bindings[i].FDs {
			if err := verifyDescriptor(fd, streamListener); err != nil {
				return err
			}
		}
	}
	return nil
}

// verifyDescriptors returns an error if a descriptor is not what the state says. All of them
// are non-blocking: a loop must never wait in a call.
func (w *workerState) verifyDescriptors() (err error) {
	w.descriptors(func(fd int32, kind descriptorKind) bool {
		err = verifyDescriptor(fd, kind)
		return err == nil
	})
	if err != nil {
		return err
	}
	for j := range w.Conns {
		for s := range w.Conns[j].Half {
			if p := w.Conns[j].Half[s].Pipe; p != nil && !p.holds() {
				return fmt.Errorf("state: descriptors %d and %d are not the ends of a pipe with %d bytes", p.Read, p.Write, p.Held)
			}
		}
	}
	return nil
}

func verifyDescriptor(fd int32, kind descriptorKind) error {
	if what := misses(fd, kind); what != "" {
		return fmt.Errorf("state: descriptor %d is not %s", fd, what)
	}
	return nil
}

// misses says what a descriptor should be and is not; empty if it is.
func misses(fd int32, kind descriptorKind) (what string) {
	flags := fcntl(fd, unix.F_GETFL)
	if flags < 0 {
		return "open"
	}
	if flags&unix.O_NONBLOCK == 0 {
		return "non-blocking"
	}
	switch kind {
	case pipeReader, pipeWriter:
		access := unix.O_RDONLY
		if kind == pipeWriter {
			access = unix.O_WRONLY
		}
		if flags&unix.O_ACCMODE != access || pipeSize(fd) <= 0 {
			return "the end of a pipe that it should be"
		}
		return ""
	case datagramSocket:
		if socketOption(fd, unix.SO_TYPE) != unix.SOCK_DGRAM {
			return "a datagram socket"
		}
		return ""
	case streamListener:
		if socketOption(fd, unix.SO_ACCEPTCONN) != 1 {
			return "a listening socket"
		}
	case streamSocket:
		if socketOption(fd, unix.SO_TYPE) != unix.SOCK_STREAM {
			return "a stream socket"
		}
	}
	return ""
}

// socketOption returns -1 for what is no socket.
func socketOption(fd int32, option int) int {
	var value int32
	size := uint32(unsafe.Sizeof(value))
	_, _, e := syscall.RawSyscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, uintptr(option),
		uintptr(unsafe.Pointer(&value)), uintptr(unsafe.Pointer(&size)), 0)
	if e != noError {
		return -1
	}
	return int(value)
}

// fcntl returns -1 for an error.
func fcntl(fd int32, command int) int {
	n, _, e := syscall.RawSyscall(unix.SYS_FCNTL, uintptr(fd), uintptr(command), 0)
	if e != noError {
		return -1
	}
	return int(n)
}

// pipeSize returns the room in a pipe; -1 if it is none.
func pipeSize(fd int32) int { return fcntl(fd, unix.F_GETPIPE_SZ) }

// holds reports whether both ends are those of one pipe, with as many bytes inside.
func (p *pipeState) holds() bool {
	var r, w unix.Stat_t
	if unix.Fstat(int(p.Read), &r) != nil || unix.Fstat(int(p.Write), &w) != nil || r.Dev != w.Dev || r.Ino != w.Ino {
		return false
	}
	n, err := unix.IoctlGetInt(int(p.Read), unix.TIOCINQ)
	return err == nil && n == p.Held
}
