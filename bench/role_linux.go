package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"usher/bench/load"
)

// The messages between the runner and its load, in this order, each as one line of
// JSON.
type (
	// loadReady is the load's first message: its backends listen.
	loadReady struct{ Backends []netip.AddrPort }
	// loadStart has the proxy's address and process group.
	loadStart struct {
		Target netip.AddrPort
		Group  int
	}
	// loadDone ends the run.
	loadDone struct {
		Result load.Result
		Proxy  usage         // of the proxy in the measured time
		CPU    time.Duration // of the load itself
		Error  string        // if not empty, the rest is invalid
	}
)

// runLoad is the load of one run. It reads a load.Config and a loadStart from r, and
// writes a loadReady and a loadDone to w.
func runLoad(r io.Reader, w io.Writer) error {
	in, out := json.NewDecoder(r), json.NewEncoder(w)
	var c load.Config
	if err := in.Decode(&c); err != nil {
		return fmt.Errorf("read the config: %w", err)
	}
	g, err := load.New(c)
	if err != nil {
		return err
	}
	defer g.Close()
	if err := out.Encode(loadReady{g.Backends()}); err != nil {
		return err
	}
	var start loadStart
	if err := in.Decode(&start); err != nil {
		return fmt.Errorf("read the start: %w", err)
	}

	m := meter{group: start.Group, memory: c.Kind.IsIdle()}
	done := loadDone{}
	if done.Result, err = g.Run(start.Target, m.begin, m.end); err != nil {
		done.Error = err.Error()
	}
	done.Proxy, done.CPU = m.proxy, m.own
	return out.Encode(done)
}

// meter reads the clocks at both ends of the measured time. It runs in the load's
// thread, so that it wakes no other process then.
type meter struct {
	group  int
	memory bool
	pids   []int

	proxy usage         // at begin: so far; at end: since begin
	own   time.Duration // likewise
}

func (m *meter) begin() (err error) {
	if m.pids, err = processGroup(m.group); err != nil {
		return err
	}
	if m.proxy, err = readUsage(m.pids, m.memory); err != nil {
		return err
	}
	m.own, err = cpuClock(unix.CLOCK_PROCESS_CPUTIME_ID)
	return err
}

func (m *meter) end() error {
	own, err := cpuClock(unix.CLOCK_PROCESS_CPUTIME_ID)
	if err != nil {
		return err
	}
	now, err := readUsage(m.pids, m.memory)
	if err != nil {
		return err
	}
	m.proxy, m.own = now.since(m.proxy), own-m.own
	return nil
}
