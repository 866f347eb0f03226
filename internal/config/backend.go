package config

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
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
	Weight int // share of new flows under schedulers with weights; 0: no new flows
	Backup bool
	Limits balancer.Limits
	Check  netip.AddrPort // where its checks connect: a port of its own address if there is no IP; zero: to Addr
	Agent  netip.AddrPort // where its agent listens, in the same way; zero: as its service sets
	Source Source         // of connections to it, where its service has another or none
}

// backendOptions are those that may follow a backend's address.
var backendOptions = []Option[Backend]{
	option("backup", func(b *Backend) *bool { return &b.Backup }, parseBool, strconv.FormatBool).asSwitch(),
	option("max", func(b *Backend) *int { return &b.Limits.Max }, number(1, maxCount), strconv.Itoa),
	option("upper", func(b *Backend) *int { return &b.Limits.Upper }, number(1, maxCount), strconv.Itoa),
	option("lower", func(b *Backend) *int { return &b.Limits.Lower }, number(1, maxCount), strconv.Itoa),
	option("check", func(b *Backend) *netip.AddrPort { return &b.Check }, parseElsewhere, formatElsewhere),
	option("agent", func(b *Backend) *netip.AddrPort { return &b.Agent }, parseElsewhere, formatElsewhere),
	option("source", func(b *Backend) *Source { return &b.Source }, parseOwnSource, Source.String),
}

var backendOptionNames = names(backendOptions)

// noBackendOptions are the texts of options that are not set.
var noBackendOptions = func() []string {
	texts := make([]string, len(backendOptions))
	for i := range backendOptions {
		texts[i] = backendOptions[i].text(new(Backend))
	}
	return texts
}()

// keyedBackendOptions are all options that a backend has where each has a key, and the address one of its own.
var keyedBackendOptions = append([]Option[Backend]{
	option("weight", func(b *Backend) *int { return &b.Weight }, number(0, MaxWeight), strconv.Itoa),
}, backendOptions...)

// BackendOptions returns the options of backends with the weight, which a word has behind @. Callers must not change it.
func BackendOptions() []Option[Backend] { return keyedBackendOptions }

// IsBackendOption reports whether a word is an option, known or not, rather than an address.
func IsBackendOption(word string) bool {
	name, _, _ := strings.Cut(word, "=")
	return slices.Contains(backendOptionNames, name) || isOption(word)
}

// String returns the canonical word, which ParseBackend reads.
func (b Backend) String() string {
	word, options := b.Addr.String(), b.options()
	// A path may itself end in @DIGITS or in an option: then the weight is required.
	_, _, weighted := cutWeight(word)
	bare, _ := cutBackendOptions(word)
	if b.Weight != 1 || weighted || bare != word {
		word = fmt.Sprintf("%s@%d", word, b.Weight)
	}
	return word + options
}

func (b Backend) options() string {
	var w strings.Builder
	for i := range backendOptions {
		o := &backendOptions[i]
		switch text := o.text(&b); {
		case text == noBackendOptions[i]:
		case o.Switch:
			fmt.Fprintf(&w, ",%s", o.Name)
		default:
			fmt.Fprintf(&w, ",%s=%s", o.Name, text)
		}
	}
	return w.String()
}

// ParseBackend reads ADDR[@WEIGHT][,OPTION...] whose templates are expanded. A word that names no network is of the one
// given. The error is an *Error.
func ParseBackend(word, network string) (Backend, error) {
	b, err := parseBackend(word, network)
	if err != nil {
		return Backend{}, &Error{Field: "backend", Value: word, cause: err}
	}
	return b, nil
}

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
	for _, option := range options {
		if err := misplacedOption(option); err != nil {
			return Backend{}, err
		}
	}
	if i := slices.Index(options, "backup"); i >= 0 {
		b.Backup = true
		options = slices.Delete(options, i, i+1)
	}
	if len(options) > 0 {
		err = setEach(strings.Join(options, ","), "backend option", b.setters()...)
		if err != nil {
			return Backend{}, err
		}
	}
	return b, b.check()
}

// setters set the options of a word.
func (b *Backend) setters() []setter {
	all := make([]setter, len(backendOptions))
	for i, o := range backendOptions {
		all[i] = setter{key: string(o.Name), set: func(word string) error {
			set, err := o.parse(word)
			if err != nil {
				return errors.Unwrap(err)
			}
			set(b)
			return nil
		}}
		if o.Switch {
			all[i].set = func(string) error { return errors.New("it takes no value") }
		}
	}
	return all
}

