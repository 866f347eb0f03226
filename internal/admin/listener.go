package admin

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"usher/internal/api"
	"usher/internal/config"
	"usher/proxy/socketfile"
)

// Listener accepts the connections of the API, on a control socket or on an admin address. Accept is for one caller at
// a time; everything else is safe for concurrent use.
type Listener struct {
	inner  socket
	file   socketfile.File             // of a control socket
	isPeer func(c *net.UnixConn) error // refuses a peer of a control socket

	accepting sync.Mutex // held while Accept waits for a connection

	mu     sync.Mutex
	resume chan struct{} // closed by Resume; nil: not paused
	closed chan struct{}
	close  sync.Once
}

// socket is what a *net.UnixListener and a *net.TCPListener have in common.
type socket interface {
	net.Listener
	File() (*os.File, error)
	SetDeadline(time.Time) error
}

func newListener(inner socket) *Listener {
	return &Listener{inner: inner, isPeer: checkPeer, closed: make(chan struct{})}
}

// NameError says that an instance cannot have the name that it was given.
type NameError struct {
	Name   string
	Reason string
}

// Error names the name, and says what to do.
func (e *NameError) Error() string {
	return fmt.Sprintf("name %s %s: choose another --name", e.Name, e.Reason)
}

// ListenControl opens a control socket in the user's folder: NAME.sock for a name that was given, which is refused with a
// *NameError if another instance has it or its path is too long. Without one it has the fallback as its name, if that can be
// one, or else the PID.
func ListenControl(given, fallback string) (*Listener, error) {
	return listenIn(api.Folder(), given, fallback, os.Getpid())
}

func listenIn(folder, given, fallback string, pid int) (*Listener, error) {
	if err := api.MakeFolder(folder); err != nil {
		return nil, err
	}
	if given != "" {
		return listenAs(given, socketPath(folder, given))
	}
	number := strconv.Itoa(pid)
	if path := socketPath(folder, fallback); config.CheckName(fallback) == nil && fallback != number && api.FitsSocket(path) {
		l, err := ListenPath(path)
		if err == nil || !errors.Is(err, syscall.EADDRINUSE) {
			return l, err
		}
	}
	return ListenPath(socketPath(folder, number))
}

// listenAs opens the control socket of a name that was given.
func listenAs(name, path string) (*Listener, error) {
	if !api.FitsSocket(path) {
		return nil, &NameError{name, "is too long for the path of a socket, " + path}
	}
	l, err := ListenPath(path)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, &NameError{name, "is taken by a running usher" + pidOf(path)}
	}
	return l, err
}

// pidOf returns the PID of the usher at a socket, in brackets; it is empty if that does not answer in time.
func pidOf(path string) string {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	other, err := api.NewClient(path).Process(ctx)
	if err != nil {
		return ""
	}
	return fmt.Sprintf(" (pid %d)", other.PID)
}

func socketPath(folder, name string) string { return filepath.Join(folder, name+api.Extension) }

// ListenPath opens a control socket at a path. A file that a killed process left there is replaced. Only the user of
// this process and root may connect.
func ListenPath(path string) (*Listener, error) {
	if !api.FitsSocket(path) {
		return nil, fmt.Errorf("control socket %s: the path is too long for a socket", path)
	}
	var inner *net.UnixListener
	file, err := socketfile.Bind(path, func() error {
		// Where the system allows it the file has its mode from the beginning.
		c := net.ListenConfig{Control: closeToOthers}
		l, err := c.Listen(context.Background(), "unix", path)
		if err != nil {
			return err
		}
		inner = l.(*net.UnixListener)
		inner.SetUnlinkOnClose(false) // it would remove a successor's file
		if err = os.Chmod(path, 0o600); err != nil {
			_ = os.Remove(path)
		}
		return err
	})
	if err != nil {
		if inner != nil {
			inner.Close()
		}
		return nil, fmt.Errorf("control socket %s: %w", path, reason(err))
	}
	l := newListener(inner)
	l.file = file
	return l, nil
}

// reason returns the innermost error where the path and the operation are known.
func reason(err error) error {
	if e := new(net.OpError); errors.As(err, &e) {
		err = e.Err
	}
	if e := new(os.SyscallError); errors.As(err, &e) {
		err = e.Err
	}
	if e := new(fs.PathError); errors.As(err, &e) {
		err = e.Err
	}
	return err
}

