package proxy

import (
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// pipeWanted is asked for; what the user's budget of pipe pages
	// (fs.pipe-user-pages-soft, 64 MiB by default, not for root) leaves is taken.
	// To move at most 256 KiB by one splice costs a fifth more CPU time a bit.
	pipeWanted = 1 << 20
	// pipeLeast is the smallest pipe worth having. Past the budget pipes are born
	// with two pages, and splicing through those costs more than copying.
	pipeLeast = 64 << 10
	// pipeRetry is how long the budget is left alone after it was found used up.
	pipeRetry = time.Second
)

// pipe carries bytes from one socket to another inside the kernel.
type pipe struct {
	r, w int32
	size int
	held int // bytes inside
}

// pipePool lends the pipes of one loop. A pipe is lent while bytes are in flight
// through it and comes back empty; a flow that ends with bytes in its pipe closes
// it. Only the loop uses the pool.
type pipePool struct {
	free  []*pipe
	most  int           // that it may own: its part of the descriptors
	made  int           // lent and free together
	again time.Duration // no new pipe before then
}

// get returns an empty pipe, or nil if none can be had now.
func (p *pipePool) get(now time.Duration) *pipe {
	if n := len(p.free); n > 0 {
		x := p.free[n-1]
		p.free = p.free[:n-1]
		return x
	}
	if p.made >= p.most || now < p.again {
		return nil
	}
	x := newPipe()
	if x == nil {
		p.again = now + pipeRetry
		return nil
	}
	p.made++
	return x
}

// put takes a pipe back. One that is not empty is closed.
func (p *pipePool) put(x *pipe) {
	if x.held != 0 {
		x.close()
		p.made--
		return
	}
	p.free = append(p.free, x)
}

// close closes the pipes that are not lent.
func (p *pipePool) close() {
	for _, x := range p.free {
		x.close()
		p.made--
	}
	p.free = nil
}

// newPipe returns nil when descriptors or pipe pages have run out.
func newPipe() *pipe {
	var fds [2]int32
	_, _, e := syscall.RawSyscall(unix.SYS_PIPE2, uintptr(unsafe.Pointer(&fds)), unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if e != noError {
		return nil
	}
	x := &pipe{r: fds[0], w: fds[1]}
	for size := pipeWanted; size >= pipeLeast; size /= 4 {
		n, _, e := syscall.RawSyscall(unix.SYS_FCNTL, uintptr(x.w), unix.F_SETPIPE_SZ, uintptr(size))
		if e == noError {
			x.size = int(n)
			return x
		}
	}
	n, _, e := syscall.RawSyscall(unix.SYS_FCNTL, uintptr(x.w), unix.F_GETPIPE_SZ, 0)
	if e == noError && int(n) >= pipeLeast {
		x.size = int(n)
		return x
	}
	x.close()
	return nil
}

// probePipe returns the size of the pipe that could be had now, zero if none worth having, and the size asked for.
func probePipe() (size, wanted int) {
	x := newPipe()
	if x == nil {
		return 0, pipeWanted
	}
	defer x.close()
	return x.size, pipeWanted
}

func (x *pipe) close() {
	closeFD(x.r)
	closeFD(x.w)
}
