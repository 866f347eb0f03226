package app

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"go.uber.org/zap"

	"usher/balancer"
	"usher/internal/config"
)

// tell logs what holds: what nobody should have to guess.
func (r *running) tell() {
	r.log.Info(strings.Join(r.server.Notes(), ", "), zap.String("drain-timeout", config.Delay(r.process.DrainTimeout)))
	for i, s := range r.server.Services() {
		k := r.keepers[i]
		c := k.service
		fail := "open"
		if c.FailClosed {
			fail = "closed"
		}
		fields := []zap.Field{
			zap.String("service", s.Name),
			zap.Strings("listen", texts(s.Listeners)),
			zap.Strings("backends", backendWords(c.Backends)),
			zap.String("up", fmt.Sprintf("%d of %d", k.up(), len(k.pool.Backends()))),
			zap.String("scheduler", c.Scheduler.String()),
			zap.String("health", checked(c)),
			zap.String("fail", fail),
		}
		fields = append(fields, limits(&c)...)
		r.log.Info("service", append(fields, life(&c)...)...)
		if slices.Contains([]string{"rr", "lc"}, c.Scheduler.Name) && (weighted(k.pool.Backends()) || c.HasAgents()) {
			k.log.Warn("weights have no effect: scheduler " + c.Scheduler.Name + " does not weigh (0 still means no new clients)")
		}
		if c.RemovesNothing() {
			k.log.Warn("--on-remove has no effect: no backend is a host name, whose addresses may go")
		}
	}
}

// life is what the service chooses by, and what becomes of its backends.
func life(c *config.Service) []zap.Field {
	var fields []zap.Field
	a, err := balancer.Lookup(c.Scheduler.Name)
	exact := slices.Contains(c.Scheduler.Flags, balancer.IPVS) // the kernel's own key, and no bound
	if err == nil && a.Hashes && !exact {
		fields = append(fields, zap.String("hash-key", config.FormatHashKey(c.HashKey)))
	}
	if err == nil && a.Bounds && !exact {
		fields = append(fields, zap.String("hash-balance", share(c.HashBalance)))
	}
	fields = append(fields,
		zap.Stringer("persist", c.Persist),
		zap.String("panic", share(c.Panic)),
		zap.Stringer("eject", c.Eject),
		zap.String("slow-start", config.Limit(c.SlowStart)),
		zap.Stringer("max-age", c.MaxAge),
		zap.String("agent", asked(c)),
		zap.Stringer("on-down", c.OnDown),
		zap.Stringer("on-drain", c.OnDrain),
		zap.Stringer("on-remove", c.OnRemove),
	)
	return fields
}

// limits are the effective values of the options that depend on the network.
func limits(s *config.Service) []zap.Field {
	if !s.IsUDP() {
		return []zap.Field{
			zap.String("connect-timeout", config.Limit(s.ConnectTimeout)),
			zap.String("idle-timeout", config.Limit(s.IdleTimeout)),
			zap.String("half-close-timeout", config.Limit(s.HalfCloseTimeout)),
			zap.String("wait", config.Limit(s.Wait)),
			zap.Stringer("queue", s.Queue),
		}
	}
	number := func(n int) string {
		if n == 0 {
			return "off"
		}
		return strconv.Itoa(n)
	}
	u := s.UDP
	return []zap.Field{
		zap.String("udp-idle-timeout", config.Limit(u.IdleTimeout)),
		zap.String("udp-unreplied-timeout", config.Limit(u.UnrepliedTimeout)),
		zap.String("udp-replies", number(u.Replies)),
		zap.Bool("ops", u.OnePacket),
		zap.String("max-flows", number(u.MaxFlows)),
		zap.String("max-client-flows", number(u.MaxClientFlows)),
	}
}

// share writes a percentage for people; zero is off.
func share(percent int) string {
	if percent == 0 {
		return "off"
	}
	return strconv.Itoa(percent) + "%"
}

// backendWords writes backends as they are written everywhere else: without the udp that their service has said.
func backendWords(backends []config.Backend) []string {
	words := texts(backends)
	for i, w := range words {
		words[i] = strings.TrimPrefix(w, "udp://")
	}
	return words
}

// checked says how the backends of a service are checked.
func checked(s config.Service) string {
	ranges := func(a config.Addr) bool { return a.Ports > 1 }
	wide := slices.ContainsFunc(s.Backends, func(b config.Backend) bool {
		return ranges(b.Addr) || b.Addr.Network != config.Unix && !b.Addr.HasPort() && slices.ContainsFunc(s.Listeners, ranges)
	})
	if s.Health.Off() || !wide {
		return s.Health.String()
	}
	return s.Health.String() + " (first port of a range)"
}

// asked says how the agents of a service's backends are asked.
func asked(c *config.Service) string {
	if c.Agent.Port == 0 && c.HasAgents() {
		a := c.Agent
		return fmt.Sprintf("as backends say,interval=%s,timeout=%s", config.Delay(a.Interval), config.Delay(a.Timeout))
	}
	return c.Agent.String()
}

// weighted reports whether the backends that may get clients differ in weight.
func weighted(backends []*balancer.Backend) bool {
	weight := 0
	for _, b := range backends {
		switch w := b.Weight(); {
		case w == 0:
		case weight == 0:
			weight = w
		case w != weight:
			return true
		}
	}
	return false
}
