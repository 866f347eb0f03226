package iptables

import "usher/proxy/rules"

// maxExpansion bounds how many rules one line stands for.
const maxExpansion = 4096

// expand makes a rule of each pair of a source and a destination, in iptables' order.
func (p *parser) expand() *Error {
	sources, destinations := p.sources, p.destinations
	if len(sources) == 0 {
		sources = []rules.Prefix{{}}
	}
	if len(destinations) == 0 {
		destinations = []rules.Prefix{{}}
	}
	if n := len(sources) * len(destinations); n > maxExpansion {
		return errorf("the lists of addresses make %d rules of this line", n).advise("at most %d", maxExpansion).at(0)
	}
	for _, s := range sources {
		for _, d := range destinations {
			r := *p.rule
			r.Source, r.Destination = s, d
			p.cmd.Rules = append(p.cmd.Rules, &r)
		}
	}
	return nil
}
