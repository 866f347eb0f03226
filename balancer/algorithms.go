package balancer

import (
	"fmt"
	"slices"
	"strings"
)

// Algorithm says what a scheduler is and which options act on it.
type Algorithm struct {
	Name    string
	Summary string // a few words
	// Flags are those that Options.Flags may have, "ipvs" among them where the
	// kernel's own choice differs.
	Flags []string
	// Weighs: shares follow weights, so a slow start acts.
	Weighs bool
	// Hashes: Options.HashKey acts. Bounds: Options.Balance acts.
	Hashes, Bounds bool
	// Destination: the choice depends on Flow.Local, whatever the hash key.
	Destination bool
	// Random: Options.Random is needed.
	Random bool
	// ObservesLatency: Pool.Observe acts.
	ObservesLatency bool
}

// IPVS is the flag that asks for exactly what the kernel's scheduler does.
const IPVS = "ipvs"

// algorithm is an Algorithm and how it is made.
type algorithm struct {
	Algorithm
	make func(settings) scheduler
	// quiesced: with ipvs the table keeps backends of weight 0, so that setting a weight
	// to 0 and back moves nobody.
	quiesced bool
	// ordered: backends are preferred in an order, whatever their shares.
	ordered bool
}

// Algorithms returns all schedulers, the default first.
func Algorithms() []Algorithm {
	out := make([]Algorithm, len(algorithms))
	for i, a := range algorithms {
		out[i] = a.Algorithm
		out[i].Flags = slices.Clone(a.Flags)
	}
	return out
}

// Schedulers returns the names that Options.Scheduler can have, the default first.
func Schedulers() []string {
	names := make([]string, len(algorithms))
	for i, a := range algorithms {
		names[i] = a.Name
	}
	return names
}

// Lookup returns the algorithm of a name; empty is DefaultScheduler.
func Lookup(name string) (Algorithm, error) {
	a, err := lookup(name)
	if err != nil {
		return Algorithm{}, err
	}
	a.Flags = slices.Clone(a.Flags)
	return a.Algorithm, nil
}

func lookup(name string) (algorithm, error) {
	if name == "" {
		name = DefaultScheduler
	}
	for _, a := range algorithms {
		if a.Name == name {
			return a, nil
		}
	}
	return algorithm{}, fmt.Errorf("unknown scheduler %q: one of %s", name, strings.Join(Schedulers(), ", "))
}

