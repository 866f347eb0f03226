package demo

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"time"

	"usher/internal/config"
	"usher/internal/configfile"
)

const (
	// returnAfter is how long a backend stays dead that nobody brings back.
	returnAfter = 10 * time.Second
	// verifyMost bounds the wait for a line of each connection, after a change.
	verifyMost = 5 * time.Second
)

// usher is what the operator asks of the running one: an *api.Client.
type usher interface {
	Reload(ctx context.Context) error
	Upgrade(ctx context.Context, binary string) error
}

// operator does what keys ask for, one after the other, and tells each step in a line.
type operator struct {
	usher    usher
	pid      int // of usher; an upgrade that succeeds keeps it
	plan     *plan
	backends Backends
	load     *Load
	kept     *Kept
	tell     func(line string)

	back map[int]time.Time // when a dead backend comes back, by its index
	done tally
}

// tally is what the operator has done, for the summary.
type tally struct {
	upgrades, reloads int
	lost              int // connections that have not gone through one of these
}

// run obeys keys until ctx ends.
func (o *operator) run(ctx context.Context, keys <-chan rune) {
	look := time.NewTicker(frameTime)
	defer look.Stop()
	for {
		select {
		case key := <-keys:
			o.press(ctx, key)
		case now := <-look.C:
			for i, at := range o.back {
				if !now.Before(at) {
					o.bringBack(i)
				}
			}
		case <-ctx.Done():
			return
		}
	}
}

// press does what one key asks for.
func (o *operator) press(ctx context.Context, key rune) {
	switch i := int(key - '1'); {
	case key == 'r':
		o.reload(ctx)
	case key == 'u':
		o.upgrade(ctx)
	case i < 0 || i >= len(o.backends):
	case i >= o.plan.size:
		o.tell(fmt.Sprintf("%s is not in the config file yet: r adds it", o.backends[i].Name()))
	case o.backends[i].IsAlive():
		o.backends[i].Kill()
		o.back[i] = time.Now().Add(returnAfter)
		o.tell(o.backends[i].Name() + " killed, as by kill -9: the clients that it had ask again elsewhere")
	default:
		o.bringBack(i)
	}
}

// bringBack has a dead backend live again. If it cannot, there is another attempt later.
func (o *operator) bringBack(i int) {
	if err := o.backends[i].Return(); err != nil {
		o.back[i] = time.Now().Add(returnAfter)
		o.tell(err.Error())
		return
	}
	delete(o.back, i)
	o.tell(o.backends[i].Name() + " is back")
}

// reload adds the spare backend to the config file, or removes it, and has it read again.
func (o *operator) reload(ctx context.Context) {
	spare := o.backends[len(o.backends)-1].Name()
	size, what := len(o.backends), spare+" added"
	if o.plan.size == size {
		size, what = size-1, spare+" removed"
	}
	kept, err := o.keeping(ctx, func() error {
		return o.plan.change(o.backends.Addrs(), size, func() error { return o.usher.Reload(ctx) })
	})
	if err != nil {
		o.refused(ctx, "reload", err)
		return
	}
	o.done.reloads++
	o.tell(fmt.Sprintf("reloaded, %s: %s", what, kept))
}

// upgrade has usher go on as the binary that stands at its path now.
func (o *operator) upgrade(ctx context.Context) {
	kept, err := o.keeping(ctx, func() error { return o.usher.Upgrade(ctx, "") })
	if err != nil {
		o.refused(ctx, "upgrade", err)
		return
	}
	o.done.upgrades++
	o.tell(fmt.Sprintf("upgraded, pid %d as before: %s", o.pid, kept))
}

// refused tells why a change was not made, unless the demo ends.
func (o *operator) refused(ctx context.Context, what string, err error) {
	if ctx.Err() == nil {
		o.tell(fmt.Sprintf("%s refused: %v", what, err))
	}
}

// keeping makes a change, and says how many of the long connections have gone through it:
// a line of each has come back since.
func (o *operator) keeping(ctx context.Context, change func() error) (kept string, err error) {
	before := o.kept.Snapshot()
	if err := change(); err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, verifyMost)
	defer cancel()
	alive, all := o.kept.Verify(ctx, before)
	o.done.lost += all - alive
	return fmt.Sprintf("%d of %d connections kept, failed clients: %d", alive, all, o.failed()), nil
}

// failed is how many clients have failed.
func (o *operator) failed() uint64 { return o.load.Counts().Failed + o.kept.Counts().Failed }

// plan is the config file of the child: one service.
type plan struct {
	path    string
	service *config.Service // without backends
	size    int             // how many of the demo's backends are in it
}

// change writes the file with the first size backends, and has it read by reload. If that
// fails, the file is what it was.
func (p *plan) change(addrs []netip.AddrPort, size int, reload func() error) error {
	before := p.size
	p.size = size
	err := p.write(addrs)
	if err == nil {
		err = reload()
	}
	if err != nil {
		p.size = before
		_ = p.write(addrs) // the next change writes it anew
	}
	return err
}

func (p *plan) write(addrs []netip.AddrPort) error {
	s := p.service.Clone()
	s.Backends = nil
	for _, a := range addrs[:p.size] {
		s.Backends = append(s.Backends, config.Backend{Weight: 1, Addr: tcpAddr(a)})
	}
	text := configfile.Encode(&config.Config{Process: config.DefaultProcess(), Services: []*config.Service{s}})
	return os.WriteFile(p.path, text, 0o600)
}

func tcpAddr(at netip.AddrPort) config.Addr {
	return config.Addr{Network: config.TCP, IP: at.Addr(), Port: at.Port(), Ports: 1}
}
