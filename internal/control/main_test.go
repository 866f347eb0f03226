package control

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"testing"

	"go.uber.org/goleak"
	"go.uber.org/zap"

	"usher/internal/config"
	"usher/internal/discovery"
	"usher/internal/flags"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// parse makes the config of a command line that is right.
func parse(t *testing.T, w flags.Words) *config.Config {
	t.Helper()
	c, err := flags.Parse(w)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// book answers look-ups.
type book map[string][]netip.Addr

func (b book) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	if addrs, ok := b[host]; ok {
		return slices.Clone(addrs), nil
	}
	return nil, errors.New("lookup " + host + ": no such host")
}

func (book) LookupSRV(context.Context, string, string, string) (string, []*net.SRV, error) {
	return "", nil, errors.New("no SRV records here")
}

// newController returns a Controller that the end of the test closes.
func newController(t *testing.T, names discovery.Resolver, engine ...string) *Controller {
	t.Helper()
	process := config.DefaultProcess()
	process.Workers = 1
	if len(engine) > 0 {
		process.Engine = engine[0]
	}
	c, err := New(Options{Log: zap.NewNop(), Process: process, Names: names, File: "usher.yaml"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// wanted returns services as they would be bound.
func (c *Controller) wanted(t *testing.T, services []*config.Service) ([]*config.Service, error) {
	t.Helper()
	d := &draft{owner: Flags}
	err := c.compare(d, services)
	if err == nil {
		err = c.complete(t.Context(), d)
	}
	if err == nil {
		err = c.checker.Check(d.plan())
	}
	return d.wanted(), err
}
