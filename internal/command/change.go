package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"usher/internal/api"
	"usher/internal/config"
	"usher/internal/configfile"
	"usher/internal/control"
	"usher/internal/flags"
)

// addService adds a service to the running usher. Its words are read here, as those of usher itself are.
func (p *program) addService(c *cli.Context) error {
	words := gatherService(c)
	name := ""
	if len(words.Mappings) > 0 && !strings.Contains(words.Mappings[0], "=") {
		name, words.Mappings = words.Mappings[0], words.Mappings[1:]
	}
	service, err := flags.ParseService(name, words)
	if err != nil {
		return usageError{err}
	}
	usher, err := client(c)
	if err != nil {
		return err
	}
	if err := usher.AddService(c.Context, configfile.EncodeService(service)); err != nil {
		return err
	}
	return p.say("added service %s", service.Name)
}

// setService changes what its flags say, and leaves the rest.
func (p *program) setService(c *cli.Context) error {
	name, words := c.Args().First(), gatherService(c)
	words.Mappings = nil
	if len(words.Listen)+len(words.Backend)+len(words.Options) == 0 {
		return usageError{errors.New("set service lacks what changes: one flag at least, such as --scheduler ALG")}
	}
	usher, service, err := serviceOf(c, name)
	if err != nil {
		return err
	}
	change, err := flags.ParseChange(name, service.Network, words)
	if err != nil {
		return usageError{err}
	}
	body := make(map[string]any)
	if change.Listen != nil {
		body["listen"] = change.Listen
	}
	if change.Backends != nil {
		body["backends"] = change.Backends
	}
	for _, o := range change.Options {
		body[o.Name] = o.Value
	}
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	if err := usher.SetService(c.Context, name, text); err != nil {
		return err
	}
	return p.say("changed service %s", name)
}

func (p *program) removeService(c *cli.Context) error {
	name := c.Args().First()
	usher, err := client(c)
	if err != nil {
		return err
	}
	if err := usher.RemoveService(c.Context, name); err != nil {
		return err
	}
	return p.say("removed service %s", name)
}

// addBackend sends the word as it is: usher expands templates where it runs.
func (p *program) addBackend(c *cli.Context) error {
	name, word := c.Args().First(), c.Args().Get(1)
	usher, service, err := serviceOf(c, name)
	if err != nil {
		return err
	}
	if _, err := flags.ParseChange(name, service.Network, flags.Words{Backend: []string{word}}); err != nil {
		return usageError{err}
	}
	text, err := json.Marshal(word)
	if err != nil {
		return err
	}
	if err := usher.AddBackend(c.Context, name, text); err != nil {
		return err
	}
	return p.say("added backend %s to service %s", word, name)
}

// setBackend changes the weight and the options that its word has, and leaves the rest.
func (p *program) setBackend(c *cli.Context) error {
	name, word := c.Args().First(), c.Args().Get(1)
	usher, service, err := serviceOf(c, name)
	if err != nil {
		return err
	}
	if _, err := config.ParseBackend(word, service.Network); err != nil {
		return usageError{fmt.Errorf("set backend %s: %w", word, errors.Unwrap(err))}
	}
	bare, options := config.CutBackend(word)
	if len(options) == 0 {
		return usageError{fmt.Errorf("set backend lacks what changes: %s@WEIGHT, or %s,max=N", word, word)}
	}
	address := backendIn(service, bare)
	if word, ok := options["weight"]; ok && len(options) == 1 && service.Owner != apiOwner {
		return p.overrideWeight(c.Context, usher, service.Name, address, word)
	}
	text, err := json.Marshal(options)
	if err != nil {
		return err
	}
	if err := usher.SetBackend(c.Context, name, address, text); err != nil {
		return err
	}
	return p.say("changed backend %s of service %s", address, name)
}

// apiOwner is the owner of the services that commands may change.
const apiOwner = string(control.API)

// overrideWeight sets the weight of a backend by hand, above that of its service's owner.
func (p *program) overrideWeight(ctx context.Context, usher *api.Client, service, address, word string) error {
	weight, err := strconv.Atoi(word)
	if err != nil {
		return err
	}
	if err := usher.SetOverride(ctx, service, address, api.Override{Weight: &weight}); err != nil {
		return err
	}
	return p.say("%s %s: weight %d until resumed", service, address, weight)
}

func (p *program) removeBackend(c *cli.Context) error {
	usher, service, err := serviceOf(c, c.Args().First())
	if err != nil {
		return err
	}
	address := backendIn(service, c.Args().Get(1))
	if err := usher.RemoveBackend(c.Context, service.Name, address); err != nil {
		return err
	}
	return p.say("removed backend %s from service %s", address, service.Name)
}

// serviceOf returns a service of the running usher.
func serviceOf(c *cli.Context, name string) (*api.Client, *api.Service, error) {
	usher, err := client(c)
	if err != nil {
		return nil, nil, err
	}
	list, err := usher.Service(c.Context, name)
	if err != nil {
		return nil, nil, err
	}
	if len(list.Services) != 1 {
		return nil, nil, fmt.Errorf("usher at %s answered with %d services for %q", usher.Path(), len(list.Services), name)
	}
	return usher, &list.Services[0], nil
}

// backendIn returns a backend's address as the running usher writes it: a port alone is one of 127.0.0.1. An address
// that the service does not have stays as it is, because it may be a name, and because usher knows the nearest one.
func backendIn(service *api.Service, word string) string {
	b, err := config.ParseBackend(word, service.Network)
	for _, have := range service.Backends {
		if have.Address == word || err == nil && (have.Address == b.Addr.String() || have.Address == b.Addr.HostPort()) {
			return have.Address
		}
	}
	return word
}
