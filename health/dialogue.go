package health

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
	"unicode"
	"unicode/utf8"
)

// maxHeard is how many bytes one check reads from a target, TLS included. It bounds
// the memory and the work that an endless reply can cause before the timeout does.
const maxHeard = 256 << 10

// past is a deadline that has always been over.
var past = time.Unix(1, 0)

var (
	errUnfinished = errors.New("the reply was not complete in time")
	errClosed     = errors.New("closed without a reply")
	errCutShort   = errors.New("closed in the middle of the reply")
	errTooMuch    = fmt.Errorf("more than %d KiB without an end", maxHeard>>10)
)

// queuePause is how long a unix socket whose listen queue is full is left alone.
const queuePause = 10 * time.Millisecond

// dial connects to a target of a stream network. The error names the attempt and
// the address.
func dial(ctx context.Context, t Target) (net.Conn, error) {
	if t.Network == "udp" {
		return nil, fmt.Errorf("ask %s: this check needs a connection, udp has none", t.Address)
	}
	// Keepalive would be a few system calls for a connection without a life.
	dialer := net.Dialer{KeepAlive: -1}
	conn, err := dialer.DialContext(ctx, t.Network, t.Address)
	// The listen queue of a unix socket is full. TCP repeats its SYN then, without a word
	// to the caller; a target that is merely busy deserves the same here.
	full := t.Network == "unix" && errors.Is(err, syscall.EAGAIN)
	for full && errors.Is(err, syscall.EAGAIN) && sleep(ctx, queuePause) {
		conn, err = dialer.DialContext(ctx, t.Network, t.Address)
	}
	switch {
	case err == nil:
		return conn, nil
	case full && os.IsTimeout(err): // EAGAIN is one of those
		return nil, cmp.Or(cancelled(ctx), fmt.Errorf("dial unix %s: the listen queue is full", t.Address))
	case shortage(err) || portsUsedUp(err, t):
		return nil, fmt.Errorf("%w: %w", ErrInconclusive, err)
	}
	return nil, err
}

// sleep reports whether it went on for d: it ends with ctx.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// cancelled is nil if ctx has not ended, or because its time was over.
func cancelled(ctx context.Context) error {
	if err := ctx.Err(); errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// converse connects to a target and gives the connection to talk, until that
// returns or ctx ends, and then takes leave in the way of [part]. With secure set, TLS
// is spoken, one of protocols is agreed on (RFC 7301) and the certificate is held
// against name, unless secure says otherwise. Lent is what is below TLS.
//
// Talk must not use the connection after it has returned. Closing it ends its
// reading; the leave-taking stays here.
func converse(ctx context.Context, t Target, secure *TLS, name string, protocols []string, talk func(conn net.Conn, lent *loan) error) error {
	raw, err := dial(ctx, t)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = raw.SetDeadline(past) })
	defer stop()
	defer part(ctx, raw, partingTime)

	lent := &loan{Conn: raw, left: maxHeard}
	if secure == nil {
		return lent.judge(ctx, t, talk(lent, lent))
	}
	conn := secure.client(lent, name, protocols)
	if err := conn.Handshake(); err != nil {
		return lent.judge(ctx, t, fmt.Errorf("TLS handshake: %w", lent.words(err)))
	}
	lent.forget()
	err = lent.judge(ctx, t, talk(conn, lent))
	_ = conn.CloseWrite() // close_notify, before the FIN
	return err
}

// loan is a connection in the hands of a protocol that may neither close it nor move
// its deadlines: these belong to converse. It ends after maxHeard bytes.
type loan struct {
	net.Conn

	mu     sync.Mutex
	left   int
	heard  bool  // something has come since forget
	err    error // the first of Read, before Close
	closed bool
}

func (l *loan) Read(b []byte) (int, error) {
	l.mu.Lock()
	left, closed := l.left, l.closed
	l.mu.Unlock()
	if closed {
		return 0, net.ErrClosed
	}
	if left == 0 {
		return 0, l.note(0, errTooMuch)
	}
	n, err := l.Conn.Read(b[:min(len(b), left)])
	return n, l.note(n, err)
}

