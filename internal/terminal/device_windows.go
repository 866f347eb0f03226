package terminal

import (
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/windows"
	"golang.org/x/term"
)

const (
	canSuspend = false
	// canInterruptRead: a read of the console ends with the next key alone, or with the process.
	canInterruptRead = false
)

// device is the console of the process.
type device struct {
	in, out *os.File
	state   *term.State // of in, to put back
	outMode uint32      // of out, to put back
}

func openDevice() (*device, error) {
	in, err := os.OpenFile("CONIN$", os.O_RDWR, 0)
	if err != nil {
		return nil, ErrNone
	}
	out, err := os.OpenFile("CONOUT$", os.O_RDWR, 0)
	if err != nil {
		in.Close()
		return nil, ErrNone
	}
	d := &device{in: in, out: out}
	if err := windows.GetConsoleMode(windows.Handle(out.Fd()), &d.outMode); err != nil {
		d.release()
		return nil, ErrNone
	}
	return d, nil
}

func (d *device) release() {
	d.out.Close()
	// A read that goes on keeps in open.
}

// makeRaw has each key arrive as it is pressed, without an echo and without signals.
func (d *device) makeRaw(remember bool) error {
	old, err := term.MakeRaw(int(d.in.Fd()))
	if err != nil {
		return err
	}
	if remember || d.state == nil {
		d.state = old
	}
	if !enableSequences(d.out) {
		return ErrNone
	}
	return nil
}

func (d *device) restore() {
	_ = term.Restore(int(d.in.Fd()), d.state)
	_ = windows.SetConsoleMode(windows.Handle(d.out.Fd()), d.outMode)
}

func (d *device) size() (width, height int) { return Size(d.out) }

func (d *device) isForeground() bool { return true }

func (d *device) read(p []byte, _ <-chan struct{}) (int, error) { return d.in.Read(p) }

func (d *device) awaitInput()     {}
func (d *device) interruptRead()  {}
func (d *device) interruptWrite() {}

func (d *device) write(p []byte, _ time.Duration) (int, error) { return d.out.Write(p) }

// Signals that are caught: those that end the program. There is no job control.
var (
	endSignals = []os.Signal{os.Interrupt, syscall.SIGTERM}
	jobSignals []os.Signal
)

const dumpSignal = syscall.SIGQUIT // never comes

func isStopSignal(os.Signal) bool     { return false }
func isContinueSignal(os.Signal) bool { return false }

type target int

const (
	wholeGroup  target = 0
	thisProcess target = 0
)

func stopProcess(target) {}

// raise ends the process: no signal can be sent to it.
func raise(syscall.Signal) { os.Exit(1) }

// enableSequences has a console obey control sequences, and reports whether it does.
func enableSequences(f *os.File) bool {
	h := windows.Handle(f.Fd())
	var mode uint32
	if windows.GetConsoleMode(h, &mode) != nil {
		return false
	}
	return windows.SetConsoleMode(h, mode|windows.ENABLE_PROCESSED_OUTPUT|windows.ENABLE_VIRTUAL_TERMINAL_PROCESSING) == nil
}
