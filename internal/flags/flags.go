// Package flags reads the words of a command line into a plan of package config. It is the only place that spells a
// field of the plan as a flag. Templates are evaluated on this machine; host names stay names. Every error is one line
// that names the word at fault.
package flags

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"usher/internal/config"
	"usher/internal/template"
)

// Words is a command line split into words, before validation.
type Words struct {
	Mappings  []string // LISTEN=BACKEND[,BACKEND...]
	Listen    []string // [NAME=]ADDR
	Backend   []string // [NAME=]ADDR[@WEIGHT]
	Rules     []string // in iptables' words
	Policy    string   // ACCEPT or DROP; empty: none
	Options   []Option // of services ([NAME=]VALUE) and of the process; the last one for an option holds
	File      string   // of further services, and of the options of the process that are not given here
	MayBeIdle bool     // without a service: they may come later
}

// ProcessOptions returns the options of the process among the words.
func (w *Words) ProcessOptions() []Option {
	return slices.DeleteFunc(slices.Clone(w.Options), func(o Option) bool { return !config.IsProcessOption(config.Field(o.Name)) })
}

// lists are the options whose values are lists of addresses. Whoever repeats one means both.
var lists = []string{"allow", "deny", "accept-proxy"}

// Option is one flag and its value.
type Option struct{ Name, Value string }

// Parse reads and checks words. With a file what options of the process say about each other is not checked yet.
func Parse(words Words) (*config.Config, error) { return parse(words, template.Evaluate) }

func parse(words Words, evaluate func(string) (string, error)) (*config.Config, error) {
	return newBuilder(evaluate).parse(words)
}

// parse builds the plan, and checks it.
func (b *builder) parse(words Words) (*config.Config, error) {
	if err := checkQuotes(words.Rules); err != nil {
		return nil, err
	}
	if err := b.addresses(words); err != nil {
		return nil, err
	}
	for _, s := range b.plan.Services {
		if s.IsEmpty() && !slices.ContainsFunc(words.Options, func(o Option) bool { return o.Name == "on-empty" }) {
			return nil, fmt.Errorf("service %q listens on %s but has no backend (add --backend %sADDR)", s.Name, s.Listeners[0], b.prefix(s.Name))
		}
	}
	if len(b.plan.Services) == 0 && words.File == "" && !words.MayBeIdle {
		if o, taken := takenValue(words.Options); taken {
			return nil, fmt.Errorf("--%s lacks its value and has taken %s for it (did you mean %s --%s VALUE?)", o.Name, o.Value, o.Value, o.Name)
		}
		return nil, errors.New("nothing to listen on: give LISTEN=BACKEND, as in 8080=9001,9002, or --listen and --backend")
	}
	if err := b.options(words.Options); err != nil {
		return nil, err
	}
	var err error
	if b.plan.Rules, err = config.ParseRules(words.Policy, words.Rules); err != nil {
		return nil, inFlags(err)
	}
	process := b.plan.Process
	switch {
	case words.File != "":
		b.plan.Process = config.DefaultProcess()
	case process.WatchConfig:
		return nil, errors.New("--watch-config has no effect without --config FILE")
	}
	if err := b.plan.Complete(); err != nil {
		return nil, inFlags(err)
	}
	b.plan.Process = process
	return b.plan, nil
}

// checkQuotes refuses rules whose words lack the quotes that make them one.
func checkQuotes(rules []string) error {
	for _, r := range rules {
		if strings.HasPrefix(r, "-") && !strings.ContainsAny(r, " \t=") {
			return fmt.Errorf("--rule %s: a rule is one word: put it in quotes, as in --rule '-s 10.0.0.0/8 -j DROP'", r)
		}
	}
	return nil
}

// planError is an error of package config that spells fields as flags.
type planError struct {
	text string
	plan *config.Error
}

func (e *planError) Error() string { return e.text }
func (e *planError) Unwrap() error { return e.plan }

