package migrate

import (
	"fmt"
	"net/netip"
	"strings"

	"usher/internal/config"
	"usher/internal/dialect"
	"usher/internal/ipvsadm"
)

// readIPVSAdm makes services of the lines that ipvsadm -S prints, as a running usher does of the same commands.
func readIPVSAdm(b *builder, text string) error {
	r := &ipvsReader{b: b, state: ipvsadm.NewState(), from: make(map[ipvsadm.Key]*statement),
		servers: make(map[ipvsadm.Key][]*statement)}
	number := 0
	for line := range strings.Lines(text) {
		number++
		words := strings.Fields(line)
		if len(words) == 0 || words[0][0] == '#' {
			continue
		}
		if words[0] == "ipvsadm" && len(words) > 1 { // a script
			words = words[1:]
		}
		s := &statement{line: number, last: number, text: strings.TrimSpace(line), words: words}
		b.add(s)
		r.read(s)
	}
	for _, v := range r.state.Services() {
		r.serve(v)
	}
	return nil
}

// ipvsReader runs commands in a state, and knows the lines that services are from.
type ipvsReader struct {
	b     *builder
	state *ipvsadm.State
	from  map[ipvsadm.Key]*statement

	servers map[ipvsadm.Key][]*statement // the lines of their destinations
}

func (r *ipvsReader) read(s *statement) {
	c, err := ipvsadm.Parse(s.words)
	if err != nil {
		r.b.lose(s, "", "%s (ipvsadm -S -n prints addresses and ports as numbers)", firstLine(err.Error()))
		return
	}
	name := dialect.NameOf(&c.Service.Key, networkOf(&c.Service.Key))
	switch c.Op {
	case ipvsadm.Add:
		r.from[c.Service.Key] = s
	case ipvsadm.AddServer, ipvsadm.EditServer:
		r.servers[c.Service.Key] = append(r.servers[c.Service.Key], s)
		if c.Destination.Method != ipvsadm.Masq {
			r.b.tell(s, name, "-m in place of %s: usher is a proxy. Servers see usher's address and answer usher, so that they need no "+
				"address of the service (send-proxy passes the client's on)", methodWord(c.Destination.Method))
			c.Destination.Method = ipvsadm.Masq
		}
	default:
		if !c.IsChange() {
			r.b.lose(s, "", "it changes no service")
			return
		}
	}
	hasAllPorts := c.Service.Key.Mark == 0 && c.Service.Key.Addr.Port() == 0 // serve says so of all lines at once
	if err := c.Unsupported(); err != nil && !hasAllPorts {
		r.b.lose(s, name, "%s", firstLine(err.Error()))
		return
	}
	if err := c.Do(r.state); err != nil {
		r.b.lose(s, name, "%s", firstLine(err.Error()))
		return
	}
	s.done()
}

// methodWord is the flag of a method that is not -m.
func methodWord(m ipvsadm.Method) string {
	if m == ipvsadm.Tunnel {
		return "-i"
	}
	return "-g"
}

func networkOf(k *ipvsadm.Key) string {
	if k.Protocol == ipvsadm.UDP {
		return config.UDP
	}
	return config.TCP
}

// serve makes the services of a virtual service.
func (r *ipvsReader) serve(v *ipvsadm.Service) {
	reason := ""
	switch {
	case v.Mark != 0:
		reason = fmt.Sprintf("a firewall mark has its addresses in iptables: give a service those of the rules -j MARK --set-mark %d", v.Mark)
	case v.Addr.Port() == 0:
		reason = fmt.Sprintf("usher listens on the ports that are named: write those that clients use, as in %s-8010",
			netip.AddrPortFrom(v.Addr.Addr(), 8000))
	}
	from := r.from[v.Key]
	if reason == "" {
		for _, s := range dialect.ServicesOf(v, r.state.Timeouts, nil) {
			r.b.ready(s, from)
		}
		return
	}
	for _, s := range append([]*statement{from}, r.servers[v.Key]...) {
		r.b.lose(s, "", "%s", reason)
	}
}
