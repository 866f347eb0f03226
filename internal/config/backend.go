package config

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// MaxWeight is the largest weight of a backend, as in IPVS.
const MaxWeight = math.MaxInt32

// Backend is one backend word of a service.
type Backend struct {
	Addr   Addr
	Weight int // share of new flows under schedulers that weigh; 0: no new flows
}

// String returns the canonical word: ParseBackend of it yields the same Backend.
func (b Backend) String() string {
	word := b.Addr.String()
	// A path may itself end in @DIGITS: then the weight must be said.
	if _, _, ambiguous := cutWeight(word); b.Weight == 1 && !ambiguous {
		return word
	}
	return fmt.Sprintf("%s@%d", word, b.Weight)
}

// ParseBackend reads ADDR[@WEIGHT] whose templates are expanded.
func ParseBackend(word string) (Backend, error) { return parseBackend(word, TCP) }

// parseBackend takes a word that names no network to be of the one given.
func parseBackend(word, network string) (Backend, error) {
	b := Backend{Weight: 1}
	word, weight, weighted := cutWeight(word)
	if weighted {
		if weight == "" || strings.Trim(weight, "0123456789") != "" {
			return Backend{}, fmt.Errorf("%q is not a weight (0 to %d)", weight, MaxWeight)
		}
		n, err := strconv.ParseInt(weight, 10, 64)
		if err != nil || n > MaxWeight {
			return Backend{}, fmt.Errorf("weight %s is out of range (0 to %d)", weight, MaxWeight)
		}
		b.Weight = int(n)
	}
	var err error
	if b.Addr, err = parseAddr(word, network); err != nil {
		return Backend{}, err
	}
	switch a := b.Addr; {
	case a.IsAll():
		return Backend{}, fmt.Errorf("a backend needs a host: %q names a port alone (did you mean %q?)", word, strings.TrimPrefix(a.String(), ":"))
	case a.IP.IsUnspecified():
		return Backend{}, fmt.Errorf("%s cannot be connected to: give the backend's own address", a.IP)
	case a.HasPort() && a.Port == 0:
		return Backend{}, fmt.Errorf("port 0 is out of range (1 to 65535)")
	}
	return b, nil
}

// cutWeight splits ADDR@WEIGHT. An @ that no digits follow belongs to a path.
func cutWeight(word string) (addr, weight string, ok bool) {
	at := strings.LastIndexByte(word, '@')
	if at < 0 {
		return word, "", false
	}
	addr, weight = word[:at], word[at+1:]
	isPath := strings.HasPrefix(word, "unix:")
	if isPath && (weight == "" || strings.Trim(weight, "0123456789") != "") {
		return word, "", false
	}
	return addr, weight, true
}
