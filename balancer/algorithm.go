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
	// Learns: Pool.Observe acts.
	Learns bool
}

// IPVS is the flag that asks for exactly what the kernel's scheduler does.
const IPVS = "ipvs"

// algorithm is an Algorithm and how it is made.
type algorithm struct {
	Algorithm
	make func(settings) scheduler
	// quiesced says whether the scheduler keeps backends of weight 0 in its table, so
	// that setting a weight to 0 and back moves nobody.
	quiesced func(settings) bool
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