// inFlags makes an error of package config spell fields as flags.
func inFlags(err error) error {
	if e, ok := errors.AsType[*config.Error](err); ok {
		return &planError{e.Text(spell), e}
	}
	return err
}

// at adds to an error the word of the command line that it is about.
func at(word string, err error) error {
	if e, ok := errors.AsType[*config.Error](err); ok {
		return &planError{word + ": " + e.Reason(spell), e}
	}
	return fmt.Errorf("%s: %w", word, err)
}

func spell(f config.Field) string { return "--" + string(f) }

// builder builds the plan.
type builder struct {
	evaluate func(string) (string, error)
	plan     *config.Config
	byName   map[string]int // index of services
	fallback string         // the service of a listen or backend flag without NAME=
	named    bool           // fallback is the name of a mapping's service too
	isOne    bool           // there is one service only, as of usher add and set
}

func newBuilder(evaluate func(string) (string, error)) *builder {
	return &builder{
		evaluate: evaluate,
		byName:   make(map[string]int),
		plan:     &config.Config{Process: config.DefaultProcess()},
		fallback: defaultService,
	}
}

func (b *builder) addresses(words Words) error {
	b.plan.Services = slices.Grow(b.plan.Services, len(words.Mappings)+len(words.Listen))
	for i, word := range words.Mappings {
		m, err := parseMapping(word)
		if err != nil {
			if meant := guessMapping(words.Mappings, i); meant != "" {
				return fmt.Errorf("%q is not LISTEN=BACKEND[,BACKEND...] (did you mean %s?)", word, meant)
			}
			return err
		}
		if err := b.mapping(m); err != nil {
			if before := slices.IndexFunc(words.Mappings[:i], func(w string) bool { return strings.HasPrefix(w, m.listen+"=") }); before >= 0 {
				return fmt.Errorf("%s: %s listens there already (did you mean %s,%s?)",
					word, words.Mappings[before], words.Mappings[before], strings.Join(m.backends, ","))
			}
			return at(word, err)
		}
	}
	for _, word := range words.Listen {
		name, addr := b.nameOrFallback(word)
		err := oneAddress(addr, "--listen")
		if err == nil {
			err = b.listen(name, addr)
		}
		if err != nil {
			return at("--listen "+word, err)
		}
	}
	for _, word := range words.Backend {
		name, addr := b.nameOrFallback(word)
		s := b.service(name)
		if s == nil {
			return at("--backend "+word, b.noListener(name, addr))
		}
		if err := b.backend(s, addr); err != nil {
			return at("--backend "+word, err)
		}
	}
	return nil
}

func (b *builder) mapping(m mapping) error {
	name := m.name()
	if b.named {
		name = b.fallback
	}
	if b.service(name) != nil {
		return fmt.Errorf("there is a service %q already: give this one its own name with --listen NAME=%s", name, m.listen)
	}
	if err := b.listen(name, m.listen); err != nil {
		return err
	}
	s := b.service(name)
	s.Backends = slices.Grow(s.Backends, len(m.backends))
	for _, backend := range m.backends {
		if err := b.backend(s, backend); err != nil {
			return err
		}
	}
	return nil
}

// listen adds a listener to a service, and makes the service if necessary.
func (b *builder) listen(name, word string) error {
	words, err := config.Expand(word, b.evaluate)
	if err != nil {
		return err
	}
	for _, w := range words {
		addr, err := config.ParseListener(w)
		if err != nil {
			return err
		}
		s := b.service(name)
		if s == nil {
			b.byName[name] = len(b.plan.Services)
			b.plan.Services = append(b.plan.Services, config.NewService(name, addr.Network))
			s = b.service(name)
		}
		if err := s.AddListener(addr); err != nil {
			return err
		}
	}
	return nil
}

func (b *builder) backend(s *config.Service, word string) error {
	words, err := config.Expand(word, b.evaluate)
	if err != nil {
		return err
	}
	for _, w := range words {
		backend, err := config.ParseBackend(w, s.Network())
		if err != nil {
			return err
		}
		if err := s.AddBackend(backend); err != nil {
			return err
		}
	}
	return nil
}

