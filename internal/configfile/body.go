package configfile

import (
	"slices"

	"usher/internal/config"
)

// DecodeService reads a service from a mapping as in a file, with its name under the key name. JSON is YAML, too. A
// name that is given need not be in the mapping, and must not differ. The error is an *Error.
func DecodeService(name string, body []byte) (*config.Service, error) {
	d, n, err := decodeMapping(body, "a service")
	if err != nil {
		return nil, err
	}
	at := n.at
	if e, rest, ok := n.without(keyName); ok {
		word, err := d.word(e.value, e)
		if err != nil {
			return nil, err
		}
		if name != "" && word != name {
			return nil, d.errorf(e.value.at, "the name is %q here, and %q in the request", word, name)
		}
		name, at, n = word, e.value.at, rest
	}
	if name == "" {
		return nil, d.errorf(n.at, "a service lacks its %s", keyName)
	}
	s, err := d.service(name, at, n)
	if err != nil {
		return nil, err
	}
	return s, nil
}

// DecodeChange reads a mapping with what changes in a service: options, and listeners and backends, which replace those
// before. The function that it returns makes the change in a clone of a service, and checks that service by itself. It
// may be called again, for another clone. Both errors are an *Error.
func DecodeChange(body []byte) (func(*config.Service) error, error) {
	d, n, err := decodeMapping(body, "a change")
	if err != nil {
		return nil, err
	}
	if err := d.checkKeys(n); err != nil {
		return nil, err
	}
	return func(s *config.Service) error {
		if err := d.change(s, n.at, n); err != nil {
			return err
		}
		return nil
	}, nil
}

// DecodeBackend reads a backend of a network: a word, or a mapping with the key address. It is several if the address is
// a template that yields several. The error is an *Error.
func DecodeBackend(body []byte, network string) ([]config.Backend, error) {
	d, n, err := decodeBody(body)
	if err != nil {
		return nil, err
	}
	all, err := d.backend(n, network)
	if err != nil {
		return nil, err
	}
	return all, nil
}

// DecodeBackendChange reads a mapping with the options that change in a backend, and its weight. The function that it
// returns sets them. Both errors are an *Error.
func DecodeBackendChange(body []byte) (func(*config.Backend) error, error) {
	d, n, err := decodeMapping(body, "a change")
	if err != nil {
		return nil, err
	}
	set := func(b *config.Backend) *Error {
		for _, e := range n.entries {
			word, err := d.word(e.value, e)
			if err != nil {
				return err
			}
			if err := b.Set(config.Field(e.key), word); err != nil {
				return d.value(e.value.at, err)
			}
		}
		return nil
	}
	for _, e := range n.entries {
		switch {
		case e.key == keyAddress:
			return nil, d.errorf(e.at, "the address of a backend cannot change: remove it and add another")
		case !slices.Contains(backendKeys, e.key):
			return nil, d.unknownKey(e, backendKeys)
		}
	}
	if err := set(new(config.Backend)); err != nil {
		return nil, err
	}
	return func(b *config.Backend) error {
		if err := set(b); err != nil {
			return err
		}
		return nil
	}, nil
}

// decodeBody parses the body of a request.
func decodeBody(body []byte) (decoder, *node, *Error) {
	d := newDecoder(source{text: body})
	if err := d.checkText(); err != nil {
		return d, nil, err
	}
	n, err := d.tree()
	switch {
	case err != nil:
		return d, nil, err
	case n == nil || n.kind == null:
		return d, nil, d.errorf(position{}, "the body is empty")
	}
	return d, n, nil
}

func decodeMapping(body []byte, of string) (decoder, *node, *Error) {
	d, n, err := decodeBody(body)
	if err == nil {
		err = d.want(n, mapping, of)
	}
	return d, n, err
}

// without returns an entry of a mapping, and the mapping without it.
func (n *node) without(key string) (entry, *node, bool) {
	for i, e := range n.entries {
		if e.key == key {
			rest := *n
			rest.entries = append(append([]entry(nil), n.entries[:i]...), n.entries[i+1:]...)
			return e, &rest, true
		}
	}
	return entry{}, n, false
}
