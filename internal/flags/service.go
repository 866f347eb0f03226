package flags

import (
	"fmt"
	"strings"

	"usher/internal/config"
	"usher/internal/template"
)

// ParseService reads and checks the words of one service. Its name is that of its mapping, if the one given is empty.
func ParseService(name string, words Words) (*config.Service, error) {
	b := newBuilder(template.Evaluate)
	b.isOne = true
	if name != "" {
		if err := config.CheckServiceName(name); err != nil {
			return nil, err
		}
		b.fallback, b.named = name, true
	}
	plan, err := b.parse(words)
	switch {
	case err != nil:
		return nil, err
	case len(plan.Services) > 1:
		return nil, fmt.Errorf("one service at a time, not %s", strings.Join(b.names(), " and "))
	}
	return plan.Services[0], nil
}

// Change is what words change in a service.
type Change struct {
	Listen, Backends []string // take the place of all before, unless there is none
	Options          []Option
}

// ParseChange reads words that change the service called name, which is of a network. It checks each by itself; whether
// they fit the service is known to the usher that runs it.
func ParseChange(name, network string, words Words) (Change, error) {
	b := newBuilder(template.Evaluate)
	b.isOne = true
	s := config.NewService(name, network)
	s.Listeners = []config.Addr{{Network: network}} // which shows its network
	b.plan.Services, b.byName[name] = []*config.Service{s}, 0
	b.fallback, b.named = name, true
	var c Change
	if len(words.Listen) > 0 {
		s.Listeners = nil
	}
	if err := b.addresses(Words{Listen: words.Listen, Backend: words.Backend}); err != nil {
		return c, err
	}
	if len(b.plan.Services) > 1 {
		return c, fmt.Errorf("one service at a time, not %s", strings.Join(b.names(), " and "))
	}
	if err := b.options(words.Options); err != nil {
		return c, err
	}
	for _, word := range words.Listen {
		_, addr := b.nameOrFallback(word)
		c.Listen = append(c.Listen, addr)
	}
	for _, word := range words.Backend {
		_, addr := b.nameOrFallback(word)
		c.Backends = append(c.Backends, addr)
	}
	for _, o := range words.Options {
		_, value := splitName(o.Value)
		c.Options = append(c.Options, Option{o.Name, value})
	}
	return c, nil
}

// CheckDefaults refuses options that no service could have. It is for those of services that come from elsewhere, after the
// start.
func CheckDefaults(options []Option) error {
	b := newBuilder(template.Evaluate)
	for _, network := range []string{config.TCP, config.UDP} {
		b.plan.Services = append(b.plan.Services, config.NewService("", network))
	}
	for _, s := range b.plan.Services {
		s.Listeners = []config.Addr{{Network: s.Network()}}
	}
	for _, o := range options {
		if name, _ := splitName(o.Value); name != "" {
			return fmt.Errorf("--%s %s: %s= names a service, and these are known later: give VALUE alone, which is for all", o.Name, o.Value, name)
		}
	}
	return b.options(options)
}
