package migrate

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"usher/internal/config"
)

// gate is a line tcp-request that lets clients in or refuses them.
type gate struct {
	at        *statement
	verdict   verdict
	condition *condition
}

// setGates sets who may come in, from the lines tcp-request and the tables that they count in.
func (p *proxy) setGates(d *draft, proxied bool) {
	var list []gate
	for _, phase := range []string{"connection", "session", "content", ""} {
		for _, at := range p.gates {
			if isPhase := at.has(1) == phase; isPhase || phase == "" && !isGatePhase(at.has(1)) {
				if g, ok := p.readGate(d, at, proxied); ok {
					list = append(list, g)
				}
			}
		}
	}
	if len(list) > 0 {
		p.setAccess(d, list)
	}
}

func isGatePhase(word string) bool {
	return word == "connection" || word == "session" || word == "content"
}

// readGate reads a line. It returns one about the addresses of clients, and sets what other lines say.
func (p *proxy) readGate(d *draft, at *statement, proxied bool) (g gate, ok bool) {
	if at.has(1) == "inspect-delay" {
		p.setDelay(d, at)
		return g, false
	}
	g = gate{at: at, condition: p.conditionOf(at, 3)}
	switch action := at.has(2); {
	case action == "accept":
		g.verdict = accepted
	case action == "reject":
		g.verdict = refused
	case action == "silent-drop":
		g.verdict = dropped
	case strings.HasPrefix(action, "track-sc"):
		if at.has(3) == "src" {
			at.done()
		} else {
			p.b.lose(at, p.name, "usher counts by the addresses of clients alone")
		}
		return g, false
	case action == "expect-proxy" && proxied:
		at.done()
		return g, false
	case action == "expect-proxy":
		p.setExpectProxy(d, at, g.condition)
		return g, false
	default:
		p.b.lose(at, p.name, "%s: usher lets clients in or refuses them, and does nothing else before it connects", action)
		return g, false
	}
	switch c := g.condition; {
	case c == nil, c.isAbout(clients):
		return g, true
	case len(c.subjects()) == 0: // that a ClientHello has come, or the wait for it is over
		p.useACLs(at)
		return g, false
	case c.isAbout(rate) && g.verdict != accepted:
		p.setRate(d, at, c)
	case c.isAbout(current) && g.verdict != accepted:
		p.setCurrent(d, at, c)
	default:
		p.b.lose(at, p.name, "usher judges clients by their addresses (allow, deny, rules), by how often they come (client-rate) and by "+
			"how many connections they have (max-client-conns)")
	}
	return g, false
}

// setDelay is how long a client may take for its ClientHello.
func (p *proxy) setDelay(d *draft, at *statement) {
	t, err := haproxyTime(at.has(2))
	switch hasNames := slices.ContainsFunc(d.listeners, func(w word) bool { return strings.Contains(w.text, ",sni=") }); {
	case err != nil:
		p.b.lose(at, p.name, "%v", err)
	case hasNames:
		d.set("sni-timeout", config.Delay(t), at)
	default:
		at.done()
	}
}

// setExpectProxy requires a header from some peers.
func (p *proxy) setExpectProxy(d *draft, at *statement, c *condition) {
	if c == nil || !c.isAbout(clients) || c.unless || len(c.groups) != 1 || len(c.groups[0]) != 1 || c.groups[0][0].not {
		p.b.lose(at, p.name, "accept-proxy has the addresses of the peers that send a header: list those")
		return
	}
	var words []string
	for _, prefix := range sortedPrefixes(c.prefixes()) {
		words = append(words, prefixWord(prefix))
	}
	p.useACLs(at)
	d.set("accept-proxy", strings.Join(words, ","), at)
}

// setAccess sets allow and deny from lines of which the first that holds decides.
func (p *proxy) setAccess(d *draft, list []gate) {
	prefixes := everybody()
	for _, g := range list {
		if g.condition != nil {
			prefixes = append(prefixes, g.condition.prefixes()...)
		}
	}
	if len(prefixes)*len(list) > maxEvaluations {
		p.b.lose(list[0].at, p.name, "there are too many prefixes and lines to tell who may come in: write them as rules")
		return
	}
	access := new(accessList)
	for _, prefix := range sortedPrefixes(prefixes) {
		v := accepted
		for _, g := range list {
			if g.condition == nil || g.condition.holds(prefix) {
				v = g.verdict
				break
			}
		}
		access.insert(prefix, v)
	}
	for _, g := range list {
		p.useACLs(g.at)
	}
	access.apply(p.b, d, list[0].at)
}

