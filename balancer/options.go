package balancer

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Options say how a pool chooses. [Pool.Configure] changes them.
type Options struct {
	// Scheduler is one of Schedulers(); empty means DefaultScheduler.
	Scheduler string
	// Flags change how it chooses; see Algorithm.Flags. "sh-port" and "mh-port" hash
	// the client's port as well. "sh-fallback" and "mh-fallback" go with "ipvs":
	// without it those always fall back.
	Flags []string
	// HashKey is what hashing schedulers hash; the zero value is the client's address.
	HashKey HashKey
	// Balance bounds the flows of a backend to so many percent of its fair share of
	// all flows, for the hashing schedulers that can; 0 is no bound, else over 100.
	Balance int
	// Panic is the share of backends, in percent, of which fewer must not be in use: as
	// long as less than that is up, those of unknown status get flows as well, and if
	// that is not enough, those that are down. Backups, and backends of weight 0, in
	// drain or in maintenance, neither count nor take part. 0 is off.
	Panic int
	// SlowStart is how long a backend that has come up takes to get its whole weight;
	// zero gives it at once. It needs a scheduler that weighs.
	SlowStart time.Duration
	// FailClosed leaves backends that are down alone even when there is no other.
	FailClosed bool
	// Random returns uniform numbers; any goroutine calls it. Nil is good for
	// schedulers that draw no lots.
	Random func() uint64
}

// maxBalance is as good as no bound, and keeps products small.
const maxBalance = 100_000

// Check returns an error that names the option that is wrong, or that would have no
// effect. NewPool returns the same one.
func (o *Options) Check() error {
	a, err := lookup(o.Scheduler)
	if err != nil {
		return err
	}
	for i, flag := range o.Flags {
		if !slices.Contains(a.Flags, flag) {
			return fmt.Errorf("scheduler %s has no flag %q%s", a.Name, flag, haveFlags(a.Flags))
		}
		if slices.Contains(o.Flags[:i], flag) {
			return fmt.Errorf("flag %s is there twice", flag)
		}
		if strings.HasSuffix(flag, "-fallback") && !slices.Contains(o.Flags, IPVS) {
			return fmt.Errorf("flag %s goes with %s: without it %s always falls back", flag, IPVS, a.Name)
		}
	}
	exact := slices.Contains(o.Flags, IPVS)
	switch {
	case o.HashKey != HashKey{} && !a.Hashes:
		return fmt.Errorf("scheduler %s has no hash key%s", a.Name, having(func(a Algorithm) bool { return a.Hashes }))
	case o.HashKey != HashKey{} && exact:
		return fmt.Errorf("scheduler %s with %s has the kernel's own hash key", a.Name, IPVS)
	case o.HashKey != HashKey{} && (slices.Contains(o.Flags, "sh-port") || slices.Contains(o.Flags, "mh-port")):
		return fmt.Errorf("a hash key says already what is hashed: flag %s-port goes without one", a.Name)
	case o.Balance != 0 && !a.Bounds:
		return fmt.Errorf("scheduler %s has no bounded load%s", a.Name, having(func(a Algorithm) bool { return a.Bounds }))
	case o.Balance != 0 && exact:
		return fmt.Errorf("scheduler %s with %s has no bounded load", a.Name, IPVS)
	case o.Balance != 0 && (o.Balance <= 100 || o.Balance > maxBalance):
		return fmt.Errorf("bounded load of %d%%: more than 100, at most %d", o.Balance, maxBalance)
	case o.SlowStart < 0:
		return fmt.Errorf("slow start of %v: it takes a positive time", o.SlowStart)
	case o.SlowStart > 0 && !a.Weighs:
		return fmt.Errorf("scheduler %s has no slow start, as it does not weigh%s", a.Name, having(func(a Algorithm) bool { return a.Weighs }))
	case o.SlowStart > 0 && exact:
		return fmt.Errorf("scheduler %s with %s has no slow start", a.Name, IPVS)
	case o.Panic < 0 || o.Panic > 100:
		return fmt.Errorf("panic share of %d%%: from 0 (off) to 100", o.Panic)
	case o.Panic > 0 && o.FailClosed:
		return errors.New("a panic share sends flows to backends that are down, fail closed never does")
	case a.Random && o.Random == nil:
		return fmt.Errorf("scheduler %s draws lots and needs a source of randomness", a.Name)
	}
	return o.HashKey.check()
}

func haveFlags(flags []string) string {
	if len(flags) == 0 {
		return ""
	}
	return " (it has " + strings.Join(flags, ", ") + ")"
}

// having names the schedulers that have what another one lacks.
func having(has func(Algorithm) bool) string {
	var names []string
	for _, a := range algorithms {
		if has(a.Algorithm) {
			names = append(names, a.Name)
		}
	}
	if len(names) == 0 {
		return ""
	}
	return " (those with it: " + strings.Join(names, ", ") + ")"
}

// settings of checked options.
func (o *Options) settings() settings {
	s := settings{
		ipvs:     slices.Contains(o.Flags, IPVS),
		fallback: slices.Contains(o.Flags, "sh-fallback") || slices.Contains(o.Flags, "mh-fallback"),
		port:     slices.Contains(o.Flags, "sh-port") || slices.Contains(o.Flags, "mh-port"),
		key:      o.HashKey,
		balance:  o.Balance,
		random:   o.Random,
	}
	if s.port && !s.ipvs {
		s.key.Of = ClientAddrPort
	}
	return s
}
