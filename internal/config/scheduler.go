package config

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"usher/balancer"
)

// Scheduler is a scheduler and its flags.
type Scheduler struct {
	Name  string
	Flags []string
}

// String returns the canonical word: parsing it yields the same Scheduler.
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
			return Scheduler{}, fmt.Errorf("scheduler %s has no flag %q%s", name, flag, orHave(flag, a.Flags))
		}
		if slices.Contains(s.Flags, flag) {
			return Scheduler{}, fmt.Errorf("flag %s is there twice", flag)
		}
		s.Flags = append(s.Flags, flag)
	}
	return s, nil
}

// schedulerName looks a scheduler up. People come with the names that other balancers use; the nearest word is sought
// among those too.
func schedulerName(word string) (string, error) {
	have := balancer.Schedulers()
	if slices.Contains(have, word) {
		return word, nil
	}
	elsewhere := map[string]string{
		"roundrobin": "rr", "round-robin": "rr", "weighted-round-robin": "wrr",
		"leastconn": "lc", "least-conn": "lc", "least-connections": "lc", "least-request": "p2c",
		"maglev": "mh", "maglev-hash": "mh", "source": "sh", "source-hash": "sh", "ip-hash": "mh", "random": "p2c",
		"ring-hash": "ring", "ketama": "ring", "rendezvous": "hrw", "peak-ewma": "ewma", "first": "fo", "static-rr": "wrr",
	}
	candidates := slices.Clone(have)
	for name, short := range elsewhere {
		if slices.Contains(have, short) {
			candidates = append(candidates, name)
		}
	}
	slices.Sort(candidates[len(have):])
	near := Nearest(strings.ReplaceAll(strings.ToLower(word), "_", "-"), candidates)
	if short, ok := elsewhere[near]; ok {
		near = short
	}
	all := "have " + strings.Join(have, ", ")
	if near != "" {
		return "", fmt.Errorf("unknown scheduler %q (did you mean %q? %s)", word, near, all)
	}
	return "", fmt.Errorf("unknown scheduler %q (%s)", word, all)
}

// hashKeys are the words for what a hashing scheduler hashes.
var hashKeys = []string{"addr", "addr-port", "dst", "dst-port"}

// parseHashKey reads addr, addr-port, dst or dst-port, and how many bits of the address count: addr/24 or addr/24/64,
// of IPv4 and of IPv6. Without a word, /24, it is of addr.
func parseHashKey(word string) (balancer.HashKey, error) {
	part, bits, masked := strings.Cut(word, "/")
	if part == "" && masked {
		part = "addr"
	}
	of := slices.Index(hashKeys, part)
	if of < 0 {
		return balancer.HashKey{}, fmt.Errorf("unknown hash key %q%s", part, orHave(part, hashKeys))
	}
	k := balancer.HashKey{Of: balancer.KeyPart(of)}
	if !masked {
		return k, nil
	}
	four, six, err := parseBits(bits)
	k.Prefix4, k.Prefix6 = uint8(four), uint8(six)
	return k, err
}

// FormatHashKey writes what parseHashKey reads.
func FormatHashKey(k balancer.HashKey) string {
	return hashKeys[k.Of] + formatBits(int(k.Prefix4), int(k.Prefix6))
}

// parseBits reads how many bits of an address count: of IPv4, or of IPv4 and IPv6 as in 24/64. One that is not said is 0,
// which means all.
func parseBits(word string) (four, six int, err error) {
	a, b, both := strings.Cut(word, "/")
	if four, err = parseNumber(a, 1, 32); err == nil && both {
		six, err = parseNumber(b, 1, 128)
	}
	if err != nil {
		return 0, 0, fmt.Errorf("prefix /%s: %w", word, err)
	}
	return four, six, nil
}

func formatBits(four, six int) string {
	switch {
	case four == 0 && six == 0:
		return ""
	case six == 0:
		return "/" + strconv.Itoa(four)
	case four == 0:
		four = 32
	}
	return fmt.Sprintf("/%d/%d", four, six)
}

// parseBalance reads how many percent of its fair share a backend may have; 0 and off are no bound.
func parseBalance(word string) (int, error) {
	if word == "off" {
		return 0, nil
	}
	n, err := parseNumber(strings.TrimSuffix(word, "%"), 0, maxCount)
	if err == nil && n > 0 && (n <= 100 || n > 100_000) {
		return 0, fmt.Errorf("%d is not a share over 100 (percent) and up to 100000", n)
	}
	return n, err
}

// PoolOptions are the options of the service's pool; random is the source of randomness that it may use.
func (s *Service) PoolOptions(random func() uint64) balancer.Options {
	o := balancer.Options{
		Scheduler: s.Scheduler.Name, Flags: s.Scheduler.Flags, HashKey: s.HashKey, Balance: s.HashBalance,
		Panic: s.Panic, SlowStart: s.SlowStart, FailClosed: s.FailClosed, Random: random,
	}
	if s.Health.Off() {
		o.Initial = balancer.Up
	}
	return o
}

// settle gives a service that names no scheduler the one that does justice to its backends.
func (s *Service) settle() {
	if s.Scheduler.Name != "" {
		return
	}
	s.Scheduler.Name = "rr"
	weight := 0
	for _, b := range s.Backends {
		if b.Weight > 0 && weight > 0 && b.Weight != weight {
			s.Scheduler.Name = "wrr"
		}
		weight = max(weight, b.Weight)
	}
	if s.SlowStart > 0 || s.HasAgents() {
		s.Scheduler.Name = "wrr"
	}
}