func (l *loan) note(n int, err error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.left -= n
	l.heard = l.heard || n > 0
	if l.err == nil && !l.closed {
		l.err = err
	}
	return err
}

// Close wakes a reader and lets no other one in.
func (l *loan) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	l.closed = true
	return l.Conn.SetReadDeadline(past)
}

func (l *loan) SetDeadline(time.Time) error      { return nil }
func (l *loan) SetReadDeadline(time.Time) error  { return nil }
func (l *loan) SetWriteDeadline(time.Time) error { return nil }

// forget makes words speak of what comes from now on.
func (l *loan) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.heard = false
}

// cause is why a protocol that keeps the errors of its reading to itself failed with err:
// as long as nothing has come, there can be no other reason.
func (l *loan) cause(err error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.heard && l.err != nil {
		return l.err
	}
	return err
}

// words says what the end of a connection means to a check.
func (l *loan) words(err error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return words(err, l.heard)
}

// judge is the outcome of a dialogue that ended with err.
func (l *loan) judge(ctx context.Context, t Target, err error) error {
	switch {
	case err == nil:
		return nil
	case cancelled(ctx) != nil:
		return ctx.Err()
	case shortage(err):
		return fmt.Errorf("%w: %w", ErrInconclusive, err)
	}
	return fmt.Errorf("ask %s: %w", t.Address, brief{l.words(err)})
}

// words translates what a read ended with; heard is whether anything came before.
func words(err error, heard bool) error {
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		if heard {
			return errUnfinished
		}
		return errSilent
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		if heard {
			return errCutShort
		}
		return errClosed
	}
	return err
}

// brief bounds what a line of a log says of an error that may quote a stranger, and
// takes out what a terminal could obey or hide.
type brief struct{ error }

func (b brief) Error() string {
	const most = 240
	text := b.error.Error()
	if len(text) > most {
		end := most
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

func (b brief) Unwrap() error { return b.error }

// hostOf is the host of a target's address, "localhost" for a unix socket.
func hostOf(t Target) string {
	host, _, err := net.SplitHostPort(t.Address)
	if t.Network == "unix" || err != nil {
		return "localhost"
	}
	host, _, _ = strings.Cut(host, "%") // a zone means something on this host only
	return host
}

// authorityOf is what a target is called in a request: its address, "localhost" for
// a unix socket.
func authorityOf(t Target) string {
	host, port, err := net.SplitHostPort(t.Address)
	if t.Network == "unix" || err != nil {
		return "localhost"
	}
	host, _, _ = strings.Cut(host, "%")
	return net.JoinHostPort(host, port)
}

// checkAuthority says why a host, with or without a port, cannot stand in a request.
func checkAuthority(authority string) error {
	const others = "-._:[]"
	for _, c := range []byte(authority) {
		letter := 'a' <= lower(c) && lower(c) <= 'z' || '0' <= c && c <= '9'
		if !letter && strings.IndexByte(others, c) < 0 {
			return fmt.Errorf("%.80q is not a host name or address", authority)
		}
	}
	host, port, hasPort := strings.Cut(authority, ":")
	if inside, ok := strings.CutPrefix(authority, "["); ok {
		var closed bool
		host, port, closed = strings.Cut(inside, "]")
		if ip, err := netip.ParseAddr(host); !closed || err != nil || !ip.Is6() {
			return fmt.Errorf("%.80q is not a host name or address: brackets are for addresses of IPv6", authority)
		}
		if port, hasPort = strings.CutPrefix(port, ":"); !hasPort && port != "" {
			return fmt.Errorf("%.80q is not a host name or address", authority)
		}
	} else if strings.ContainsAny(host, "[]") || host == "" && hasPort {
		return fmt.Errorf("%.80q is not a host name or address", authority)
	}
	if n, err := strconv.ParseUint(port, 10, 16); hasPort && (err != nil || n == 0) {
		return fmt.Errorf("%.80q is not a host name or address: %.20q is no port (IPv6 needs brackets)", authority, port)
	}
	return nil
}

// hostname is an authority without its port and brackets.
func hostname(authority string) string {
	if host, _, err := net.SplitHostPort(authority); err == nil {
		return host
	}
	return strings.Trim(authority, "[]")
}
