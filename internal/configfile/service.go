package configfile

import (
	"errors"
	"slices"
	"strings"

	"usher/internal/config"
	"usher/internal/template"
)

// decoder reads services from the nodes of a source.
type decoder struct {
	source
	evaluate func(string) (string, error) // of templates in addresses
}

func newDecoder(s source) decoder { return decoder{s, template.Evaluate} }

// service reads a service of its own, and checks it by itself.
func (d decoder) service(name string, nameAt position, n *node) (*config.Service, *Error) {
	if err := config.CheckServiceName(name); err != nil {
		return nil, d.value(nameAt, err)
	}
	if n.kind == null {
		return nil, d.errorf(nameAt, "service %q has no listener (add %s: ADDRESS)", name, keyListen)
	}
	if err := d.want(n, mapping, "a service"); err != nil {
		return nil, err
	}
	if n.get(keyListen) == nil {
		if err := d.checkKeys(n); err != nil {
			return nil, err
		}
		return nil, d.errorf(nameAt, "service %q has no listener (add %s: ADDRESS)", name, keyListen)
	}
	s := &config.Service{Name: name}
	if err := d.change(s, nameAt, n); err != nil {
		return nil, err
	}
	return s, nil
}

// change sets what a mapping names, in a service that nobody else has. Listeners and backends replace those before.
func (d decoder) change(s *config.Service, nameAt position, n *node) *Error {
	if err := d.checkKeys(n); err != nil {
		return err
	}
	if listen := n.get(keyListen); listen != nil {
		if err := d.listen(s, listen); err != nil {
			return err
		}
	}
	if backends := n.get(keyBackends); backends != nil {
		s.Backends = make([]config.Backend, 0, len(items(backends)))
		for _, item := range items(backends) {
			all, err := d.backend(item, s.Network())
			if err != nil {
				return err
			}
			for _, b := range all {
				if err := s.AddBackend(b); err != nil {
					return d.value(item.at, err)
				}
			}
		}
	}
	for _, e := range n.entries {
		if e.key == keyListen || e.key == keyBackends {
			continue
		}
		word, err := d.optionWord(e)
		if err != nil {
			return err
		}
		if err := s.Set(config.Field(e.key), word); err != nil {
			return d.value(wrongItem(s, e), err)
		}
	}
	if err := s.Complete(); err != nil {
		e, _ := errors.AsType[*config.Error](err)
		places := d.find(s, nameAt, n, e)
		return d.value(places[len(places)-1], err)
	}
	return nil
}

const (
	keyServices = "services"
	keyRules    = "rules"
	keyPolicy   = "policy"
	keyListen   = "listen"
	keyBackends = "backends"
	keyAddress  = "address"
	keyName     = "name"
)

// checkKeys refuses a key that a service does not have.
func (d decoder) checkKeys(n *node) *Error {
	for _, e := range n.entries {
		if !slices.Contains(serviceKeys, e.key) {
			return d.unknownKey(e, serviceKeys)
		}
	}
	return nil
}

var (
	serviceKeys = append([]string{keyListen, keyBackends}, optionNames(config.ServiceOptions())...)
	backendKeys = append([]string{keyAddress}, optionNames(config.BackendOptions())...)
	processKeys = append(optionNames(config.ProcessOptions()), keyRules, keyPolicy, keyServices)
)

func optionNames[S any](options []config.Option[S]) []string {
	names := make([]string, len(options))
	for i := range options {
		names[i] = string(options[i].Name)
	}
	return names
}

// unknownKey returns the error of a key that its place does not have.
func (d decoder) unknownKey(e entry, have []string) *Error {
	switch near := config.Nearest(e.key, have); {
	case near != "":
		return d.errorf(e.at, "unknown key %q (did you mean %q?)", e.key, near)
	case slices.Contains(processKeys, e.key):
		return d.errorf(e.at, "unknown key %q: it is of the process and stands at the top level", e.key)
	case slices.Contains(serviceKeys, e.key):
		return d.errorf(e.at, "unknown key %q: it is of a service and stands below its name", e.key)
	case slices.Contains(backendKeys, e.key):
		return d.errorf(e.at, "unknown key %q: it is of a backend", e.key)
	}
	return d.errorf(e.at, "unknown key %q", e.key)
}

// listen reads the listeners of a service. The first one gives a new service its network, and with it the defaults.
func (d decoder) listen(s *config.Service, n *node) *Error {
	before := slices.Clone(s.Listeners)
	s.Listeners = nil
	for _, item := range items(n) {
		words, err := d.addresses(item, "an address")
		if err != nil {
			return err
		}
		for _, w := range words {
			a, err := config.ParseListener(w)
			if err != nil {
				return d.value(item.at, err)
			}
			network := (&config.Service{Listeners: []config.Addr{a}}).Network()
			switch {
			case len(s.Listeners) > 0:
			case len(before) == 0:
				*s = *config.NewService(s.Name, network)
			case network != (&config.Service{Listeners: before}).Network():
				return d.errorf(item.at, "service %q cannot become %s: remove it and add it", s.Name, network)
			}
			if err := s.AddListener(a); err != nil {
				return d.value(item.at, err)
			}
		}
	}
	return nil
}

