package health

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"unicode"
	"unicode/utf8"
)

var (
	errSilent     = errors.New("no reply in time")
	errUnfinished = errors.New("the reply was not complete in time")
	errClosed     = errors.New("closed without a reply")
	errCutShort   = errors.New("closed in the middle of the reply")
	errTooMuch    = fmt.Errorf("more than %d KiB without an end", maxRead>>10)
)

// explainRead says what the end of reading means to a check. hasData reports whether
// anything was read before.
func explainRead(err error, hasData bool) error {
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		if hasData {
			return errUnfinished
		}
		return errSilent
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		if hasData {
			return errCutShort
		}
		return errClosed
	}
	return err
}

// classifyDial marks a dial error that says nothing about the target as inconclusive.
func classifyDial(err error, t Target) error {
	if isNoResources(err) || isNoLocalPort(err, t) {
		return fmt.Errorf("%w: %w", ErrInconclusive, err)
	}
	return err
}

// classifyDatagram does the same for the errors of a UDP socket. Linux returns EAGAIN
// if a UDP socket finds no free local port.
func classifyDatagram(err error) error {
	if isNoResources(err) || errors.Is(err, syscall.EAGAIN) {
		return fmt.Errorf("%w: %w", ErrInconclusive, err)
	}
	return err
}

// isNoResources reports whether this host has no free descriptor or memory.
func isNoResources(err error) bool {
	return errors.Is(err, syscall.EMFILE) ||
		errors.Is(err, syscall.ENFILE) ||
		errors.Is(err, syscall.ENOBUFS) ||
		errors.Is(err, syscall.ENOMEM)
}

// isNoLocalPort reports whether a dial failed because all local ports are in use
// towards the target, as behind a proxy with tens of thousands of flows.
//
// EADDRNOTAVAIL may also mean that this host has no address of the target's family, or not that of its source;
// then the target is useless and down. Connecting a UDP socket tells the two apart: it
// sends nothing, makes the kernel choose a source address, and uses other ports.
func isNoLocalPort(err error, t Target) bool {
	if !errors.Is(err, syscall.EADDRNOTAVAIL) || t.Network != "tcp" {
		return false
	}
	t.Network = "udp"
	dialer := t.dialer()
	conn, err := dialer.Dial(t.Network, t.Address)
	if err != nil {
		return false
	}
	conn.Close()
	return true
}

// cancelled returns ctx's error if it was cancelled, nil if it timed out or lives.
func cancelled(ctx context.Context) error {
	if err := ctx.Err(); errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// withoutPath removes the path from an error whose caller names it.
func withoutPath(err error) error {
	var failed *os.PathError
	if errors.As(err, &failed) {
		return failed.Err
	}
	return err
}

// sanitizedError bounds the text of an error that may quote a target, and blanks what
// a terminal could interpret or hide.
type sanitizedError struct{ error }

func (e sanitizedError) Error() string { return sanitize(e.error.Error()) }
func (e sanitizedError) Unwrap() error { return e.error }

// sanitize makes a target's text fit for one line of a log.
func sanitize(text string) string {
	const limit = 240 // bytes
	if len(text) > limit {
		end := limit
		for !utf8.RuneStart(text[end]) {
			end--
		}
		text = text[:end] + "…"
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, text)
}

// excerpt quotes the beginning of a target's bytes for a log.
func excerpt(b []byte) string {
	const limit = 48
	if len(b) > limit {
		return fmt.Sprintf("%q… of %d bytes", b[:limit], len(b))
	}
	return fmt.Sprintf("%q", b)
}
