package config

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"usher/balancer"
)

// MaxWeight is the largest weight of a backend, as in IPVS.
const MaxWeight = math.MaxInt32

// Backend is one backend word of a service.
type Backend struct {
	Addr   Addr
	Weight int // share of new flows under schedulers that weigh; 0: no new flows
	Backup bool
	Limits balancer.Limits
	Check  Addr // where it is checked instead: a port of its own address if there is no host; zero: at Addr
	Agent  Addr // where its agent is, in the same way; zero: where its service says
}

// backendOptions are those that may follow a backend's address.
var backendOptions = []string{"backup", "max", "upper", "lower", "check", "agent"}

// String returns the canonical word: ParseBackend of it yields the same Backend.
func (b Backend) String() string {
	word, options := b.Addr.String(), b.options()
	// A path may itself end in @DIGITS or in an option: then the weight must be said.
	_, _, weighted := cutWeight(word)
	bare, _ := cutBackendOptions(word)
	if b.Weight != 1 || weighted || bare != word {
		word = fmt.Sprintf("%s@%d", word, b.Weight)
	}
	return word + options
}

func (b Backend) options() string {
	var w strings.Builder
	if b.Backup {
		w.WriteString(",backup")
	}
	for _, o := range []struct {
		name  string
		value int
	}{{"max", b.Limits.Max}, {"upper", b.Limits.Upper}, {"lower", b.Limits.Lower}} {
		if o.value > 0 {
			fmt.Fprintf(&w, ",%s=%d", o.name, o.value)
		}
	}
	for _, o := range []struct {
		name string
		at   Addr
	}{{"check", b.Check}, {"agent", b.Agent}} {
		if o.at != (Addr{}) {
			fmt.Fprintf(&w, ",%s=%s", o.name, strings.TrimPrefix(o.at.String(), ":"))
		}
	}
	return w.String()
}

// ParseBackend reads ADDR[@WEIGHT][,OPTION...] whose templates are expanded.
func ParseBackend(word string) (Backend, error) { return parseBackend(word, TCP) }

// parseBackend takes a word that names no network to be of the one given.
func parseBackend(word, network string) (Backend, error) {
	b := Backend{Weight: 1}
	word, options := cutBackendOptions(word)
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
	for i, option := range options {
		name, value, valued := strings.Cut(option, "=")
		if slices.ContainsFunc(options[:i], func(o string) bool { return o == name || strings.HasPrefix(o, name+"=") }) {
			return Backend{}, fmt.Errorf("backend option %s is there twice", name)
		}
		if err := b.set(name, value, valued); err != nil {
			return Backend{}, err
		}
	}
	if err := b.Limits.Check(); err != nil {
		return Backend{}, err
	}
	return b, nil
}

// set takes one option.
func (b *Backend) set(name, value string, valued bool) (err error) {
	switch {
	case name == "backup" && valued:
		return errors.New("backend option backup takes no value")
	case slices.Contains(backendOptions, name) && name != "backup" && !valued:
		return fmt.Errorf("backend option %s lacks its =VALUE", name)
	case !slices.Contains(backendOptions, name) && !valued && Nearest(name, backendOptions) == "":
		return errors.New("one address at a time: repeat --backend for each")
	}
	switch name {
	case "backup":
		b.Backup = true
	case "max":
		b.Limits.Max, err = parseNumber(value, 1, maxCount)
	case "upper":
		b.Limits.Upper, err = parseNumber(value, 1, maxCount)
	case "lower":
		b.Limits.Lower, err = parseNumber(value, 1, maxCount)
	case "check":
		b.Check, err = parseElsewhere(value)
	case "agent":
		b.Agent, err = parseElsewhere(value)
	default:
		return fmt.Errorf("unknown backend option %q%s", name, orHave(name, backendOptions))
	}
	if err != nil {
		return fmt.Errorf("backend option %s: %w", name, err)
	}
	return nil
}

// parseElsewhere reads where a backend is asked how it is: a port, of the backend's own address, or IP:PORT.
func parseElsewhere(word string) (Addr, error) {
	if word != "" && strings.Trim(word, "0123456789") == "" {
		port, err := parseNumber(word, 1, math.MaxUint16)
		return Addr{Network: TCP, Port: uint16(port), Ports: 1}, err
	}
	a, err := ParseAddr(word)
	switch {
	case err != nil:
		return Addr{}, err
	case a.Network != TCP || a.Name != "" || a.Ports != 1 || a.Port == 0 || !a.IP.IsValid() || a.IP.IsUnspecified():
		return Addr{}, fmt.Errorf("%q is neither a port nor IP:PORT", word)
	}
	return a, nil
}

// cutBackendOptions splits ADDR[@WEIGHT] from the options that follow it. The commas of a path belong to the path, unless
// what follows them can only be options.
func cutBackendOptions(word string) (addr string, options []string) {
	if !strings.HasPrefix(word, "unix:") {
		addr, rest, more := strings.Cut(word, ",")
		if !more {
			return word, nil
		}
		return addr, strings.Split(rest, ",")
	}
	for {
		comma := strings.LastIndexByte(word, ',')
		name, _, _ := strings.Cut(word[comma+1:], "=")
		if comma < 0 || !slices.Contains(backendOptions, name) {
			return word, options
		}
		options = slices.Insert(options, 0, word[comma+1:])
		word = word[:comma]
	}
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
