package config

import (
	"fmt"
	"slices"
	"strings"

	"usher/balancer"
)

// Scheduler is a scheduler and its flags.
type Scheduler struct {
	Name  string
	Flags []string
}

// String returns the canonical word, which parseScheduler reads.
func (s Scheduler) String() string { return strings.Join(append([]string{s.Name}, s.Flags...), ",") }

// parseScheduler reads ALG[,FLAG...].
func parseScheduler(word string) (Scheduler, error) {
	words := strings.Split(word, ",")
	name, err := schedulerName(words[0])
	if err != nil {
		return Scheduler{}, err
	}
	s := Scheduler{Name: name}
	a, err := balancer.Lookup(name)
	if err != nil {
		return Scheduler{}, err
	}
	for _, flag := range words[1:] {
		if !slices.Contains(a.Flags, flag) {
			if len(a.Flags) == 0 {
				return Scheduler{}, fmt.Errorf("scheduler %s has no flags, not %q", name, flag)
			}
			return Scheduler{}, fmt.Errorf("scheduler %s has no flag %q%s", name, flag, OrHave(flag, a.Flags))
		}
		if slices.Contains(s.Flags, flag) {
			return Scheduler{}, fmt.Errorf("flag %s is given twice", flag)
		}
		s.Flags = append(s.Flags, flag)
	}
	return s, nil
}

// schedulerName looks a scheduler up. The nearest word may also be the name that another balancer uses.
func schedulerName(word string) (string, error) {
	have := balancer.Schedulers()
	if slices.Contains(have, word) {
		return word, nil
	}
	otherNames := map[string]string{
		"roundrobin": "rr", "round-robin": "rr", "weighted-round-robin": "wrr",
		"leastconn": "lc", "least-conn": "lc", "least-connections": "lc", "least-request": "p2c",
		"maglev": "mh", "maglev-hash": "mh", "source": "sh", "source-hash": "sh", "ip-hash": "mh", "random": "p2c",
		"ring-hash": "ring", "ketama": "ring", "rendezvous": "hrw", "peak-ewma": "ewma", "first": "fo", "static-rr": "wrr",
	}
	candidates := slices.Clone(have)
	for name, short := range otherNames {
		if slices.Contains(have, short) {
			candidates = append(candidates, name)
		}
	}
	slices.Sort(candidates[len(have):])
	near := Nearest(strings.ReplaceAll(strings.ToLower(word), "_", "-"), candidates)
	if short, ok := otherNames[near]; ok {
		near = short
	}
	all := "have " + strings.Join(have, ", ")
	if near != "" {
		return "", fmt.Errorf("unknown scheduler %q (did you mean %q? %s)", word, near, all)
	}
	return "", fmt.Errorf("unknown scheduler %q (%s)", word, all)
}

// PoolOptions are the options of the service's pool; random is its source of randomness.
func (s *Service) PoolOptions(random func() uint64) balancer.Options {
	return balancer.Options{
		Scheduler: s.Scheduler.Name, Flags: s.Scheduler.Flags, HashKey: s.HashKey, Balance: s.HashBalance,
		Panic: s.Panic, SlowStart: s.SlowStart, FailClosed: s.FailClosed, Random: random,
	}
}

// Defaults returns a service of the same listeners and backends, with every option at its default. What is derived from
// other options is as they make it.
func (s *Service) Defaults() *Service {
	d := NewService(s.Name, s.Network())
	d.Listeners, d.Backends = s.Listeners, s.Backends
	d.UDP.UnrepliedTimeout = min(d.UDP.UnrepliedTimeout, s.UDP.IdleTimeout)
	if s.Scheduler.Name != "" {
		d.Scheduler = s.settled()
	}
	return d
}

// settled returns the scheduler of a service that names none: rr, or wrr if weights matter.
func (s *Service) settled() Scheduler {
	weight := 0
	weighs := s.SlowStart > 0 || s.HasAgents() || s.hasBackend(func(b *Backend) bool {
		differs := b.Weight > 0 && weight > 0 && b.Weight != weight
		weight = max(weight, b.Weight)
		return differs || b.Addr.SRV // the records have weights
	})
	if weighs {
		return Scheduler{Name: "wrr"}
	}
	return Scheduler{Name: "rr"}
}
