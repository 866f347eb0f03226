//go:build linux

package conformance

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"usher/internal/api"
)

// liveService is a service of a running usher, as it must be.
type liveService struct {
	name     string
	isOfAPI  bool // else of the file
	isUDP    bool
	listen   []string // in the order of its mapping
	backends []liveBackend
	all      []string // addresses that its backends may have; no other service has them
	options  map[string]string
}

type liveBackend struct {
	addr   string
	weight int
	admin  string // drain or maint, set by hand
	byHand int    // weight set by hand; 0: none
}

func (b liveBackend) String() string { return fmt.Sprintf("%s@%d", b.addr, b.weight) }

// override is how usher shows what was set by hand.
func (b liveBackend) override() string {
	var words []string
	if b.admin != "" {
		words = append(words, b.admin)
	}
	if b.byHand > 0 {
		words = append(words, fmt.Sprintf("weight=%d", b.byHand))
	}
	return strings.Join(words, ",")
}

// newLiveService returns a service with two of its backends.
func newLiveService(name string, isOfAPI, isUDP bool, listen string, all []string) *liveService {
	s := &liveService{name: name, isOfAPI: isOfAPI, isUDP: isUDP, all: all, listen: []string{listen}}
	for _, addr := range all[:2] {
		s.backends = append(s.backends, liveBackend{addr: addr, weight: 1})
	}
	s.options = map[string]string{
		"scheduler": "rr", "health": "off", "on-drain": "keep", "on-remove": "keep",
		"persist": "off",
	}
	if isUDP {
		s.options["udp-idle-timeout"], s.options["udp-unreplied-timeout"] = "2m", "1m"
	} else {
		s.options["idle-timeout"], s.options["connect-timeout"], s.options["half-close-timeout"] = "off", "1m", "5m"
	}
	return s
}

// mapping is the service as a file and the API take it.
func (s *liveService) mapping() map[string]any {
	m := map[string]any{"listen": s.listens(), "backends": s.words()}
	for k, v := range s.options {
		m[k] = v
	}
	return m
}

// listens returns the listeners as they are configured.
func (s *liveService) listens() []string {
	var words []string
	for _, l := range s.listen {
		if s.isUDP {
			l = "udp://" + l
		}
		words = append(words, l)
	}
	return words
}

func (s *liveService) words() (words []string) {
	for _, b := range s.backends {
		words = append(words, b.String())
	}
	return words
}

// ready counts the backends that new flows may go to.
func (s *liveService) ready() (n int) {
	for _, b := range s.backends {
		if b.admin == "" {
			n++
		}
	}
	return n
}

// drained returns the backends that are drained or in maintenance.
func (s *liveService) drained() (addrs []string) {
	for _, b := range s.backends {
		if b.admin != "" {
			addrs = append(addrs, b.addr)
		}
	}
	return addrs
}

// absent returns the addresses that are no backends now.
func (s *liveService) absent() []string {
	return slices.DeleteFunc(slices.Clone(s.all), func(addr string) bool {
		return slices.ContainsFunc(s.backends, func(b liveBackend) bool { return b.addr == addr })
	})
}

// isPlain reports whether nothing is set by hand.
func (s *liveService) isPlain() bool {
	return !slices.ContainsFunc(s.backends, func(b liveBackend) bool { return b.override() != "" })
}

// ends reports whether an option has flows end.
func (s *liveService) ends(option string) bool { return s.options[option] != "keep" }

// differs says in what a service that usher shows is not as it must be; "" is nothing.
func (s *liveService) differs(is api.Service) string {
	owner := map[bool]string{true: "api", false: "file"}[s.isOfAPI]
	var want, have []string
	for _, b := range s.backends {
		want = append(want, b.addr+" "+b.override())
	}
	for _, b := range is.Backends {
		have = append(have, b.Address+" "+b.Override)
	}
	slices.Sort(want)
	slices.Sort(have)
	listen := slices.Sorted(slices.Values(is.Listen))
	switch {
	case is.Owner != owner:
		return fmt.Sprintf("is of owner %s, not %s", is.Owner, owner)
	case !slices.Equal(listen, slices.Sorted(slices.Values(s.listens()))):
		return fmt.Sprintf("listens on %q, not %q", listen, s.listens())
	case is.Scheduler != s.options["scheduler"]:
		return fmt.Sprintf("has scheduler %s, not %s", is.Scheduler, s.options["scheduler"])
	case !slices.Equal(have, want):
		return fmt.Sprintf("has backends %q, not %q", have, want)
	}
	return ""
}

// liveServices are the services of a running usher by name.
type liveServices map[string]*liveService

// clone returns a copy whose services may be changed.
func (all liveServices) clone() liveServices {
	copies := make(liveServices)
	for name, s := range all {
		x := *s
		x.backends, x.options = slices.Clone(s.backends), maps.Clone(s.options)
		copies[name] = &x
	}
	return copies
}

// of returns those that pass, by name.
func (all liveServices) of(pass func(*liveService) bool) (some []*liveService) {
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if pass(all[name]) {
			some = append(some, all[name])
		}
	}
	return some
}

// differ says in what the services that usher shows are not as they must be.
func (all liveServices) differ(are []api.Service) string {
	for _, is := range are {
		s := all[is.Name]
		if s == nil {
			return "there is a service " + is.Name
		}
		if text := s.differs(is); text != "" {
			return "service " + is.Name + " " + text
		}
	}
	if len(are) != len(all) {
		return fmt.Sprintf("there are %d services, not %d", len(are), len(all))
	}
	return ""
}
