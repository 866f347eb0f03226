package control

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"usher/balancer"
	"usher/internal/api"
	"usher/internal/config"
	"usher/proxy"
)

// logSummary logs the settings in effect.
func (c *Controller) logSummary() {
	c.log.Info(strings.Join(c.server.Notes(), ", "), zap.String("drain-timeout", config.Delay(c.process.Load().DrainTimeout)))
	if r := c.rules.Load(); r.set != nil {
		c.log.Info("rules", r.fields()...)
	}
	for _, s := range *c.running.Load() {
		pool := s.keeper.Pool()
		c.logService(s, zap.String("up", fmt.Sprintf("%d of %d", up(pool), len(pool.Backends()))))
	}
}

// logService logs the effective values of a service, and what has no effect.
func (c *Controller) logService(s *service, more ...zap.Field) {
	log := c.log.With(zap.String("service", s.config.Name))
	if level := s.owner.level(); log.Core().Enabled(level) { // the words of thousands of backends are many
		log.Log(level, "service", serviceFields(s, more)...)
	}
	if slices.Contains([]string{"rr", "lc"}, s.config.Scheduler.Name) && (hasWeights(s.config.Backends) || s.config.HasAgents()) {
		log.Warn("weights have no effect: scheduler " + s.config.Scheduler.Name + " does not weigh (0 still means no new clients)")
	}
}

func serviceFields(s *service, more []zap.Field) []zap.Field {
	fail := "open"
	if s.config.FailClosed {
		fail = "closed"
	}
	fields := append([]zap.Field{
		zap.Strings("listen", texts(s.running.Config().Listeners)),
		zap.Strings("backends", backendWords(s.config.Backends)),
	}, more...)
	fields = append(fields,
		zap.String("scheduler", s.config.Scheduler.String()),
		zap.String("health", checked(s.config)),
		zap.String("fail", fail))
	fields = append(fields, limits(s.config, s.running)...)
	fields = append(fields, accessFields(s.config)...)
	return append(fields, backendFields(s.config)...)
}

// shown is how many services a change may have for each to have a line of its own.
const shown = 20

// logChange logs what a change has added, changed and removed, and publishes it. Before the start the summary does.
func (c *Controller) logChange(d *draft) {
	if !c.started {
		return
	}
	c.logRules(d)
	now := time.Now()
	var events []api.Event
	each := len(d.fresh)+len(d.removed) <= shown
	added, changed := 0, 0
	note := func(s *service, event string, log func(), reason string) {
		events = append(events, api.Event{Time: now, Service: s.plan.Name, Event: event, Reason: reason})
		if each {
			log()
		}
	}
	for _, s := range d.removed {
		note(s, "removed", func() {
			c.log.Log(d.owner.level(), "service removed", zap.String("service", s.plan.Name), zap.String("owner", string(d.owner)))
		}, "")
	}
	for i, s := range d.fresh {
		if d.before[i] == nil {
			added++
			note(s, "added", func() { c.logService(s, zap.String("owner", string(d.owner))) }, "owner "+string(d.owner))
			continue
		}
		fields := changedFields(d.before[i].wanted, s.wanted)
		if len(fields) == 0 && d.before[i].given == s.given {
			continue // listeners were tried again, and are refused still
		}
		changed++
		note(s, "changed", func() {
			c.log.Log(d.owner.level(), "service changed", zap.String("service", s.plan.Name), zap.String("owner", string(d.owner)), zap.Strings("changed", fields))
		}, strings.Join(fields, ", "))
	}
	if !each {
		c.log.Log(d.owner.level(), "services changed", zap.String("owner", string(d.owner)),
			zap.Int("added", added), zap.Int("changed", changed), zap.Int("removed", len(d.removed)))
	}
	c.events.publish(events...)
}

// changedFields writes what has changed as NAME=VALUE, and addresses as what came and went.
func changedFields(before, after *config.Service) []string {
	var words []string
	for _, f := range before.Diff(after) {
		switch f {
		case "listen":
			words = append(words, "listen="+difference(texts(before.Listeners), texts(after.Listeners)))
		case "virtual":
			words = append(words, "virtual="+difference(texts(before.Virtual), texts(after.Virtual)))
		case "backend":
			words = append(words, "backends="+difference(backendWords(before.Backends), backendWords(after.Backends)))
		default:
			words = append(words, string(f)+"="+after.Text(f))
		}
	}
	return words
}

// difference writes which words came and which went, as in +10.0.0.3:80 -10.0.0.1:80; of many how many.
func difference(before, after []string) string {
	var out []string
	for _, w := range missing(after, before) {
		out = append(out, "+"+w)
	}
	for _, w := range missing(before, after) {
		out = append(out, "-"+w)
	}
	if len(out) == 0 {
		return "in another order"
	}
	return strings.Join(out, " ")
}

