package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"usher/internal/api"
)

func runUpgrade(ctx context.Context, c upgradeConfig, o studyOptions, progress io.Writer) ([]byte, error) {
	runtime.LockOSThread() // the kernel ends a child with the thread that began it
	files, dir, binary, err := prepareStudy(ctx)
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	r := newUpgradeResults(c, files)
	for round := range o.rounds {
		for _, n := range c.flows {
			fmt.Fprintf(progress, "round %d of %d, %d flows\n", round+1, o.rounds, n)
			if err := r.measure(ctx, binary, dir, n); err != nil {
				return nil, err
			}
		}
	}
	return r.text(o), nil
}

// measure upgrades one process with idle flows.
func (r *upgradeResults) measure(ctx context.Context, binary, dir string, wanted int) (err error) {
	backend, err := newUpgradeBackend()
	if err != nil {
		return err
	}
	defer backend.close()
	socket := filepath.Join(dir, "control.sock")
	cmd := exec.Command(binary, "-l", "127.0.0.1:0", "-b", backend.address(), "--health", "off", "--workers", "2", "--control", socket, "--log-format", "json")
	usher, err := launch(cmd, nil)
	if err != nil {
		return err
	}
	defer func() {
		usher.kill()
		if err != nil {
			err = fmt.Errorf("%w\n%s", err, usher.output)
		}
	}()
	client := api.NewClient(socket)
	address, err := awaitListener(ctx, client)
	if err != nil {
		return err
	}
	clients, err := openIdle(address, r.fit(wanted))
	defer func() {
		for _, c := range clients {
			c.Close()
		}
	}()
	if err != nil {
		return err
	}
	r.open[wanted] = len(clients)
	asking, err := startAsking(address)
	if err != nil {
		return err
	}
	defer asking.close()
	for range r.upgrades {
		if err := r.upgrade(ctx, client, cmd.Process.Pid, asking, usher.output, wanted); err != nil {
			return err
		}
	}
	return nil
}

// upgrade makes one upgrade and notes what it has cost.
func (r *upgradeResults) upgrade(ctx context.Context, client *api.Client, pid int, asking *asking, output *tail, wanted int) error {
	const rest = 300 * time.Millisecond // between two: a collection of garbage ends, sockets are read
	time.Sleep(rest)
	asking.longest.Store(0)
	before, err := client.Process(ctx)
	if err != nil {
		return err
	}
	began := time.Now()
	if err := client.Upgrade(ctx, ""); err != nil {
		return err
	}
	took := time.Since(began)
	time.Sleep(rest)
	after, err := client.Process(ctx)
	if err != nil {
		return err
	}
	pause, err := lastPauseOf(output.String())
	if err != nil {
		return err
	}
	if asking.failed.Load() {
		return errors.New("a client has lost its connection")
	}
	if after.Flows != r.open[wanted]+1 {
		return fmt.Errorf("%d flows of %d are there", after.Flows, r.open[wanted]+1)
	}
	r.pause[wanted] = append(r.pause[wanted], pause)
	r.gap[wanted] = append(r.gap[wanted], float64(asking.longest.Load())/1e6)
	r.command[wanted] = append(r.command[wanted], float64(took)/1e6)
	r.cpuTimes[wanted] = append(r.cpuTimes[wanted], 1000*(after.UserSeconds+after.SystemSeconds-before.UserSeconds-before.SystemSeconds))
	return nil
}

// awaitListener returns where usher listens.
func awaitListener(ctx context.Context, client *api.Client) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, reloadStartLimit)
	defer cancel()
	for {
		s, err := client.Services(ctx)
		if err == nil && len(s.Services) == 1 {
			return s.Services[0].Listen[0], nil
		}
		select {
		case <-ctx.Done():
			return "", fmt.Errorf("usher does not answer: %w", err)
		case <-time.After(time.Millisecond):
		}
	}
}

// openIdle opens connections that are established end to end, and returns those that it has opened.
func openIdle(address string, n int) (all []net.Conn, err error) {
	one := make([]byte, 1)
	for range n {
		c, err := net.Dial("tcp", address)
		if err != nil {
			return all, err
		}
		all = append(all, c)
		if _, err = c.Write(one); err == nil {
			_, err = io.ReadFull(c, one)
		}
		if err != nil {
			return all, err
		}
	}
	return all, nil
}

// asking is a client that sends and receives again and again.
type asking struct {
	conn    net.Conn
	longest atomic.Int64 // nanoseconds between two answers
	failed  atomic.Bool
	done    sync.WaitGroup
}

func startAsking(address string) (*asking, error) {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	a := &asking{conn: conn}
	a.done.Go(func() {
		text := make([]byte, 64)
		for last := time.Now(); ; {
			_, err := conn.Write(text)
			if err == nil {
				_, err = io.ReadFull(conn, text)
			}
			if err != nil {
				a.failed.Store(true)
				return
			}
			now := time.Now()
			if gap := int64(now.Sub(last)); gap > a.longest.Load() {
				a.longest.Store(gap)
			}
			last = now
			time.Sleep(500 * time.Microsecond) // it leaves the CPU to usher
		}
	})
	return a, nil
}

func (a *asking) close() {
	a.conn.Close()
	a.done.Wait()
}

// upgradeBackend echoes.
type upgradeBackend struct {
	listener net.Listener
	serving  sync.WaitGroup
}

func newUpgradeBackend() (*upgradeBackend, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	b := &upgradeBackend{listener: l}
	b.serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			b.serving.Go(func() {
				defer c.Close()
				text := make([]byte, 64)
				for {
					n, err := c.Read(text)
					if err == nil {
						_, err = c.Write(text[:n])
					}
					if err != nil {
						return
					}
				}
			})
		}
	})
	return b, nil
}

func (b *upgradeBackend) address() string { return b.listener.Addr().String() }

// close waits for the end of the connections, which others have closed.
func (b *upgradeBackend) close() {
	b.listener.Close()
	b.serving.Wait()
}