// ListenAdmin opens an admin address.
func ListenAdmin(at config.Addr) (*Listener, error) {
	l, err := net.Listen("tcp", at.HostPort())
	if err != nil {
		return nil, fmt.Errorf("admin address %s: %w", at.HostPort(), reason(err))
	}
	return newListener(l.(*net.TCPListener)), nil
}

// Adopt makes a listener of a socket that File returned in the image before an upgrade. It closes the file.
func Adopt(f *os.File) (*Listener, error) {
	defer f.Close()
	inner, err := net.FileListener(f)
	if err != nil {
		return nil, err
	}
	switch inner := inner.(type) {
	case *net.TCPListener:
		return newListener(inner), nil
	case *net.UnixListener:
		path := inner.Addr().String()
		l := newListener(inner)
		// Without its file the socket serves nobody new, and nothing has to be removed.
		l.file, err = socketfile.Find(path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			inner.Close()
			return nil, fmt.Errorf("control socket %s: %w", path, reason(err))
		}
		return l, nil
	}
	inner.Close()
	return nil, fmt.Errorf("adopt a %s listener: it is neither a unix socket nor tcp", inner.Addr().Network())
}

// File returns a descriptor of the socket, which stays open when l is closed. It is closed by exec unless told
// otherwise: see Adopt. Callers close it.
func (l *Listener) File() (*os.File, error) { return l.inner.File() }

// Addr returns where it listens.
func (l *Listener) Addr() net.Addr { return l.inner.Addr() }

// Name returns how commands find the instance with --name; it is empty for an admin address.
func (l *Listener) Name() string {
	if !l.isControl() {
		return ""
	}
	return strings.TrimSuffix(filepath.Base(l.Addr().String()), api.Extension)
}

func (l *Listener) isControl() bool { return l.Addr().Network() == "unix" }

// Accept waits for a connection. It closes those of other users.
func (l *Listener) Accept() (net.Conn, error) {
	for {
		if err := l.awaitResume(); err != nil {
			return nil, err
		}
		l.accepting.Lock()
		c, err := l.inner.Accept()
		l.accepting.Unlock()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			continue // Pause woke it
		}
		if err != nil {
			return nil, err
		}
		local, ok := c.(*net.UnixConn)
		if !ok {
			return c, nil
		}
		if err := l.isPeer(local); err == nil {
			return c, nil
		} else {
			refuse(c, err)
		}
	}
}

// awaitResume returns when the listener is not paused, with an error when it is closed.
func (l *Listener) awaitResume() error {
	l.mu.Lock()
	resume := l.resume
	l.mu.Unlock()
	if resume == nil {
		return nil
	}
	select {
	case <-resume:
		return nil
	case <-l.closed:
		return net.ErrClosed
	}
}

// refuse answers a peer without reading its request. The answer fits into the socket's buffer.
func refuse(c net.Conn, reason error) {
	defer c.Close()
	text := errorText(reason)
	if err := c.SetWriteDeadline(time.Now().Add(time.Second)); err != nil {
		return
	}
	_, _ = fmt.Fprintf(c, "HTTP/1.1 403 Forbidden\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s",
		len(text), text)
}

// Pause stops accepting. When it returns no connection is accepted until Resume: clients wait in the accept queue.
func (l *Listener) Pause() {
	l.mu.Lock()
	if l.resume == nil {
		l.resume = make(chan struct{})
		_ = l.inner.SetDeadline(time.Unix(1, 0))
	}
	l.mu.Unlock()
	l.accepting.Lock() // Accept has returned from the socket
	defer l.accepting.Unlock()
}

// Resume goes on after Pause.
func (l *Listener) Resume() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.resume != nil {
		_ = l.inner.SetDeadline(time.Time{})
		close(l.resume)
		l.resume = nil
	}
}

// Close removes the file of a control socket, if it is still ours, and stops listening.
func (l *Listener) Close() (err error) {
	l.close.Do(func() {
		l.file.Remove()
		close(l.closed)
		err = l.inner.Close()
	})
	return err
}
