//go:build unix

package terminal

import (
	"errors"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

const (
	canSuspend       = true
	canInterruptRead = true
)

// device is the controlling terminal, opened anew: what this description of it is set to, as not to block, nobody shares.
type device struct {
	file  *os.File
	fd    int
	state *term.State // to put back
	// isPolled says that deadlines work. Where they do not, as on macOS, a read returns after readTimeout.
	isPolled bool
}

const (
	// readTimeout is how long a read takes that cannot be interrupted. The unit of VTIME is a tenth of a second.
	readTimeout = 100 * time.Millisecond
	// stopWait is how long a SIGSTOP may take until it stops the process. Time does not pass while it is stopped.
	stopWait = 100 * time.Millisecond
	// raiseWait is how long a signal may take until it ends the process.
	raiseWait = time.Second
)

func openDevice() (*device, error) {
	f, err := os.OpenFile("/dev/tty", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, ErrNone
	}
	d := &device{file: f, isPolled: f.SetDeadline(time.Time{}) == nil}
	conn, err := f.SyscallConn() // Fd would make reads and writes block
	if err == nil {
		err = conn.Control(func(fd uintptr) { d.fd = int(fd) }) // it is open until release
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return d, nil
}

func (d *device) release() { d.file.Close() }

// makeRaw has each key arrive as it is pressed, without an echo and without signals. Newlines stay what they are. In the
// background it would stop the process.
func (d *device) makeRaw(remember bool) error {
	old, err := term.MakeRaw(d.fd)
	if err != nil {
		return err
	}
	if remember || d.state == nil {
		d.state = old
	}
	now, err := unix.IoctlGetTermios(d.fd, readTermios)
	if err != nil {
		return err
	}
	now.Oflag |= unix.OPOST | unix.ONLCR
	if !d.isPolled {
		now.Cc[unix.VMIN], now.Cc[unix.VTIME] = 0, 1
	}
	return unix.IoctlSetTermios(d.fd, writeTermios, now)
}

// restore takes makeRaw back. In the background the shell has done so.
func (d *device) restore() {
	if d.isForeground() {
		_ = term.Restore(d.fd, d.state) // others notice a terminal that is gone
	}
}

func (d *device) size() (width, height int) {
	width, height, err := term.GetSize(d.fd)
	if err != nil || width <= 0 || height <= 0 {
		return 80, 24
	}
	return width, height
}

// isForeground reports whether the terminal's keys are for the group of this process. A terminal that is gone has none.
func (d *device) isForeground() bool {
	group, err := unix.IoctlGetInt(d.fd, unix.TIOCGPGRP)
	return err != nil || group == unix.Getpgrp()
}

// read returns input. The error says that there is none any more, or that stopping is closed.
func (d *device) read(p []byte, stopping <-chan struct{}) (int, error) {
	for {
		began := time.Now()
		n, err := d.file.Read(p)
		switch {
		case n > 0:
			return n, nil
		case d.isPolled, !errors.Is(err, io.EOF), time.Since(began) < readTimeout/2:
			return 0, err
		}
		select {
		case <-stopping:
			return 0, io.EOF
		default: // the time was up
		}
	}
}

func (d *device) awaitInput()     { _ = d.file.SetReadDeadline(time.Time{}) }
func (d *device) interruptRead()  { _ = d.file.SetReadDeadline(time.Unix(1, 0)) }
func (d *device) interruptWrite() { _ = d.file.SetWriteDeadline(time.Unix(1, 0)) }

func (d *device) write(p []byte, timeout time.Duration) (int, error) {
	_ = d.file.SetWriteDeadline(time.Now().Add(timeout))
	return d.file.Write(p)
}

// Signals that are caught: those that end the program, and those of job control.
var (
	endSignals = []os.Signal{unix.SIGINT, unix.SIGTERM, unix.SIGHUP, dumpSignal}
	jobSignals = []os.Signal{unix.SIGTSTP, unix.SIGCONT, unix.SIGWINCH}
)

// dumpSignal has the runtime print all goroutines and exit, whichever signals the program handles.
const dumpSignal = unix.SIGQUIT

func isStopSignal(sig os.Signal) bool     { return sig == unix.SIGTSTP }
func isContinueSignal(sig os.Signal) bool { return sig == unix.SIGCONT }

// target is what stopProcess stops, in the words of kill.
type target int

const wholeGroup target = 0

var thisProcess = target(unix.Getpid())

// stopProcess stops the process until it is continued. A program that no shell has made a job of is not stopped, because
// nobody would continue it. SIGSTOP stands for SIGTSTP, whose default action the runtime does not bring back.
func stopProcess(whom target) {
	session, err := unix.Getsid(0)
	if err != nil || session == unix.Getpgrp() {
		return
	}
	continued := make(chan os.Signal, 1)
	signal.Notify(continued, unix.SIGCONT)
	defer signal.Stop(continued)
	if unix.Kill(int(whom), unix.SIGSTOP) != nil {
		return
	}
	select {
	case <-continued:
	case <-time.After(stopWait):
	}
}

// raise sends a signal to this process, and gives it time to end by it.
func raise(sig syscall.Signal) {
	if unix.Kill(unix.Getpid(), sig) == nil {
		time.Sleep(raiseWait)
	}
}

func enableSequences(*os.File) bool { return true }