// algorithms lists the schedulers. It is never written to.
var algorithms = [...]algorithm{
	{
		Algorithm: Algorithm{Name: "rr", Summary: "round robin", Flags: []string{IPVS}},
		make: func(s settings) scheduler {
			if s.ipvs {
				return newIPVSRR()
			}
			return new(roundRobin)
		},
	},
	{
		Algorithm: Algorithm{Name: "wrr", Summary: "weighted round robin", Flags: []string{IPVS}, Weighs: true},
		make: func(s settings) scheduler {
			if s.ipvs {
				return new(ipvsWRR)
			}
			return s.heapScheduler(newWeightedRR(), fairByWeight)
		},
	},
	{
		Algorithm: Algorithm{Name: "lc", Summary: "least connections", Flags: []string{IPVS}},
		make: func(s settings) scheduler {
			return s.heapScheduler(flowKey{leastConn, tiesOf(s, leastRecent)}, fairAlike)
		},
	},
	{
		Algorithm: Algorithm{Name: "wlc", Summary: "weighted least connections", Flags: []string{IPVS}, Weighs: true},
		make:      func(s settings) scheduler { return s.heapScheduler(newWeightedLeastConn(s), fairByWeight) },
	},
	{
		Algorithm: Algorithm{Name: "sed", Summary: "shortest expected delay", Flags: []string{IPVS}, Weighs: true},
		make: func(s settings) scheduler {
			return s.heapScheduler(flowKey{shortestDelay, tiesOf(s, leastRecent)}, fairByWeight)
		},
	},
	{
		Algorithm: Algorithm{Name: "nq", Summary: "never queue", Flags: []string{IPVS}, Weighs: true},
		make: func(s settings) scheduler {
			return s.heapScheduler(flowKey{neverQueue, tiesOf(s, leastRecent)}, fairByWeight)
		},
	},
	{
		Algorithm: Algorithm{Name: "fo", Summary: "weighted failover", Flags: []string{IPVS}},
		ordered:   true,
		make: func(s settings) scheduler {
			return s.heapScheduler(flowKey{failover, tiesOf(s, firstListed)}, inOrder)
		},
	},
	{
		Algorithm: Algorithm{Name: "ovf", Summary: "weighted overflow", Flags: []string{IPVS}},
		ordered:   true,
		make: func(s settings) scheduler {
			if s.ipvs {
				return s.heapScheduler(flowKey{ipvsOverflow, newestFirst}, inOrder)
			}
			return s.heapScheduler(flowKey{overflow, firstListed}, inOrder)
		},
	},
	{
		Algorithm: Algorithm{Name: "twos", Summary: "two draws, fewer active", Flags: []string{IPVS}, Weighs: true, Random: true},
		make:      newTwos,
	},
	{
		Algorithm: Algorithm{Name: "p2c", Summary: "two different draws, fewer active", Weighs: true, Random: true},
		make:      newP2C,
	},
	{
		Algorithm: Algorithm{Name: "ewma", Summary: "two different draws, shorter wait", Weighs: true, Random: true, ObservesLatency: true},
		make:      newEWMA,
	},
	{
		Algorithm: Algorithm{Name: "lblc", Summary: "sticky by destination, else wlc", Flags: []string{IPVS}, Weighs: true, Destination: true},
		make:      newLBLC,
	},
	{
		Algorithm: Algorithm{Name: "lblcr", Summary: "sticky to servers by destination, else wlc", Flags: []string{IPVS}, Weighs: true, Destination: true},
		make:      newLBLCR,
	},
	{
		Algorithm: Algorithm{
			Name: "mh", Summary: "Maglev consistent hash", Flags: []string{IPVS, "mh-port", "mh-fallback"},
			Weighs: true, Hashes: true, Bounds: true,
		},
		make: func(s settings) scheduler {
			if s.ipvs {
				return newIPVSMaglev(s)
			}
			return newHashing(s.key, bound{uint64(s.balance), s.count}, newMaglevTable)
		},
		quiesced: true,
	},
	{
		Algorithm: Algorithm{
			Name: "sh", Summary: "source hash", Flags: []string{IPVS, "sh-port", "sh-fallback"},
			Weighs: true, Hashes: true,
		},
		make: func(s settings) scheduler {
			if s.ipvs {
				return newIPVSSourceHash(s)
			}
			return newHashing(s.key, bound{}, newMaglevTable)
		},
		quiesced: true,
	},
	{
		Algorithm: Algorithm{
			Name: "dh", Summary: "destination hash", Flags: []string{IPVS},
			Weighs: true, Destination: true,
		},
		make: func(s settings) scheduler {
			if s.ipvs {
				return newIPVSDestinationHash()
			}
			return newHashing(HashKey{Of: LocalAddr}, bound{}, newMaglevTable)
		},
		quiesced: true,
	},
	{
		Algorithm: Algorithm{Name: "ring", Summary: "ring consistent hash", Weighs: true, Hashes: true, Bounds: true},
		make:      func(s settings) scheduler { return newHashing(s.key, bound{uint64(s.balance), s.count}, newRing) },
	},
	{
		Algorithm: Algorithm{Name: "hrw", Summary: "rendezvous hash", Weighs: true, Hashes: true, Bounds: true},
		make:      func(s settings) scheduler { return newHashing(s.key, bound{uint64(s.balance), s.count}, newRendezvous) },
	},
}
