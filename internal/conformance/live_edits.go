//go:build linux

package conformance

import (
	"cmp"
	"slices"
)

// edit changes a random service of an owner, but none of those that were touched. It
// returns false if what it has chosen cannot be.
func (ch *changer) edit(ofAPI bool, touched []string) (e edit, ok bool) {
	isFree := func(s *liveService) bool { return s.isOfAPI == ofAPI && !slices.Contains(touched, s.name) }
	kinds := []func(*liveService) (edit, bool){
		ch.reweigh, ch.reweigh, ch.addBackend, ch.addBackend, ch.removeBackend, ch.removeBackend,
		ch.setOption, ch.setOption, ch.setOption, ch.toggleListener,
		func(s *liveService) (edit, bool) { return ch.toggleService(s, touched) },
	}
	if !ofAPI {
		move := func(s *liveService) (edit, bool) { return ch.moveListener(s, isFree) }
		kinds = append(kinds, move, move, move)
	}
	for range 100 {
		s := ch.pick(ch.services.of(isFree))
		if s == nil {
			return e, false
		}
		if e, ok = kinds[ch.r.IntN(len(kinds))](s); ok {
			return e, true
		}
	}
	return e, false
}

func (ch *changer) reweigh(s *liveService) (edit, bool) {
	b := &s.backends[ch.r.IntN(len(s.backends))]
	weight := 1 + ch.r.IntN(5)
	if weight == b.weight {
		return edit{}, false
	}
	b.weight = weight
	e := edit{kind: "reweigh", touched: []string{s.name}}
	if word := b.String(); ch.r.IntN(4) == 0 {
		e.ask = func() error { return ch.command("set", "backend", s.name, word) }
	} else {
		addr := b.addr
		e.ask = func() error {
			return ch.api.SetBackend(ch.c.ctx, s.name, addr, ch.body(map[string]any{"weight": weight}))
		}
	}
	return e, true
}

func (ch *changer) addBackend(s *liveService) (edit, bool) {
	absent := s.absent()
	if len(absent) == 0 {
		return edit{}, false
	}
	b := liveBackend{addr: absent[ch.r.IntN(len(absent))], weight: 1 + ch.r.IntN(5)}
	s.backends = append(s.backends, b)
	return edit{kind: "add backend", touched: []string{s.name}, ask: func() error {
		return ch.api.AddBackend(ch.c.ctx, s.name, ch.body(b.String()))
	}}, true
}

func (ch *changer) removeBackend(s *liveService) (edit, bool) {
	at := ch.r.IntN(len(s.backends))
	b := s.backends[at]
	if b.override() != "" || s.ready() < 2 {
		return edit{}, false
	}
	s.backends = slices.Delete(s.backends, at, at+1)
	e := edit{kind: "remove backend", touched: []string{s.name}, ask: func() error {
		return ch.api.RemoveBackend(ch.c.ctx, s.name, b.addr)
	}}
	if s.ends("on-remove") {
		e.ends, e.gone = []string{b.addr}, true
	} else {
		ch.kept[b.addr] = true
	}
	return e, true
}

func (ch *changer) setOption(s *liveService) (edit, bool) {
	values := map[string][]string{
		"scheduler": {"rr", "wrr", "lc", "wlc", "sed", "mh", "sh", "p2c"},
		"on-drain":  {"keep", "keep", "keep", "fin", "reset"},
		"on-remove": {"keep", "keep", "keep", "fin", "reset"},
		"persist":   {"off", "10m/32"},
	}
	keys := []string{"scheduler", "scheduler", "on-drain", "on-remove", "persist"}
	if s.isUDP {
		values["udp-idle-timeout"] = []string{"2m", "5m"}
		values["udp-unreplied-timeout"] = []string{"1m", "90s"}
		keys = append(keys, "udp-idle-timeout", "udp-unreplied-timeout")
	} else {
		// No check may fail on a busy machine: that would be another change.
		values["health"] = []string{"off", "tcp,interval=200ms,timeout=200ms,fall=100", "tcp,interval=1s,timeout=1s,rise=1,fall=50"}
		values["idle-timeout"] = []string{"off", "10m", "1h"}
		values["connect-timeout"] = []string{"1m", "2m"}
		values["half-close-timeout"] = []string{"5m", "10m"}
		keys = append(keys, "health", "health", "idle-timeout", "connect-timeout", "half-close-timeout")
	}
	key := ch.picks(keys...)
	value := ch.picks(values[key]...)
	if s.options[key] == value {
		return edit{}, false
	}
	s.options[key] = value
	e := edit{kind: key, touched: []string{s.name}, ask: func() error {
		return ch.api.SetService(ch.c.ctx, s.name, ch.body(map[string]any{key: value}))
	}}
	if key == "on-drain" && s.ends(key) {
		e.ends = s.drained()
	}
	return e, true
}