// setRate bounds how often a client may come.
func (p *proxy) setRate(d *draft, at *statement, c *condition) {
	events, x := c.limit()
	if x != nil {
		if word, ok := perSecond(events, p.period(x)); ok {
			p.useACLs(at)
			d.set("client-rate", word, at)
			return
		}
	}
	p.b.lose(at, p.name, "client-rate: 10/s bounds how often a client may come")
}

// period is the time over which the table of a criterion counts connections; 0: it does not.
func (p *proxy) period(x *criterion) time.Duration {
	at := p.settings["stick-table"]
	if name, ok := tableOf(x.fetch); ok {
		at = p.table(name)
	} else if at == nil {
		for _, gate := range p.gates {
			if i := slices.Index(gate.words, "table"); i > 0 {
				at = p.table(gate.has(i + 1))
			}
		}
	}
	if at == nil {
		return 0
	}
	_, rest, ok := strings.Cut(strings.Join(at.words, " "), "conn_rate(")
	word, _, closed := strings.Cut(rest, ")")
	if !ok || !closed {
		return 0
	}
	t, err := haproxyTime(word)
	if err != nil {
		return 0
	}
	at.done()
	return t
}

// tableOf returns the name of the table between the brackets of a fetch.
func tableOf(fetch string) (name string, ok bool) {
	_, rest, ok := strings.Cut(fetch, "(")
	name = strings.TrimSuffix(rest, ")")
	return name, ok && name != "" && strings.Trim(name, "0123456789") != ""
}

// setCurrent bounds the connections of a client.
func (p *proxy) setCurrent(d *draft, at *statement, c *condition) {
	word, x := c.limit()
	n, err := strconv.Atoi(word)
	if x == nil || err != nil {
		p.b.lose(at, p.name, "max-client-conns: 20 bounds the connections of a client")
		return
	}
	if x.values[0] == "ge" {
		n--
	}
	p.useACLs(at)
	d.set("max-client-conns", strconv.Itoa(n), at)
}

// stick has clients of a pool keep their backends.
func (p *proxy) stick(d *draft) {
	for _, at := range p.sticks {
		table := p.settings["stick-table"]
		if i := slices.Index(at.words, "table"); i > 0 {
			table = p.table(at.has(i + 1))
		}
		switch {
		case at.has(2) != "src" && !strings.HasPrefix(at.has(2), "src,ipmask("):
			p.b.lose(at, d.name, "persist knows clients by their addresses (stick on src)")
			continue
		case table == nil:
			p.b.lose(at, d.name, "there is no such table")
			continue
		case slices.Contains(table.words, "peers"):
			p.b.tell(table, d.name, "ushers share no tables: scheduler: mh chooses alike in each of them")
		}
		table.done()
		expire, bits := persistFor, ""
		if i := slices.Index(table.words, "expire"); i > 0 {
			if t, err := haproxyTime(table.has(i + 1)); err == nil {
				expire = t
			}
		} else {
			p.b.tell(table, d.name, "its entries never expire: here they do when a client was away for %s", config.Delay(persistFor))
		}
		if m := maskOf(at.words); m > 0 {
			bits = fmt.Sprintf("/%d", m)
		}
		d.set("persist", config.Delay(expire)+bits, at)
	}
}

// persistFor is the time of persistence where a table has none.
const persistFor = 24 * time.Hour

// maskOf returns the length of the converter ipmask in a line, or 0.
func maskOf(words []string) int {
	_, rest, ok := strings.Cut(strings.Join(words, " "), "ipmask(")
	word, _, _ := strings.Cut(rest, ")")
	word, _, _ = strings.Cut(word, ",")
	n, err := strconv.Atoi(word)
	if ip, ipErr := netip.ParseAddr(word); ok && ipErr == nil && ip.Is4() {
		mask := ip.As4()
		for n = 0; n < 32 && mask[n/8]&(0x80>>(n%8)) != 0; n++ {
		}
		return n
	}
	if !ok || err != nil {
		return 0
	}
	return n
}

// perSecond writes a rate of events in a time as usher does: in a second, a minute, an hour or a day.
func perSecond(events string, in time.Duration) (word string, ok bool) {
	n, err := strconv.Atoi(events)
	if err != nil || n < 1 || n > 1<<30 || in <= 0 {
		return "", false
	}
	for _, p := range []struct {
		word string
		of   time.Duration
	}{{"s", time.Second}, {"m", time.Minute}, {"h", time.Hour}, {"d", 24 * time.Hour}} {
		if p.of%in != 0 { // also of a longer time
			continue
		}
		scaled := int64(n) * int64(p.of/in)
		if scaled == int64(n) {
			return fmt.Sprintf("%d/%s", n, p.word), true
		}
		return fmt.Sprintf("%d/%s,burst=%d", scaled, p.word, n), true
	}
	return "", false
}