// options applies first the options for all services, then those that name one, each in the given order.
func (b *builder) options(options []Option) error {
	if err := checkTwice(options); err != nil {
		return err
	}
	var named []Option
	for _, o := range options {
		field := config.Field(o.Name)
		var err error
		switch name, value := splitName(o.Value); {
		case config.IsProcessOption(field):
			err = b.plan.Process.Set(field, o.Value)
		case name == "" && len(b.plan.Services) == 0:
			err = errors.New("there is no service here for this option (that of a service in a file stands there, with it)")
		case name == "" && b.isOne:
			err = b.plan.Services[0].Set(field, value)
		case name == "":
			err = config.SetAll(b.plan.Services, field, value)
		default:
			named = append(named, o)
		}
		if err != nil {
			return at(fmt.Sprintf("--%s %s", o.Name, o.Value), err)
		}
	}
	for _, o := range named {
		name, value := splitName(o.Value)
		s, word := b.service(name), fmt.Sprintf("--%s %s", o.Name, o.Value)
		if s == nil {
			return at(word, b.noService(name, o))
		}
		if err := s.Set(config.Field(o.Name), value); err != nil {
			return at(word, err)
		}
	}
	return nil
}

// checkTwice refuses two checks, or two lists of the same, for one service: only one would hold. Of other options the
// later one does.
func checkTwice(options []Option) error {
	type scope struct {
		option, service string
		udp             bool
	}
	given := make(map[scope]string)
	for _, o := range options {
		isList := slices.Contains(lists, o.Name)
		if o.Name != "health" && !isList {
			continue
		}
		name, value := splitName(o.Value)
		s := scope{o.Name, name, !isList && config.IsUDPHealth(value)}
		before, twice := given[s]
		switch {
		case twice && isList:
			return fmt.Errorf("--%s %s: --%[1]s %[3]s is given already, and a service has one list (put commas between addresses)", o.Name, o.Value, before)
		case twice:
			return fmt.Errorf("--health %s: --health %s is given already, and a service has one check (--health NAME=SPEC is for one service)", o.Value, before)
		}
		given[s] = o.Value
	}
	return nil
}

// service returns the service called name, or nil.
func (b *builder) service(name string) *config.Service {
	i, ok := b.byName[name]
	if !ok {
		return nil
	}
	return b.plan.Services[i]
}

// noService is the error of an option that names an unknown service.
func (b *builder) noService(name string, o Option) error {
	if _, err := config.ParseHealth("tcp," + o.Value); err == nil && o.Name == "health" {
		return fmt.Errorf("a health check begins with its kind, as in tcp,%s", o.Value)
	}
	return fmt.Errorf("no service %q%s", name, config.OrHave(name, b.names()))
}

// noListener is the error of a backend of an unknown service.
func (b *builder) noListener(name, addr string) error {
	have := b.names()
	switch {
	case len(have) == 0:
		return fmt.Errorf("service %q has no listener (add --listen)", name)
	case name == b.fallback && len(have) == 1:
		return fmt.Errorf("service %q has no listener (did you mean --backend %s=%s?)", name, have[0], addr)
	}
	return fmt.Errorf("service %q has no listener%s", name, config.OrHave(name, have))
}

func (b *builder) names() []string {
	out := make([]string, len(b.plan.Services))
	for i, s := range b.plan.Services {
		out[i] = s.Name
	}
	return out
}

// oneAddress refuses a list of addresses as the value of a flag. The path of a unix socket may have commas, and options
// follow them.
func oneAddress(addr, flag string) error {
	comma := indexOutside(addr, ',')
	if comma >= 0 && !strings.HasPrefix(addr, "unix:") && !strings.Contains(addr[comma:], "=") {
		return fmt.Errorf("one address at a time: repeat %s for each", flag)
	}
	return nil
}

// prefix is NAME=, which one service does not need.
func (b *builder) prefix(service string) string {
	if service == b.fallback {
		return ""
	}
	return service + "="
}
