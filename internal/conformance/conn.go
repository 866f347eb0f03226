//go:build linux

package conformance

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Conn is one end of a flow: a client's or a backend's. Every wait ends after the
// patience of the case, and errors name the end and what it waited for. One goroutine
// may read while another writes.
type Conn struct {
	net.Conn
	who      string
	patience time.Duration
	sent     atomic.Int64
}

func (e *Conn) errorf(format string, args ...any) error {
	return fmt.Errorf(e.who+": "+format, args...)
}

// Sent is the number of bytes that Send has handed to the kernel so far. Any
// goroutine may ask.
func (e *Conn) Sent() int64 { return e.sent.Load() }

// Say writes text.
func (e *Conn) Say(text string) error {
	e.SetWriteDeadline(time.Now().Add(e.patience))
	if _, err := io.WriteString(e.Conn, text); err != nil {
		return e.errorf("say %.20q: %w", text, short(err))
	}
	return nil
}

// Hear reads exactly text.
func (e *Conn) Hear(text string) error { return e.HearWithin(text, e.patience) }

// HearWithin is Hear with a patience of its own.
func (e *Conn) HearWithin(text string, d time.Duration) error {
	e.SetReadDeadline(time.Now().Add(d))
	buf := make([]byte, len(text))
	if n, err := io.ReadFull(e.Conn, buf); err != nil {
		return e.errorf("hear %.20q, got %d of %d bytes: %w", text, n, len(buf), short(err))
	}
	if string(buf) != text {
		return e.errorf("hear %.20q, got %.40q", text, buf)
	}
	return nil
}

// Send writes the first n bytes of s.
func (e *Conn) Send(s Stream, n int) error {
	for pos := 0; pos < n; {
		e.SetWriteDeadline(time.Now().Add(e.patience))
		m, err := e.Write(s.at(pos, n-pos))
		e.sent.Add(int64(m))
		pos += m
		if err != nil {
			return e.errorf("send byte %d of %d: %w", pos, n, short(err))
		}
	}
	return nil
}

// Receive reads n bytes and compares each with s.
func (e *Conn) Receive(s Stream, n int) error {
	buf := make([]byte, min(n, chunk))
	for pos := 0; pos < n; {
		e.SetReadDeadline(time.Now().Add(e.patience))
		m, err := e.Read(buf[:min(len(buf), n-pos)])
		if want := s.at(pos, m); !bytes.Equal(buf[:m], want) {
			i := 0
			for buf[i] == want[i] {
				i++
			}
			return e.errorf("byte %d of %d is wrong", pos+i, n)
		}
		pos += m
		if err != nil && pos < n {
			return e.errorf("receive byte %d of %d: %w", pos, n, short(err))
		}
	}
	return nil
}

// Finish sends FIN and keeps reading: a half-close.
func (e *Conn) Finish() error {
	if err := e.Conn.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		return e.errorf("half-close: %w", short(err))
	}
	return nil
}

// Reset ends a TCP connection with RST.
func (e *Conn) Reset() error {
	if err := e.Conn.(*net.TCPConn).SetLinger(0); err != nil {
		return e.errorf("set linger: %w", short(err))
	}
	return e.Close()
}

// unacked is how many sent bytes the other end's kernel has not acknowledged, the FIN
// included.
func (e *Conn) unacked() int64 {
	raw, err := e.Conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		return 0
	}
	left := 0
	_ = raw.Control(func(fd uintptr) { left, _ = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ) })
	return int64(left)
}

// setReadBuffer bounds what the kernel buffers for this end to read.
func (e *Conn) setReadBuffer(n int) error {
	if err := e.Conn.(*net.TCPConn).SetReadBuffer(n); err != nil {
		return e.errorf("set the receive buffer: %w", short(err))
	}
	return nil
}

// Finished waits for a clean end of the stream and accepts nothing else.
func (e *Conn) Finished() error {
	switch n, err := e.next(e.patience); {
	case n > 0:
		return e.errorf("a byte came where a clean end was due")
	case errors.Is(err, io.EOF):
		return nil
	case isReset(err):
		return e.errorf("a reset came where a clean end was due")
	default:
		return e.errorf("wait for a clean end: %w", short(err))
	}
}

// WasReset waits for a reset and accepts nothing else, not even a clean end.
func (e *Conn) WasReset() error {
	switch n, err := e.next(e.patience); {
	case n > 0:
		return e.errorf("a byte came where a reset was due")
	case errors.Is(err, io.EOF):
		return e.errorf("a clean end came where a reset was due")
	case isReset(err):
		return nil
	default:
		return e.errorf("wait for a reset: %w", short(err))
	}
}

// Ended waits until the connection has ended in any way, and reports how long
// that took. Bytes that come before are ignored.
func (e *Conn) Ended(within time.Duration) (time.Duration, error) {
	start := time.Now()
	for {
		_, err := e.next(within - time.Since(start))
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return 0, e.errorf("not ended after %v", within)
		}
		if err != nil {
			return time.Since(start), nil
		}
	}
}

// Broken waits for a reset on a connection whose stream has ended already. Reads
// return EOF for ever then, so it polls the socket's error.
func (e *Conn) Broken() error {
	raw, err := e.Conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		return e.errorf("raw connection: %w", short(err))
	}
	for end := time.Now().Add(e.patience); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		code := 0
		err := raw.Control(func(fd uintptr) {
			code, _ = syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_ERROR)
		})
		if err != nil {
			return e.errorf("raw connection: %w", short(err))
		}
		if code != 0 {
			return nil
		}
	}
	return e.errorf("no reset in %v after the end of the stream", e.patience)
}

func (e *Conn) next(d time.Duration) (int, error) {
	var b [1]byte
	e.SetReadDeadline(time.Now().Add(d))
	return e.Read(b[:])
}

func isReset(err error) bool { return errors.Is(err, syscall.ECONNRESET) }

// short drops the addresses from a network error: they differ in every run.
func short(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		err = op.Err
	}
	var call *os.SyscallError
	if errors.As(err, &call) {
		err = call.Err
	}
	return err
}

// Ping sends 64 bytes from a to b and back.
func Ping(a, b *Conn) error {
	const text = "ping ping ping ping ping ping ping ping ping ping ping ping ping"
	if err := a.Say(text); err != nil {
		return err
	}
	if err := b.Hear(text); err != nil {
		return err
	}
	if err := b.Say(text); err != nil {
		return err
	}
	return a.Hear(text)
}