// missing returns the words that others lack; of many the first ones, and how many more.
func missing(words, others []string) []string {
	known := make(map[string]bool, len(others))
	for _, w := range others {
		known[w] = true
	}
	var out []string
	n := 0
	for _, w := range words {
		if known[w] {
			continue
		}
		if n++; n <= shown {
			out = append(out, w)
		}
	}
	if n > shown {
		out = append(out, fmt.Sprintf("%d more", n-shown))
	}
	return out
}

// backendFields are the options of the service's choice, and those of its backends' lives.
func backendFields(c *config.Service) []zap.Field {
	var fields []zap.Field
	a, err := balancer.Lookup(c.Scheduler.Name)
	exact := slices.Contains(c.Scheduler.Flags, balancer.IPVS) // with the kernel's own key, and without a bound
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
	if c.Source.IsSet() {
		fields = append(fields, zap.Stringer("source", c.Source))
	}
	if c.OnEmpty != config.EmptyInvalid {
		fields = append(fields, zap.Stringer("on-empty", c.OnEmpty))
	}
	return fields
}

// accessFields are the options about who may come in, as far as they are set: most services let everybody in.
func accessFields(c *config.Service) []zap.Field {
	var fields []zap.Field
	for _, o := range config.ServiceOptions() {
		if text := o.Text(c); slices.Contains([]string{"access", "proxy", "sni"}, o.Topic) && text != o.Text(c.Defaults()) {
			fields = append(fields, zap.String(string(o.Name), text))
		}
	}
	return fields
}

// limits are how many flows a service may have, and the values of the options that depend on the network.
func limits(s *config.Service, running *proxy.Service) []zap.Field {
	reserve, most := running.Shares()
	shares := []zap.Field{zap.Int64("reserve", reserve), zap.Int64("most-flows", most)}
	if !s.IsUDP() {
		return append(shares,
			zap.String("connect-timeout", config.Limit(s.ConnectTimeout)),
			zap.String("idle-timeout", config.Limit(s.IdleTimeout)),
			zap.String("reclaim-idle", config.Limit(s.ReclaimIdle)),
			zap.String("half-close-timeout", config.Limit(s.HalfCloseTimeout)),
			zap.String("wait", config.Limit(s.Wait)),
			zap.Stringer("queue", s.Queue),
			zap.Bool("abort-on-close", s.AbortOnClose),
		)
	}
	number := func(n int) string {
		if n == 0 {
			return "off"
		}
		return strconv.Itoa(n)
	}
	u := s.UDP
	return append(shares,
		zap.String("udp-idle-timeout", config.Limit(u.IdleTimeout)),
		zap.String("udp-unreplied-timeout", config.Limit(u.UnrepliedTimeout)),
		zap.String("udp-replies", number(u.Replies)),
		zap.Bool("ops", u.OnePacket),
		zap.String("max-flows", number(u.MaxFlows)),
		zap.String("max-client-flows", number(running.ClientShare())),
	)
}

// share formats a percentage; zero is off.
func share(percent int) string {
	if percent == 0 {
		return "off"
	}
	return strconv.Itoa(percent) + "%"
}

// backendWords formats backends as elsewhere, but without the udp that their service implies.
func backendWords(backends []config.Backend) []string {
	words := texts(backends)
	for i, w := range words {
		words[i] = strings.TrimPrefix(w, "udp://")
	}
	return words
}

// checked describes the service's health check.
func checked(s *config.Service) string {
	ranges := func(a config.Addr) bool { return a.Ports > 1 }
	wide := slices.ContainsFunc(s.Backends, func(b config.Backend) bool {
		return ranges(b.Addr) || b.Addr.Network != config.Unix && !b.Addr.SRV && !b.Addr.HasPort() && slices.ContainsFunc(s.Listeners, ranges)
	})
	if s.Health.IsOff() || !wide {
		return s.Health.String()
	}
	return s.Health.String() + " (first port of a range)"
}

// asked describes how the service's agents are queried.
func asked(c *config.Service) string {
	if c.Agent.Port == 0 && c.HasAgents() {
		a := c.Agent
		return fmt.Sprintf("as backends say,interval=%s,timeout=%s", config.Delay(a.Interval), config.Delay(a.Timeout))
	}
	return c.Agent.String()
}

// up counts the backends that are up.
func up(pool *balancer.Pool) int {
	n := 0
	for _, b := range pool.Backends() {
		if b.Status() == balancer.Up {
			n++
		}
	}
	return n
}

// hasWeights reports whether the backends that take new flows differ in weight.
func hasWeights(backends []config.Backend) bool {
	weight := 0
	for _, b := range backends {
		switch w := b.Weight; {
		case w == 0:
		case weight == 0:
			weight = w
		case w != weight:
			return true
		}
	}
	return false
}

func texts[T fmt.Stringer](values []T) []string {
	out := make([]string, len(values))
	for i, v := range values {
		out[i] = v.String()
	}
	return out
}