// backend reads a backend: a word as on the command line, or a mapping of the address and the options. It is several if
// the address is a template that yields several.
func (d decoder) backend(n *node, network string) ([]config.Backend, *Error) {
	address, options := n, []entry(nil)
	if n.kind == mapping {
		address, options = n.get(keyAddress), n.entries
		for _, e := range options {
			if !slices.Contains(backendKeys, e.key) {
				return nil, d.unknownKey(e, backendKeys)
			}
		}
		if address == nil {
			return nil, d.errorf(n.at, "a backend lacks its %s", keyAddress)
		}
	}
	words, err := d.addresses(address, "a backend")
	if err != nil {
		return nil, err
	}
	all := make([]config.Backend, len(words))
	for i, w := range words {
		b, err := config.ParseBackend(w, network)
		if err != nil {
			return nil, d.value(address.at, err)
		}
		if err := d.backendOptions(&b, options); err != nil {
			return nil, err
		}
		all[i] = b
	}
	return all, nil
}

// backendOptions sets options that the word of the address has not.
func (d decoder) backendOptions(b *config.Backend, options []entry) *Error {
	inWord := *b
	for _, e := range options {
		if e.key == keyAddress {
			continue
		}
		word, err := d.word(e.value, e)
		if err != nil {
			return err
		}
		if isSet(&inWord, config.Field(e.key)) {
			return d.errorf(e.at, "%s is given with the address already", e.key)
		}
		if err := b.Set(config.Field(e.key), word); err != nil {
			return d.value(e.value.at, err)
		}
	}
	return nil
}

// isSet reports whether an option of a backend is not at its default.
func isSet(b *config.Backend, name config.Field) bool {
	for _, o := range config.BackendOptions() {
		if o.Name == name {
			return o.Text(b) != o.Text(&config.Backend{Weight: 1})
		}
	}
	return false
}

// addresses reads an address word, and evaluates its template.
func (d decoder) addresses(n *node, of string) ([]string, *Error) {
	if err := d.want(n, scalar, of); err != nil {
		return nil, err
	}
	words, err := config.Expand(n.text, d.evaluate)
	if err != nil {
		return nil, d.errorf(n.at, "%v", err)
	}
	return words, nil
}

// word reads the value of an option.
func (d decoder) word(n *node, of entry) (string, *Error) {
	if n.kind == null {
		return "", d.errorf(of.at, "%s has no value", of.key)
	}
	return n.text, d.want(n, scalar, of.key)
}

// optionWord is word for an option of a service, which may have a list of words as its value. An empty list is off.
func (d decoder) optionWord(e entry) (string, *Error) {
	isList := slices.ContainsFunc(config.ServiceOptions(), func(o config.Option[config.Service]) bool {
		return o.List && string(o.Name) == e.key
	})
	if e.value.kind != list || !isList {
		return d.word(e.value, e)
	}
	if len(e.value.items) == 0 {
		return "off", nil
	}
	words := make([]string, len(e.value.items))
	for i, item := range e.value.items {
		var err *Error
		if words[i], err = d.word(item, e); err != nil {
			return "", err
		}
	}
	return strings.Join(words, ","), nil
}

// wrongItem returns the place of the first word of a list that is no value by itself, or that of the value.
func wrongItem(s *config.Service, e entry) position {
	for _, item := range e.value.items {
		if alone := *s; alone.Set(config.Field(e.key), item.text) != nil {
			return item.at
		}
	}
	return e.value.at
}

// items returns the items of a list, or of a list with one item that stands alone.
func items(n *node) []*node {
	if n.kind == list {
		return n.items
	}
	return []*node{n}
}

// find returns the places in a service's mapping that an error of package config is about: all items of that value, or
// the option's value, or the name.
func (d decoder) find(s *config.Service, nameAt position, n *node, e *config.Error) (places []position) {
	switch e.Field {
	case "listen":
		d.eachItem(n.get(keyListen), func(item *node, word string) {
			if a, err := config.ParseListener(word); err == nil && a.String() == e.Value {
				places = append(places, item.at)
			}
		})
	case "backend":
		d.eachItem(n.get(keyBackends), func(item *node, word string) {
			if b, err := config.ParseBackend(word, s.Network()); err == nil && b.Addr.String() == e.Value {
				places = append(places, item.at)
			}
		})
	default:
		if option := n.get(string(e.Field)); option != nil {
			return []position{option.at}
		}
	}
	if places == nil {
		return []position{nameAt}
	}
	return places
}

// eachItem calls a function with the items of a list of addresses, and each word that they stand for.
func (d decoder) eachItem(n *node, visit func(item *node, word string)) {
	if n == nil {
		return
	}
	for _, item := range items(n) {
		address := item
		if item.kind == mapping {
			address = item.get(keyAddress)
		}
		if address == nil {
			continue
		}
		words, _ := d.addresses(address, "")
		for _, w := range words {
			visit(item, w)
		}
	}
}
