//go:build linux

package conformance

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"
)

// Visit is a short TCP client. It connects to the first address of p, asks for the
// backend's name, and leaves. With an empty local address the kernel chooses one.
func (c *C) Visit(p *Proxy, local string) (who string, err error) {
	e, err := c.TryDialFrom(p, local)
	if err != nil {
		return "", err
	}
	defer e.Close()
	return e.Who()
}

// TryDialFrom connects to the first address of p from a local IP address, from
// any goroutine.
func (c *C) TryDialFrom(p *Proxy, local string) (*Conn, error) {
	dialer := net.Dialer{Timeout: c.patience()}
	if local != "" {
		dialer.LocalAddr = &net.TCPAddr{IP: net.ParseIP(local)}
	}
	conn, err := dialer.DialContext(c.ctx, "tcp", p.Addr())
	if err != nil {
		return nil, fmt.Errorf("client: connect: %w", short(err))
	}
	e := &Conn{Conn: conn, who: "client", patience: c.patience()}
	c.own(e)
	return e, nil
}

// Who asks the backend for its name.
func (e *Conn) Who() (string, error) {
	if err := e.Say("who?\n"); err != nil {
		return "", err
	}
	return e.line()
}

// line reads a line and not a byte beyond it.
func (e *Conn) line() (string, error) {
	e.SetReadDeadline(time.Now().Add(e.patience))
	for text, b := "", make([]byte, 1); ; text += string(b) {
		if _, err := e.Read(b); err != nil {
			return "", e.errorf("hear a line: %w", short(err))
		}
		if b[0] == '\n' {
			return text, nil
		}
	}
}

// A visit is one client of a load.
type visit struct {
	begun time.Time
	took  time.Duration
	fair  time.Duration // see stopwatch.fair
	who   string
	tries int
	over  bool
	err   error
}

// load is a stream of short clients that start at a steady pace, even if earlier ones
// still wait.
type load struct {
	c       *C
	mu      sync.Mutex
	visits  []*visit // in the order in which they began
	stop    chan struct{}
	stopped bool // of the case's goroutine
	running sync.WaitGroup
}

// pace is how often the clients of a load come.
func (c *C) pace() time.Duration {
	if c.o.Instrumented {
		return 20 * time.Millisecond
	}
	return 8 * time.Millisecond
}

// begin starts a load. do makes one visit, and returns how often it asked.
func (c *C) begin(do func() (who string, tries int, err error)) *load {
	l := &load{c: c, stop: make(chan struct{})}
	c.Cleanup(l.end)
	l.running.Go(func() {
		pace := time.NewTicker(c.pace())
		defer pace.Stop()
		for {
			select {
			case <-pace.C:
			case <-l.stop:
				return
			case <-c.ctx.Done():
				return
			}
			watch := c.stopwatch()
			v := &visit{begun: watch.began}
			l.mu.Lock()
			l.visits = append(l.visits, v)
			l.mu.Unlock()
			l.running.Go(func() {
				who, tries, err := do()
				l.mu.Lock()
				defer l.mu.Unlock()
				v.took, v.fair, v.who, v.tries, v.err, v.over = watch.took(), watch.fair(), who, tries, err, true
			})
		}
	})
	return l
}

// visits starts a load of connections to p.
func (c *C) visits(p *Proxy) *load {
	return c.begin(func() (string, int, error) {
		who, err := c.Visit(p, "")
		return who, 1, err
	})
}

// quit stops the load. Clients that have come may still wait.
func (l *load) quit() {
	if !l.stopped {
		l.stopped = true
		close(l.stop)
	}
}

// end stops the load and waits for its clients.
func (l *load) end() {
	l.quit()
	l.running.Wait()
}

// of returns copies of the visits for which some is true.
func (l *load) of(some func(visit) bool) (found []visit) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, v := range l.visits {
		if some(*v) {
			found = append(found, *v)
		}
	}
	return found
}

// since waits until n visits that began after a moment are over. It returns all that
// began after it.
func (l *load) since(after time.Time, n int, what string) (all []visit) {
	l.c.Wait(3*l.c.patience(), what, func() bool {
		all = l.of(func(v visit) bool { return v.begun.After(after) })
		over := 0
		for _, v := range all {
			if v.over {
				over++
			}
		}
		return over >= n
	})
	return all
}

// avoided waits until that backend has answered n visits in a row at the first try. It
// returns when the first of them began: from then on no client reaches the others.
func (l *load) avoided(within time.Duration, what, by string, after time.Time, n int) (since time.Time) {
	l.c.Wait(within, what, func() bool {
		row := 0
		for _, v := range l.of(func(v visit) bool { return v.begun.After(after) }) {
			if !v.over || v.err != nil || v.who != by || v.tries > 1 {
				row = 0
				continue
			}
			if row++; row == 1 {
				since = v.begun
			}
			if row == n {
				return true
			}
		}
		return false
	})
	return since
}

// tally counts visits.
type tally struct {
	served, failed int
	waiting        int // not over
	by             map[string]int
	slowest        time.Duration
	tries          int // the most
	first          error
}

func count(visits []visit) tally {
	t := tally{by: make(map[string]int)}
	for _, v := range visits {
		switch {
		case !v.over:
			t.waiting++
			continue
		case v.err != nil:
			t.failed++
			if t.first == nil {
				t.first = v.err
			}
		default:
			t.served++
			t.by[v.who]++
		}
		t.slowest = max(t.slowest, v.fair)
		t.tries = max(t.tries, v.tries)
	}
	return t
}

func (t tally) String() string {
	var by []string
	for who, n := range t.by {
		by = append(by, fmt.Sprintf("%d by %s", n, who))
	}
	slices.Sort(by)
	return fmt.Sprintf("%d served (%s), %d failed, %d wait, the slowest took %v",
		t.served, strings.Join(by, ", "), t.failed, t.waiting, t.slowest.Round(time.Millisecond))
}
