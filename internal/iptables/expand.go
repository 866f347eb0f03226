package iptables

// maxExpansion bounds how many rules one line stands for.
const maxExpansion = 4096

// finish checks the extensions of a line whose options are all read.
func (p *parser) finish() *Error {
	for _, isTarget := range []bool{false, true} {
		for _, x := range p.loaded {
			if (x.match == nil) != isTarget {
				continue
			}
			if err := x.finish(p.rule); err != nil {
				return err.at(x.at.offset)
			}
		}
	}
	return nil
}

// expand makes a rule of each pair of a source and a destination, in iptables' order.
func (p *parser) expand() *Error {
	c := &p.cmd
	if c.Op&(Append|Insert|Delete|Replace|CheckRule) == 0 && !p.sources.given && !p.destinations.given {
		return nil
	}
	sources, err := p.prefixes(p.sources)
	if err != nil {
		return err
	}
	destinations, err := p.prefixes(p.destinations)
	switch n := len(sources) * len(destinations); {
	case err != nil:
		return err
	case (len(sources) > 1 || len(destinations) > 1) && (p.sources.not || p.destinations.not):
		at := p.sources
		if !at.not {
			at = p.destinations
		}
		return errorf("! not allowed with multiple source or destination IP addresses").
			advise("jump to a chain that has a rule with RETURN for each").at(at.word.offset)
	case n > maxExpansion:
		return errorf("the lists of addresses make %d rules of this line", n).advise("at most %d", maxExpansion).at(0)
	}
	p.rule.Packets, p.rule.Bytes = c.packets, c.bytes
	if len(p.rule.Matches) == 0 {
		p.rule.Matches = nil
	}
	for _, s := range sources {
		for _, d := range destinations {
			r := *p.rule
			r.Source, r.Destination = s, d
			c.Rules = append(c.Rules, &r)
		}
	}
	return nil
}