// toggleListener gives a service one more address, or takes it again.
func (ch *changer) toggleListener(s *liveService) (edit, bool) {
	if s.isUDP {
		return edit{}, false
	}
	e := edit{kind: "listener", touched: []string{s.name}}
	at := slices.IndexFunc(s.listen, func(addr string) bool { return slices.Contains(ch.spares, addr) })
	switch {
	case at >= 0 && len(s.listen) > 1:
		e.refuses = s.listen[at]
		s.listen = slices.Delete(slices.Clone(s.listen), at, at+1)
	case at < 0:
		if e.visits = ch.spare(); e.visits == "" {
			return edit{}, false
		}
		s.listen = append(slices.Clone(s.listen), e.visits)
	default:
		return edit{}, false
	}
	listen := s.listens()
	e.ask = func() error { return ch.api.SetService(ch.c.ctx, s.name, ch.body(map[string]any{"listen": listen})) }
	return e, true
}

// The services that come and go.
const extraOfFile, extraOfAPI = "extra-file", "extra-api"

// toggleService adds a service of the owner of s, or removes it again.
func (ch *changer) toggleService(s *liveService, touched []string) (edit, bool) {
	name := map[bool]string{true: extraOfAPI, false: extraOfFile}[s.isOfAPI]
	if slices.Contains(touched, name) {
		return edit{}, false
	}
	if extra := ch.services[name]; extra != nil {
		if !extra.isPlain() {
			return edit{}, false
		}
		delete(ch.services, name)
		ch.keep(extra.all)
		return edit{kind: "remove service", touched: []string{name}, refuses: extra.listen[0], ask: func() error {
			return ch.api.RemoveService(ch.c.ctx, name)
		}}, true
	}
	listen := ch.spare()
	if listen == "" {
		return edit{}, false
	}
	half := len(ch.extra) / 2
	extra := newLiveService(name, s.isOfAPI, false, listen, map[bool][]string{true: ch.extra[:half], false: ch.extra[half:]}[s.isOfAPI])
	ch.services[name] = extra
	return edit{kind: "add service", touched: []string{name}, visits: listen, ask: func() error {
		m := extra.mapping()
		m["name"] = name
		return ch.api.AddService(ch.c.ctx, ch.body(m))
	}}, true
}

// moveListener moves an address of s to another service, which may be a new one. If it
// was the last, s is removed.
func (ch *changer) moveListener(s *liveService, isFree func(*liveService) bool) (edit, bool) {
	if s.name == extraOfFile {
		return edit{}, false // it may be removed with all that it listens on
	}
	others := ch.services.of(func(o *liveService) bool {
		return o != s && isFree(o) && o.isUDP == s.isUDP && o.name != extraOfFile
	})
	for _, o := range ch.names[s.isUDP] {
		if ch.services[o.name] == nil && isFree(o) {
			others = append(others, o)
			break
		}
	}
	to := ch.pick(others)
	at := ch.r.IntN(len(s.listen))
	addr := s.listen[at]
	if to == nil || len(s.listen) == 1 && !s.isPlain() || slices.Contains(ch.spares, addr) {
		return edit{}, false
	}
	e := edit{kind: "move listener", touched: []string{s.name, to.name}}
	if s.listen = slices.Delete(slices.Clone(s.listen), at, at+1); len(s.listen) == 0 {
		e.kind = "move last listener"
		delete(ch.services, s.name)
		if s.ends("on-remove") {
			e.ends, e.gone = s.all, true
		} else {
			ch.keep(s.all)
		}
	}
	if ch.services[to.name] == nil {
		fresh := newLiveService(to.name, false, s.isUDP, addr, to.all)
		fresh.options["scheduler"] = cmp.Or(s.options["scheduler"], "rr")
		ch.services[to.name] = fresh
	} else {
		to.listen = append(slices.Clone(to.listen), addr)
	}
	if !s.isUDP {
		e.visits = addr
	}
	return e, true
}

// keep notes that flows of backends live on though they are removed.
func (ch *changer) keep(backends []string) {
	for _, b := range backends {
		ch.kept[b] = true
	}
}
