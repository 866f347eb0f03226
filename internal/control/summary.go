package control

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"usher/balancer"
	"usher/internal/api"
	"usher/internal/config"
	"usher/internal/figures"
)

// Without more, the log tells programs all settings in effect, and people what differs from the defaults; at debug both get
// all.

// logSummary logs the settings in effect.
func (c *Controller) logSummary() {
	p := c.process.Load()
	all := append([]setting{c.drainSetting(p)}, processSettings(p)...)
	notes := strings.Join(c.server.Notes(), ", ")
	if c.isBrief {
		c.log.Info(c.briefStart(), fieldsOf(all, true)...)
		for _, lack := range c.server.Shortages() {
			c.log.Info(lack)
		}
		c.log.Debug(notes, fieldsOf(all, false)...)
	} else {
		c.log.Info(notes, append(fieldsOf(all, false), zap.String("version", c.version))...)
	}
	if r := c.rules.Load(); r.set != nil {
		c.log.Info("rules", r.fields()...)
	}
	services := *c.running.Load()
	for i, s := range services {
		if c.isBrief && i == shown && len(services) > shown+1 {
			c.log.Info(fmt.Sprintf("and %d more services: usher ls", len(services)-shown))
			break
		}
		pool := s.keeper.Pool()
		c.logService(s, "", zap.String("up", fmt.Sprintf("%d of %d", up(pool), len(pool.Backends()))))
	}
}

// briefStart is what a person reads first.
func (c *Controller) briefStart() string {
	workers := figures.Count(c.server.WorkerCount(), "worker")
	return strings.TrimSpace(fmt.Sprintf("usher %s", c.version)) +
		fmt.Sprintf(": %s, %s, up to %s", c.server.Engine(), workers, figures.Count(c.server.MaxConns(), "flow"))
}

// logService logs a service, and what of it has no effect. A person reads the event first; empty: it is there from the
// start.
func (c *Controller) logService(s *service, event string, more ...zap.Field) {
	level := s.owner.level()
	log := c.log.With(zap.String("service", s.config.Name))
	if c.log.Core().Enabled(level) { // the words of thousands of backends are many
		all := serviceSettings(s)
		full := append([]zap.Field{
			zap.Strings("listen", texts(s.running.Config().Listeners)),
			zap.Strings("backends", backendWords(s.config.Backends)),
		}, append(more, fieldsOf(all, false)...)...)
		if c.isBrief {
			c.log.Log(level, event+brief(s, more), fieldsOf(all, true)...)
			level = zap.DebugLevel
		}
		log.Log(level, "service", full...)
	}
	if slices.Contains([]string{"rr", "lc"}, s.config.Scheduler.Name) && (hasWeights(s.config.Backends) || s.config.HasAgents()) {
		log.Warn("weights have no effect with scheduler " + s.config.Scheduler.Name + ", but 0 still means no new clients")
	}
}

// brief is a service in a line: "web 127.0.0.1:8080 → 10.0.0.1:80, 10.0.0.2:80  rr  2 of 2 up".
func brief(s *service, more []zap.Field) string {
	words := []string{
		s.config.Name + " " + someOf(texts(s.running.Config().Listeners)) + " → " + someOf(backendWords(s.config.Backends)),
		s.config.Scheduler.String(),
	}
	for _, f := range more {
		switch f.Key {
		case "up":
			words = append(words, f.String+" up")
		case "owner":
			words = append(words, "of "+f.String)
		}
	}
	return strings.Join(words, "  ")
}

// readable is how many addresses a person reads in a line.
const readable = 4

// someOf joins words; of many the first ones, and how many more.
func someOf(words []string) string {
	switch n := len(words); {
	case n == 0:
		return "no backend"
	case n > readable+1:
		words = append(slices.Clone(words[:readable]), fmt.Sprintf("%d more", n-readable))
	}
	return strings.Join(words, ", ")
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
			note(s, "added", func() { c.logService(s, "service added: ", zap.String("owner", string(d.owner))) }, "owner "+string(d.owner))
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