// Set reads the value of an option, or the weight. The error is an *Error.
func (b *Backend) Set(name Field, value string) error {
	_, set, err := parse(keyedBackendOptions, name, value)
	if err == nil {
		set(b)
	}
	return err
}

// check refuses an impossible backend.
func (b *Backend) check() error {
	if err := b.Addr.check(); err != nil {
		return err
	}
	switch a := b.Addr; {
	case a.IsAll():
		return fmt.Errorf("a backend needs a host: %q names a port alone (did you mean %q?)", a, strings.TrimPrefix(a.HostPort(), ":"))
	case IsUnspecified(a.IP):
		return fmt.Errorf("%s cannot be connected to: give the backend's own address", a.IP)
	case a.HasPort() && a.Port == 0:
		return errors.New("port 0 is out of range (1 to 65535)")
	case b.Weight < 0 || b.Weight > MaxWeight:
		return fmt.Errorf("weight %d is out of range (0 to %d)", b.Weight, MaxWeight)
	}
	return b.Limits.Check()
}

// IsUnspecified reports whether ip is the 0.0.0.0 or :: that systems take for this machine. It is never a backend's
// address.
func IsUnspecified(ip netip.Addr) bool {
	return ip.IsValid() && ip.WithZone("").Unmap().IsUnspecified()
}

// misplacedOption returns an error for a word behind a backend that belongs elsewhere. It is nil for others.
func misplacedOption(word string) error {
	name, _, valued := strings.Cut(word, "=")
	switch {
	case name == "mode" || name == "user" || name == "group":
		return fmt.Errorf("option %s is one of a listener, whose file usher makes", name)
	case !valued && Nearest(name, backendOptionNames) == "":
		return fmt.Errorf("one address at a time: %q is another backend", name)
	}
	return nil
}

// parseElsewhere reads where a backend's checks or agent are: a port of the backend's own address, or IP:PORT.
func parseElsewhere(word string) (netip.AddrPort, error) {
	if word != "" && strings.Trim(word, "0123456789") == "" {
		port, err := number(1, math.MaxUint16)(word)
		return netip.AddrPortFrom(netip.Addr{}, uint16(port)), err
	}
	a, err := parseAddr(word, TCP)
	switch {
	case err != nil:
		return netip.AddrPort{}, err
	case a.Network != TCP || a.Name != "" || a.Ports != 1 || a.Port == 0 || !a.IP.IsValid() || IsUnspecified(a.IP):
		return netip.AddrPort{}, fmt.Errorf("%q is neither a port nor IP:PORT", word)
	}
	return netip.AddrPortFrom(a.IP, a.Port), nil
}

// formatElsewhere writes what parseElsewhere reads.
func formatElsewhere(at netip.AddrPort) string {
	if at.Addr().IsValid() {
		return at.String()
	}
	return strconv.Itoa(int(at.Port()))
}

// CutBackend splits the word of a backend, which ParseBackend reads, into its address and the values of its options, the
// weight among them.
func CutBackend(word string) (addr string, values map[Field]string) {
	values = make(map[Field]string)
	addr, options := cutBackendOptions(word)
	addr, weight, weighted := cutWeight(addr)
	if weighted {
		values["weight"] = weight
	}
	for _, option := range options {
		name, value, hasValue := strings.Cut(option, "=")
		if !hasValue {
			value = strconv.FormatBool(true)
		}
		values[Field(name)] = value
	}
	return addr, values
}

// cutBackendOptions splits ADDR[@WEIGHT] from the options that follow it. The commas of a path belong to the path,
// unless the rest can only be options.
func cutBackendOptions(word string) (addr string, options []string) {
	if !strings.HasPrefix(word, "unix:") {
		addr, rest, more := strings.Cut(word, ",")
		if !more {
			return word, nil
		}
		return addr, strings.Split(rest, ",")
	}
	for {
		before, last, found := cutLast(word, ',')
		if !found || !IsBackendOption(last) {
			return word, options
		}
		options = slices.Insert(options, 0, last)
		word = before
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
	if addr == "unix:" || addr == "unix://" { // @NAME
		return word, "", false
	}
	if isPath && (weight == "" || strings.Trim(weight, "0123456789") != "") {
		return word, "", false
	}
	return addr, weight, true
}
