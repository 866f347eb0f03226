package planner

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"usher/internal/config"
)

// option is an option that an annotation or the command line asks for.
type option struct {
	Option
	isAnnotated bool
}

const (
	maxOption = "max" // of each backend, rather than of the service
	onEmpty   = "on-empty"
)

// readOptions finds the options of each network. What is wrong is left out: once for all services, so that a number of
// endpoints that changes does not make an option wrong.
func (p *plan) readOptions(routes []route) {
	asked := p.askedOptions()
	if len(asked) == 0 {
		return
	}
	fits := make([]bool, len(asked)) // some network has the option
	p.options = make(map[string][]option)
	for _, network := range []string{config.TCP, config.UDP} {
		if !slices.ContainsFunc(routes, func(r route) bool { return r.network == network }) {
			continue
		}
		var of []option
		for i, o := range asked {
			if isOf(o.Option, network) {
				fits[i] = true
				of = append(of, o)
			}
		}
		p.options[network] = p.soundOptions(network, of)
	}
	for i, o := range asked {
		if !fits[i] && len(p.options) > 0 {
			p.blame(o, errors.New("no port of the Service is of the network that has this option"))
		}
	}
}

// askedOptions returns the options of annotations, and those of the command line that no annotation sets, by name.
func (p *plan) askedOptions() (all []option) {
	annotated := make(map[config.Field]bool)
	count := 0
	for _, key := range slices.Sorted(maps.Keys(p.Annotations)) {
		name, ok := strings.CutPrefix(key, AnnotationPrefix)
		if !ok {
			continue
		}
		if count++; count > maxAnnotations {
			p.problems.add(invalidAnnotation, "more than %d annotations %s: %.63s and those after it are not read", maxAnnotations, AnnotationPrefix, name)
			break
		}
		o := option{Option{config.Field(name), p.Annotations[key]}, true}
		if err := checkAnnotation(o.Option); err != nil {
			p.blame(o, err)
			continue
		}
		annotated[o.Name] = true
		all = append(all, o)
	}
	for _, o := range p.env.Options {
		if !annotated[o.Name] && !isEmptyInvalid(o) {
			all = append(all, option{Option: o})
		}
	}
	return all
}

// checkAnnotation refuses options that annotations cannot have. Whoever may create a Service must not run programs or read
// files on this machine, and not take anything from other Services.
func checkAnnotation(o Option) error {
	switch {
	case o.Name != maxOption && rowOf(o.Name) == nil:
		return unknownOption(string(o.Name))
	case isEmptyInvalid(o):
		return errors.New("a Service may always be without an endpoint")
	case o.Name == "reserve": // more than there are would be an error of the whole plan
		return errors.New("a Service must not take flows from others (max-flows and max-client-conns bound those of one)")
	case o.Name != "health":
		return nil
	}
	switch { // by its words, since reading the value would read the file
	case strings.HasPrefix(o.Value, "exec"):
		return errors.New("an annotation must not run a program on the node (usher kube --health may)")
	case strings.Contains(o.Value, ",ca="), strings.Contains(o.Value, ":ca="):
		return errors.New("an annotation must not read a file of the node (usher kube --health may)")
	}
	return nil
}

// unknownOption is the error of a word that is no option.
func unknownOption(word string) error {
	names := []string{maxOption}
	for _, row := range config.ServiceOptions() {
		names = append(names, string(row.Name))
	}
	if near := config.Nearest(word, names); near != "" {
		return fmt.Errorf("unknown option (did you mean %s%s?)", AnnotationPrefix, near)
	}
	return errors.New("unknown option (usher --help lists them)")
}

// rowOf returns the row of an option of services; nil: there is none of that name.
func rowOf(name config.Field) *config.Option[config.Service] {
	all := config.ServiceOptions()
	if i := slices.IndexFunc(all, func(row config.Option[config.Service]) bool { return row.Name == name }); i >= 0 {
		return &all[i]
	}
	return nil
}

// isEmptyInvalid reports whether an option says that a service has a backend at all times.
func isEmptyInvalid(o Option) bool { return o.Name == onEmpty && o.Value == "off" }

// isOf reports whether services of a network have an option.
func isOf(o Option, network string) bool {
	row := rowOf(o.Name)
	if row == nil { // it is of backends
		return true
	}
	of := row.NetworkOf(o.Value)
	return of == "" || of == network
}

// soundOptions returns the options that a service with several backends can have together, and says why others are not.
func (p *plan) soundOptions(network string, asked []option) []option {
	sound := make([]option, 0, len(asked))
	for _, o := range asked {
		if err := apply(standIn(network), o.Option); err != nil {
			p.blame(o, err)
			continue
		}
		sound = append(sound, o)
	}
	for {
		_, wrong, err := with(standIn(network), sound)
		if err == nil {
			return sound
		}
		if wrong < 0 {
			p.problems.add(invalidAnnotation, "the options of this Service cannot be together: %v", err)
			return nil
		}
		p.blame(sound[wrong], err)
		sound = slices.Delete(sound, wrong, wrong+1)
	}
}

// standIn returns a service for which the options of a network are tried.
func standIn(network string) *config.Service {
	s := newService("stand-in", network)
	s.Listeners = []config.Addr{listener(network, netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, 1}), 1))}
	for i := range byte(2) {
		at := netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, 2 + i}), 1)
		s.Backends = append(s.Backends, config.Backend{Addr: listener(network, at), Weight: 1})
	}
	return s
}

// with returns a service with options. On an error wrong is the option that it is about, or -1.
func with(s *config.Service, options []option) (complete *config.Service, wrong int, err error) {
	tried := s.Clone()
	for i, o := range options {
		if err := apply(tried, o.Option); err != nil {
			return nil, i, err
		}
	}
	complete, err = tried.Completed()
	if err == nil {
		return complete, -1, nil
	}
	var of *config.Error
	if !errors.As(err, &of) {
		return nil, -1, err
	}
	return nil, slices.IndexFunc(options, func(o option) bool { return o.Name == of.Field }), err
}

// apply sets an option of a service.
func apply(s *config.Service, o Option) error {
	if o.Name != maxOption {
		return s.Set(o.Name, o.Value)
	}
	var one config.Backend
	if err := one.Set(maxOption, o.Value); err != nil {
		return err
	}
	for i := range s.Backends {
		s.Backends[i].Limits.Max = one.Limits.Max
	}
	return nil
}

// blame says what is wrong with an annotation. Those of the command line are checked there.
func (p *plan) blame(o option, err error) {
	if !o.isAnnotated {
		return
	}
	var of *config.Error
	text := ": " + err.Error()
	if errors.As(err, &of) {
		text = of.Reason(func(f config.Field) string { return string(f) })
		text = strings.TrimPrefix(text, fmt.Sprintf("service %q: ", of.Service))
		if rest, ok := strings.CutPrefix(text, string(o.Name)+" "); ok {
			text = " " + rest // NAME is there already
		} else {
			text = ": " + text
		}
	}
	p.problems.add(invalidAnnotation, "annotation %s%.63s%s", AnnotationPrefix, o.Name, text)
}
